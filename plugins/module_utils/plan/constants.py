# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the planner is fitted to. Written by ``python -m benchmarks.plan`` from the runs in benchmarks/gpu/runs.

CONSTANTS: fields of `fitted.Constants`. MEASURED: GPUs that the runs were made on. PUBLISHED: what others published for DGX Sparks, with the part
of the limit by memory bandwidth that it reaches (none for eager). UNIFIED_STARTS: starts on DGX Sparks whose logs were published (those of
tests/field_cases/plan that state the machine), with the KV pool that is counted for them. Nobody of this project measured on a GB10.
"""

from __future__ import annotations

from typing import Any

CONSTANTS: dict[str, Any] = {
    "attention_copies": 1.6,
    "logits_copies": 3.8,
    "non_torch_gib": 0.23,
    "graph_mib": 14.189,
    "graph_layer_mib": 0.0982,
    "piecewise_layer_mib": 0.05,
    "bandwidth_parts": {"plain": 0.687, "packed": 0.281, "plain_experts": 0.754, "packed_experts": 0.674},
    "layer_us": {
        "dense-packed": 9.04,
        "dense-plain": 9.04,
        "moe-packed": 76.61,
        "moe-plain": 63.06,
        "plain-norms": 152.67,
    },
    "eager_layer_us": {"moe-packed": 1255.3},
    "memory_error_gib": 0.179,
    "decode_error": {
        "dense-packed": 0.028,
        "dense-plain": 0.061,
        "moe-packed": 0.068,
        "moe-plain": 0.171,
        "plain-norms": 0.098,
    },
}

MEASURED: dict[str, dict[str, Any]] = {"NVIDIA H200": {"bandwidth_gb_s": 4800.0, "runs": 23}}

PUBLISHED: list[dict[str, Any]] = [
    {
        "model": "Qwen3-235B-A22B GPTQ-Int4",
        "tok_s": 17.0,
        "setup": "2 Sparks, TP=2 with expert parallelism, Ray, RoCE, vLLM 0.19, CUDA graphs, fp8 KV cache",
        "source": "conselara.dev/notes/dgx-spark-benchmarks (2026-05)",
        "nodes": 2,
        "kind": "moe-packed",
        "part_of_limit": 0.5083,
    },
    {
        "model": "Qwen3-VL-235B-A22B-Instruct-NVFP4",
        "tok_s": 23.8,
        "setup": "2 Sparks, TP=2, no Ray, one HCA",
        "source": "gorlak/sparky-cluster README",
        "nodes": 2,
        "kind": "moe-packed",
        "part_of_limit": 0.7543,
    },
    {
        "model": "gpt-oss-120b",
        "tok_s": 33.0,
        "setup": "1 Spark, NVIDIA's image of vLLM 0.15.1, CUDA graphs; 33 to 34",
        "source": "NVIDIA/dgx-spark-playbooks issue 79 (2026-04)",
        "nodes": 1,
        "kind": "moe-packed",
        "part_of_limit": 0.6256,
    },
    {
        "model": "gpt-oss-120b",
        "tok_s": 59.0,
        "setup": "1 Spark, vLLM 0.19, CUDA graphs; what its build packs beside the experts is not said",
        "source": "conselara.dev/notes/dgx-spark-benchmarks (2026-05)",
        "nodes": 1,
        "kind": "moe-packed",
        "part_of_limit": 1.0,
    },
    {
        "model": "gpt-oss-120b",
        "tok_s": 26.0,
        "setup": "1 Spark, vLLM 0.19, eager",
        "source": "conselara.dev/notes/dgx-spark-benchmarks (2026-05)",
        "nodes": 1,
        "kind": "moe-packed",
        "part_of_limit": None,
    },
]

UNIFIED_STARTS: list[dict[str, Any]] = [
    {"start": "glm46-awq-two-sparks head", "counted_gib": 20.9, "kv_cache_gib": 16.85},
    {"start": "glm46-awq-two-sparks worker", "counted_gib": 20.9, "kv_cache_gib": 13.43},
    {"start": "minimax-m27-awq-two-sparks-refused", "counted_gib": 31.65, "kv_cache_gib": 22.5},
    {"start": "minimax-m27-awq-two-sparks", "counted_gib": 37.73, "kv_cache_gib": 28.74},
    {"start": "mistral-7b-gptq-spark", "counted_gib": 105.21, "kv_cache_gib": 102.56},
    {"start": "qwen35-35b-spark-eager", "counted_gib": 15.34, "kv_cache_gib": 15.58},
]
