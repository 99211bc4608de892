# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The saved result: schema, key, and the comparison with plan and history."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.benchmark.result import (
    Expectation,
    ResultError,
    check_document,
    expectation,
    file_name,
    flag_value,
    key_of,
    rate,
    read_folder,
    shortfalls,
    speed_flags,
    start_lines,
    table,
    text_of,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.serving import serve_arguments

from tests.unit.plugins.module_utils.benchmark.world import document, history, point

ARGV = [
    "vllm",
    "serve",
    "/srv/m",
    "--port",
    "8235",
    "--max-model-len=8192",
    "--enforce-eager",
    "--tool-call-parser",
    "hermes",
]


def test_flags_that_change_the_speed() -> None:
    flags = speed_flags(serve_arguments(ARGV))
    assert flags == ["--enforce-eager", "--max-model-len 8192"]
    assert flag_value(flags, "--max-model-len") == "8192"
    assert flag_value(flags, "--enforce-eager") == ""
    assert flag_value(flags, "--max-num-seqs") is None
    # Written in another order, or with '=', they are the same flags.
    assert speed_flags(["--max-model-len", "8192", "--enforce-eager", "--port=1"]) == flags


def test_the_key_depends_on_what_it_names_alone() -> None:
    parts = document()["key_parts"]
    assert key_of(parts) == key_of(dict(reversed(parts.items())))
    assert key_of(parts) != key_of({**parts, "nodes": 1})
    assert len(key_of(parts)) == 16


def test_files_are_written_and_read_again(tmp_path: Path) -> None:
    later, first = document("2026-11-15T09:00:00Z"), document("2026-11-14T09:00:00Z")
    for each in (later, first):
        (tmp_path / file_name(each)).write_text(text_of(each))
    assert file_name(first) == f"20261114T090000Z-qwen3-235b-awq-{first['key']}.json"
    documents, problems = read_folder(tmp_path)
    assert (documents, problems) == ([first, later], [])
    assert list(documents[0]["startup"]) == ["engine start", "weights", "other until ready"], "in order of time"
    assert read_folder(tmp_path / "gone") == ([], [])


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("{}")
    (tmp_path / "c.json").write_text(json.dumps(document(schema=99)))
    documents, problems = read_folder(tmp_path)
    assert documents == []
    assert [problem.partition(" is left out: ")[2] for problem in problems] == [
        "it is not JSON",
        "it is no benchmark of this collection",
        "it has schema 99, this version reads up to 1",
    ]


@pytest.mark.parametrize("name", ["made", "key", "points", "plan", "startup", "evidence"])
def test_a_document_lacks_something(name: str) -> None:
    broken = document()
    del broken[name]
    with pytest.raises(ResultError, match=f"^it has no usable {name}$"):
        check_document(broken)


@pytest.mark.parametrize("value", [None, "17", True])
def test_a_point_lacks_a_figure(value: Any) -> None:
    broken = document(points=[point(decode_tok_s_total=value)])
    with pytest.raises(ResultError, match="no number decode_tok_s_total"):
        check_document(broken)


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ([14, 24], 14, 24),
        ([24, 14], 14, 24),
        ({"low": 14, "high": 24}, 14, 24),
        (20, 20, 20),
        (None, None, None),
        ([14], None, None),
        (True, None, None),
    ],
)
def test_what_a_plan_expects(value: Any, low: float | None, high: float | None) -> None:
    assert expectation({"decode_tok_s_expected": value}) == Expectation(low, high, None)
    assert expectation({"decode_tok_s_limit": 44.8}).limit == 44.8


def test_as_planned_and_as_before() -> None:
    assert shortfalls(document(), history()) == []
    assert shortfalls(document(plan={}), []) == []


def test_below_the_plan() -> None:
    found = shortfalls(document(scale=0.5), [])
    assert [(each.figure, each.against, each.prompt_tokens) for each in found] == [
        ("decode_tok_s_request", "plan", 128)
    ]
    assert found[0].sentence() == (
        "decode rate of a request at 1 request with 128 tokens of prompt is 8.5 tok/s, 39 % below the low end of the plan's range (14)"
    )


def test_below_its_own_history() -> None:
    found = shortfalls(document(scale=0.8, plan={}), history(3))
    assert {(each.figure, each.concurrency, each.against, each.runs) for each in found} == {
        ("decode_tok_s_request", 1, "history", 3),
        ("decode_tok_s_request", 4, "history", 3),
        ("decode_tok_s_total", 4, "history", 3),
    }
    assert "20 % below the median of 3 earlier runs (17)" in found[0].sentence()
    assert shortfalls(document(scale=0.9, plan={}), history(3)) == [], "within what runs differ by"


def test_runs_of_another_key_or_load_are_not_compared() -> None:
    others = [document(parts={"nodes": 1}, scale=3)]
    assert shortfalls(document(plan={}), others) == []
    longer = copy.deepcopy(history(1))
    for each in longer[0]["points"]:
        each["output_tokens"] = 256
    assert shortfalls(document(scale=0.1, plan={}), longer) == []


def test_rates_have_three_figures() -> None:
    assert [rate(value) for value in (9.7249, 36.44, 101.2, 11900.4)] == ["9.72", "36.4", "101", "11900"]


def test_the_table() -> None:
    lines = table(document())
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[:2] for line in lines[3:]] == [["1", "128"], ["4", "128"], ["1", "2048"]]


def test_the_start_for_a_terminal() -> None:
    assert start_lines(document()) == [
        "",
        "start-up: 360 s (engine start 20 s, weights 300 s, other until ready 40 s)",
        "weights: 115.5 GiB in 300 s = 0.385 GiB/s; the rate of the disk was not measured",
    ]
    # A result from before the weights were noted, and one without a journal.
    older = document()
    del older["loading"]
    assert len(start_lines(older)) == 2
    assert start_lines(document(startup={}, loading={}))[1:] == [
        "The journal of the server's start was not there to be read."
    ]
