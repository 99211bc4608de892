# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the planner says of a configuration before it is started; a result keeps it beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.arithmetic import PlanInput
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.fitted import BANDWIDTH_GB_S, shipped, step_s
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.inputs import FIELDS, input_of
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.plan import plan

#: Microseconds of one all-reduce of a token between two GPUs of one machine (docs/planning.md).
NVLINK_US = 10.0


def bandwidth_of(gpu: str) -> float:
    """Return the memory bandwidth of a GPU by its name, in GB/s.

    Raises:
        ValueError: it is not known.
    """
    for name, figure in BANDWIDTH_GB_S.items():
        if name in gpu:
            return figure
    raise ValueError(f"the bandwidth of {gpu!r} is not known: add it to BANDWIDTH_GB_S of plan/fitted.py")


def memory_gib(total_mib: float, reserved_mib: float) -> float:
    """Return what CUDA sees of a GPU's memory: what nvidia-smi calls reserved is the driver's own."""
    return round((total_mib - reserved_mib) / 1024, 2)


def given_of(
    entry: Mapping[str, Any], config: Mapping[str, Any], gpu: str, memory: float, allreduce_us: float
) -> PlanInput:
    """Return what is planned for a configuration."""
    intents = entry["intents"]
    speculative = intents.get("speculative") or {}
    raw = {name: intents[name] for name in FIELDS if intents.get(name) is not None}
    raw |= {"memory_bandwidth_gb_s": bandwidth_of(gpu), "allreduce_us": allreduce_us}
    if speculative:
        raw |= {
            "speculative_tokens": speculative.get("num_speculative_tokens", 0),
            "speculative_method": speculative.get("method", ""),
        }
    return input_of(config, memory, raw)


def predict(given: PlanInput, points: Sequence[tuple[int, int]], output_tokens: int = 64) -> dict[str, Any]:
    """Return weights and KV cache of a rank, and the decode rate at each (requests, prompt tokens)."""
    memory = plan(given)
    constants = shipped()
    return {
        "allreduce_us": given.allreduce_us,
        "weights_gib": memory.weights_gib_per_rank,
        "kv_cache_gib": memory.kv_cache_gib_per_rank,
        "kv_cache_tokens": memory.kv_cache_tokens,
        "points": [
            {
                "concurrency": count,
                "prompt_tokens": tokens,
                "decode_tok_s_request": round(1 / step_s(given, constants, count, tokens + output_tokens // 2), 1),
            }
            for count, tokens in points
        ],
    }
