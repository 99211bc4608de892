# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The KV pool on unified memory: a range from published starts, a record that replaces it, and what ends a start all the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.shape import ModelShape
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan import fitted
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.arithmetic import (
    GIB,
    PlanError,
    PlanInput,
    Record,
    kv_layout,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.inputs import (
    account_of,
    fields_of,
    input_of,
    record_in,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.plan import plan
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.pool import (
    RECORD_MARGIN_GIB,
    pool,
    published_loss_gib,
    record_of,
    settings_of,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.report import lines

from tests.unit.plugins.module_utils.plan import shapes

SPARKS: dict[str, Any] = {
    "tensor_parallel_size": 2,
    "nodes": 2,
    "gpu_memory_utilization": 0.75,
    "max_model_len": 8192,
    "max_num_seqs": 64,
}


def sparks(config: dict[str, Any] = shapes.QWEN3_235B_AWQ, **changed: Any) -> PlanInput:
    return PlanInput(shape=ModelShape.from_config(config), memory_gib=121.69, **{**SPARKS, **changed})


def span(given: PlanInput) -> tuple[float, float, str]:
    found = pool(given, fitted.shipped())
    return round(found.low / GIB, 2), round(found.high / GIB, 2), found.basis


def test_published_starts_make_a_range_and_its_low_end_decides() -> None:
    given = sparks()
    counted = fitted.kv_available_bytes(given, fitted.shipped()) / GIB
    least, most = published_loss_gib()
    assert least < 0 < 9.15 < most
    assert span(given) == (round(counted - most, 2), round(counted - least, 2), "published")
    # A request that only vLLM's own count would hold does not fit.
    long = replace(given, max_model_len=262_144)
    assert kv_layout(long, range(94)).concurrency(counted * GIB, 262_144) > 1
    found = plan(long)
    assert not found.fits
    assert "lower max_model_len to" in found.reasons[0]


def test_memory_of_its_own_and_a_set_pool_are_one_figure() -> None:
    low, high, basis = span(sparks(memory_bandwidth_gb_s=4800.0))
    assert (low, basis) == (high, "counted")
    assert span(sparks(kv_cache_memory_bytes=12 * GIB)) == (12, 12, "set")
    found = plan(sparks(kv_cache_memory_bytes=12 * GIB))
    assert found.fits
    # What the host keeps is what weights, step and that pool leave, not what utilization would.
    assert found.host_headroom_gib == pytest.approx(121.69 - 12.5 - 57.88 - 12 - 2.5, abs=1)
    over = plan(sparks(kv_cache_memory_bytes=45 * GIB))
    assert not over.fits
    assert over.reasons[0].startswith("the host keeps")


def test_a_record_replaces_published_starts_at_once() -> None:
    given = sparks()
    record = record_of({"model": "m", "kv_cache_gib": 25.0, "settings": settings_of(given), "started": "2026"}, "m")
    same = replace(given, measured=record)
    assert span(same) == (25.0, 25.0, "this record")
    # With another utilization the loss of that start is taken off, within half a GiB.
    raised = replace(same, gpu_memory_utilization=0.8)
    low, high, basis = span(raised)
    assert basis == "record"
    assert (low + high) / 2 == pytest.approx(25.0 + 0.05 * 121.69, abs=0.01)
    assert high - low == pytest.approx(2 * RECORD_MARGIN_GIB)


def test_a_start_with_nothing_left_is_a_record_too() -> None:
    given = sparks()
    record = record_of({"model": "m", "kv_cache_gib": -2.26, "settings": settings_of(given)}, "m")
    assert not plan(replace(given, measured=record)).fits


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"model": "other", "kv_cache_gib": 1.0, "settings": {}},
        # A pool that was set tells nothing of what vLLM would have measured.
        {"model": "m", "kv_cache_gib": 12.0, "settings": {}, "kv_cache_memory_bytes": 12 * GIB},
    ],
)
def test_records_that_do_not_count(raw: dict[str, Any]) -> None:
    assert record_of(raw, "m") is None


@pytest.mark.parametrize("raw", [{"kv_cache_gib": "25", "settings": {}}, {"kv_cache_gib": 25.0}])
def test_a_broken_record_is_one_sentence(raw: dict[str, Any]) -> None:
    with pytest.raises(
        PlanError, match=r"^the record of the last start has [^\n]*remove it, the next start writes a new one$"
    ):
        record_of({"model": "m", **raw}, "m")


def test_what_the_machine_holds_already_is_in_the_account() -> None:
    looks = {
        "a": {"memory_available_gib": 113.0, "page_cache_gib": 4.0, "swap_total_gib": 16.0, "swap_used_gib": 0.5},
        "b": {"memory_available_gib": 60.0, "page_cache_gib": 30.0, "swap_total_gib": 0.0, "swap_used_gib": 0.0},
        # A server of ours runs there: what it holds is what is planned.
        "c": {"memory_available_gib": 9.0, "serving": True, "vllm_start": {"model": "m"}},
        "d": {},
    }
    account = account_of(looks)
    assert account == {"available": 60.0, "page_cache": 30.0, "swap_used": 0.0, "swap_total": 0.0}
    assert account_of({"c": looks["c"], "d": {}}) == {}
    assert record_in(looks) == {"model": "m"}
    found = plan(sparks(available_gib=60.0))
    assert not found.fits
    assert found.reasons[0].startswith(
        "vLLM asks for 91.3 GiB before it starts (gpu_memory_utilization 0.75) and the machine has 60.0 of 121.7 GiB"
    )
    assert "at most 0.49" in found.reasons[0]
    # Enough to start, and yet the host would keep less than it does idle.
    tight = plan(sparks(available_gib=100.0))
    assert tight.host_headroom_gib == pytest.approx(121.69 * 0.25 - (21.69 + 3.9), abs=0.01)
    assert tight.details["load_available_gib"] == plan(sparks()).details["load_available_gib"]
    assert plan(sparks(available_gib=114.0)).host_headroom_gib == plan(sparks()).host_headroom_gib


def test_hybrids_have_a_highest_number_of_requests() -> None:
    one = {"tensor_parallel_size": 1, "nodes": 1, "memory_bandwidth_gb_s": 3350.0, "gpu_memory_utilization": 0.9}
    given = PlanInput(
        shape=ModelShape.from_config(shapes.QWEN3_NEXT),
        memory_gib=79.65,
        cuda_graphs="full",
        weights_bytes=60 * GIB,
        **one,
    )
    found = plan(given)
    most = found.max_num_seqs_possible
    assert most is not None
    assert most == found.details["blocks"] < 1024
    assert not found.fits
    assert found.reasons[0].startswith(
        "max_num_seqs is 1024 (what vLLM takes when nothing is set), but the KV pool has"
    )
    assert found.reasons[0].endswith(f"set max_num_seqs to at most {most}")
    # Fewer requests leave a larger pool: the advice holds.
    assert plan(replace(given, max_num_seqs=most)).fits
    assert plan(replace(given, cuda_graphs="eager")).max_num_seqs_possible is None


def test_speculative_layers_take_weights_and_blocks() -> None:
    text = {**shapes.QWEN3_NEXT, "mtp_num_hidden_layers": 1}
    given = sparks(text, tensor_parallel_size=1, nodes=1)
    guessed = replace(given, speculative_tokens=2)
    layout, with_draft = (kv_layout(each, range(48)) for each in (given, guessed))
    assert (layout.group_layers, with_draft.group_layers) == (12, 13)
    assert (layout.state_blocks, with_draft.state_blocks) == (2, 4)
    assert guessed.stage_weights(0).total - given.stage_weights(0).total == given.shape.draft_bytes()
    other = plan(replace(given, speculative_tokens=2, speculative_method="eagle3"))
    assert any("the draft model's weights and KV cache are not counted" in reason for reason in other.reasons)
    with pytest.raises(PlanError, match="speculative_tokens is -1"):
        replace(given, speculative_tokens=-1)


def test_blocks_of_layers_that_differ() -> None:
    gemma = kv_layout(sparks(shapes.GEMMA4_31B, tensor_parallel_size=1, nodes=1), range(60))
    # A layer without window keeps half as much for a token: its blocks have twice the tokens.
    assert [(group.kind, group.count, group.block_tokens) for group in gemma.groups] == [
        ("full", 1, 32),
        ("sliding", 5, 16),
    ]
    kimi = kv_layout(sparks(shapes.KIMI_LINEAR, tensor_parallel_size=1, nodes=1), range(27))
    # 2,170,880 bytes of state at 1152 for a token, in steps of 128.
    assert (kimi.block_tokens, kimi.group_layers, kimi.groups_of("linear")) == (1920, 7, 3)
    mamba = sparks(shapes.CODESTRAL_MAMBA, tensor_parallel_size=1, nodes=1)
    alone = kv_layout(mamba, range(64))
    # Without attention there is nothing to keep of earlier requests: one state a request.
    assert (alone.block_tokens, alone.blocks_per_request(8192)) == (0, 1)
    assert plan(mamba).fits


def test_auto_is_what_the_checkpoint_asks_for() -> None:
    raw = {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "ignore": ["lm_head"]}
    given = sparks({**shapes.QWEN3_235B, "quantization_config": raw})
    told = replace(given, kv_cache_dtype="bfloat16")
    assert (given.cache_type, told.cache_type) == ("fp8", "bfloat16")
    assert kv_layout(told, range(94)).block_bytes == 2 * kv_layout(given, range(94)).block_bytes


def test_unknown_classes_need_their_bytes() -> None:
    strange = {**shapes.TINY, "model_type": "brand_new"}
    with pytest.raises(PlanError, match="model_type 'brand_new' is not known, so its weights cannot be counted"):
        sparks(strange, tensor_parallel_size=1, nodes=1)
    packed = {**shapes.TINY, "quantization_config": {"quant_method": "quark"}}
    with pytest.raises(PlanError, match="the quantization 'quark' is not known"):
        sparks(packed, tensor_parallel_size=1, nodes=1)
    for config in (strange, packed):
        given = sparks(config, tensor_parallel_size=1, nodes=1, max_model_len=64, stated_weights_bytes=3 * GIB)
        found = plan(given)
        assert found.weights_gib_per_rank == pytest.approx(3, abs=0.01)
        assert any("is not known" in reason for reason in found.reasons)
    # Bytes that somebody states do not count where all can be counted.
    known = sparks(stated_weights_bytes=GIB)
    assert known.stage_weights(0) == sparks().stage_weights(0)


def test_settings_keep_a_no() -> None:
    assert fields_of({"prefix_caching": False, "speculative_tokens": "2", "kv_cache_memory_bytes": 0}) == {
        "prefix_caching": False,
        "speculative_tokens": 2,
    }
    assert fields_of({"prefix_caching": ""}) == {}
    given = input_of(shapes.QWEN3_NEXT, 121.69, {"prefix_caching": "false", "max_model_len": 8192})
    assert not given.caches_prefixes


def test_auto_is_the_longest_that_each_end_of_the_pool_holds() -> None:
    given = sparks(max_model_len=None, fit_length=True)
    found = plan(given)
    low, high = found.details["max_model_len"], found.details["max_model_len_high"]
    assert 8192 < low < high == 262_144
    assert found.fits
    assert found.max_concurrency >= 1
    assert found.max_model_len_possible == low
    assert plan(sparks(max_model_len=low)).fits
    assert not plan(sparks(max_model_len=low + 16)).fits
    # A figure of this machine leaves one length.
    known = plan(replace(given, measured=Record("m", 9.0, settings_of(given))))
    assert known.details["max_model_len"] == known.details["max_model_len_high"]


def test_auto_speaks_up_where_little_or_nothing_is_held() -> None:
    short = plan(sparks(max_model_len=None, fit_length=True, kv_cache_memory_bytes=GIB // 4))
    assert short.fits
    (said,) = short.reasons
    assert f"holds no more than {short.details['max_model_len']} tokens" in said
    none = plan(sparks(max_model_len=None, fit_length=True, gpu_memory_utilization=0.45))
    assert not none.fits
    assert "the weights take" in none.reasons[0]


def test_auto_starts_from_the_positions_that_vllm_starts_from() -> None:
    scaled = {"rope_scaling": {"rope_type": "longrope", "factor": 32.0}, "original_max_position_embeddings": 4096}
    config = {**shapes.QWEN3_32B, "max_position_embeddings": 131_072, **scaled}
    assert plan(sparks(config, max_model_len=None, fit_length=True)).details["max_model_len"] == 4096
    assert plan(sparks(config, max_model_len=65_536)).fits


def test_auto_comes_from_the_setting() -> None:
    assert fields_of({"max_model_len": "auto"}) == {"fit_length": True}
    with pytest.raises(ValueError, match="expected a whole number or auto"):
        fields_of({"max_model_len": "long"})
    given = input_of(shapes.QWEN3_235B_AWQ, 121.69, {"tensor_parallel_size": 2, "nodes": 2, "max_model_len": "auto"})
    report = "\n".join(text for _level, text in lines("m", given, plan(given), [], None))
    assert "auto: at least" in report
