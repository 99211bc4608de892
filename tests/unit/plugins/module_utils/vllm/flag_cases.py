# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Intents that every release's own parser was shown; see fixtures/vllm_parsers/make.py."""

from __future__ import annotations

from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.flags import ServeIntents


def _case(**given: Any) -> ServeIntents:
    base = {
        "model_path": "/srv/models/m",
        "served_model_name": "m",
        "tensor_parallel_size": 2,
        "nodes": 2,
        "port": 8235,
    }
    return ServeIntents(**{**base, **given})


#: Every intent at least once, every value that a setting offers.
CASES: dict[str, ServeIntents] = {
    "ray": _case(tool_call_parser="hermes", trust_remote_code=True, gpu_memory_utilization=0.75, max_model_len=8192),
    "one node": _case(tensor_parallel_size=1, nodes=1, executor="mp", reasoning_parser="qwen3", max_num_seqs=4),
    "mp": _case(executor="mp", master_address="192.168.100.10", tool_call_parser="qwen3_coder"),
    "mp four": _case(executor="mp", master_address="192.168.100.10", tensor_parallel_size=4, nodes=4),
    "pipeline": _case(tensor_parallel_size=2, pipeline_parallel_size=2, nodes=4, expert_parallel=True),
    "piecewise": _case(cuda_graphs="piecewise", max_num_batched_tokens=4096),
    "decode": _case(cuda_graphs="decode", kv_cache_dtype="fp8"),
    "full": _case(cuda_graphs="full", load_format="safetensors", safetensors_load_strategy="eager"),
    "prefetch": _case(safetensors_load_strategy="prefetch", cpu_offload_gib=4, quantization="awq_marlin"),
    "runai": _case(load_format="runai_streamer", tool_call_parser="openai", reasoning_parser="openai_gptoss"),
    "fast": _case(load_format="fastsafetensors", tool_call_parser="minimax_m2", reasoning_parser="minimax_m2"),
    "glm": _case(tool_call_parser="glm47", reasoning_parser="glm45", swap_space_gib=16),
    "speculative": _case(speculative={"method": "mtp", "num_speculative_tokens": 1}),
}
GONE_FLAG = ["vllm", "serve", "/srv/models/m", "--swap-space", "16"]
