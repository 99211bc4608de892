#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what GPU, driver and container toolkit a node has, and how its memory and clocks are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gb10_runtime_info
short_description: What GPU, driver and container toolkit a node has
version_added: 1.0.0
description:
  - Asks nvidia-smi, nvidia-ctk and the kernel for GPU, compute capability, driver, CUDA, container toolkit, CDI devices, memory,
    clocks and the reasons why a clock is low, and judges them.
  - What is wrong is a finding in RV(findings) and a sentence in RV(problems), not a failure, so that all is reported at once.
  - Memory comes from C(/proc/meminfo), because a GB10 has none of its own and nvidia-smi says C([N/A]) for it.
  - It only reads. What kernels can really do is for M(dgx_spark.vllm.gb10_kernel_check) to run.
options:
  require_gpu:
    description: Whether a host without an NVIDIA GPU is a problem.
    type: bool
    default: true
  min_available_gib:
    description: GiB that the kernel must call available.
    type: float
    default: 0
  checks:
    description:
      - What to judge. M(dgx_spark.vllm.node_survey_info) judges memory with more knowledge (it knows what is ours), and
        M(dgx_spark.vllm.container_runtime_info) the toolkit (every device's specification); leave them out where these check as well.
    type: list
    elements: str
    choices: [gpu, memory, driver, clocks, toolkit]
    default: [gpu, memory, driver, clocks, toolkit]
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
seealso:
  - module: dgx_spark.vllm.gb10_kernel_check
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Inspect GPU, driver and toolkit
  dgx_spark.vllm.gb10_runtime_info:
    min_available_gib: 90
  register: runtime

- name: Assert that nothing is wrong
  ansible.builtin.assert:
    that: runtime.healthy
    fail_msg: "{{ runtime.problems | join('; ') }}"
"""

RETURN = r"""
healthy:
  description: Whether no finding is red.
  type: bool
  returned: success
gpu_present:
  description: Whether nvidia-smi shows a GPU.
  type: bool
  returned: success
problems:
  description: One sentence with its remedy for each red finding.
  type: list
  elements: str
  returned: success
findings:
  description: What was checked.
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
runtime:
  description: What was read.
  type: dict
  returned: success
  contains:
    pci_gpus: {description: "PCI addresses of NVIDIA's display devices, seen without a driver too.", type: list, elements: str}
    smi_found: {description: Whether nvidia-smi is installed., type: bool}
    smi_error: {description: What nvidia-smi said when it failed., type: str}
    gpus:
      description: "The GPUs; null for what nvidia-smi calls C([N/A]). Memory in MiB, power in W, clocks in MHz, reasons in words."
      type: list
      elements: dict
    holders: {description: "Processes that hold GPU memory: pid, process, memory_mib.", type: list, elements: dict}
    kernel_module: {description: Version of the loaded kernel module., type: str}
    cuda: {description: CUDA version of the driver., type: str}
    toolkit: {description: Version of the container toolkit., type: str}
    cdi_devices: {description: Names that C(docker run --device) takes., type: list, elements: str}
    cdi_files: {description: CDI specifications that name NVIDIA's devices., type: list, elements: str}
    memory_total_gib: {description: MemTotal in GiB., type: float}
    memory_available_gib: {description: MemAvailable in GiB., type: float}
    kernel: {description: As C(uname -r)., type: str}
    boot_id: {description: The kernel's id of this boot., type: str}
    dgx_release: {description: "Name, build and platform of C(/etc/dgx-release), without the serial number.", type: dict}
msg:
  description: The problems joined, or one sentence on the node.
  type: str
  returned: always
"""


from ansible.module_utils.basic import AnsibleModule

from ..module_utils.gpu.runtime import ARGUMENTS, answer
from ..module_utils.system.run import run


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        module.exit_json(**answer(module.params, run))
    except ValueError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
