# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""One end of a test of the link: its jobs, what they said, and what that means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..docker.cli import remove_container
from ..report.finding import RED, Finding
from . import nccl_probe
from .bench import (
    CONTAINER,
    CONTAINER_CHECK,
    NCCL,
    NCCL_PORT,
    RDMA,
    TCP,
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
)
from .host import read_host
from .link import FabricError, Machine

#: Lines of NCCL's log worth keeping; a whole one has thousands.
TELLING = re.compile(
    r"NET/(IB|Socket)\s*: (Using|No device|Made virtual device)|Using network|NET plugin|net plugin|NCCL WARN|NCCL version|Channel 0[01]/|"
    r"set by environment|GPU Direct RDMA"
)
#: What each test looks at.
TITLES = {"container": CONTAINER_CHECK, "rdma": RDMA, "tcp": TCP, "nccl": NCCL}


def probe_source() -> str:
    """Return the source of the probe, also from the archive that Ansible runs modules from.

    Raises:
        FabricError: it cannot be read.
    """
    loader: Any = getattr(nccl_probe.__spec__, "loader", None)
    text = loader.get_source(nccl_probe.__name__) if hasattr(loader, "get_source") else ""
    if not text:
        raise FabricError("the source of nccl_probe cannot be read: reinstall the collection")
    return str(text)


class Benchmark:
    """One test on one end."""

    def __init__(self, params: Mapping[str, Any], machine: Machine) -> None:
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

    def mbps(self) -> int | None:
        """Return Mb/s of the slowest port in use; None where the kernel does not say."""
        told = [rail["speed"] for rail in self.params["rails"] if rail.get("rdma") and rail.get("speed")]
        return min(told, default=None)

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

    def unfinished(self, what: str, status: int, output: str) -> None:
        """Note a run that gave no figure."""
        words = [line.strip() for line in output.splitlines() if line.strip()]
        self.log += words[-5:]
        if status == 124:
            found = f"{what} was not done within {self.params['timeout']} s"
        else:
            found = f"{what} failed ({words[-1][:200] if words else f'exit status {status}'})"
        self.findings.append(
            Finding(
                "fabric.test_failed",
                RED,
                TITLES[self.params["test"]],
                found,
                "see that the other end runs the same test and that no firewall closes the port",
            )
        )

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
                self.unfinished(f"ib_write_bw over {rail['rdma']}", status, output)
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
            host = read_host(self.machine.run, self.machine.root)
            self.findings += judge_rdma(results, self.devices(), self.params["cables"], host, self.mbps())

    def tcp(self) -> None:
        """Measure TCP over the first rail."""
        rails = self.params["rails"]
        peer = self.peers(1)[0]
        status, output = self.run(
            [iperf3(self.params["port"], self.params["seconds"], rails[0]["address"].split("/")[0], peer)]
        )[0]
        if status:
            self.unfinished(f"iperf3 over {rails[0]['interface']}", status, output)
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
            remove_container(self.machine.run, CONTAINER)
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
                Finding(
                    "fabric.nccl_failed",
                    RED,
                    NCCL,
                    f"NCCL in the serving image failed: {self.result['error']}",
                    "read the lines in `log`, and run playbooks/fabric.yml, which checks the link below it",
                )
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
                    "fabric.nccl_wrong",
                    RED,
                    NCCL,
                    "NCCL's collectives gave wrong results between the nodes",
                    "use another serving image, whose NCCL is newer",
                )
            )
        host = read_host(self.machine.run, self.machine.root)
        self.findings += judge_nccl(
            log, self.devices(), self.result.get("bus_gbytes"), params["cables"], host, self.mbps()
        )
        # Each device carries its share of more than twenty rounds; less than one round's share means that it took no part.
        self.findings += judge_counters(before, after, params["mib"] * 1024 * 1024 // max(1, len(before)))
