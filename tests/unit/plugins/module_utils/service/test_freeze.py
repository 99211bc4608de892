# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the kernel's log says before a Spark freezes. The lines have the form that owners published (open-gpu-kernel-modules#1358)."""

from __future__ import annotations

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.codes import CODES
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.finding import RED, YELLOW
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.freeze import freeze_warnings

NO_MEMORY = (
    "2026-09-14T10:00:0{n}+0000 spark kernel: NVRM: nvCheckOkFailedNoLog: Check failed: Out of memory [NV_ERR_NO_MEMORY] (0x00000051) "
    "returned from _memdescAllocInternal(pMemDesc) @ mem_desc.c:1359"
)
QUIET = [
    "[    1.0] NVRM: loading NVIDIA UNIX Open Kernel Module for aarch64  580.173.02",
    "[    2.0] Out of memory: Killed process 77 (python3) total-vm:1kB",
    "[    3.0] NVRM: Xid (PCI:000f:01:00): 31, pid=9, name=python3, MMU Fault",
    "[    4.0] a program that says NV_ERR_NO_MEMORY of itself",
    "",
]


def test_a_quiet_log_announces_nothing() -> None:
    assert freeze_warnings([]) == []
    assert freeze_warnings(QUIET) == []


def test_a_driver_without_memory_is_red_with_its_last_line_and_how_often() -> None:
    (found,) = freeze_warnings([*QUIET, NO_MEMORY.format(n=1), "", NO_MEMORY.format(n=7)])
    assert (found.code, found.level) == ("gpu.driver_no_memory", RED)
    assert "2 times, last: 2026-09-14T10:00:07" in found.found
    assert "playbooks/stop.yml" in found.remedy


@pytest.mark.parametrize(
    ("number", "code", "level"),
    [
        (13, "gpu.program_stopped", YELLOW),
        (43, "gpu.program_stopped", YELLOW),
        (119, "gpu.gsp_lost", RED),
        (120, "gpu.gsp_lost", RED),
        (154, "gpu.gsp_lost", RED),
    ],
)
def test_each_number_has_its_finding(number: int, code: str, level: str) -> None:
    (found,) = freeze_warnings([f"[9.1] NVRM: Xid (PCI:000f:01:00): {number}, pid=88, name=VLLM::Worker_TP, text"])
    assert (found.code, found.level) == (code, level)
    assert f"(Xid {number}, once, last: [9.1] NVRM" in found.found


def test_kinds_come_once_each_and_the_gravest_first() -> None:
    log = [
        "[1.0] NVRM: Xid (PCI:000f:01:00): 43, pid=1",
        "[2.0] NVRM: Xid (PCI:000f:01:00): 154, GPU recovery action changed",
        "[3.0] NVRM: Xid (PCI:000f:01:00): 119, pid=1",
        NO_MEMORY.format(n=4),
    ]
    found = freeze_warnings(log)
    assert [finding.code for finding in found] == ["gpu.driver_no_memory", "gpu.gsp_lost", "gpu.program_stopped"]
    assert "Xid 119, 154, 2 times, last: [3.0]" in found[1].found
    assert {finding.code for finding in found} <= set(CODES)


def test_a_number_that_only_begins_alike_is_another() -> None:
    assert freeze_warnings(["[1] NVRM: Xid (PCI:000f:01:00): 1190, pid=1", "[1] NVRM: Xid (PCI:000f:01:00): 136"]) == []
