# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a node can be asked about why a server is slow: swap, clocks, transport, other programs. Parsing only; nothing is judged here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..fabric.bench import parse_nccl_log
from ..gpu.runtime import BUSY_PERCENT, GPU_FIELDS, REASON_FIELDS, Gpu, Host, parse_gpus, reason_words

#: Counters of /proc/vmstat that move when the kernel swaps, in pages.
SWAP_COUNTERS = ("pswpin", "pswpout")
#: InfiniBand's data counters count words of four bytes.
RDMA_WORD = 4


def parse_vmstat(text: str) -> dict[str, int]:
    """Return the counters of SWAP_COUNTERS from /proc/vmstat."""
    found = {}
    for line in text.splitlines():
        name, _sign, value = line.partition(" ")
        if name in SWAP_COUNTERS and value.strip().isdigit():
            found[name] = int(value)
    return found


def parse_loadavg(text: str) -> float | None:
    """Return the mean number of runnable processes over the last minute from /proc/loadavg."""
    first, _sign, _rest = text.partition(" ")
    try:
        return float(first)
    except ValueError:
        return None


def transport(text: str) -> dict[str, Any]:
    """Return what NCCL's lines in a log say of the way between the nodes; empty where they say nothing (NCCL_DEBUG is not INFO).

    Returns:
        ``network`` (IB, Socket or a plugin's name), ``channels`` (how many go over each device), ``rdma`` (over RDMA alone), ``version``.
    """
    log = parse_nccl_log(text)
    if not log.network and not log.channels:
        return {}
    return {"network": log.network, "channels": dict(log.channels or {}), "rdma": log.rdma(), "version": log.version}


class Link:
    """Bytes over the link, by the kernel's own counters: what goes over RDMA is not in those of the network interface."""

    def __init__(self, interface: str, root: Path = Path("/")) -> None:
        self.interface = interface
        self.root = root

    def _number(self, path: Path) -> int | None:
        try:
            return int(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def gbit_s(self) -> float | None:
        """Return what the interface runs at by its own word; None where it does not say."""
        speed = self._number(self.root / "sys/class/net" / self.interface / "speed") if self.interface else None
        return speed / 1000 if speed is not None and speed > 0 else None

    def read(self) -> dict[str, int]:
        """Return ``tcp_bytes`` and ``rdma_bytes`` since boot; without the first where there is no such interface."""
        statistics = self.root / "sys/class/net" / self.interface / "statistics"
        parts = [self._number(statistics / name) for name in ("rx_bytes", "tx_bytes")] if self.interface else [None]
        ports = sorted((self.root / "sys/class/infiniband").glob("*/ports/*/counters"))
        words = [self._number(port / name) or 0 for port in ports for name in ("port_rcv_data", "port_xmit_data")]
        found = {"rdma_bytes": RDMA_WORD * sum(words)}
        if all(part is not None for part in parts):
            found["tcp_bytes"] = sum(part or 0 for part in parts)
        return found


def clock_summary(samples: Iterable[Sequence[Gpu]]) -> dict[str, Any]:
    """Return what the clocks did while there was load, from samples of all GPUs.

    Returns:
        Empty where no GPU was seen. Else ``samples`` with load, ``clock_mhz`` (median), ``clock_max_mhz``, ``power_w`` and
        ``temperature_c`` (highest), ``reasons`` (share of the samples with load by reason in words).
    """
    seen = [gpu for sample in samples for gpu in sample]
    if not seen:
        return {}
    # A driver that does not tell the utilization cannot say when it is idle: every sample counts.
    busy = [gpu for gpu in seen if gpu.utilization_percent is None or gpu.utilization_percent >= BUSY_PERCENT]
    clocks = sorted(gpu.clock_sm_mhz for gpu in busy if gpu.clock_sm_mhz is not None)
    tops = [gpu.clock_sm_max_mhz for gpu in seen if gpu.clock_sm_max_mhz is not None]
    powers = [gpu.power_w for gpu in busy if gpu.power_w is not None]
    warmth = [gpu.temperature_c for gpu in busy if gpu.temperature_c is not None]
    counts: dict[str, int] = {}
    for gpu in busy:
        for word in reason_words(gpu.reasons):
            counts[word] = counts.get(word, 0) + 1
    return {
        "samples": len(busy),
        "clock_mhz": clocks[len(clocks) // 2] if clocks else None,
        "clock_max_mhz": max(tops) if tops else None,
        "power_w": max(powers) if powers else None,
        "temperature_c": max(warmth) if warmth else None,
        "reasons": {word: round(count / len(busy), 2) for word, count in sorted(counts.items())},
    }


def merge_clocks(summaries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one summary of several loads: the lowest median clock, the highest power, each reason at its largest share."""
    merged: dict[str, Any] = {}
    for summary in summaries:
        if not summary or not summary.get("samples"):
            continue
        lower = not merged or (summary["clock_mhz"] or 0) < (merged["clock_mhz"] or float("inf"))
        base = dict(summary) if lower else dict(merged)
        other = merged if lower else summary
        if other:
            base["samples"] = base["samples"] + other["samples"]
            for name in ("power_w", "temperature_c"):
                base[name] = max((value for value in (base[name], other[name]) if value is not None), default=None)
            words = sorted({*base["reasons"], *other["reasons"]})
            base["reasons"] = {word: max(base["reasons"].get(word, 0), other["reasons"].get(word, 0)) for word in words}
        merged = base
    return merged


def strangers(holders: Iterable[Mapping[str, Any]], ours: Iterable[int]) -> list[dict[str, Any]]:
    """Return the processes that hold memory of the GPU and are none of our containers'.

    Args:
        holders: pid, process, memory_mib of each, as gb10_runtime tells them.
        ours: process ids in our containers.
    """
    known = {int(pid) for pid in ours}
    return [dict(holder) for holder in holders if int(holder["pid"]) not in known]


def moved(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Return by how much counters moved between two readings; without those that are missing in one, or went back by a reboot."""
    return {
        name: after[name] - first for name, first in sorted(before.items()) if name in after and after[name] >= first
    }


def pids_of(tops: Iterable[str]) -> list[int]:
    """Return the process ids in what ``docker top CONTAINER -eo pid`` printed for our containers."""
    return sorted(
        {int(line) for text in tops for line in (part.strip() for part in text.splitlines()) if line.isdigit()}
    )


def sample_gpus(host: Host) -> list[Gpu]:
    """Return the GPUs as they are at this moment; empty without a GPU that answers."""
    for reasons in (*REASON_FIELDS, ""):
        fields = (*GPU_FIELDS, reasons) if reasons else GPU_FIELDS
        status, out = host.smi(f"--query-gpu={','.join(fields)}", "--format=csv,noheader")
        if status == 0:
            return parse_gpus(out, fields)
        if "not a valid field" not in out:
            break
    return []


class Watch:
    """Takes samples in the background, from ``with`` to its end."""

    def __init__(self, take: Callable[[], None], seconds: float) -> None:
        self._take = take
        self._seconds = seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._done.wait(self._seconds):
            self._take()

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._done.set()
        self._thread.join(timeout=self._seconds + 40)
