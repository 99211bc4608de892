#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what really runs on this machine's GPU with the serving image."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gb10_kernel_check
short_description: Run small kernels in the serving image and say what may be used
version_added: 1.0.0
description:
  - Runs a probe in a container of the serving image. It tells the versions in the image and the architectures compiled into it, and
    runs a bfloat16 product, a layer of experts with AWQ weights by Marlin, an NVFP4 product, a CUDA graph, and a few seconds of
    load. Each result is compared with the CPU's.
  - From what ran, and from the versions of NCCL and vLLM, it derives whether AWQ, NVFP4 and CUDA graphs may be used, with the reason
    in words. The whole policy is the table in C(module_utils/gpu/policy.py), shown in C(docs/runtime.md).
  - It loads the GPU. While containers of the cluster run it does not, unless O(while_serving) is set.
  - A result is kept on the node and used again while image, devices, driver, kernel, boot and probe are the same.
  - A check whose kernel hangs or kills its process is reported as such and does not stop the others.
options:
  image:
    description: Name or id of the serving image; it must be on the node.
    type: str
    required: true
  devices:
    description: Devices of the container, as C(docker run --device) takes them. The GPU by its CDI name.
    type: list
    elements: str
    default: [nvidia.com/gpu=all]
  environment:
    description: Environment of the container, as the serving containers have it.
    type: dict
    default: {}
  checks:
    description: Which checks to run, in this order.
    type: list
    elements: str
    choices: [versions, device, bf16_matmul, awq_marlin_moe, nvfp4_gemm, cuda_graph, load]
    default: [versions, device, bf16_matmul, awq_marlin_moe, nvfp4_gemm, cuda_graph, load]
  required:
    description: Capabilities without which the node cannot do its work; where one of them is refused or unknown, RV(healthy) is false.
    type: list
    elements: str
    choices: [awq, nvfp4, cuda_graphs]
    default: []
  nodes:
    description: Nodes that one model is spread over. On one, no CUDA graph holds a collective between machines.
    type: int
    default: 1
  trial:
    description: What a soak with CUDA graphs between the nodes found; it holds for the versions it was made with alone.
    type: dict
    suboptions:
      passed:
        description: Whether it passed.
        type: bool
        required: true
      vllm:
        description: Version of vLLM it was made with.
        type: str
        required: true
      nccl:
        description: Version of NCCL it was made with, as RV(checks) tells it.
        type: str
        required: true
  cuda_graphs:
    description: >-
      CUDA graphs: V(auto) takes them where they are allowed, V(try) also where they are to be tried, V(never) stays eager.
    type: str
    choices: [auto, try, never]
    default: auto
  while_serving:
    description: Whether to load the GPU although the cluster's containers run on this node.
    type: bool
    default: false
  fresh:
    description: Whether to run the probe although a result for the same inputs is kept.
    type: bool
    default: false
  seconds:
    description: Longest that one check may take. The first one that meets an unknown GPU may compile for minutes.
    type: float
    default: 300
  load_seconds:
    description: Length of the load under which the clock is read.
    type: float
    default: 3
  record:
    description: File on the node that keeps the result.
    type: path
    default: /var/lib/dgx-spark/kernel-check.json
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
attributes:
  check_mode:
    description: Answers from the kept result, and runs nothing.
    support: full
  diff_mode:
    description: It changes nothing but its own record.
    support: none
seealso:
  - module: dgx_spark.vllm.gb10_runtime_info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Check what the image can do on this machine
  dgx_spark.vllm.gb10_kernel_check:
    image: dgx-spark/serving:26.10
    required: [awq]
    nodes: 2
  register: kernels

- name: Assert that the model can be served
  ansible.builtin.assert:
    that: kernels.healthy
    fail_msg: "{{ kernels.problems | join('; ') }}"
"""

RETURN = r"""
ran:
  description: Whether there is a result; false while the cluster serves or in check mode, where none is kept.
  type: bool
  returned: success
source:
  description: Where the result comes from, V(run) or V(record); empty for none.
  type: str
  returned: success
healthy:
  description: Whether no finding is red; null where there is no result.
  type: bool
  returned: success
gpu_present:
  description: Whether the node has an NVIDIA GPU that answers.
  type: bool
  returned: success
capabilities:
  description: "For C(awq), C(nvfp4), C(cuda_graphs): verdict (allowed, try, refused, unknown), reason, remedy, and the rule that decided."
  type: dict
  returned: success
serving:
  description: "What follows for the server: enforce_eager, arguments, reason."
  type: dict
  returned: success
checks:
  description: "Each check: name, state (passed, wrong, failed, crashed, timed_out, unsupported, unavailable), reason, seconds, details."
  type: list
  elements: dict
  returned: success
findings:
  description: What was checked; where no kernel was run, one green one that says why.
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
problems:
  description: One sentence with its remedy for each red finding.
  type: list
  elements: str
  returned: success
seconds:
  description: Seconds that the probe took, when it ran.
  type: float
  returned: success
msg:
  description: One sentence.
  type: str
  returned: always
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.docker.cli import DockerError, image_id
from ..module_utils.gpu import kernel_probe
from ..module_utils.gpu.kernel_check import (
    NEED_GIB,
    KernelCheckError,
    Probe,
    ProbeError,
    digest,
    judge,
    read_record,
    run_probe,
    serving_containers,
    without_result,
    write_record,
)
from ..module_utils.gpu.policy import CAPABILITIES, Evidence, serving_choice, trial_from, verdicts
from ..module_utils.gpu.runtime import Host, Runtime, collect, no_gpu
from ..module_utils.report.finding import as_dicts
from ..module_utils.system.run import run


def probe_source() -> str:
    """Return the text of the probe, also from the archive that Ansible runs modules from."""
    loader: Any = getattr(kernel_probe.__spec__, "loader", None)
    text = loader.get_source(kernel_probe.__name__) if hasattr(loader, "get_source") else ""
    if not text:
        raise KernelCheckError("the source of kernel_probe cannot be read: reinstall the collection")
    return str(text)


def inputs(runtime: Runtime) -> dict[str, str]:
    """Return what of the node a result depends on."""
    return {
        "boot_id": runtime.boot_id,
        "kernel": runtime.kernel,
        "driver": runtime.kernel_module,
        "gpus": ", ".join(f"{gpu.name} {gpu.uuid} {gpu.driver}" for gpu in runtime.gpus),
    }


class KernelCheck:
    """Decide whether to run, run, and judge."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.runtime = collect(Host(run))

    def without_result(self, message: str, reason: str, *, gpu: bool, told: str = "") -> dict[str, Any]:
        """Return the answer where no kernel ran: every capability is unknown for this reason, and the report says ``told``."""
        checks = ("awq_marlin_moe", "nvfp4_gemm", "cuda_graph")
        decided = verdicts(Evidence(states={}, reasons=dict.fromkeys(checks, reason), nodes=self.params["nodes"]))
        return {
            "ran": False,
            "source": "",
            "healthy": None,
            "gpu_present": gpu,
            "capabilities": decided,
            "serving": serving_choice(decided, self.params["cuda_graphs"]),
            "checks": [],
            "findings": as_dicts(without_result(told or message)),
            "problems": [],
            "seconds": 0.0,
            "msg": message,
        }

    def result(self) -> dict[str, Any]:
        """Return the answer; raises KernelCheckError, DockerError or ValueError with one sentence."""
        trial = trial_from(self.params["trial"])
        if self.params["nodes"] < 1:
            raise ValueError(f"nodes is {self.params['nodes']}, expected at least 1")
        wanted = {
            "devices": tuple(self.params["devices"]),
            "checks": tuple(self.params["checks"]),
            "seconds": self.params["seconds"],
            "load_seconds": self.params["load_seconds"],
            "environment": tuple(sorted((name, str(value)) for name, value in self.params["environment"].items())),
        }
        Probe(
            self.params["image"], **wanted
        )  # refuses values that are not usable, before anything is asked of the node
        if missing := no_gpu(self.runtime):
            return self.without_result(f"{missing}: no kernel was run", missing, gpu=False)
        if not self.runtime.gpus:
            raise KernelCheckError(
                f"nvidia-smi shows no GPU ({self.runtime.smi_error or 'it is not installed'}): gb10_runtime_info says what to do"
            )
        try:
            image = image_id(run, self.params["image"])
        except DockerError:
            if not self.module.check_mode:
                raise
            reason = "the image is still to come, and nothing is run in check mode"
            return self.without_result("would run the kernel check", reason, gpu=True)
        probe = Probe(image, **wanted)
        source, record = probe_source(), Path(self.params["record"])
        key = digest(probe, source, inputs(self.runtime))
        document = None if self.params["fresh"] else read_record(record, key)
        origin = "record"
        if document is None:
            if self.module.check_mode:
                return self.without_result("would run the kernel check", "nothing is run in check mode", gpu=True)
            if not self.params["while_serving"] and (busy := serving_containers(run)):
                reason = f"{', '.join(busy)} runs on this node"
                return self.without_result(
                    f"{reason}, so the GPU is left alone: set while_serving to load it all the same",
                    reason,
                    gpu=True,
                    told=f"not run: the cluster serves ({reason})",
                )
            if self.runtime.memory_available_gib < NEED_GIB:
                raise KernelCheckError(
                    f"{self.runtime.memory_available_gib:g} GiB of memory are available, the kernel check needs {NEED_GIB:g}: "
                    "stop what holds the memory"
                )
            document = run_probe(probe, source)
            write_record(record, key, document)
            origin = "run"
        judged = judge(document, self.params["required"], self.params["nodes"], trial)
        words = ", ".join(f"{name} {judged['capabilities'][name]['verdict']}" for name in CAPABILITIES)
        return {
            "ran": True,
            "source": origin,
            "gpu_present": True,
            "serving": serving_choice(judged["capabilities"], self.params["cuda_graphs"]),
            "checks": document["checks"],
            "seconds": float(document["seconds"]) if origin == "run" else 0.0,
            "msg": "; ".join(judged["problems"]) or words,
            **judged,
        }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "image": {"type": "str", "required": True},
            "devices": {"type": "list", "elements": "str", "default": ["nvidia.com/gpu=all"]},
            "environment": {"type": "dict", "default": {}},
            "checks": {
                "type": "list",
                "elements": "str",
                "choices": list(kernel_probe.CHECKS),
                "default": list(kernel_probe.CHECKS),
            },
            "required": {"type": "list", "elements": "str", "choices": list(CAPABILITIES), "default": []},
            "nodes": {"type": "int", "default": 1},
            "trial": {
                "type": "dict",
                "options": {
                    "passed": {"type": "bool", "required": True},
                    "vllm": {"type": "str", "required": True},
                    "nccl": {"type": "str", "required": True},
                },
            },
            "cuda_graphs": {"type": "str", "choices": ["auto", "try", "never"], "default": "auto"},
            "while_serving": {"type": "bool", "default": False},
            "fresh": {"type": "bool", "default": False},
            "seconds": {"type": "float", "default": 300},
            "load_seconds": {"type": "float", "default": 3},
            "record": {"type": "path", "default": "/var/lib/dgx-spark/kernel-check.json"},
        },
        supports_check_mode=True,
    )
    try:
        result = KernelCheck(module).result()
    except ProbeError as error:
        module.fail_json(msg=str(error), findings=as_dicts([error.finding]))
    except (KernelCheckError, DockerError, ValueError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or 'gb10_kernel_check'}: {error.strerror}; the module needs root on the node"
        )
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
