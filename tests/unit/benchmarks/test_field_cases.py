# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The cases from the field: every row is right, the page is that of the cases, and a row that is wrong shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.field_cases import (
    CASES,
    Row,
    Section,
    __main__,
    answers,
    config,
    hub,
    journals,
    page,
    plan,
    settings,
    templates,
)


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


@pytest.mark.parametrize(
    ("module", "case", "right"),
    [
        (answers, "think-in-content.sse", ("", "passes", "passes")),
        (answers, "exclamation-marks.sse", ("", "raise max_tokens", "raise max_tokens")),
        (config, "nvfp4-only-hf_quant_config", ("", "not NVFP4", "not planned")),
        (settings, "extra-number", ("", ("pass",))),
        (settings, "store-path-tilde", ("", ())),
        (settings, "parser-plugin", ("", ("refused",))),
        (hub, "gpt-oss-three-formats", ("", "all 7 files", "")),
        (hub, "index-names-missing-shards", ("", "refused after 1 shards", "")),
        (hub, "gguf-only", ("", "2 of 3 files", "run role model_download")),
    ],
)
def test_another_verdict_than_the_right_one_is_wrong(
    monkeypatch: pytest.MonkeyPatch, module: Any, case: str, right: tuple[Any, ...]
) -> None:
    monkeypatch.setitem(module._RIGHT, case, right)
    rows = [row for row in module.rows() if row.case == case.removesuffix(".sse")]
    assert rows
    assert not any(row.right for row in rows)


def test_a_parser_that_reads_another_format_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(templates._DSML, "dsml-v4", ("deepseek_v32", "deepseek_v4"))
    assert [row.right for row in templates.rows() if row.case == "dsml-v4"] == [False, False]


def test_a_case_without_a_verdict_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new.yml").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(settings, "FOLDER", tmp_path)
    with pytest.raises(KeyError, match="new"):
        list(settings.rows())


def test_a_window_that_is_shorter_than_its_starts_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals.UnitSpec, "window", lambda self: 3600)
    wrong = [row.what for row in journals.section().rows if not row.right]
    assert wrong == [f"5 starts that fail after {start} s" for start in (719, 900, 3600)]


def test_the_page_counts_and_names_what_is_wrong() -> None:
    rows = [Row("a", "a | log", "tokens", "1", "1", True), Row("a", "a | log", "GiB", "2", "3", False)]
    text = page([Section("Title", "About.", rows, ["not seen yet"])])
    assert "1 of 2 right." in text
    assert "| `a` | a \\| log | tokens | 1 | 1 | yes |" in text
    assert "|  |  | GiB | 2 | 3 | **no** |" in text
    assert text.endswith("Open:\n\n- not seen yet\n")
