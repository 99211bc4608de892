# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What owners' Sparks print, held against the verdict of the product's own readers and judges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.cdi import Runtime as DockerRuntime
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.cdi import judge as judge_docker
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.cdi import parse_docker_info
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.bench import (
    judge_nccl,
    judge_rdma,
    parse_ib_write_bw,
    parse_nccl_log,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.host import Host, why_no_port
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.link import Fabric, Rail, judge_rails
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.netplan import plan_netplan
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gpu.runtime import (
    GPU_FIELDS,
    REASON_FIELDS,
    Runtime,
    judge,
    parse_cuda,
    parse_gpus,
    parse_kernel_module,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node.occupants import parse_dgx_release
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node.packages import is_driver_package
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node.requirements import parse_meminfo
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.finding import GREEN, Finding

from benchmarks.field_cases import CASES, Row, Section

FOLDER = CASES / "gb10"
PORT0 = ("rocep1s0f0", "roceP2p1s0f0")
PORT1 = ("rocep1s0f1", "roceP2p1s0f1")
ALL = ("rocep1s0f0", "rocep1s0f1", "roceP2p1s0f0", "roceP2p1s0f1")
ABOUT = (
    "Each file of `tests/field_cases/gb10` through the reader that meets such text on a Spark, and the judge behind it. Right is the verdict that the machine deserved "
    "by what its owner found. `none` stands for no finding."
)
OPEN = (
    "Nothing here was run on a GB10 by this project. That a verdict on a text is right does not show that a module gets such a text; docs/diagnose.md says what a "
    "first owner is asked for.",
    "`clocks_busy_cap`: utilization and power are an owner's, the clock is composed. Five looks at a real kernel that spins are wanted.",
    "`smi_610_q`: said to be from a GB10, not confirmed.",
)


def section() -> Section:
    """Return the rows of all cases."""
    return Section("Sparks", ABOUT, list(rows()), OPEN)


def rows() -> Iterator[Row]:
    """Return a row for each case; a file without one is an error."""
    for path in sorted(FOLDER.iterdir()):
        source, _bar, _verdict = (
            path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# source:").partition("| right verdict")
        )
        what, says, right = _JUDGES[path.stem](words(path))
        yield Row(path.stem, source.strip(), what, says, right, says == right)


def words(path: Path) -> str:
    """Return a case without the line that says where it comes from."""
    return "".join(
        line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if not line.startswith("# source:")
    )


Verdict = tuple[str, str, str]


def _codes(findings: list[Finding]) -> str:
    return ", ".join(f"{found.level} {found.code}" for found in findings if found.level != GREEN) or "none"


def _nccl(devices: tuple[str, ...], gbytes: float, cables: int, right: str) -> Callable[[str], Verdict]:
    def told(text: str) -> Verdict:
        log = parse_nccl_log(text)
        way = "RDMA" if log.rdma() else "TCP"
        return (
            f"NCCL at {gbytes:g} GB/s",
            f"{way} over {', '.join(log.used())}: {_codes(judge_nccl(log, devices, gbytes, cables))}",
            right,
        )

    return told


def _rdma(right: str) -> Callable[[str], Verdict]:
    def told(text: str) -> Verdict:
        found = parse_ib_write_bw(text)
        if found is None:
            return "ib_write_bw over one twin", "no figure", right
        return (
            "ib_write_bw over one twin",
            f"{found.gbits:g} Gb/s: {_codes(judge_rdma([found], [found.device], 1))}",
            right,
        )

    return told


def _clocks(text: str) -> Verdict:
    (gpu,) = parse_gpus(text, (*GPU_FIELDS, REASON_FIELDS[0]))
    runtime = Runtime(gpus=[gpu], samples=[[gpu]] * 4)
    return "clock, five looks alike", _codes(judge(runtime, checks=["clocks"])), "yellow gpu.clock_unsure"


def _driver(text: str) -> Verdict:
    version = next(line.split(":")[1].split()[0] for line in text.splitlines() if line.startswith("Driver Version"))
    line = f"0, NVIDIA GB10, x, 12.1, {version}" + ", [N/A]" * 8
    runtime = Runtime(
        gpus=parse_gpus(line, (*GPU_FIELDS, REASON_FIELDS[0])), kernel_module=version, cuda=parse_cuda(text)
    )
    (found,) = judge(runtime, checks=["driver"])
    return (
        "driver",
        f"{found.level}: {found.found}, branch {'610' if '610' in found.remedy else '?'}",
        "yellow: driver 610.57.04, CUDA 13.3, branch 610",
    )


def _hotplug(text: str) -> Verdict:
    host = Host(hotplug=True, log=tuple(text.splitlines()))
    return "no port on the bus", _codes([why_no_port(host)]), "red fabric.card_off"


def _docker(text: str) -> Verdict:
    found = judge_docker(DockerRuntime(docker=parse_docker_info(text)), ["nvidia.com/gpu=all"])
    # Specification and boot order are read from files that the case does not have.
    about = {"docker.silent", "docker.missing", "docker.snap", "docker.without_cdi", "docker.cdi_off"}
    return "CDI in Docker 29 without daemon.json", _codes([each for each in found if each.code in about]), "none"


def _packages(text: str) -> Verdict:
    names = text.split()
    known = sum(map(is_driver_package, names))
    return "packages to hold", f"{known} of {len(names)}", f"{len(names)} of {len(names)}"


def _plan(text: str, *rails: tuple[str, str]) -> tuple[list[str], list[str], bool]:
    """Return problems, notes and whether anything is written for these rails, on a node with that netplan file."""
    wanted = [Rail(name, address) for name, address in rails]
    plan = plan_netplan({"/etc/netplan/60-mine.yaml": yaml.safe_load(text)}, wanted, {}, 9000)
    return plan.problems, plan.notes, plan.text is not None


def _sync(text: str) -> Verdict:
    problems, _notes, _written = _plan(text, ("enp1s0f0np0", "10.100.32.1/24"), ("enP2p1s0f0np0", "10.100.33.1/24"))
    return "netplan of NVIDIA Sync", "refused" if problems else "accepted", "accepted"


def _empty_twins(text: str) -> Verdict:
    names = ("enp1s0f0np0", "enP2p1s0f0np0", "enp1s0f1np1", "enP2p1s0f1np1")
    addresses = ("192.168.1.10/24", "192.168.3.10/24", "192.168.2.10/24", "192.168.4.10/24")
    problems, notes, _written = _plan(text, *zip(names, addresses, strict=True))
    told = sum("was left without an address" in note for note in notes)
    return (
        "netplan with empty twins",
        "refused" if problems else f"said of {told} twins that they get addresses",
        "said of 2 twins that they get addresses",
    )


def _one_subnet(text: str) -> Verdict:
    entries = yaml.safe_load(text)["network"]["ethernets"]
    rails = [Rail(name, body["addresses"][0]) for name, body in entries.items()]
    found = judge_rails(rails, Fabric())
    return "twins in one subnet", _codes(found[:1]), "red fabric.subnet"


_JUDGES: dict[str, Callable[[str], Verdict]] = {
    "clocks_busy_cap": _clocks,
    "dgx_release_7.2.3_ota_7.5.0": lambda text: ("DGX OS", parse_dgx_release(text), "7.5.0"),
    "dmesg_cx7_hotplug": _hotplug,
    "docker_29.2.1": _docker,
    "ib_write_bw_13": _rdma("13.22 Gb/s: red fabric.rdma_slow"),
    "ib_write_bw_9961": _rdma("99.61 Gb/s: none"),
    "ib_write_bw_cpu_util": _rdma("92.57 Gb/s: none"),
    "meminfo_121": lambda text: ("memory, GiB", "{1:.2f} of {0:.2f}".format(*parse_meminfo(text)), "113.07 of 121.69"),
    "nccl_ibext_v11_healthy": _nccl(PORT0, 23.65, 1, "RDMA over rocep1s0f0, roceP2p1s0f0: none"),
    "nccl_merged_real": _nccl(ALL, 25.67, 2, f"RDMA over {', '.join(ALL)}: none"),
    "nccl_rdma_plugin_v10_pair": _nccl(PORT1, 22.7, 1, "RDMA over rocep1s0f1, roceP2p1s0f1: none"),
    "nccl_rdma_plugin_v10_real_excerpt": _nccl(PORT0[:1], 12.0, 1, "RDMA over rocep1s0f0: yellow fabric.nccl_one_link"),
    "netplan_nvidia_sync": _sync,
    "netplan_socket_direct_empty_twins": _empty_twins,
    "netplan_twins_one_subnet": _one_subnet,
    "nvrm_banner": lambda text: ("driver in the kernel", parse_kernel_module(text), "580.173.02"),
    "packages_driver_unheld": _packages,
    "smi_610_q": _driver,
}
