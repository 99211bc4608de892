# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The journals of several nodes as one text: order, levels, what is no text, and what must not leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.unit_logs import (
    as_lines,
    in_time_order,
    own_units,
    read_unit,
)


def entry(at: float, message: Any, priority: Any = "6") -> str:
    return json.dumps({"__REALTIME_TIMESTAMP": str(int(at * 1e6)), "MESSAGE": message, "PRIORITY": priority})


class Journal:
    """journalctl, with what it prints."""

    def __init__(self, *rows: str, code: int = 0) -> None:
        self.rows, self.code = rows, code
        self.asked: list[str] = []

    def __call__(self, argv: Any, *_rest: Any, **_more: Any) -> tuple[int, str, str]:
        self.asked = list(argv)
        return self.code, "\n".join(self.rows), "No journal files were opened"


def texts(*rows: str) -> list[tuple[str, str]]:
    return [(line["level"], line["text"]) for line in read_unit(Journal(*rows), "spark-vllm", 9, "", str)]


def test_units_of_ours_that_are_there_in_the_cluster_s_order(tmp_path: Path) -> None:
    for name in ("spark-watchdog", "spark-vllm", "spark-ray-head", "ssh"):
        (tmp_path / f"{name}.service").touch()
    assert own_units(tmp_path) == ["spark-ray-head", "spark-vllm", "spark-watchdog"]


def test_the_journal_is_asked_for_so_many_lines_of_so_long() -> None:
    journal = Journal()
    assert read_unit(journal, "spark-vllm", 20, "-1h", str) == []
    assert journal.asked[1:5] == ["--unit", "spark-vllm.service", "--lines", "20"]
    assert journal.asked[-2:] == ["--since", "-1h"]
    read_unit(journal, "spark-vllm", 20, "", str)
    assert "--since" not in journal.asked


def test_levels_and_lines() -> None:
    rows = entry(1, "a"), entry(2, "b\n\n  c  "), entry(3, "d", "4"), entry(4, "e", 3), entry(5, "f", None)
    assert texts(*rows) == [
        ("green", "a"),
        ("green", "b"),
        ("green", "  c"),
        ("yellow", "d"),
        ("red", "e"),
        ("green", "f"),
    ]


def test_what_is_no_text_and_no_entry() -> None:
    rows = entry(1, list("h\u00e9".encode())), entry(2, [999]), entry(3, None), "not json", "{}", "[]", entry(4, "ok")
    assert texts(*rows) == [("green", "h\u00e9"), ("green", "ok")]


def test_a_secret_that_goes_over_two_lines_is_redacted_before_they_are_split() -> None:
    found = read_unit(Journal(entry(1, "key: ab\ncd end")), "x", 9, "", lambda text: text.replace("ab\ncd", "<gone>"))
    assert [line["text"] for line in found] == ["key: <gone> end"]


def test_a_journal_that_cannot_be_read_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="the journal of spark-vllm cannot be read: No journal files were opened"):
        read_unit(Journal(code=1), "spark-vllm", 9, "", str)


def test_one_order_of_time_over_nodes() -> None:
    def line(at: float, unit: str, text: str) -> dict[str, Any]:
        return {"at": at, "unit": unit, "level": "green", "text": text}

    rows = in_time_order(
        {
            "spark-1": [line(3.0, "spark-vllm", "third"), line(1.0, "spark-ray-head", "first"), line(1.0, "x", "then")],
            "s2": [line(2.0005, "spark-ray-worker", "second \x1b[31mred\x07")],
        }
    )
    assert [text for _level, text in as_lines(rows)] == [
        "1970-01-01 00:00:01.000Z spark-1 ray-head   first",
        "1970-01-01 00:00:01.000Z spark-1 x          then",
        # What moves a terminal's cursor does not get there.
        "1970-01-01 00:00:02.000Z s2      ray-worker second red?",
        "1970-01-01 00:00:03.000Z spark-1 vllm       third",
    ]
    assert as_lines([]) == []
