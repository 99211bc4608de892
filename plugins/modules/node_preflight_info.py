#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what a node is, and in what it falls short of what is asked of it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_preflight_info
short_description: What a node is, and which requirements it does not meet
version_added: 1.0.0
description:
  - Reads operating system, architecture, memory, interfaces, disk space, listening ports, Docker and Python of a node,
    and judges the given requirements.
  - A requirement that is not met is a finding in RV(problems), not a failure, so that all problems are reported at once.
  - It only reads. Owners of ports are seen by root alone.
options:
  fabric_address:
    description: Address that one interface of the node must hold.
    type: str
  min_memory_gib:
    description: GiB that MemTotal of C(/proc/meminfo) must reach.
    type: float
  paths:
    description:
      - Directories that must have room; they need not exist yet.
      - What already lies below a path counts as fitted, so that a second run does not ask for the space again.
      - Paths on one file system share its space.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path, or V(docker) for the folder where this node's Docker keeps its images.
        type: path
        required: true
      need_gib:
        description: GiB that must fit below it.
        type: float
        required: true
  ports:
    description: TCP ports that must be free, or held by their own service already.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: The port.
        type: int
        required: true
      address:
        description: Address the service will listen on; unset means all.
        type: str
      units:
        description: Units that may hold it; the container of a unit carries the unit's name without C(.service).
        type: list
        elements: str
        default: []
  nfs:
    description: What the kernel must offer of NFS 4.
    type: str
    choices: [none, server, client]
    default: none
  nfs_transport:
    description: V(rdma) asks for RDMA devices and the kernel's module rpcrdma, where O(nfs) asks for anything.
    type: str
    choices: [tcp, rdma]
    default: tcp
  architectures:
    description: Supported machine names as C(uname -m) gives them; empty accepts any.
    type: list
    elements: str
    default: []
  distributions:
    description: Supported C(ID) or C(ID_LIKE) of os-release; empty accepts any.
    type: list
    elements: str
    default: []
  min_python:
    description: Oldest version of the Python that runs the modules.
    type: str
  require_systemd:
    description: Process 1 must be systemd.
    type: bool
    default: true
  require_root:
    description: The module must run as root, which shows that privilege escalation works.
    type: bool
    default: true
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Inspect the node
  dgx_spark.vllm.node_preflight_info:
    fabric_address: 192.168.100.10
    min_memory_gib: 100
    paths:
      - path: /srv/models
        need_gib: 130
    ports:
      - port: 8235
        units: [spark-vllm.service]
    architectures: [aarch64]
    min_python: "3.11"
  register: preflight

- name: Assert that the node is fit
  ansible.builtin.assert:
    that: preflight.problems | length == 0
    fail_msg: "{{ preflight.problems | join('; ') }}"
"""

RETURN = r"""
problems:
  description: One sentence for each requirement that is not met, with the value and the remedy.
  type: list
  elements: str
  returned: always
findings:
  description: Each thing that was asked for, green or red.
  type: list
  elements: dict
  returned: always
  contains:
    source: {description: Who found it., type: str}
    code: {description: "What it is, stable over releases; docs/troubleshooting.md has an entry for each.", type: str}
    level: {description: "C(green), C(yellow) or C(red).", type: str}
    check: {description: What was checked., type: str}
    found: {description: What was found., type: str}
    remedy: {description: What to do., type: str}
    commands: {description: The remedy as commands to be run by hand on the node., type: list, elements: str}
    subject: {description: Which one of several it is about., type: str}
msg:
  description: The problems joined, or one sentence on the node.
  type: str
  returned: always
node:
  description: What the node is.
  type: dict
  returned: always
  contains:
    distribution: {description: C(ID) of os-release., type: str}
    distribution_like: {description: C(ID_LIKE) of os-release., type: list, elements: str}
    distribution_name: {description: C(PRETTY_NAME) of os-release., type: str}
    architecture: {description: As C(uname -m)., type: str}
    kernel: {description: As C(uname -r)., type: str}
    init: {description: Name of process 1., type: str}
    memory_total_gib: {description: MemTotal in GiB., type: float}
    memory_available_gib: {description: MemAvailable in GiB., type: float}
    page_cache_gib: {description: Page cache in GiB; the kernel gives it back when asked., type: float}
    swap_total_gib: {description: Swap in GiB., type: float}
    swap_used_gib: {description: Of it what is used., type: float}
    serving: {description: Whether a unit of this collection runs here that holds a model., type: bool}
    vllm_start: {description: "What the last start of a server here logged, see role vllm_plan; empty for none.", type: dict}
    cpus: {description: Processors., type: int}
    interfaces: {description: "Each with name, state, mtu, mac, addresses (with prefix).", type: list, elements: dict}
    fabric_interface: {description: Interface that holds O(fabric_address); null for none., type: str}
    file_systems:
      description: "For each of O(paths): path, existing, device, total_gib, free_gib, present_gib (null if unneeded)."
      type: list
      elements: dict
    listeners:
      description: "On each of O(ports): port, address, pid, process, unit, container."
      type: list
      elements: dict
    kernel_lacks: {description: Modules that O(nfs) asks for and the kernel does not have., type: list, elements: str}
    rdma_devices: {description: "Names under C(/sys/class/infiniband).", type: list, elements: str}
    docker_client: {description: Version of the docker command; null for none., type: str}
    docker_server: {description: Version of Docker's daemon; null when it does not answer., type: str}
    python: {description: Version of the Python that ran this., type: str}
    boot_id: {description: The kernel's id of this boot., type: str}
    root: {description: The module ran as root., type: bool}
    user: {description: User it ran as., type: str}
"""


from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node.requirements import ARGUMENTS, CollectError, answer
from ..module_utils.system.run import run


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        module.exit_json(**answer(module.params, run))
    except (ValueError, CollectError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
