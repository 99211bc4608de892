# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Lines of the kernel's log that announce a freeze: on unified memory the machine stops without another word.

Owners found NV_ERR_NO_MEMORY, up to 200 times, in the last lines before a Spark stopped to answer (NVIDIA/open-gpu-kernel-modules#1358). What each Xid
means: docs.nvidia.com/deploy/xid-errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ..report.finding import RED, YELLOW, Finding
from ..system.kernel_log import boot_journal, kernel_log, xids
from ..system.run import Runner

#: Every line of NVIDIA's driver has this word, so that the rest of a log costs one search a line.
_DRIVER = "NVRM"
_NO_MEMORY = re.compile(r"NV_ERR_NO_MEMORY|Out of memory")
#: Characters of a line that a finding quotes.
_QUOTED = 160


class _Warning(NamedTuple):
    """What lines of one kind tell."""

    code: str
    level: str
    tells: str
    remedy: str


_MEMORY = _Warning(
    "gpu.driver_no_memory",
    RED,
    "the GPU driver got no memory",
    "a node was seen to freeze after this: stop the server with playbooks/stop.yml, lower vllm_serve_gpu_memory_utilization or stop what else runs, "
    "and reboot the node before the next start",
)
_GSP = _Warning(
    "gpu.gsp_lost",
    RED,
    "the GPU's system processor (GSP) did not answer, or asks for a reset",
    "reboot the node; where it comes back, take it off its power supply for a minute, and update system and firmware",
)
_ENGINE = _Warning(
    "gpu.program_stopped",
    YELLOW,
    "the GPU ended the work of a program",
    "where the server hangs or fails, start it again; where it comes back, take another image, or start with vllm_serve_cuda_graphs: 'off'",
)
#: 13: graphics engine exception; 43: GPU stopped processing; 119, 120: RPC timeout and error of the GSP; 154: recovery action changed.
_XIDS = {13: _ENGINE, 43: _ENGINE, 119: _GSP, 120: _GSP, 154: _GSP}


def freeze_warnings(lines: Iterable[str]) -> list[Finding]:
    """Return what lines of the kernel's log announce, one finding a kind, the gravest first; nothing where they announce nothing.

    Each says how often, and quotes the last such line with the time that it carries. Lines may come from dmesg or journalctl, of any span: the caller
    chooses it, and old lines tell of the past.
    """
    seen: dict[_Warning, list[str]] = {_MEMORY: [], _GSP: [], _ENGINE: []}
    numbers: dict[_Warning, set[int]] = {kind: set() for kind in seen}
    for line in lines:
        if _DRIVER not in line:
            continue
        if _NO_MEMORY.search(line):
            seen[_MEMORY].append(line)
        for number in xids(line):
            if kind := _XIDS.get(number):
                seen[kind].append(line)
                numbers[kind].add(number)
    return [
        Finding(
            kind.code,
            kind.level,
            "kernel log",
            f"{kind.tells} ({_often(len(found), sorted(numbers[kind]))}, last: {found[-1].strip()[:_QUOTED]})",
            kind.remedy,
        )
        for kind, found in seen.items()
        if found
    ]


def _often(times: int, numbers: list[int]) -> str:
    xid = f"Xid {', '.join(map(str, numbers))}, " if numbers else ""
    return f"{xid}{'once' if times == 1 else f'{times} times'}"


def recent_warnings(run: Runner, hours: int) -> list[Finding]:
    """Return what the kernel said in the last hours of this boot that announces a freeze."""
    # A kernel that was quiet for long has nothing in the span, and its old lines must not come back.
    kept = boot_journal(run, "--dmesg", "--lines", "1")
    log = boot_journal(run, "--dmesg", "--since", f"-{hours}h") if kept else kernel_log(run)
    return list(freeze_warnings(log.splitlines()))
