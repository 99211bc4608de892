# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the link between two nodes really does: commands of the field's tools, their output read, and the figures judged.

A measurement that failed is never a figure: every parser returns None, or raises, where there is none.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..docker.cli import BARE, DOCKER
from ..report.finding import RED, YELLOW, Finding
from ..system.run import COLOUR
from .host import Host, remedy_for, slow_causes
from .link import PORT_MBPS, FabricError

PORT = 12000
NCCL_PORT = 12100
CONTAINER = "spark-fabric-benchmark"
#: Line that the probe in the container prints its result in.
RESULT = "FABRIC-PROBE-RESULT "
#: What was checked.
RDMA, TCP, NCCL, CONTAINER_CHECK = "RDMA", "TCP", "NCCL", "serving container"

# What is expected, by how many ports have a cable. The sums of a port's two RDMA devices that were published for one
# cable: 189.85 Gb/s (92.57 + 97.28, NVIDIA's
# performance_benchmarking_guide.md @0db7c14), 218.4 Gb/s (LLMKube#1423); NVIDIA Sync's own test wants 184. NCCL's bus bandwidth in all_gather: 20.4
# (MiaAI GLM #118), 21.4 (KoyoImai/dgx_spark_cluster2, Step011), 23.74 (dgx-spark-playbooks#103); NVIDIA's script warns
# below 21.875, which two of these would
# fail. With two cables 25.67 was published once (forum 352051): both ports hang on the same two PCIe links, so that the lower limits stay.
# `low` lies below every published figure of a sound link and above what one twin alone, or TCP, brings (about 110 Gb/s and 3 GB/s). None was measured here.


@dataclass(frozen=True)
class Expected:
    """Figures for a number of cables: below ``low`` the link is broken, from ``good`` on it is as published."""

    low: float
    good: float
    published: str


RDMA_GBITS = {
    1: Expected(160.0, 184.0, "190 to 218 Gb/s over both twins"),
    2: Expected(160.0, 184.0, "no figure for two cables; 190 to 218 Gb/s with one"),
}
NCCL_GBYTES = {1: Expected(15.0, 20.0, "20.4 to 23.7 GB/s"), 2: Expected(15.0, 20.0, "25.7 GB/s, once")}
# TCP is told, not demanded: 96.2 Gb/s came untuned (catharsis.net.au). Below 20 the way leads over the management network or a slow port.
TCP_GBITS = Expected(20.0, 80.0, "96 Gb/s over one twin")


def expected(table: Mapping[int, Expected], cables: int) -> Expected:
    """Return the row for a number of cables, one where none is known."""
    return table[2 if cables >= 2 else 1]


#: One twin alone: 109 to 112 Gb/s of ib_write_bw (eugr/spark-vllm-docker, docs/NETWORKING.md; an owner's 109 to 112), 12 GB/s of NCCL (an owner's
#: document on a pair with one device named). It hangs on one PCIe link of the two.
ONE_TWIN_GBITS = Expected(80.0, 90.0, "109 to 112 Gb/s over one twin")
ONE_TWIN_GBYTES = Expected(8.0, 10.0, "12 GB/s over one twin")
_RDMA_NAME = re.compile(r"roce(P\d+)?p\d+s\d+f\d+$")


def one_link(devices: Sequence[str]) -> bool:
    """Say whether all devices hang on one of the card's two PCIe links: a single twin, or the same twin of both ports."""
    names = [_RDMA_NAME.fullmatch(device) for device in devices]
    if all(names):
        return len({name[1] for name in names if name}) == 1
    return len(devices) == 1


def limits_for(
    table: Mapping[int, Expected], alone: Expected, devices: Sequence[str], cables: int, mbps: int | None
) -> Expected:
    """Return what is expected of these devices: half of the card for one of its PCIe links, and never more than the ports do.

    Args:
        table: what was published for both twins, by cables.
        alone: what was published for one twin.
        devices: RDMA devices in use.
        cables: number of ports with a cable.
        mbps: Mb/s of a port; None where that is not known.
    """
    limits = alone if one_link(devices) else expected(table, cables)
    ports = 1 if cables < 2 else 2
    share = min(1.0, ports * mbps / PORT_MBPS) if mbps else 1.0
    if one_link(devices):
        # One twin alone does about half of a port: a port at 100 Gb/s is no narrower than that.
        share = min(1.0, 2 * share)
    if share == 1.0:
        return limits
    return Expected(
        round(limits.low * share, 2),
        round(limits.good * share, 2),
        f"{limits.published} with ports at {PORT_MBPS // 1000} Gb/s, {share:.0%} of that with these at {(mbps or 0) // 1000}",
    )


# --- reading ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RdmaResult:
    """One run of ib_write_bw: Gb/s on average, over the rows it printed."""

    device: str
    gbits: float
    gid_index: int | None
    mtu: int | None


def parse_ib_write_bw(text: str) -> RdmaResult | None:
    """Return the result of ``ib_write_bw --report_gbits``; None where it printed no figure."""
    rows = re.findall(r"^\s*\d+\s+\d+\s+[\d.]+\s+([\d.]+)(?:\s+[\d.]+){1,2}\s*$", text, re.MULTILINE)
    if not rows or "BW average[Gb/sec]" not in text:
        return None
    device = re.search(r"Device\s*:\s*(\S+)", text)
    gid = re.search(r"GID index\s*:\s*(\d+)", text)
    mtu = re.search(r"Mtu\s*:\s*(\d+)\[B\]", text)
    values = [float(row) for row in rows]
    return RdmaResult(
        device[1] if device else "",
        round(sum(values) / len(values), 2),
        int(gid[1]) if gid else None,
        int(mtu[1]) if mtu else None,
    )


def parse_iperf3(text: str) -> float:
    """Return Gb/s received, from ``iperf3 --json``.

    Raises:
        FabricError: iperf3 says that it failed, or printed something else.
    """
    try:
        found = json.loads(text)
        if found.get("error"):
            raise FabricError(f"iperf3 failed: {found['error']}")
        return round(float(found["end"]["sum_received"]["bits_per_second"]) / 1e9, 2)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FabricError(f"iperf3 printed no result ({text.strip()[:120] or 'nothing'})") from error


@dataclass(frozen=True)
class NcclLog:
    """What NCCL says in its log at level INFO.

    ``version`` is its number, ``build`` with all that stands behind it (``2.28.9+cuda13.0``).
    ``network`` is what it chose (``IB``, ``Socket``, or the name of a plugin, ``NCCL RDMA Plugin v10``), ``devices`` what it opened, ``channels``
    how many channels go
    over each device (by the device's number, ``Socket/0`` for TCP), ``gid_kinds`` whether each device's address is an IPv4 one (``ipv4``) or a
    link-local one (``link-local``). ``virtual`` is what a device's number stands for: NCCL_IB_MERGE_NICS, 1 by default, makes one of the ports of
    a PCI card that has two cables, under a number after those of the single devices.
    """

    version: str = ""
    build: str = ""
    network: str = ""
    devices: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    channels: Mapping[str, int] | None = None
    gid_kinds: Mapping[str, str] | None = None
    gpu_direct: bool = False
    warnings: tuple[str, ...] = ()
    virtual: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def named(self, number: str) -> tuple[str, ...]:
        """Return the devices that a number stands for, more than one where NCCL merged them; none for a number that the log does not explain."""
        return self.virtual.get(number) or self.devices[int(number) : int(number) + 1]

    def rdma(self) -> bool:
        """Say whether data goes over RDMA alone: nothing names Socket, and something names another way."""
        over = set(self.channels or {})
        if over:
            return all(not name.startswith("Socket") for name in over)
        return bool(self.network) and self.network != "Socket"

    def used(self) -> tuple[str, ...]:
        """Return the devices that channels go over; all that were opened where the log names no channel."""
        numbers = sorted((name for name in self.channels or {} if name.isdigit()), key=int)
        return tuple(dict.fromkeys(name for number in numbers for name in self.named(number))) or (
            () if numbers else self.devices
        )


#: A device in ``Using [0]rocep1s0f0:1/RoCE``; since 2.30 with the numbers of rail and plane where they were named (``:1:2:3/RoCE``, ``:1::3/RoCE``).
_DEVICE = re.compile(r"\[\d+\]([^\s:]+):\d+(?::-?\d*){0,2}/\w+")
#: ``via NET/<name>/<number>``, with the rank of a proxy in brackets and what kind of access; a plugin's name may hold blanks and slashes.
_VIA = re.compile(r"\bvia NET/([^\n]+)/(\d+)(?:\(\d+\))?(?:/GDRDMA(?:\(PCI\))?)?(?:/Shared)?(?=\s|$)")
#: An address that a connection was made with: ``qpn`` up to 2.29.3, ``qp_num`` behind the function's name since 2.29.7.
_ADDRESS = re.compile(
    r"NCCL (?:Merged)?Dev -?\d+ I[Bb]Dev (\d+) Port \d+ (?:qpn|qp_num) \d+ mtu \d+ GID -?\d+ \(([0-9A-Fa-f]+)/([0-9A-Fa-f]+)\)"
)


def parse_nccl_log(text: str) -> NcclLog:
    """Return what an NCCL log says, of all ranks whose lines are in it.

    The forms are those of NCCL's source from 2.19 to 2.30.7 (src/transport/net_ib*, net.cc, net_socket.cc, init.cc, plugin/net.cc), and those of the
    plugins (HPC-X's ``NCCL RDMA Plugin vN`` and ``IBext_vN``) in owners' logs up to 2.31.2. The network is what NCCL says that it uses; it is TCP
    only where Socket is named.
    """
    text = COLOUR.sub("", text).replace("\r", "")
    version = re.search(r"NCCL version (\d+(?:\.\d+)+)(\S*)", text)
    devices: dict[str, None] = {}
    for line in re.findall(r"NET/IB\s*: Using (.*)", text):
        devices |= dict.fromkeys(_DEVICE.findall(line))
    if not devices:
        # NVIDIA's plugin names its devices in these lines alone.
        numbered = dict(re.findall(r"HCA (\d+) '([^'\s]+)", text))
        devices |= dict.fromkeys(numbered[number] for number in sorted(numbered, key=int))
    virtual = {
        number: tuple(name.split("+"))
        for number, name in re.findall(r"NET/IB\s*: Made virtual device \[(\d+)\] name=(\S+)", text)
    }
    sockets: dict[str, None] = {}
    for line in re.findall(r"NET/Socket\s*: Using (\[.*)", text):
        sockets |= dict.fromkeys(re.findall(r"\[\d+\]([^\s:]+):", line))
    networks = re.findall(r"\bUsing network ([^\n]*\S)", text) or re.findall(
        r"\bAssigned NET plugin ([^\n]*\S) to comm", text
    )
    channels: dict[str, int] = {}
    for kind, number in _VIA.findall(text):
        name = f"Socket/{number}" if kind == "Socket" else number
        channels[name] = channels.get(name, 0) + 1
    kinds: dict[str, str] = {}
    for number, subnet, identity in _ADDRESS.findall(text):
        # A RoCE v2 address that stands for IPv4 is ::ffff:a.b.c.d; the log prints its halves as numbers of the host's byte order.
        kind = (
            "ipv4"
            if int(subnet, 16) == 0 and identity.upper().endswith("FFFF0000")
            else "link-local"
            if subnet.upper() == "80FE"
            else "other"
        )
        kinds[number] = kind if kinds.get(number, kind) == kind else "mixed"
    warnings = dict.fromkeys(found.strip() for found in re.findall(r"NCCL WARN (.*)", text))
    chosen = "Socket" if "Socket" in networks else networks[-1] if networks else ""
    return NcclLog(
        version=version[1] if version else "",
        build=version[1] + version[2] if version else "",
        network=chosen or ("IB" if devices else "Socket" if sockets else ""),
        devices=tuple(devices),
        sockets=tuple(sockets),
        channels=channels,
        gid_kinds=kinds,
        gpu_direct=_gpu_direct(text),
        warnings=tuple(warnings),
        virtual=virtual,
    )


def _gpu_direct(text: str) -> bool:
    """Say whether the network reads the GPU's memory itself: by the channels, else by what is said of all devices."""
    said = re.findall(r"GPU Direct RDMA (?:\([\w-]+\) )?([Ee]nabled|[Dd]isabled)", text)
    found = {word.lower() for word in said}
    # A plugin finds it possible, and NCCL then switches it off: on a GB10 both lines stand there.
    return "/GDRDMA" in text or found == {"enabled"}


def parse_probe(text: str) -> dict[str, Any]:
    """Return what the probe in the container found.

    Raises:
        FabricError: it said nothing; with the last line of the side that wrote one.
    """
    for line in reversed(text.splitlines()):
        if line.startswith(RESULT):
            found = json.loads(line.removeprefix(RESULT))
            if isinstance(found, dict):
                return found
    said = [line.strip() for line in text.splitlines() if line.strip() and "NCCL INFO" not in line]
    raise FabricError(f"the serving container gave no result: {said[-1][:300] if said else 'it printed nothing'}")


# --- judging ----------------------------------------------------------------------------------------------------

#: What says only that a sound transport is slow.
BANDWIDTH = ("fabric.rdma_slow", "fabric.nccl_slow")


def without_bandwidth(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings with a bandwidth that falls short in yellow: the cluster serves over such a link, if slowly."""
    return [replace(found, level=YELLOW) if found.code in BANDWIDTH else found for found in findings]


def judge_rdma(
    results: Sequence[RdmaResult],
    devices: Sequence[str],
    cables: int,
    host: Host | None = None,
    mbps: int | None = None,
) -> list[Finding]:
    """Return what is wrong with the raw RDMA bandwidth of all devices at once.

    Args:
        host: what this node says of its link, for the cause.
        mbps: Mb/s of a port; None where that is not known.
    """
    limits = limits_for(RDMA_GBITS, ONE_TWIN_GBITS, devices, cables, mbps)
    total = round(sum(result.gbits for result in results), 2)
    parts = " + ".join(f"{result.device} {result.gbits:g}" for result in results)
    silent = [device for device in devices if device not in {result.device for result in results}]
    found = []
    if silent:
        found.append(
            Finding(
                "fabric.rdma_silent",
                RED,
                RDMA,
                f"{', '.join(silent)} gave no RDMA bandwidth",
                "see that its twin has an address and that the other node answers there",
            )
        )
    if results and total < limits.low:
        found.append(
            Finding(
                "fabric.rdma_slow",
                RED,
                RDMA,
                f"RDMA measured {total:g} Gb/s ({parts}), reference {limits.published}",
                remedy_for(slow_causes(host)),
            )
        )
    elif results and total < limits.good:
        found.append(
            Finding(
                "fabric.rdma_low",
                YELLOW,
                RDMA,
                f"RDMA measured {total:g} Gb/s ({parts}), a little below the reference ({limits.published})",
            )
        )
    return found


def judge_tcp(gbits: float) -> list[Finding]:
    """Return what is wrong with the TCP bandwidth."""
    if gbits >= TCP_GBITS.low:
        return []
    return [
        Finding(
            "fabric.tcp_slow",
            RED,
            TCP,
            f"TCP measured {gbits:g} Gb/s over the fabric, reference {TCP_GBITS.published}",
            "see that the route uses the QSFP link (`ip route get`)",
        )
    ]


def judge_container(probe: Mapping[str, Any]) -> list[Finding]:
    """Return why the serving container cannot use RDMA."""
    found = []
    if not probe.get("uverbs"):
        found.append(
            Finding(
                "fabric.no_uverbs",
                RED,
                CONTAINER_CHECK,
                "the serving container sees no /dev/infiniband/uverbs*, so that NCCL would silently use TCP",
                "add /dev/infiniband to spark_devices",
            )
        )
    elif probe.get("uverbs_denied"):
        found.append(
            Finding(
                "fabric.uverbs_denied",
                RED,
                CONTAINER_CHECK,
                f"the serving container may not open {', '.join(probe['uverbs_denied'])}: {probe.get('uverbs_error') or 'no reason given'}",
                "see that spark_devices has /dev/infiniband and that nothing limits the container's devices (`docker inspect`)",
            )
        )
    if probe.get("memlock") is not None and probe["memlock"] != -1:
        found.append(
            Finding(
                "fabric.memlock",
                RED,
                CONTAINER_CHECK,
                f"the serving container may lock {probe['memlock'] // 1024} KiB of memory, RDMA needs it unlimited",
                "set memlock: -1 in ray_head_ulimits, ray_worker_ulimits and vllm_serve_ulimits",
            )
        )
    return found


def judge_nccl(
    log: NcclLog,
    devices: Sequence[str],
    gbytes: float | None,
    cables: int,
    host: Host | None = None,
    mbps: int | None = None,
) -> list[Finding]:
    """Return what is wrong with NCCL in the serving container: its transport by its own log, then its bandwidth.

    Args:
        log: what NCCL said.
        devices: RDMA devices that it is to use.
        gbytes: bus bandwidth in GB/s; None where none was measured.
        cables: number of ports with a cable.
        host: what this node says of its link, for the cause.
        mbps: Mb/s of a port; None where that is not known.
    """
    if not log.network and not log.devices and not log.channels:
        return [
            Finding(
                "fabric.nccl_mute",
                RED,
                NCCL,
                "NCCL's log does not say what it uses",
                "run the benchmark again, and see that nothing sets NCCL_DEBUG",
            )
        ]
    found = _transport(log, devices)
    limits = limits_for(NCCL_GBYTES, ONE_TWIN_GBYTES, devices, cables, mbps)
    return [*found, *_nccl_bandwidth(gbytes, limits, found, log, devices, host)]


def _transport(log: NcclLog, devices: Sequence[str]) -> list[Finding]:
    """Judge what NCCL's log says of its way."""
    found = []
    # A log that names no device by its number says nothing of which are used; the devices' counters do.
    missing = [device for device in devices if device not in log.used()] if log.used() else []
    if devices and not log.rdma():
        by = f" ({', '.join(log.sockets)})" if log.sockets else ""
        found.append(
            Finding(
                "fabric.nccl_socket",
                RED,
                NCCL,
                f"NCCL in the serving container uses NET/Socket{by}, that is TCP, instead of NET/IB over {', '.join(devices)}",
                "see that the container has /dev/infiniband and unlimited memlock, and that NCCL_IB_HCA names this node's devices",
            )
        )
    elif missing:
        found.append(
            Finding(
                "fabric.nccl_one_twin",
                RED,
                NCCL,
                f"NCCL uses {', '.join(log.used()) or 'no device'}, not {', '.join(missing)}",
                "give that twin its address and name it in NCCL_IB_HCA",
            )
        )
    bare = [
        name
        for number, kind in (log.gid_kinds or {}).items()
        if kind == "link-local"
        # This number counts the single devices, also where NCCL merged them.
        for name in log.devices[int(number) : int(number) + 1] or log.named(number) or (f"device {number}",)
    ]
    if bare:
        found.append(
            Finding(
                "fabric.nccl_gid",
                YELLOW,
                NCCL,
                f"NCCL reaches {', '.join(bare)} by a link-local address, not by RoCE v2 over IPv4",
                "give the twin an IPv4 address on both nodes",
            )
        )
    return found


def _nccl_bandwidth(
    gbytes: float | None,
    limits: Expected,
    transport: Sequence[Finding],
    log: NcclLog,
    devices: Sequence[str],
    host: Host | None,
) -> list[Finding]:
    """Judge NCCL's bandwidth, with what explains it."""
    if gbytes is None:
        return []
    if gbytes >= limits.low and one_link(devices) and not transport:
        both = expected(NCCL_GBYTES, 1)
        if gbytes >= both.low:
            return []
        return [
            Finding(
                "fabric.nccl_one_link",
                YELLOW,
                NCCL,
                f"NCCL measured {gbytes:g} GB/s, slow because one twin alone is used ({', '.join(devices)}); reference with both twins {both.published}",
                "name both twins in fabric_interfaces, or leave it so: token by token it is hardly felt",
            )
        ]
    if gbytes >= limits.good:
        return []
    if gbytes >= limits.low:
        said = f"NCCL measured {gbytes:g} GB/s, a little below the reference ({limits.published})"
        return [Finding("fabric.nccl_low", YELLOW, NCCL, said)]
    said = f"NCCL measured {gbytes:g} GB/s, reference {limits.published}"
    if any(entry.code == "fabric.nccl_socket" for entry in transport):
        said, remedy = f"{said}; which is normal for TCP", "fix the transport first"
    elif any(entry.level == RED for entry in transport):
        said, remedy = f"{said}, as the transport above explains", "fix the transport first"
    else:
        said = f"{said}, although it uses NET/{log.network} over all devices"
        remedy = remedy_for(slow_causes(host, log.build))
    return [Finding("fabric.nccl_slow", RED, NCCL, said, remedy)]


def judge_counters(
    before: Mapping[str, Mapping[str, int]], after: Mapping[str, Mapping[str, int]], least: int
) -> list[Finding]:
    """Return which RDMA devices moved less than ``least`` bytes, and which lost packets, between two readings.

    Counters that the kernel does not give are not judged.
    """
    found = []
    for device, first in before.items():
        last = after.get(device, {})
        if "sent_bytes" in first and "sent_bytes" in last:
            moved = (
                last["sent_bytes"]
                - first["sent_bytes"]
                + last.get("received_bytes", 0)
                - first.get("received_bytes", 0)
            )
            if moved < least:
                found.append(
                    Finding(
                        "fabric.counter_still",
                        RED,
                        NCCL,
                        f"{device} moved {moved} bytes by RDMA during the test, so NCCL's data took another path",
                        "see what NCCL's log says of its transport, and that NCCL_IB_HCA names this device",
                        subject=device,
                    )
                )
        for name in sorted(set(first) - {"sent_bytes", "received_bytes"}):
            lost = last.get(name, first[name]) - first[name]
            if lost > 0:
                found.append(
                    Finding(
                        "fabric.packets_lost",
                        YELLOW,
                        NCCL,
                        f"{device} counted {lost} times {name} during the test, so the cable, or a switch between, loses packets",
                        "reseat the cable or replace it, and see the flow control of a switch between",
                        subject=device,
                    )
                )
    return found


# --- running ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A command to run: ``stdin`` is fed to it, ``retry`` says when its output means that the other side is not there yet."""

    argv: tuple[str, ...]
    stdin: str = ""
    retry: str = ""


def ib_write_bw(device: str, port: int, seconds: int, gid_index: int | None = None, peer: str = "") -> Job:
    """Return the run of ib_write_bw for one device; with ``peer`` as its client. As in NVIDIA's guide, but for a time."""
    argv = ["ib_write_bw", "-d", device, "-i", "1", "-p", str(port), "-F", "--report_gbits", "-D", str(seconds)]
    if gid_index is not None:
        argv += ["-x", str(gid_index)]
    return Job(
        (*argv, peer) if peer else tuple(argv),
        retry=r"Couldn't connect|Unable to open connection|Connection refused" if peer else "",
    )


def iperf3(port: int, seconds: int, address: str, peer: str = "") -> Job:
    """Return the run of iperf3, bound to this node's ``address``; with ``peer`` as its client, over eight streams."""
    if not peer:
        return Job(("iperf3", "--server", "--one-off", "--bind", address, "--port", str(port), "--json"))
    argv = (
        "iperf3",
        "--client",
        peer,
        "--bind",
        address,
        "--port",
        str(port),
        "--time",
        str(seconds),
        "--parallel",
        "8",
        "--json",
    )
    return Job(argv, retry="unable to connect|Connection refused|No route to host")


def probe_job(
    image: str,
    environment: Mapping[str, str],
    devices: Sequence[str],
    ulimits: Mapping[str, int],
    arguments: Sequence[str],
    source: str,
) -> Job:
    """Return the run of the probe in the serving image, with what the serving containers have."""
    argv = [
        DOCKER,
        "run",
        "--rm",
        "--interactive",
        "--name",
        CONTAINER,
        "--network",
        "host",
        "--ipc",
        "host",
        *BARE,
        "--entrypoint",
        "python3",
    ]
    for device in devices:
        argv += ["--device", device]
    for limit, number in ulimits.items():
        argv += ["--ulimit", f"{limit}={number}"]
    for name, value in {**environment, "NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,NET"}.items():
        argv += ["--env", f"{name}={value}"]
    return Job((*argv, image, "-", *arguments), stdin=source)


def run_jobs(jobs: Sequence[Job], seconds: float, pause: float = 0.5) -> list[tuple[int, str]]:
    """Run all jobs at once for at most ``seconds``; return exit status and output (errors included) of each.

    A client whose server is not there yet is started again until the time is over. What still runs then is ended with all its children, and its
    status is 124.
    """
    end = time.monotonic() + seconds
    running = [_start(job) for job in jobs]
    results: list[tuple[int, str] | None] = [None] * len(jobs)
    try:
        while None in results and time.monotonic() < end:
            for place, job in enumerate(jobs):
                process = running[place]
                if results[place] is not None:
                    continue
                if isinstance(process, str):
                    results[place] = (127, process)
                    continue
                with contextlib.suppress(subprocess.TimeoutExpired):
                    output = process.communicate(timeout=0.1)[0]
                    if (
                        process.returncode
                        and job.retry
                        and re.search(job.retry, output)
                        and time.monotonic() + pause < end
                    ):
                        time.sleep(pause)
                        running[place] = _start(job)
                    else:
                        results[place] = (process.returncode, output)
    finally:
        for place, process in enumerate(running):
            if results[place] is None and not isinstance(process, str):
                results[place] = (124, _end(process))
    return [result or (124, "") for result in results]


def _start(job: Job) -> subprocess.Popen[str] | str:
    try:
        process = subprocess.Popen(
            job.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env={**os.environ, "LC_ALL": "C"}, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return f"{job.argv[0]}: {error.strerror}"
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.write(job.stdin)
            process.stdin.close()
        # communicate() would want to write to it again.
        process.stdin = None
    return process


def _end(process: subprocess.Popen[str]) -> str:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=5)[0]
    return ""


def as_facts(value: Any) -> dict[str, Any]:
    """Return a result of this module as plain data."""
    return asdict(value)
