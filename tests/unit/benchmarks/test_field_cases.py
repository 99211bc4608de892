# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The cases from the field: every row is right, the page is that of the cases, and a row that is wrong shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.field_cases import CASES, Row, Section, __main__, page, plan


def test_every_row_is_right_and_the_page_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["--check"]) == 0, f"run `python -m benchmarks.field_cases`: {capsys.readouterr().out}"


@pytest.mark.parametrize(
    ("case", "figure", "value"),
    [
        ("minimax-m25-fp8-tp4", "kv_cache_tokens", 405_000),
        ("minimax-m25-fp8-tp4", "weights_gib", 54.5),
        ("glm46-awq-two-sparks", "kv_cache_gib_worker", 8.0),
        ("minimax-m27-awq-two-sparks-refused", "fits", True),
        ("qwen36-27b-fp8kv-prefix-caching", "blocks_a_request", 129),
        ("gemma3-27b-published-config", "full_layers", 62),
    ],
)
def test_a_figure_that_is_off_is_wrong(tmp_path: Path, case: str, figure: str, value: float) -> None:
    told = json.loads((CASES / "plan" / f"{case}.json").read_text(encoding="utf-8"))
    told["reported"] = {figure: value}
    path = tmp_path / f"{case}.json"
    path.write_text(json.dumps(told), encoding="utf-8")
    if figure.startswith("kv_cache_tokens"):
        told["input"]["kv_cache_gib"] = 23.62
    assert [row.right for row in plan.rows_of(path)] == [False]


def test_the_page_counts_and_names_what_is_wrong() -> None:
    rows = [Row("a", "a | log", "tokens", "1", "1", True), Row("a", "a | log", "GiB", "2", "3", False)]
    text = page([Section("Title", "About.", rows, ["not seen yet"])])
    assert "1 of 2 right." in text
    assert "| `a` | a \\| log | tokens | 1 | 1 | yes |" in text
    assert "|  |  | GiB | 2 | 3 | **no** |" in text
    assert text.endswith("Open:\n\n- not seen yet\n")
