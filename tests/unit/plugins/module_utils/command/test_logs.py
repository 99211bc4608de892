# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""`spark logs`: one order of time, no secret, and lines that come are neither missed nor told twice. Every key here is invented."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command import logs
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command.cluster import CommandError

from tests.unit.plugins.module_utils.command.world import paper

KEY = "k3y-of-the-endpoint"
UNITS = ["spark-ray-head", "spark-vllm"]


def entry(at: float, message: str, unit: str = "spark-vllm", **more: Any) -> str:
    return json.dumps(
        {"__REALTIME_TIMESTAMP": str(int(at * 1e6)), "MESSAGE": message, "_SYSTEMD_UNIT": f"{unit}.service", **more}
    )


def shown(
    tmp_path: Path, journals: dict[str, list[str] | None], coming: Sequence[str] = (), **how: Any
) -> tuple[int, str]:
    """Run it with these journals; None is one that cannot be read."""
    (tmp_path / "api_key").write_text(KEY)

    def program(argv: Any, *_rest: Any, **_more: Any) -> tuple[int, str, str]:
        rows = journals[argv[2].removesuffix(".service")]
        return (1, "", "Failed to parse timestamp: nonsense") if rows is None else (0, "\n".join(rows), "")

    def rows(argv: Sequence[str]) -> Iterator[str]:
        assert "--follow" in argv and "--no-tail" in argv
        yield from coming
        raise KeyboardInterrupt

    terminal, out = paper()
    asked = {"lines": 50, "since": "", "units": [], "following": False, **how}
    status = logs.run("spark-1", terminal, program=program, rows=rows, there=lambda: UNITS, secrets=tmp_path, **asked)
    return status, out.getvalue()


def test_all_units_in_one_order_of_time_without_secrets(tmp_path: Path) -> None:
    status, text = shown(
        tmp_path, {"spark-vllm": [entry(2, f"asked with {KEY}")], "spark-ray-head": [entry(1, "up"), entry(3, "down")]}
    )
    assert status == 0
    assert [line.split(maxsplit=3)[3] for line in text.splitlines()] == [
        "ray-head up",
        "vllm     asked with <redacted api_key>",
        "ray-head down",
    ]


def test_one_unit_by_its_short_name(tmp_path: Path) -> None:
    assert shown(tmp_path, {"spark-vllm": [entry(1, "a")]}, units=["vllm", "spark-vllm.service"])[1].count("\n") == 1
    with pytest.raises(CommandError, match="there is no unit ssh on this node, which has spark-ray-head, spark-vllm"):
        shown(tmp_path, {}, units=["ssh"])
    with pytest.raises(CommandError, match=r"run site\.yml first"):
        logs.chosen([], [])


def test_a_journal_that_cannot_be_read_is_said_and_all_of_them_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = shown(tmp_path, {"spark-vllm": None, "spark-ray-head": [entry(1, "up")]}, since="nonsense")
    assert (status, text.count("\n")) == (0, 1)
    assert "the journal of spark-vllm cannot be read: Failed to parse timestamp: nonsense" in capsys.readouterr().err
    assert shown(tmp_path, {"spark-vllm": None, "spark-ray-head": None}) == (1, "")


def test_lines_that_come_are_told_once_and_systemd_s_own_have_their_unit(tmp_path: Path) -> None:
    now = time.time() + 1
    coming = [
        entry(now, "seen before"),
        entry(now + 1, f"new {KEY}"),
        "no entry",
        entry(now + 2, "Stopped", "init", UNIT="spark-vllm.service"),
    ]
    status, text = shown(
        tmp_path, {"spark-vllm": [entry(now, "seen before")], "spark-ray-head": []}, coming, following=True
    )
    assert status == 0
    assert [line.split(maxsplit=3)[3] for line in text.splitlines()] == [
        "vllm seen before",
        "vllm new <redacted api_key>",
        "vllm Stopped",
    ]


def test_a_program_is_followed_line_by_line_and_ended() -> None:
    coming = logs.follow(["sh", "-c", "echo a; echo b; sleep 60"])
    begun = time.monotonic()
    assert [next(coming), next(coming)] == ["a\n", "b\n"]
    coming.close()  # type: ignore[attr-defined]
    assert time.monotonic() - begun < 10
