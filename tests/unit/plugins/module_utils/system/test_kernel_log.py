# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The kernel's log: where it comes from, and what is found in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.kernel_log import kernel_log, lines_with, xids

LOG = """[  10.1] NVRM: Xid (PCI:000f:01:00): 119, pid=1, name=vllm
[  11.2] mlx5_core 0000:01:00.0: Link down
[  12.3] NVRM: Xid (PCI:000f:01:00): 79, GPU has fallen off the bus.
[  13.4] NVRM: Xid (PCI:000f:01:00): 119, pid=2, name=vllm
"""


def answers(**by_program: tuple[int, str]) -> Any:
    def run(argv: Sequence[str], *_arguments: Any, **_more: Any) -> tuple[int, str, str]:
        return (*by_program.get(argv[0], (127, "")), "")

    return run


def test_the_journal_stands_in_where_dmesg_may_not_be_read() -> None:
    assert kernel_log(answers(dmesg=(0, "kernel\n"), journalctl=(0, "journal\n"))) == "kernel\n"
    assert kernel_log(answers(dmesg=(1, "denied"), journalctl=(0, "journal\n"))) == "journal\n"
    assert kernel_log(answers(dmesg=(0, " \n"))) == ""


def test_errors_of_the_driver_come_once_and_in_order() -> None:
    assert xids(LOG) == (119, 79)
    assert xids("NVRM: loading NVIDIA UNIX Open Kernel Module") == ()


def test_lines_are_found_whatever_their_case() -> None:
    assert lines_with(LOG, "link DOWN", "fallen") == (
        "[  11.2] mlx5_core 0000:01:00.0: Link down",
        "[  12.3] NVRM: Xid (PCI:000f:01:00): 79, GPU has fallen off the bus.",
    )
