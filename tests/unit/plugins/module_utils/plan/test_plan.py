# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What comes of a server: the KV pool as vLLM cuts it, what fits, and what to change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.shape import ModelShape
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan import fitted
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.arithmetic import (
    GIB,
    PlanError,
    PlanInput,
    Record,
    activation_terms,
    distinct_experts,
    graph_counts,
    graph_sizes,
    kv_bytes_per_token,
    kv_layout,
    step_bytes,
    step_limit_s,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.plan import (
    CONTEXTS,
    context_table,
    plan,
    risk_from,
    safe_utilization,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.report import (
    gate_problems,
    lines,
    memory_problem,
    sentence,
)

from benchmarks import plan_fit
from tests.unit.plugins.module_utils.plan import shapes

#: MemTotal of a DGX Spark, 127,600,748 kB.
SPARK_GIB = 127_600_748 / 1024**2


def two_sparks(config: dict[str, Any] = shapes.QWEN3_235B_AWQ, **changed: Any) -> PlanInput:
    settings: dict[str, Any] = {"memory_gib": SPARK_GIB, "tensor_parallel_size": 2, "nodes": 2, "max_model_len": 8192}
    return PlanInput(shape=ModelShape.from_config(config), **{**settings, **changed})


#: A start whose pool came out as counted: as the planner was before ranges, for what is not about them.
HELD = Record("m", 30.5, {"max_num_seqs": 64})


def layout(given: PlanInput) -> Any:
    return kv_layout(given, range(given.shape.layers))


# --- arithmetic ----------------------------------------------------------------------------------------------


def test_kv_of_the_default_model() -> None:
    # 2 x 94 layers x 2 heads x 128 x 2 bytes on each of two ranks: 94 KiB a token, 23.5 GiB for 262,144.
    assert kv_bytes_per_token(two_sparks()) == 96_256
    assert kv_bytes_per_token(two_sparks(kv_cache_dtype="fp8")) == 48_128
    pool = layout(two_sparks())
    assert pool.blocks_per_request(262_144) * pool.block_bytes == 23.5 * GIB


def test_the_pool_is_counted_in_whole_blocks() -> None:
    pool = layout(two_sparks())
    assert (pool.block_tokens, pool.group_layers, pool.block_bytes) == (16, 94, 96_256 * 16)
    assert pool.blocks(10.9 * pool.block_bytes) == 10
    # 10 blocks hold 10 requests of 16 tokens, 5 of 17 and one of 160 at most.
    assert (pool.concurrency(10 * pool.block_bytes, 16), pool.concurrency(10 * pool.block_bytes, 17)) == (10, 5)
    assert pool.longest(10 * pool.block_bytes, 1000) == 160
    assert pool.longest(10 * pool.block_bytes, 100) == 100
    assert pool.longest(0, 100) == 0
    assert pool.blocks(-1.0) == 0


def test_a_sliding_window_is_capped() -> None:
    given = two_sparks(shapes.GPT_OSS_120B, tensor_parallel_size=1, nodes=1, max_num_batched_tokens=1024)
    pool = layout(given)
    # 18 full and 18 sliding layers share their blocks; a window of 128 keeps 127 tokens and two steps of 1024, and one block more.
    assert (pool.group_layers, pool.groups_of("full"), pool.groups_of("sliding")) == (18, 1, 1)
    assert pool.blocks_per_request(131_072) == 8192 + 136 + 1
    assert pool.blocks_per_request(160) == 10 + 10 + 1
    assert kv_bytes_per_token(given) == 18 * 2 * 8 * 64 * 2


def test_groups_are_padded_as_in_vllm() -> None:
    # 8 full and 40 sliding layers: six groups of eight. 12 and 13 would be padded to two groups of 13.
    gemma = layout(two_sparks(shapes.GEMMA3_12B, tensor_parallel_size=1, nodes=1))
    assert (gemma.group_layers, gemma.groups_of("full"), gemma.groups_of("sliding")) == (8, 1, 5)
    types = ["full_attention"] * 13 + ["sliding_attention"] * 12
    uneven = {**shapes.TINY, "num_hidden_layers": 25, "layer_types": types, "sliding_window": 64}
    found = layout(two_sparks(uneven))
    assert (found.group_layers, found.groups_of("full"), found.groups_of("sliding")) == (13, 1, 1)


def test_a_state_takes_a_page() -> None:
    given = two_sparks(shapes.QWEN3_NEXT, tensor_parallel_size=1, nodes=1)
    pool = layout(given)
    # A state of 1,097,728 bytes; attention keeps 2048 for a token, so blocks grow to 544 tokens.
    assert (pool.block_tokens, pool.group_layers, pool.groups_of("full"), pool.groups_of("linear")) == (544, 12, 1, 3)
    assert pool.blocks_per_request(544) == 1 + 3 * 2
    alone = layout(replace(given, prefix_caching=False))
    assert alone.blocks_per_request(544) == 1 + 3


def test_terms_of_a_step() -> None:
    terms = activation_terms(two_sparks(max_num_batched_tokens=2048, max_num_seqs=4))
    # Experts: 8 x (4096 + 4096) x 2 bytes a token. Hidden and residual, 32 query heads in and out, 2 x 2 KV heads.
    assert terms.workspace == 2048 * 8 * (4096 + 4096) * 2
    assert terms.attention == 2048 * (2 * 4096 + 2 * 32 * 128 + 2 * 2 * 128) * 2
    assert terms.logits == 4 * 151_936 * 4
    assert terms.mlp == 0
    assert terms.peak(1.0, 2.0) == terms.workspace + terms.attention
    assert terms.peak(0.0, 2.0) == terms.workspace + 2 * terms.logits
    dense = activation_terms(two_sparks(shapes.QWEN3_32B, max_num_batched_tokens=1))
    assert (dense.workspace, dense.mlp) == (0, (4 * 5120 + 3 * 12_800) * 2)
    assert dense.peak(0.1, 0.0) == dense.mlp


def test_which_runner_takes_graphs_off_the_pool() -> None:
    assert ModelShape.from_config(shapes.QWEN3_235B).counts_graphs
    assert ModelShape.from_config(shapes.QWEN3_NEXT).counts_graphs
    assert not ModelShape.from_config(shapes.QWEN3_32B).counts_graphs
    assert not ModelShape.from_config(shapes.DEEPSEEK_V2_LITE).counts_graphs
    dense = two_sparks(shapes.QWEN3_32B, cuda_graphs="decode")
    eager = replace(dense, cuda_graphs="eager")
    assert plan(dense).kv_cache_gib_per_rank == plan(eager).kv_cache_gib_per_rank
    # They come out of the host's part.
    assert (plan(dense).host_headroom_gib or 0) < (plan(eager).host_headroom_gib or 0)


def test_kinds_of_kernels() -> None:
    kinds = [
        ModelShape.from_config(config).kind
        for config in (shapes.QWEN3_235B_AWQ, shapes.QWEN3_30B, shapes.QWEN3_32B, shapes.GEMMA3_12B, shapes.DEEPSEEK_V3)
    ]
    assert kinds == ["moe-packed", "moe-plain", "dense-plain", "plain-norms", "moe-packed"]


def test_captured_sizes() -> None:
    given = two_sparks(cuda_graphs="decode", max_num_seqs=32)
    assert graph_sizes(given) == [1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64]
    counts = [graph_counts(replace(given, cuda_graphs=mode)) for mode in ("eager", "decode", "piecewise", "full")]
    assert counts == [(0, 0), (7, 0), (0, 11), (7, 11)]
    assert graph_sizes(replace(given, max_num_seqs=1)) == [1, 2]
    assert graph_sizes(replace(given, max_num_seqs=256))[-3:] == [480, 496, 512]


def test_defaults_are_vllms() -> None:
    # By the device's memory alone: a GB10 is a large one.
    assert (two_sparks().batched_tokens, two_sparks().sequences) == (8192, 1024)
    small = replace(two_sparks(), memory_gib=69.9)
    assert (small.batched_tokens, small.sequences) == (2048, 256)
    assert two_sparks(max_num_batched_tokens=64).sequences == 64
    assert two_sparks(max_model_len=None).length == 262_144


def test_the_limit_of_the_default_model() -> None:
    # Facts: 37, 33 and 30 tok/s with 188 all-reduces of 25, 40 and 60 us, 44.8 without.
    limits = [1 / step_limit_s(two_sparks(allreduce_us=cost)) for cost in (0, 25, 40, 60)]
    assert limits == pytest.approx([44.8, 37, 33, 30], rel=0.02)
    alone = two_sparks(tensor_parallel_size=1, nodes=1)
    assert 1 / step_limit_s(alone) == pytest.approx(1 / step_limit_s(replace(alone, allreduce_us=0)))


def test_a_step_reads_chosen_experts_and_the_cache() -> None:
    given = two_sparks()
    assert distinct_experts(given.shape, 1) == pytest.approx(8)
    assert distinct_experts(given.shape, 2) == pytest.approx(15.5)
    one, two, deep = step_bytes(given)[0], step_bytes(given, 2)[0], step_bytes(given, 2, 1000)[0]
    assert (one.cache, deep.cache) == (0, 2 * 1000 * 96_256)
    assert two.experts - one.experts == pytest.approx(7.5 * given.stage_weights(0).experts / 128)
    assert (two.plain, two.packed) == (one.plain, one.packed)
    # Attention is packed, 4.15 bits a weight; the head and the routers are not.
    assert one.packed == pytest.approx(94 * 71.3e6 / 2 * 4.156 / 8, rel=0.01)
    windowed = two_sparks(shapes.GPT_OSS_120B)
    near, far = step_bytes(windowed, 1, 1000)[0], step_bytes(windowed, 1, 2000)[0]
    assert far.total - near.total == 1000 * 18 * 2 * 4 * 64 * 2


def test_known_bytes_of_the_weights_are_taken() -> None:
    counted = plan(two_sparks())
    given = plan(two_sparks(weights_bytes=100 * GIB))
    assert given.weights_gib_per_rank == pytest.approx(50, rel=0.01)
    assert given.weights_gib_per_rank < counted.weights_gib_per_rank


# --- answers -------------------------------------------------------------------------------------------------


def test_the_default_on_two_sparks() -> None:
    found = plan(two_sparks())
    assert found.fits
    assert found.reasons == []
    assert found.weights_gib_per_rank == pytest.approx(57.9, abs=0.1)
    # At 0.75 vLLM's own count holds one context of 262,144 tokens and more; published starts of Sparks fell short of it by up to 7.5 GiB.
    span = found.kv_cache_gib_range
    assert (span["basis"], span["low"]) == ("published", found.kv_cache_gib_per_rank)
    assert span["low"] < 23.5 < span["high"]
    assert 200_000 < found.max_model_len_possible < 262_144
    assert 200_000 < found.kv_cache_tokens < 250_000
    assert found.max_concurrency == pytest.approx(found.kv_cache_tokens / 8192, rel=0.001)
    assert found.host_headroom_gib == pytest.approx(SPARK_GIB * 0.25 - 12.5, abs=0.01)
    # While the weights are read there is no KV pool yet.
    assert found.details["load_available_gib"] == pytest.approx(SPARK_GIB - 57.88 - 12.5 - 11, abs=0.02)
    requested = SPARK_GIB * 0.75
    details = found.details
    used = found.weights_gib_per_rank + details["activation_gib"] + details["graphs_gib"] + details["non_torch_gib"]
    assert span["low"] < requested - used < span["high"]


def test_graphs_cost_memory_and_give_speed() -> None:
    eager, graphs = plan(two_sparks()), plan(two_sparks(cuda_graphs="decode"))
    assert graphs.kv_cache_gib_per_rank < eager.kv_cache_gib_per_rank
    assert graphs.decode_tok_s_expected["low"] > eager.decode_tok_s_expected["high"]
    assert (eager.cuda_graphs, graphs.cuda_graphs) == ("eager", "decode")


def test_who_measured() -> None:
    assert fitted.measured_machine(4800) == "NVIDIA H200"
    assert fitted.measured_machine(273) is None


def test_published_figures_lie_in_the_range_of_two_sparks() -> None:
    found = plan(two_sparks(cuda_graphs="decode"))
    assert "not measured on this machine" in found.details["expected_from"]
    assert [entry["tok_s"] for entry in found.details["published"]] == [17.0, 23.8]
    low, high = found.decode_tok_s_expected["low"], found.decode_tok_s_expected["high"]
    assert low <= 17.0 <= 23.8 <= high <= found.decode_tok_s_limit


def test_a_plan_of_one_spark_shows_figures_of_one() -> None:
    path = Path(__file__).parents[5] / "models" / "gpt-oss-120b.yml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))["config"]
    one = two_sparks(config, tensor_parallel_size=1, nodes=1, cuda_graphs="decode")
    found = plan(one)
    assert [entry["tok_s"] for entry in found.details["published"]] == [33.0, 59.0, 26.0]
    assert "figures of one Spark" in found.details["expected_from"]
    # 59 is more than the bytes as counted allow: the range ends at the limit.
    assert found.decode_tok_s_limit == pytest.approx(52.8, abs=0.2)
    assert found.decode_tok_s_expected["low"] <= 33 < found.decode_tok_s_expected["high"] == found.decode_tok_s_limit
    eager = plan(replace(one, cuda_graphs="eager")).decode_tok_s_expected
    assert eager["low"] <= 26 <= eager["high"]
    text = "\n".join(line for _level, line in lines("m", one, found, [], None))
    assert "two Sparks" not in text
    # The config beside the figures is that of the model's file.
    counted = [ModelShape.from_config(entry["config"]).parameter_count() for entry in plan_fit.PUBLISHED[2:]]
    assert set(counted) == {one.shape.parameter_count()}


def test_a_range_without_figures_is_wider_and_says_so() -> None:
    for given in (
        two_sparks(shapes.QWEN3_32B, cuda_graphs="decode"),
        two_sparks(shapes.QWEN3_32B, tensor_parallel_size=1, nodes=1, cuda_graphs="decode"),
        two_sparks(tensor_parallel_size=4, nodes=4, cuda_graphs="decode"),
    ):
        found = plan(given)
        assert "extrapolated from 235B on two Sparks" in found.details["expected_from"]
        assert found.decode_tok_s_expected["high"] == found.decode_tok_s_limit
        least = plan(two_sparks(cuda_graphs="decode"))
        part = least.decode_tok_s_expected["low"] / least.decode_tok_s_limit
        assert found.decode_tok_s_expected["low"] / found.decode_tok_s_limit < part
    assert plan(two_sparks(tensor_parallel_size=4, nodes=4)).details["published"] == []


def test_one_spark_is_too_small() -> None:
    found = plan(two_sparks(tensor_parallel_size=1, nodes=1))
    assert not found.fits
    assert (found.kv_cache_tokens, found.max_model_len_possible, found.kv_cache_gib_per_rank) == (0, 0, 0)
    assert len(found.reasons) == 1
    assert found.reasons[0].startswith("the weights take 115.6 GiB on each of 1 GPU and a step")
    assert found.reasons[0].endswith("add nodes, or choose a smaller model or quantization")


def test_a_request_too_long_is_told_with_what_fits() -> None:
    found = plan(two_sparks(max_model_len=262_144, max_num_seqs=64, gpu_memory_utilization=0.7))
    assert not found.fits
    assert 0 < found.max_model_len_possible < 262_144
    text = found.reasons[0]
    assert text.startswith("one request of 262144 tokens needs 23.50 GiB of KV cache on each rank")
    assert f"lower max_model_len to {found.max_model_len_possible} or less" in text
    assert "set kv_cache_dtype to fp8" in text
    assert "raise gpu_memory_utilization to 0.7" in text
    # The advice holds.
    assert plan(
        two_sparks(max_model_len=found.max_model_len_possible, max_num_seqs=64, gpu_memory_utilization=0.7)
    ).fits
    assert plan(
        two_sparks(max_model_len=262_144, max_num_seqs=64, gpu_memory_utilization=0.7, kv_cache_dtype="fp8")
    ).fits
    wanted = float(text.partition("gpu_memory_utilization to ")[2].partition(",")[0])
    assert plan(two_sparks(max_model_len=262_144, max_num_seqs=64, gpu_memory_utilization=wanted)).fits


def test_no_advice_that_would_not_help_or_would_freeze_the_host() -> None:
    text = plan(two_sparks(max_model_len=262_144, gpu_memory_utilization=0.5)).reasons[0]
    assert "fp8" not in text
    big = {**shapes.QWEN3_235B_AWQ, "num_hidden_layers": 130}
    text = plan(two_sparks(big, max_model_len=262_144)).reasons[0]
    assert "gpu_memory_utilization to" not in text


def test_headroom_is_kept() -> None:
    found = plan(two_sparks(gpu_memory_utilization=0.85))
    assert not found.fits
    assert sentence(found).startswith("it does not fit: the host keeps")
    assert plan(two_sparks(gpu_memory_utilization=0.85), min_headroom_gib=5).fits
    assert plan(two_sparks(gpu_memory_utilization=0.85), host_gib=7).fits
    beyond = plan(two_sparks(gpu_memory_utilization=0.95))
    assert ((beyond.host_headroom_gib or 0) < 0, beyond.fits) == (True, False)
    assert gate_problems(found) == found.reasons
    assert found.reasons[0].endswith("set gpu_memory_utilization to at most 0.8")
    assert safe_utilization(two_sparks(), 12.5, 11) == 0.8
    # To the hundredth of a GiB: what the host keeps is what must be kept, and no less.
    exact = plan(two_sparks(gpu_memory_utilization=0.8))
    assert exact.host_headroom_gib is not None
    assert plan(two_sparks(gpu_memory_utilization=0.8), min_headroom_gib=exact.host_headroom_gib - 0.01).fits
    assert not plan(two_sparks(gpu_memory_utilization=0.8), min_headroom_gib=exact.host_headroom_gib + 0.01).fits
    assert gate_problems(plan(two_sparks(gpu_memory_utilization=0.8))) == []
    assert gate_problems(plan(two_sparks(gpu_memory_utilization=0.8), min_headroom_gib=20), 20) != []
    small = plan(replace(two_sparks(), memory_gib=20.0))
    assert small.reasons[-1].endswith("take machines with more memory")


def test_a_gpu_with_memory_of_its_own_has_no_headroom() -> None:
    found = plan(replace(two_sparks(), memory_gib=139.8, memory_bandwidth_gb_s=4800.0, gpu_memory_utilization=0.95))
    assert found.host_headroom_gib is None
    assert found.details["load_available_gib"] is None
    assert gate_problems(found) == []
    assert risk_from(replace(two_sparks(), memory_bandwidth_gb_s=4800.0)) is None


def test_more_than_the_model_knows_is_told() -> None:
    found = plan(two_sparks(shapes.QWEN3_32B, max_model_len=65_536))
    assert found.reasons[0].startswith("max_model_len is 65536, but the model knows 40960 positions")
    assert found.max_model_len_possible == 40_960
    # vLLM refuses to start.
    assert not found.fits
    assert gate_problems(found) == found.reasons
    assert plan(two_sparks(shapes.QWEN3_32B, max_model_len=40_960)).fits
    overridden = plan(two_sparks(shapes.QWEN3_32B, max_model_len=65_536, rope_override=True))
    assert (overridden.fits, overridden.reasons, overridden.max_model_len_possible) == (True, [], 65_536)


def test_the_default_model_with_a_request_too_long_for_it() -> None:
    given = two_sparks(max_model_len=300_000, max_num_seqs=64, measured=HELD)
    found = plan(given)
    assert not found.fits
    assert found.reasons == [
        "max_model_len is 300000, but the model knows 262144 positions (max_position_embeddings): set it to 262144 or less"
    ]
    assert plan(replace(given, max_model_len=262_144)).fits


def test_one_length_is_advised() -> None:
    (text,) = plan(two_sparks(max_model_len=10_000_000, max_num_seqs=64, measured=HELD)).reasons
    assert text.endswith("set it to 262144 or less")
    (text,) = plan(two_sparks(max_model_len=10_000_000, max_num_seqs=64, gpu_memory_utilization=0.6)).reasons
    possible = plan(two_sparks(max_num_seqs=64, gpu_memory_utilization=0.6)).max_model_len_possible
    assert text.endswith(f"and the memory holds {possible}: set it to {possible} or less")
    assert possible < 262_144


def test_pipeline_stages_count_by_the_fullest() -> None:
    tensor, stages = plan(two_sparks()), plan(two_sparks(tensor_parallel_size=1, pipeline_parallel_size=2))
    assert stages.fits
    # Each has half of the layers with all four heads; one has the embedding and the other the head.
    assert stages.kv_bytes_per_token_per_rank == 47 * 2 * 4 * 128 * 2
    assert stages.weights_gib_per_rank == pytest.approx(tensor.weights_gib_per_rank, rel=0.01)
    # One token walks through both, without all-reduces: both read in turn.
    assert 1 / stages.decode_tok_s_limit == pytest.approx(2 * 6.15e9 / 273e9, rel=0.02)


def test_a_cpu_has_its_kv_space() -> None:
    given = two_sparks(shapes.TINY, memory_gib=20.0, cpu_kv_gib=1.0)
    found = plan(given, host_gib=2, min_headroom_gib=1)
    assert found.fits
    assert (found.kv_cache_gib_per_rank, found.details["activation_gib"]) == (1.0, 0.0)
    assert found.host_headroom_gib == pytest.approx(20 - 2 - 1 - 1.5, abs=0.01)
    tight = plan(replace(given, memory_gib=4.0), host_gib=2, min_headroom_gib=1)
    assert not tight.fits
    assert "do not hold" in tight.reasons[0]
    assert (
        plan(replace(given, memory_gib=5.0), host_gib=2, min_headroom_gib=1)
        .reasons[0]
        .endswith("give the machine more memory")
    )
    short = plan(replace(given, cpu_kv_gib=1e-4), host_gib=2, min_headroom_gib=1)
    assert "raise the KV space" in short.reasons[0]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tensor_parallel_size": 0}, "tensor_parallel_size is 0"),
        ({"max_num_seqs": 0}, "max_num_seqs is 0"),
        ({"memory_gib": 0}, "memory_gib is 0"),
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization is 1.5"),
        ({"allreduce_us": -1}, "allreduce_us is -1"),
        ({"cuda_graphs": "some"}, "cuda_graphs is 'some'"),
        ({"nodes": 3}, "3 nodes cannot hold 2 x 1 ranks evenly"),
        ({"tensor_parallel_size": 1, "pipeline_parallel_size": 95, "nodes": 1}, "the model has 94 layers"),
    ],
)
def test_one_sentence_for_wrong_input(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError, match=r"^[^\n]*$") as caught:
        two_sparks(**changed)
    assert said in str(caught.value)


# --- the context table ---------------------------------------------------------------------------------------


def test_every_length_with_what_it_takes() -> None:
    rows = context_table(two_sparks())
    assert [row.length for row in rows] == list(CONTEXTS)
    assert [round(row.kv_gib, 2) for row in rows] == [0.73, 1.47, 2.94, 5.88, 11.75, 23.5]
    assert [row.verdict for row in rows] == ["fits"] * 5 + ["raise"]
    for row in rows:
        assert row.least_utilization is not None
        # One such request fits at that utilization, and not much below.
        assert plan(two_sparks(max_model_len=row.length, gpu_memory_utilization=row.least_utilization)).fits
        assert not plan(two_sparks(max_model_len=row.length, gpu_memory_utilization=row.least_utilization - 0.002)).fits
    assert risk_from(two_sparks()) == 262_144


def test_verdicts() -> None:
    low = context_table(two_sparks(gpu_memory_utilization=0.55))
    assert [row.verdict for row in low][-2:] == ["raise", "raise"]
    known = context_table(two_sparks(shapes.QWEN3_32B), [32_768, 65_536])
    assert [row.verdict for row in known] == ["fits", "model"]
    huge = two_sparks({**shapes.QWEN3_235B_AWQ, "num_hidden_layers": 125})
    safe = risk_from(huge)
    assert safe is not None
    rows = context_table(huge)
    assert [row.verdict for row in rows][-1] in {"risk", "never"}
    assert all((row.verdict == "risk") == (row.length > safe) for row in rows if row.verdict != "never")
    text = "\n".join(line for _level, line in lines("m", huge, plan(huge), rows, safe))
    assert f"at risk from {safe + 1:,} tokens on" in text
    alone = two_sparks(tensor_parallel_size=1, nodes=1)
    assert risk_from(alone) == 0
    assert risk_from(replace(alone, memory_gib=20.0)) == 0


def test_a_cpus_table_needs_no_utilization() -> None:
    given = two_sparks(shapes.TINY, memory_gib=20.0, cpu_kv_gib=1.0)
    rows = context_table(given, [8192], host_gib=2, min_headroom_gib=1)
    assert (rows[0].verdict, rows[0].least_utilization) == ("fits", None)
    text = "\n".join(
        line for _level, line in lines("tiny", given, plan(given, host_gib=2, min_headroom_gib=1), rows, None)
    )
    assert "tok/s" not in text
    assert "KV space" in text


# --- words ---------------------------------------------------------------------------------------------------


def test_the_report_says_all_of_it() -> None:
    given = two_sparks()
    found = plan(given)
    report = lines("qwen", given, found, context_table(given), risk_from(given), memory_from="stated", width=100)
    # Lines are wrapped to the width.
    text = " ".join(" ".join(line for _level, line in report).split())
    for part in (
        "235.09 billion parameters",
        "awq int4 g128",
        "(stated)",
        "published starts of DGX Sparks; the low end decides",
        "KiB a token",
        "17 tok/s",
        "23.8 tok/s",
        "FITS",
    ):
        assert part in text
    assert max(len(line) for _level, line in report[:15]) <= 100
    refused = plan(two_sparks(gpu_memory_utilization=0.85))
    report = lines("qwen", given, refused, [], None)
    assert [level for level, line in report if line.startswith("STOP")] == ["stop"]
    table = context_table(two_sparks(gpu_memory_utilization=0.95))
    given = two_sparks(gpu_memory_utilization=0.95)
    text = "\n".join(line for _level, line in lines("qwen", given, plan(given), table, risk_from(given)))
    assert "The table is for the least utilization; yours, 0.95, is what stops." in text
    assert "least utilization;" not in "\n".join(
        line for _level, line in lines("qwen", two_sparks(), found, context_table(two_sparks()), None)
    )
    looked = plan(two_sparks({**shapes.TINY, "model_type": "new_kind"}, max_model_len=64, weights_bytes=GIB))
    assert [level for level, line in lines("t", given, looked, [], None) if line.startswith("LOOK")] == ["look"]


def test_sentences() -> None:
    assert sentence(plan(two_sparks())).startswith("it fits: 57.88 GiB of weights")
    assert sentence(plan(two_sparks(tensor_parallel_size=1, nodes=1))).startswith("it does not fit: the weights")
    assert memory_problem({"a": 0.0, "b": 121.7}, 0) == ""
    assert memory_problem({"a": 0.0}, 121.7) == ""
    assert memory_problem({"a": 0.0}, 0).startswith("the memory of a could not be read")
    assert memory_problem({"a": 121.7}, -5).startswith("vllm_plan_memory_gib is -5, expected more than 0")


def test_remarks_are_looks() -> None:
    quantized = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}
    given = two_sparks({**shapes.QWEN3_235B, "quantization_config": quantized})
    report = lines("m", given, plan(given), [], None, remarks=["not verified: the router"])
    looks = [line for level, line in report if level == "look" and line.startswith("LOOK")]
    assert looks[0] == "LOOK  not verified: the router"
    assert looks[1].startswith("LOOK  NVFP4: whether its kernels work on this GPU is what the kernel check decides")


def test_draft_layers_are_shown_beside_the_model() -> None:
    path = Path(__file__).parents[5] / "models" / "glm-4.6-awq.yml"
    given = two_sparks(yaml.safe_load(path.read_text(encoding="utf-8"))["config"])
    text = "\n".join(line for _level, line in lines("glm", given, plan(given), [], None))
    assert "352.80 billion parameters + 3.99 billion of draft layers" in " ".join(text.split())


def test_a_measured_machine_is_expected_from_its_runs() -> None:
    given = replace(
        two_sparks(tensor_parallel_size=1, nodes=1, cuda_graphs="decode"),
        memory_gib=139.8,
        memory_bandwidth_gb_s=4800.0,
    )
    low, high, basis = fitted.expected_tok_s(given)
    assert basis.startswith("fitted on")
    assert low < 80.1 < high
