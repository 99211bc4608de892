# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The timer that takes a change back: an earlier one is stopped first, and a refusal is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.timer import arm


def test_an_earlier_timer_is_stopped_and_a_refusal_told() -> None:
    ran: list[Sequence[str]] = []

    def run(argv: Sequence[str], _seconds: float | None = None, **_more: Any) -> tuple[int, str, str]:
        ran.append(argv)
        return (1, "", "Failed to start") if argv[0] == "systemd-run" and len(ran) > 2 else (0, "", "")

    assert arm(run, "undo", 30, "Takes it back", Path("/run/undo.sh")) == ""
    assert ran[0] == ["systemctl", "stop", "undo.timer"]
    assert "--on-active=30" in ran[1] and ran[1][-2:] == ["/bin/sh", "/run/undo.sh"]
    assert "Failed to start" in arm(run, "undo", 30, "Takes it back", Path("/run/undo.sh"))
