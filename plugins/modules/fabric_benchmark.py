#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: what the link between two nodes really does."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fabric_benchmark
short_description: What the link between two nodes really does
version_added: 0.1.0
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
  description: One sentence for each thing that must be mended.
  type: list
  elements: str
  returned: always
warnings_found:
  description: One sentence for each thing that is not as it should be, but works.
  type: list
  elements: str
  returned: always
findings:
  description: All of these with level (problem, warning), code and text.
  type: list
  elements: dict
  returned: always
log:
  description: Lines of NCCL's log that tell the transport; the last words of a tool that failed.
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

import re
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.fabric import nccl_probe
from ..module_utils.fabric.bench import (
    CONTAINER,
    NCCL_PORT,
    Job,
    ib_write_bw,
    iperf3,
    judge_container,
    judge_counters,
    judge_nccl,
    judge_rdma,
    judge_tcp,
    parse_ib_write_bw,
    parse_iperf3,
    parse_nccl_log,
    parse_probe,
    probe_job,
    run_jobs,
    without_bandwidth,
)
from ..module_utils.fabric.link import FabricError, Finding, Machine
from ..module_utils.system.run import run

#: Lines of NCCL's log worth keeping; a whole one has thousands.
TELLING = re.compile(
    r"NET/(IB|Socket)\s*: (Using|No device|Made virtual device)|Using network|NCCL WARN|NCCL version|Channel 0[01]/|set by environment|GPU Direct RDMA"
)
PACKAGES = {"rdma": ("ib_write_bw", "perftest"), "tcp": ("iperf3", "iperf3")}


def probe_source() -> str:
    """Return the source of the probe, also from the archive that Ansible runs modules from.

    Raises:
        FabricError: it cannot be read.
    """
    loader: Any = getattr(nccl_probe.__spec__, "loader", None)
    text = loader.get_source(nccl_probe.__name__) if hasattr(loader, "get_source") else ""
    if not text:
        raise FabricError("the source of fabric_probe cannot be read: install the collection anew")
    return str(text)


class Benchmark:
    """One test on one end."""

    def __init__(self, params: dict[str, Any], machine: Machine) -> None:
        self.params = params
        self.machine = machine
        self.result: dict[str, Any] = {}
        self.findings: list[Finding] = []
        self.log: list[str] = []

    def run(self, jobs: Sequence[Job]) -> list[tuple[int, str]]:
        """Run the jobs, each for the whole of the time."""
        return run_jobs(jobs, self.params["timeout"])

    def devices(self) -> list[str]:
        """Return the rails' RDMA devices."""
        return [rail["rdma"] for rail in self.params["rails"] if rail.get("rdma")]

    def peers(self, count: int) -> list[str]:
        """Return the server's address for each rail; empty texts on the server itself.

        Raises:
            FabricError: the client was not told all of them.
        """
        if self.params["role"] == "server":
            return [""] * count
        found = [str(address).partition("/")[0] for address in self.params["peer_addresses"]]
        if len(found) < count:
            raise FabricError(
                f"peer_addresses has {len(found)} addresses for {count} rails: name the server's address on each"
            )
        return found

    def unfinished(self, code: str, what: str, status: int, output: str) -> None:
        """Note a run that gave no figure."""
        words = [line.strip() for line in output.splitlines() if line.strip()]
        self.log += words[-5:]
        waited = f"was not done within {self.params['timeout']} s: see that the other end runs the same test and that no firewall closes the port"
        reason = waited if status == 124 else f"failed ({words[-1][:200] if words else f'exit status {status}'})"
        self.findings.append(Finding("problem", code, f"{what} {reason}"))

    def rdma(self) -> None:
        """Measure all RDMA devices at once."""
        rails = [rail for rail in self.params["rails"] if rail.get("rdma")]
        if not rails:
            raise FabricError("no rail has an RDMA device, so that there is nothing to measure: test tcp instead")
        peers = self.peers(len(rails))
        jobs = [
            ib_write_bw(
                rail["rdma"], self.params["port"] + place, self.params["seconds"], rail.get("gid_index"), peers[place]
            )
            for place, rail in enumerate(rails)
        ]
        results = []
        for rail, (status, output) in zip(rails, self.run(jobs), strict=True):
            found = parse_ib_write_bw(output) if status == 0 else None
            if found is None:
                self.unfinished("rdma_failed", f"ib_write_bw over {rail['rdma']}", status, output)
            else:
                results.append(found)
        self.result = {
            "gbits": round(sum(found.gbits for found in results), 2),
            "devices": {
                found.device: {"gbits": found.gbits, "gid_index": found.gid_index, "mtu": found.mtu}
                for found in results
            },
        }
        if len(results) == len(rails):
            self.findings += judge_rdma(results, self.devices(), self.params["cables"])

    def tcp(self) -> None:
        """Measure TCP over the first rail."""
        rails = self.params["rails"]
        peer = self.peers(1)[0]
        status, output = self.run(
            [iperf3(self.params["port"], self.params["seconds"], rails[0]["address"].split("/")[0], peer)]
        )[0]
        if status:
            self.unfinished("tcp_failed", f"iperf3 over {rails[0]['interface']}", status, output)
            return
        self.result = {"gbits": parse_iperf3(output)}
        self.findings += judge_tcp(self.result["gbits"])

    def probe(self, arguments: Sequence[str]) -> str:
        """Run the probe in the serving image; return what it printed.

        Raises:
            FabricError: it gave no result.
        """
        params = self.params
        if not params["image"]:
            raise FabricError(f"test {params['test']} needs image, the serving image")
        environment = {str(name): str(value) for name, value in params["environment"].items()}
        job = probe_job(
            params["image"],
            environment,
            params["devices"],
            params["ulimits"],
            arguments,
            probe_source(),
        )
        status, output = self.run([job])[0]
        if status == 124:
            # The client of Docker is gone, its container may not be.
            self.machine.run(["docker", "rm", "--force", CONTAINER])
        self.log = [line.strip()[:300] for line in output.splitlines() if TELLING.search(line)][:60]
        self.result = parse_probe(output)
        self.findings += judge_container(self.result)
        return output

    def container(self) -> None:
        """Look into a container that is like a serving container."""
        self.probe(["--look-only"])

    def nccl(self) -> None:
        """Measure NCCL in the serving image, and prove its transport."""
        params = self.params
        master = (self.peers(1)[0] if params["role"] == "client" else str(params["rails"][0]["address"])).split("/")[0]
        before = {device: self.machine.counters(device) for device in self.devices()}
        output = self.probe(
            [
                *(
                    "--rank",
                    str(params["rank"]),
                    "--world",
                    str(params["world"]),
                    "--master",
                    master,
                    "--port",
                    str(NCCL_PORT),
                ),
                *("--mib", str(params["mib"]), "--timeout", str(max(30, params["timeout"] - 30))),
            ]
        )
        after = {device: self.machine.counters(device) for device in self.devices()}
        if self.result.get("error"):
            self.findings.append(
                Finding("problem", "nccl_failed", f"NCCL in the serving image failed: {self.result['error']}")
            )
            return
        log = parse_nccl_log(output)
        self.result |= {
            "transport": "NET/IB" if log.rdma() else f"NET/{log.network or 'unknown'}",
            "used": list(log.used()),
            "gpu_direct": log.gpu_direct,
            "counters": {
                device: {name: value - before[device].get(name, value) for name, value in after[device].items()}
                for device in after
            },
        }
        if not self.result.get("right"):
            self.findings.append(
                Finding(
                    "problem",
                    "nccl_wrong",
                    "NCCL's collectives gave wrong results between the nodes: use another serving image, whose NCCL is newer",
                )
            )
        self.findings += judge_nccl(log, self.devices(), self.result.get("bus_gbytes"), params["cables"])
        # Each device carries its share of more than twenty rounds; less than one round's share means that it took no part.
        self.findings += judge_counters(before, after, params["mib"] * 1024 * 1024 // max(1, len(before)))


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
    program, package = PACKAGES.get(params["test"], ("docker", ""))
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
        benchmark.findings.append(Finding("problem", "no_result", str(error)))
    if not params["require_bandwidth"]:
        benchmark.findings = without_bandwidth(benchmark.findings)
    problems = [finding.text for finding in benchmark.findings if finding.level == "problem"]
    warnings = [finding.text for finding in benchmark.findings if finding.level == "warning"]
    told = ", ".join(
        f"{name} {value}"
        for name, value in benchmark.result.items()
        if isinstance(value, (int, float, str)) and value != ""
    )
    module.exit_json(
        changed=False,
        msg="; ".join(problems) or f"{params['test']}: {told}",
        result=benchmark.result,
        problems=problems,
        warnings_found=warnings,
        findings=[
            {"level": finding.level, "code": finding.code, "text": finding.text} for finding in benchmark.findings
        ],
        log=benchmark.log,
        missing_packages=[],
    )


if __name__ == "__main__":
    main()
