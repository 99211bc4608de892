# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""vLLM's own benchmark: how it is called, and what its results come to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.benchmark.run import (
    BenchmarkError,
    Load,
    bench_argv,
    busy_reason,
    counted,
    covered,
    read_point,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.serving import Server

RECORDED = Path(__file__).parents[1] / "fixtures" / "benchmark"
ONE = Load(concurrency=1, prompt_tokens=64, output_tokens=16, requests=3, seed=7)
FOUR = Load(concurrency=4, prompt_tokens=64, output_tokens=16, requests=8, seed=8)
SERVER = Server("http://127.0.0.1:8235", "qwen3", "/srv/models/a/b")


def recorded(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((RECORDED / name).read_text())
    return document


def test_the_command_holds_no_key_and_ends_by_itself() -> None:
    argv = bench_argv(ONE, SERVER, "/tmp/x", 300)
    assert argv[:2] == ["/bin/sh", "-c"]
    assert 'OPENAI_API_KEY="$(cat /run/secrets/api_key)"' in argv[2]
    assert argv[5:8] == ["timeout", "--kill-after=5", "300"]
    words = " ".join(argv[8:])
    assert words.startswith(
        "vllm bench serve --backend openai --endpoint /v1/completions --base-url http://127.0.0.1:8235"
    )
    for part in (
        "--random-input-len 64",
        "--random-output-len 16",
        "--num-prompts 3",
        "--max-concurrency 1",
        "--seed 7",
    ):
        assert part in words
    assert "--ignore-eos" in words
    assert "trust-remote-code" not in words
    assert "--trust-remote-code" in bench_argv(ONE, Server("u", "m", "t", trust_remote_code=True), "/tmp/x", 300)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("concurrency", 0, "concurrency is 0, expected at least 1"),
        ("prompt_tokens", 1, "prompt_tokens is 1, expected at least 8"),
        ("output_tokens", 1, "output_tokens is 1, expected at least 2"),
        ("requests", 0, "requests is 0, expected at least 1"),
    ],
)
def test_a_load_that_cannot_be_measured(name: str, value: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        Load(**{**vars(ONE), name: value})


def test_intervals_that_overlap_count_once() -> None:
    assert covered([(0, 2), (1, 3), (5, 6)]) == 4
    assert covered([(0, 10), (2, 3)]) == 10
    assert covered([]) == 0


def test_one_at_a_time() -> None:
    document = recorded("bench_1x64.json")
    point = read_point(json.dumps(document), ONE)
    assert (point.concurrency, point.prompt_tokens, point.prompt_tokens_counted, point.output_tokens) == (1, 64, 64, 16)
    assert (point.completed, point.failed) == (3, 0)
    assert point.ttft_s == pytest.approx(document["median_ttft_ms"] / 1000, rel=1e-3)
    assert point.decode_tok_s_request == pytest.approx(1000 / document["median_tpot_ms"], rel=1e-3)
    # One at a time nothing overlaps, so the waiting times add up.
    assert point.prefill_tok_s == pytest.approx(3 * 64 / sum(document["ttfts"]), rel=1e-3)
    decode = sum(document["latencies"]) - sum(document["ttfts"])
    assert point.decode_tok_s_total == pytest.approx(3 * 15 / decode, rel=1e-3)


def test_four_at_a_time_overlap() -> None:
    document = recorded("bench_4x64.json")
    point = read_point(json.dumps(document), FOUR)
    # Two waves of four: the time to the first token of each wave counts about once, not four times.
    assert point.prefill_tok_s > 3 * 8 * 64 / sum(document["ttfts"])
    assert 3 * point.decode_tok_s_request < point.decode_tok_s_total < 4.4 * point.decode_tok_s_request
    assert point.output_tok_s == pytest.approx(document["output_throughput"], rel=1e-3)


def test_a_version_that_tells_gaps_instead_of_latencies() -> None:
    document = recorded("bench_4x64.json")
    whole = read_point(json.dumps(document), FOUR)
    del document["latencies"]
    assert read_point(json.dumps(document), FOUR).decode_tok_s_total == pytest.approx(
        whole.decode_tok_s_total, rel=0.01
    )
    del document["itls"]
    with pytest.raises(BenchmarkError, match="neither latencies nor itls"):
        read_point(json.dumps(document), FOUR)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"completed": 2, "errors": ["", "", "Traceback\n  x\nTimeoutError: late"]},
            "1 of 3 requests failed.*TimeoutError: late",
        ),
        ({"start_times": None}, "has no start_times for each of 3 requests"),
        ({"median_tpot_ms": "fast"}, "has no number median_tpot_ms"),
    ],
)
def test_results_that_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BenchmarkError, match=sentence):
        read_point(json.dumps({**recorded("bench_1x64.json"), **change}), ONE)


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_what_is_no_result(text: str) -> None:
    with pytest.raises(BenchmarkError, match="vllm bench serve wrote a result that is not"):
        read_point(text, ONE)


def test_what_the_server_counted() -> None:
    before = {
        "prefix_cache_queries_total": 100,
        "prefix_cache_hits_total": 0,
        "request_success_total": 5,
        "num_preemptions_total": 1,
    }
    after = {
        "prefix_cache_queries_total": 300,
        "prefix_cache_hits_total": 50,
        "request_success_total": 10,
        "num_preemptions_total": 3,
    }
    assert counted(before, after, ONE) == {"prefix_hit_share": 0.25, "preemptions": 2, "other_requests": 2}
    unknown = {"prefix_hit_share": None, "preemptions": None, "other_requests": None}
    assert counted({}, after, ONE) == unknown
    # A server that was restarted in between counts from nothing.
    assert counted(after, before, ONE) == unknown


def test_others_use_the_endpoint() -> None:
    assert busy_reason({}) == ""
    assert busy_reason({"num_requests_running": 0.0, "num_requests_waiting": 0.0}) == ""
    assert busy_reason({"num_requests_running": 1.0}).startswith("others use the endpoint now (1 running request):")
    assert "(2 running and 3 waiting requests)" in busy_reason({"num_requests_running": 2, "num_requests_waiting": 3})
