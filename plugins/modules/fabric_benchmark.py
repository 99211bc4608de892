#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what the link between two nodes really does."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fabric_benchmark
short_description: Measure the link between two nodes
version_added: 1.0.0
description:
  - Loads the link, or looks into the serving container, and compares with what was published for a Spark.
  - Both ends run the same task at the same time, as Ansible does with two hosts of a play.
  - A client waits for its server, and each end gives up after O(timeout).
  - V(rdma) runs C(ib_write_bw) over all RDMA devices at once. V(tcp) runs C(iperf3) over one rail.
  - V(nccl) runs NCCL's all_gather in the serving image. Its log tells the transport, and the counters of the devices tell whether the data went there.
  - V(container) loads nothing; it says whether a container would see the RDMA devices and may lock memory.
  - What is wrong is a finding in RV(problems) or RV(warnings_found), not a failure. A measurement that gave no figure is a problem.
options:
  test:
    description: What to do.
    type: str
    choices: [container, rdma, tcp, nccl]
    required: true
  role:
    description: Which end this node is. Rank 0 of V(nccl) is the server. Not used by V(container).
    type: str
    choices: [server, client]
    default: server
  rails:
    description: Rails of this node, as RV(dgx_spark.vllm.fabric_info#module:rails) has them.
    type: list
    elements: dict
    required: true
  peer_addresses:
    description: Addresses of the server's rails, in the same order. Required where O(role=client).
    type: list
    elements: str
    default: []
  cables:
    description: Number of ports with a cable, which decides what is expected.
    type: int
    default: 1
  seconds:
    description: How long V(rdma) and V(tcp) measure.
    type: int
    default: 5
  timeout:
    description: Seconds after which this end gives up.
    type: int
    default: 120
  port:
    description: First TCP port; V(rdma) takes one for each device.
    type: int
    default: 12000
  image:
    description: Serving image, for V(nccl) and V(container).
    type: str
  devices:
    description: Devices of the serving containers.
    type: list
    elements: str
    default: [nvidia.com/gpu=all, /dev/infiniband]
  ulimits:
    description: Limits of the serving containers.
    type: dict
    default: {memlock: -1}
  environment:
    description: Network variables of the serving containers, as RV(dgx_spark.vllm.fabric_info#module:environment) has them.
    type: dict
    default: {}
  rank:
    description: Rank of this node for V(nccl).
    type: int
    default: 0
  world:
    description: Number of nodes for V(nccl).
    type: int
    default: 2
  mib:
    description: MiB that V(nccl) gathers. It needs twice that of memory; 16 GB are reported to have frozen nodes whose memory was in use.
    type: int
    default: 512
  require_bandwidth:
    description: Whether a bandwidth of V(rdma) or V(nccl) below the limit is a problem. Without, it is a warning; a wrong transport stays a problem.
    type: bool
    default: true
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Measure RDMA between two nodes
  dgx_spark.vllm.fabric_benchmark:
    test: rdma
    role: "{{ 'server' if inventory_hostname == 'spark-1' else 'client' }}"
    rails: "{{ link.rails }}"
    peer_addresses: [192.168.100.10, 192.168.101.10]
  register: rdma
"""

RETURN = r"""
result:
  description:
    - What was measured. C(gbits) and C(devices) of V(rdma), C(gbits) of V(tcp).
    - C(bus_gbytes), C(latency_us), C(mib), C(transport), C(used), C(nccl), C(right), C(gpu_direct) and C(counters) of V(nccl).
    - C(uverbs), C(uverbs_denied), C(memlock) (bytes; -1 for no limit) of V(container) and V(nccl).
  type: dict
  returned: always
problems:
  description: One sentence for each thing that must be fixed.
  type: list
  elements: str
  returned: always
warnings_found:
  description: One sentence for each thing that is not as it should be, but works.
  type: list
  elements: str
  returned: always
findings:
  description: Problems (red) and warnings (yellow); a green one where there is neither and something was measured.
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
log:
  description: Lines of NCCL's log that tell the transport; the last output of a tool that failed.
  type: list
  elements: str
  returned: always
missing_packages:
  description: Packages of the operating system that the test needs and that are missing.
  type: list
  elements: str
  returned: always
msg:
  description: One sentence.
  type: str
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.docker.cli import DOCKER
from ..module_utils.fabric.bench import without_bandwidth
from ..module_utils.fabric.bench_end import TITLES, Benchmark
from ..module_utils.fabric.link import FabricError, Machine
from ..module_utils.report.finding import RED, YELLOW, Finding, as_dicts, fine, sentences
from ..module_utils.system.run import run

PACKAGES = {"rdma": ("ib_write_bw", "perftest"), "tcp": ("iperf3", "iperf3")}


def main() -> None:
    """Measure, judge, answer."""
    module = AnsibleModule(
        argument_spec={
            "test": {"type": "str", "choices": ["container", "rdma", "tcp", "nccl"], "required": True},
            "role": {"type": "str", "choices": ["server", "client"], "default": "server"},
            "rails": {"type": "list", "elements": "dict", "required": True},
            "peer_addresses": {"type": "list", "elements": "str", "default": []},
            "cables": {"type": "int", "default": 1},
            "seconds": {"type": "int", "default": 5},
            "timeout": {"type": "int", "default": 120},
            "port": {"type": "int", "default": 12000},
            "image": {"type": "str"},
            "devices": {"type": "list", "elements": "str", "default": ["nvidia.com/gpu=all", "/dev/infiniband"]},
            "ulimits": {"type": "dict", "default": {"memlock": -1}},
            "environment": {"type": "dict", "default": {}},
            "rank": {"type": "int", "default": 0},
            "world": {"type": "int", "default": 2},
            "mib": {"type": "int", "default": 512},
            "require_bandwidth": {"type": "bool", "default": True},
        },
        required_if=[("role", "client", ["peer_addresses"])],
        supports_check_mode=True,
    )
    params = module.params
    empty: dict[str, Any] = {
        "problems": [],
        "warnings_found": [],
        "findings": [],
        "log": [],
        "result": {},
        "missing_packages": [],
    }
    program, package = PACKAGES.get(params["test"], (DOCKER, ""))
    if module.get_bin_path(program) is None:
        if not package:
            module.fail_json(msg="docker is missing on this node: run role container_runtime first")
        module.exit_json(
            **{
                **empty,
                "changed": False,
                "missing_packages": [package],
                "msg": f"{program} is missing: install {package}",
            }
        )
    if module.check_mode:
        module.exit_json(**{**empty, "changed": False, "msg": "not run in check mode, since it loads the link"})
    if not params["rails"]:
        module.fail_json(msg="rails is empty: the node has no interface on the fabric, see fabric_info")

    benchmark = Benchmark(params, Machine(run))
    try:
        getattr(benchmark, params["test"])()
    except FabricError as error:
        benchmark.findings.append(
            Finding(
                "fabric.no_result",
                RED,
                TITLES[params["test"]],
                str(error),
                "run the test again, and read `log` in the result",
            )
        )
    if not params["require_bandwidth"]:
        benchmark.findings = without_bandwidth(benchmark.findings)
    problems = sentences(benchmark.findings)
    told = ", ".join(
        f"{name} {value}"
        for name, value in benchmark.result.items()
        if isinstance(value, (int, float, str)) and value != ""
    )
    summary = f"{params['test']}: {told}"
    well = [fine("fabric", TITLES[params["test"]], summary)] if benchmark.result else []
    module.exit_json(
        changed=False,
        msg="; ".join(problems) or summary,
        result=benchmark.result,
        problems=problems,
        warnings_found=sentences(benchmark.findings, YELLOW),
        findings=as_dicts(benchmark.findings or well),
        log=benchmark.log,
        missing_packages=[],
    )


if __name__ == "__main__":
    main()
