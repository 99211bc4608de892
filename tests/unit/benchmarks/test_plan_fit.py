# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The fitted part: constants come from their runs, runs that are made up give back what they were made of."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.shape import ModelShape
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan import fitted
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.arithmetic import GIB, PlanInput
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.constants import CONSTANTS
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.fitted import Constants

from benchmarks import plan as refit
from benchmarks import plan_fit
from benchmarks.plan_fit import Run
from tests.unit.plugins.module_utils.plan import shapes

TRUE = Constants(
    attention_copies=1.5,
    logits_copies=3.0,
    non_torch_gib=0.3,
    graph_mib=12.0,
    graph_layer_mib=0.2,
    piecewise_layer_mib=0.1,
    bandwidth_parts={"plain": 0.8, "packed": 0.5, "plain_experts": 0.7, "packed_experts": 0.6},
    layer_us={"moe-packed": 80.0, "moe-plain": 70.0, "dense-packed": 40.0, "dense-plain": 40.0},
    eager_layer_us={"moe-packed": 1000.0, "moe-plain": 900.0, "dense-packed": 500.0, "dense-plain": 600.0},
)


def made_up() -> list[Run]:
    """Runs that a machine with exactly these constants would give; invented."""
    found = []
    configs = [
        shapes.QWEN3_235B_AWQ,
        shapes.QWEN3_30B,
        shapes.QWEN3_32B,
        {**shapes.QWEN3_32B, "quantization_config": shapes.AWQ},
    ]
    for number in range(48):
        mode = ("eager", "decode", "full", "decode")[number // 4 % 4]
        given = PlanInput(
            shape=ModelShape.from_config({**configs[number % 4], "num_hidden_layers": (48, 60, 94)[number % 3]}),
            memory_gib=140.0,
            memory_bandwidth_gb_s=4800.0,
            max_model_len=8192,
            max_num_seqs=(32, 1024, 64)[number // 4 % 3],
            max_num_batched_tokens=(8192, 2048)[number // 8 % 2],
            cuda_graphs=mode,
        )
        memory = {
            "weights_gib": given.stage_weights(0).total / GIB,
            "kv_cache_gib": fitted.kv_available_bytes(given, TRUE) / GIB,
            "peak_activation_gib": fitted.activation_bytes(given, TRUE) / GIB,
            "non_torch_gib": 0.3,
            "kv_cache_tokens": 1,
        }
        if mode != "eager":
            memory["graphs_gib"] = fitted.graph_bytes(given, TRUE) / GIB
            if given.shape.counts_graphs:
                memory["graphs_estimated_gib"] = memory["graphs_gib"]
        points = [
            {
                "concurrency": requests,
                "prompt_tokens": 128,
                "output_tokens": 256,
                "decode_tok_s_request": 1 / fitted.step_s(given, TRUE, requests, 256),
            }
            for requests in (1, 4, 16)
        ]
        found.append(Run(f"run-{number:02}", given, "NVIDIA H200", memory, points, "invented"))
    return found


def test_what_was_put_in_comes_out() -> None:
    found = plan_fit.fit(made_up())
    assert (found.attention_copies, found.logits_copies, found.non_torch_gib) == (1.5, 3.0, 0.3)
    assert found.graph_mib == pytest.approx(12.0, rel=0.05)
    assert found.graph_layer_mib == pytest.approx(0.2, rel=0.05)
    assert found.piecewise_layer_mib == pytest.approx(0.1, rel=0.1)
    for name in ("plain_experts", "packed_experts"):
        assert found.bandwidth_parts[name] == pytest.approx(TRUE.bandwidth_parts[name], rel=0.05)
    # A dense model's bytes grow with its layers, so runs hardly tell both apart: what comes out of them together is right.
    for run in made_up():
        for requests in (1, 16):
            true, again = (fitted.step_s(run.given, constants, requests, 256) for constants in (TRUE, found))
            assert again == pytest.approx(true, rel=0.03)
    assert found.eager_layer_us == pytest.approx(dict(TRUE.eager_layer_us), rel=0.01)
    assert found.memory_error_gib < 0.05
    assert max(found.decode_error.values()) < 0.03


def test_bounds_and_pull_of_least_squares() -> None:
    rows = [([1.0, 0.0], 3.0), ([2.0, 0.0], 6.0)]
    # The first is told by the rows, or as near as its bound lets it; the second stays what is usual.
    assert plan_fit.least_squares(rows, [1.0, 7.0], [0.0, 0.0], [9.0, 9.0]) == pytest.approx([3.0, 7.0], rel=0.01)
    assert plan_fit.least_squares(rows, [1.0, 7.0], [0.0, 0.0], [2.0, 9.0]) == pytest.approx([2.0, 7.0])
    assert plan_fit.least_squares([], [1.0], [0.0], [9.0]) == [1.0]


def test_halves_are_apart_and_do_not_depend_on_order() -> None:
    runs = made_up()
    first, scored = plan_fit.halves(runs)
    again = plan_fit.halves(reversed(runs))
    assert (first, scored) == again
    names = [run.name for run in first], [run.name for run in scored]
    assert not set(names[0]) & set(names[1])
    assert sorted(names[0] + names[1]) == sorted(run.name for run in runs)
    kinds = [[run.given.shape.kind for run in part] for part in (first, scored)]
    for kind in kinds[0]:
        assert 0 <= kinds[0].count(kind) - kinds[1].count(kind) <= 1


def test_a_run_that_lies_shows_in_the_error() -> None:
    runs = made_up()
    name = plan_fit.halves(runs)[1][0].name
    place = next(number for number, run in enumerate(runs) if run.name == name)
    runs[place] = replace(runs[place], points=[{**runs[place].points[0], "decode_tok_s_request": 1.0}])
    assert max(plan_fit.fit(runs).decode_error.values()) > 5


def test_without_figures_of_memory_constants_are_the_assumed_ones() -> None:
    bare = [replace(run, memory={}) for run in made_up()]
    found = plan_fit.fit(bare)
    assert (found.attention_copies, found.logits_copies, found.non_torch_gib) == (1.5, 4.0, 0.5)
    assert (found.graph_mib, found.graph_layer_mib, found.piecewise_layer_mib) == (10.0, 0.1, 0.05)
    assert found.memory_error_gib == 0
    with pytest.raises(ValueError, match="no run to fit on"):
        plan_fit.fit([replace(run, points=[]) for run in bare])


def test_the_shipped_constants_are_those_of_the_recorded_runs() -> None:
    assert plan_fit.as_record(plan_fit.fit(plan_fit.recorded_runs())) == CONSTANTS, "run `python -m benchmarks.plan`"


def test_the_shipped_runs_are_those_of_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert refit.main(["--check"]) == 0, f"run `python -m benchmarks.plan`: {capsys.readouterr().out}"


def test_every_run_says_where_it_comes_from() -> None:
    runs = plan_fit.recorded_runs()
    assert len({run.name for run in runs}) == len(runs)
    assert all(run.source for run in runs)
    assert all(entry["source"] and entry["setup"] for entry in plan_fit.PUBLISHED)


def test_what_was_aimed_at_on_runs_that_were_not_fitted() -> None:
    constants = fitted.shipped()
    _fitted, scored = plan_fit.halves(plan_fit.recorded_runs())
    full = {run.name for run in scored if run.given.shape.parameter_count() == 235_093_634_560}
    assert full
    for row in plan_fit.memory_scores(scored, constants):
        assert abs(row["weights_error"]) <= (0.01 if row["run"] in full else 0.03), row
        assert abs(row["kv_error_gib"]) <= max(0.5, 0.03 * row["kv_measured_gib"]), row
    for row in plan_fit.decode_scores(scored, constants):
        assert row["run"] not in full or abs(row["error"]) <= 0.20, row


def test_a_record_must_name_a_known_gpu() -> None:
    with pytest.raises(ValueError, match="bandwidth of 'NVIDIA X9' is not known"):
        plan_fit.run_from({**plan_fit.earlier_records()[0], "gpu": "NVIDIA X9"}, plan_fit.shapes())


def test_the_chart_stands_alone() -> None:
    runs, constants = plan_fit.recorded_runs(), fitted.shipped()
    text = refit.chart(runs, constants)
    first, scored = (plan_fit.decode_scores(part, constants) for part in plan_fit.halves(runs))
    drawing = ElementTree.fromstring(text)
    assert text.count("<circle") == len(first) + len(scored) + 2
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert drawing.attrib["viewBox"] == "0 0 760 480"


def test_source_text_is_what_ruff_would_write() -> None:
    value: dict[str, Any] = {"a": [1, 2.5, None, True], "b": {"c": "x" * 100, "d": ["y" * 60, "z" * 60]}}
    text = refit.python_of(value, 0, 8)
    assert text == (
        '{\n    "a": [1, 2.5, None, True],\n    "b": {\n        "c": "'
        + "x" * 100
        + '",\n        "d": [\n            "'
        + "y" * 60
        + '",\n            "'
        + "z" * 60
        + '",\n        ],\n    },\n}'
    )
    assert ast.literal_eval(text) == value
