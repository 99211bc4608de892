#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what stands in the way on a node that was used before."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_survey_info
short_description: What blocks the cluster on a node that was used before
version_added: 1.0.0
description:
  - Looks for what other uses of the machine left behind - containers of vLLM's C(run_cluster.sh) and others that have the GPU, programs that hold
    memory, Hugging Face caches shared over NFS, files that configure the ConnectX ports, a driver that was exchanged under the running kernel,
    updates that exchange it unattended.
  - What belongs to this collection, that is the containers of M(dgx_spark.vllm.container_service) and units named C(spark-...), is known
    as its own and is never reported as blocking.
  - It only reads, and should run as root - the processes of others are not seen otherwise.
options:
  min_available_gib:
    description: GiB that the kernel must call available before a start; what our own containers hold counts as available. Left out, none.
    type: float
  netplan_files:
    description: Files of netplan that this collection wrote.
    type: list
    elements: path
    default: []
  interfaces:
    description: Interfaces to look at besides the ConnectX ports.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Show what blocks the cluster
  dgx_spark.vllm.node_survey_info:
    min_available_gib: 90
  register: survey

- name: Show how to make room
  ansible.builtin.debug:
    msg: "{{ survey.findings | rejectattr('level', 'equalto', 'green') | map(attribute='commands') | flatten }}"
"""

RETURN = r"""
findings:
  description: What was checked.
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
identity:
  description:
    - What the nodes of one cluster should have alike; empty text where it could not be read.
    - The keys are architecture, os, dgx_os, kernel, firmware, nic_firmware, driver, toolkit, docker, product, time (seconds since 1970).
  type: dict
  returned: always
takeover:
  description:
    - What others run that has the GPU and, where less than O(min_available_gib) is available, what holds the memory.
    - Programs of login sessions are not in it.
  type: dict
  returned: always
  contains:
    containers: {description: Names of running containers., type: list, elements: str}
    units: {description: Names of units., type: list, elements: str}
survey:
  description: All that was found, for those who judge for themselves.
  type: dict
  returned: always
msg:
  description: One sentence.
  type: str
  returned: always
"""


from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node.occupants import ARGUMENTS, answer
from ..module_utils.system.run import run


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        module.exit_json(**answer(module.params, run))
    except ValueError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
