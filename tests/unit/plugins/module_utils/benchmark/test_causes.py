# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""No cause is named without its fact, and each fact names its cause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.benchmark.causes import CHECKS, Cause, judge

from tests.unit.plugins.module_utils.benchmark.world import FLAGS, document, history, node, point


def names(found: Sequence[Cause]) -> list[str]:
    return [cause.finding.code.removeprefix("benchmark.") for cause in found]


def causes(result: dict[str, Any], earlier: list[dict[str, Any]] | None = None) -> list[str]:
    return names(judge(result, earlier or []).causes)


def slow(**more: Any) -> dict[str, Any]:
    return document(scale=0.5, **more)


def flags(*more: str) -> dict[str, Any]:
    return {"flags": [*FLAGS, *more]}


def test_nothing_is_wrong() -> None:
    verdict = judge(document(), history())
    assert (verdict.level, verdict.causes, verdict.remarks, verdict.unchecked) == ("fine", (), (), ())
    assert (
        verdict.sentence(document())
        == "not below what to expect from the plan (14 to 24 tok/s for one request) and 5 earlier runs"
    )


def test_nothing_to_compare_with() -> None:
    alone = document(plan={})
    assert judge(alone, []).level == "alone"
    assert "neither a plan nor an earlier run" in judge(alone, []).sentence(alone)


def test_slow_without_a_fact_blames_nothing() -> None:
    verdict = judge(slow(), [])
    assert (verdict.level, verdict.causes) == ("below", ())
    assert verdict.sentence(slow()).endswith(
        "no cause found among: TCP instead of RDMA, a throttled GPU, swapping, CUDA graphs that are off, "
        "other programs and requests, a full KV cache, a small batch"
    )
    assert len(verdict.excluded) == len(CHECKS)


def test_what_could_not_be_checked_is_said() -> None:
    blind = {"swap": {}, "link": {}, "clocks": {}, "strangers": None, "load_before": None, "cpus": None}
    silent = [point(request=8, preemptions=None, other_requests=None)]
    result = slow(evidence={"spark-1": node(**blind), "spark-2": node(**blind)}, points=silent, parts={"flags": []})
    verdict = judge(result, [])
    assert (verdict.causes, verdict.excluded) == ((), ())
    assert len(verdict.unchecked) == len(CHECKS)
    assert verdict.sentence(result).endswith("no cause found among: nothing, no check had facts")


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        ({"transport": {"network": "Socket", "channels": {"Socket/0": 4}, "rdma": False}}, "4 channels via NET/Socket"),
        ({"transport": {"network": "Socket", "channels": {}, "rdma": False}}, "network Socket"),
        ({"link": {"tcp_bytes": 900 << 20, "rdma_bytes": 1 << 20}}, "900 MiB by TCP and 1 MiB by RDMA"),
    ],
)
def test_tcp(evidence: dict[str, Any], words: str) -> None:
    result = slow(evidence={"spark-1": node(), "spark-2": node(**evidence)})
    assert causes(result) == ["tcp"]
    assert words in judge(result, []).sentence(result)
    assert "spark-2" in judge(result, []).causes[0].finding.found


def test_the_log_wins_over_the_counters() -> None:
    quiet = {
        "transport": {"network": "IB", "channels": {"0": 4}, "rdma": True},
        "link": {"tcp_bytes": 900 << 20, "rdma_bytes": 0},
    }
    assert causes(slow(evidence={"spark-1": node(**quiet), "spark-2": node(**quiet)})) == []


def test_one_node_has_no_link() -> None:
    verdict = judge(slow(evidence={"spark-1": node(link={"tcp_bytes": 900 << 20, "rdma_bytes": 0})}), [])
    assert verdict.causes == ()
    assert "TCP instead of RDMA (one node has no link)" in verdict.unchecked


@pytest.mark.parametrize(
    "flag", ["--enforce-eager", '--compilation-config {"cudagraph_mode":"NONE"}', '-cc {"cudagraph_mode": "none"}']
)
def test_eager(flag: str) -> None:
    assert causes(slow(parts=flags(flag))) == ["eager"]


@pytest.mark.parametrize(
    "flag", ['--compilation-config {"cudagraph_mode":"PIECEWISE"}', "--compilation-config 3", "-cc {"]
)
def test_not_eager(flag: str) -> None:
    assert causes(slow(parts=flags(flag))) == []


@pytest.mark.parametrize("plan", [{"enforce_eager": True}, {"cuda_graphs": "eager"}])
def test_a_plan_for_eager_expects_it(plan: dict[str, Any]) -> None:
    result = slow(parts=flags("--enforce-eager"))
    result["plan"] = {**result["plan"], **plan}
    assert causes(result) == []


def test_what_belongs_to_the_key_cannot_have_changed() -> None:
    earlier = [document(parts=flags("--enforce-eager"), plan={})]
    result = document(scale=0.5, parts=flags("--enforce-eager"), plan={})
    verdict = judge(result, earlier)
    assert (verdict.level, verdict.causes) == ("below", ())
    assert names(verdict.remarks) == ["eager"]


@pytest.mark.parametrize(
    ("clocks", "words"),
    [
        (
            {"clock_mhz": 810, "reasons": {"power brake (hardware)": 0.9}},
            "slowed down (power brake (hardware)) in 90 %",
        ),
        ({"clock_mhz": 721, "reasons": {}}, "ran at 721 of 3003 MHz under load, and the driver names no reason"),
    ],
)
def test_a_throttled_gpu(clocks: dict[str, Any], words: str) -> None:
    seen = {**node()["clocks"], **clocks}
    result = slow(evidence={"spark-1": node(), "spark-2": node(clocks=seen)})
    assert causes(result) == ["clock"]
    assert words in judge(result, []).causes[0].finding.found


@pytest.mark.parametrize(
    "clocks", [{"reasons": {"power cap (software)": 1.0}}, {"reasons": {"hardware slowdown": 0.1}}, {"clock_mhz": None}]
)
def test_a_limit_is_no_fault(clocks: dict[str, Any]) -> None:
    assert causes(slow(evidence={"spark-1": node(clocks={**node()["clocks"], **clocks}), "spark-2": node()})) == []


def test_clocks_that_were_never_seen_under_load_exclude_nothing() -> None:
    seen = {**node()["clocks"], "samples": 0}
    verdict = judge(slow(evidence={"spark-1": node(clocks=seen), "spark-2": node(clocks=seen)}), [])
    assert "a throttled GPU (no sample of the clocks was taken under load)" in verdict.unchecked


def test_swap() -> None:
    result = slow(evidence={"spark-1": node(swap={"pswpin": 262144}), "spark-2": node()})
    assert causes(result) == ["swap"]
    assert judge(result, []).causes[0].finding.found == "spark-1 read 1024 MiB back from swap during the run"
    assert causes(slow(evidence={"spark-1": node(swap={"pswpin": 5}), "spark-2": node()})) == []


def test_a_small_batch_explains_no_single_request() -> None:
    result = slow(parts={"flags": ["--max-num-seqs 2"]})
    verdict = judge(result, [])
    assert names(verdict.causes) == ["small_batch"]
    assert "4 requests were sent at a time, and the server computes 2" in verdict.causes[0].finding.found


def test_small_pieces_slow_the_prefill_alone() -> None:
    verdict = judge(slow(parts=flags("--max-num-batched-tokens 512")), [])
    assert verdict.causes == ()
    assert "chunks of 512 tokens" in verdict.remarks[0].finding.found


def test_a_full_cache() -> None:
    result = slow(points=[point(request=8), point(16, request=3, preemptions=7)])
    assert causes(result) == ["preemption"]
    assert (
        judge(result, []).causes[0].finding.found.startswith("7 requests were preempted and recomputed at 16 at a time")
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"points": [point(request=8, other_requests=9)]}, "9 requests of others"),
        (
            {"evidence": {"spark-1": node(strangers=[{"pid": 7, "process": "train.py", "memory_mib": 9000}])}},
            "train.py (pid 7, 9000 MiB)",
        ),
        ({"evidence": {"spark-1": node(load_before=61.0)}}, "load 61 on 20 CPU cores"),
    ],
)
def test_others(more: dict[str, Any], words: str) -> None:
    result = slow(**more)
    (name,) = causes(result)
    assert name in {"other_requests", "gpu_shared", "node_busy"}
    assert words in judge(result, []).causes[0].finding.found


def test_a_word_now_and_then_is_nobody() -> None:
    watched = [point(16, request=3, other_requests=2), point(request=8)]
    small = [{"pid": 7, "process": "Xorg", "memory_mib": 18}]
    assert causes(slow(points=watched, evidence={"spark-1": node(strangers=small)})) == []


def test_figures_that_are_too_good() -> None:
    result = document(points=[point(request=60, prefix_hit_share=0.5)])
    verdict = judge(result, [])
    assert (verdict.level, names(verdict.remarks)) == ("fine", ["prefix_cache", "above_limit"])
    assert "50% of the prompt tokens" in verdict.remarks[0].finding.found


def test_the_simulation_has_no_graphs_to_miss() -> None:
    verdict = judge(slow(simulation=True, parts=flags("--enforce-eager")), [])
    assert "CUDA graphs that are off (no node has a GPU)" in verdict.unchecked


def test_as_facts() -> None:
    result = slow(parts=flags("--enforce-eager"))
    facts = judge(result, []).as_facts(result)
    assert facts["shortfalls"][0]["text"].startswith("decode rate of a request at 1 request")
    assert facts["causes"][0]["remedy"].startswith("set vllm_serve_cuda_graphs")
    assert set(facts) == {
        "level",
        "sentence",
        "shortfalls",
        "causes",
        "remarks",
        "excluded",
        "unchecked",
        "earlier_runs",
    }
