# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the kernel said since boot, where it explains a fault of GPU, link or PCI."""

from __future__ import annotations

import re

from .run import Runner

#: How the log is read: what the kernel still holds, else what the journal kept of this boot.
_WAYS = (("dmesg",), ("journalctl", "--dmesg", "--boot", "--no-pager", "--output", "short-monotonic"))
#: NVIDIA's driver writes `NVRM: Xid (PCI:000f:01:00): 119, pid=...` (docs.nvidia.com/deploy/xid-errors).
_XID = re.compile(r"NVRM: Xid \([^)]*\): (\d+)")


def kernel_log(run: Runner) -> str:
    """Return the kernel's log of this boot; empty where neither way may read it."""
    for argv in _WAYS:
        status, out, _err = run(argv)
        if status == 0 and out.strip():
            return out
    return ""


def boot_journal(run: Runner, *matches: str) -> str:
    """Return what the journal has of this boot; empty where it has nothing, or cannot be read."""
    code, out, _err = run(["journalctl", "--boot", "--no-pager", "--quiet", "--output", "short-iso", *matches])
    return out if code == 0 else ""


def xids(log: str) -> tuple[int, ...]:
    """Return the numbers of the driver's errors (Xid) in a kernel log, each once, in the order they came."""
    return tuple(dict.fromkeys(int(number) for number in _XID.findall(log)))


def lines_with(log: str, *words: str) -> tuple[str, ...]:
    """Return the lines of a log that hold one of the words, whatever their case."""
    wanted = [word.lower() for word in words]
    return tuple(line.strip() for line in log.splitlines() if any(word in line.lower() for word in wanted))
