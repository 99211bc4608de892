#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what Docker, NVIDIA's container toolkit and CDI are on a node, and what keeps containers from the GPU."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_runtime_info
short_description: Docker, NVIDIA's container toolkit and CDI of a node, and what keeps containers from the GPU
version_added: 1.0.0
description:
  - Reads what C(docker info), C(nvidia-ctk --version), systemd and the CDI specifications say, and judges whether a container can get the given devices.
  - What is wrong is a finding and no failure, so that all of it is reported at once.
  - It only reads, and starts no container; M(dgx_spark.vllm.container_gpu_check) does.
options:
  devices:
    description:
      - Devices that containers will be given, as C(docker run --device) takes them. Those that are CDI names are judged; paths are not.
      - With none, only Docker is judged.
    type: list
    elements: str
    default: []
  managed:
    description: Whether role P(dgx_spark.vllm.container_runtime#role) comes next; RV(findings) then has in yellow what it installs or fixes.
    type: bool
    default: false
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Inspect Docker and its CDI setup
  dgx_spark.vllm.container_runtime_info:
    devices: [nvidia.com/gpu=all, /dev/infiniband]
  register: container_runtime

- name: Assert that containers get the GPU
  ansible.builtin.assert:
    that: container_runtime.healthy
    fail_msg: "{{ container_runtime.problems | join('; ') }}"
"""

RETURN = r"""
healthy:
  description: Whether nothing is red.
  type: bool
  returned: success
problems:
  description: One sentence with its remedy for each thing that is red now, whoever fixes it.
  type: list
  elements: str
  returned: success
notes:
  description: One sentence for each yellow finding, with its remedy.
  type: list
  elements: str
  returned: success
findings:
  description: All findings, with a green one where nothing is red; with O(managed), in yellow what the role fixes.
  type: list
  elements: dict
  returned: success
  contains:
    source: {description: Who found it., type: str}
    code: {description: "What it is, stable over releases; docs/troubleshooting.md has an entry for each.", type: str}
    level: {description: "C(green), C(yellow) or C(red).", type: str}
    check: {description: What was checked., type: str}
    found: {description: What was found., type: str}
    remedy: {description: What to do., type: str}
    commands: {description: The remedy as commands to be run by hand on the node., type: list, elements: str}
    subject: {description: Which one of several it is about., type: str}
devices:
  description: What was given as O(devices).
  type: list
  elements: str
  returned: success
wanted:
  description: The CDI names in O(devices).
  type: list
  elements: str
  returned: success
runtime:
  description: What was found.
  type: dict
  returned: success
  contains:
    docker:
      description: >-
        installed, snap, error (why the daemon does not answer), version, client, architecture, storage_driver, containerd_store,
        cgroup_driver, default_runtime, runtimes, cdi_folders (empty where CDI is off), devices (null where this Docker does not tell) and buildx.
      type: dict
    toolkit: {description: Version of nvidia-ctk; empty for none., type: str}
    driver_loaded: {description: Version of the kernel's NVIDIA module; empty for none., type: str}
    driver_installed: {description: Version of libcuda on the disk; empty for none., type: str}
    uvm: {description: Whether the node has /dev/nvidia-uvm., type: bool}
    specs:
      description: >-
        CDI specifications, each with path, kind, devices, missing (files it asks for in vain), uvm (whether it names /dev/nvidia-uvm),
        driver and error.
      type: list
      elements: dict
    refresh: {description: "C(nvidia-cdi-refresh.service): loaded, enabled, active, result, after, before.", type: dict}
    own: {description: "C(spark-cdi.service), the same.", type: dict}
    settings: {description: Content of /etc/docker/daemon.json; empty where there is none., type: dict}
    settings_error: {description: Why that file cannot be read., type: str}
    boot_order:
      description: What puts the specification before containers at boot; C(toolkit), C(unit) or C(none).
      type: str
msg:
  description: One sentence.
  type: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.docker.cdi import ARGUMENTS, answer
from ..module_utils.system.run import run


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    module.exit_json(changed=False, **answer(module.params, run))


if __name__ == "__main__":
    main()
