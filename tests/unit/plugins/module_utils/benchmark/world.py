# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Results of invented runs on a pair of Sparks: the figures are made up and prove nothing about one."""

from __future__ import annotations

from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.benchmark.result import KIND, SCHEMA, key_of

PLAN = {"decode_tok_s_expected": [14.0, 24.0], "decode_tok_s_limit": 44.8}
FLAGS = ["--max-model-len 8192", "--max-num-seqs 32"]


def point(concurrency: int = 1, prompt_tokens: int = 128, request: float = 17.0, **more: Any) -> dict[str, Any]:
    return {
        "concurrency": concurrency,
        "prompt_tokens": prompt_tokens,
        "output_tokens": 128,
        "requests": max(2 * concurrency, 3),
        "ttft_s": 0.3 * concurrency,
        "ttft_p99_s": 0.5 * concurrency,
        "tpot_ms": 1000 / request,
        "itl_p99_ms": 1500 / request,
        "decode_tok_s_request": request,
        "decode_tok_s_total": request * concurrency,
        "prefill_tok_s": 400.0 * concurrency,
        "prefix_hit_share": 0.0,
        "preemptions": 0,
        "other_requests": 0,
        "waiting_max": 0,
        **more,
    }


def node(**more: Any) -> dict[str, Any]:
    return {
        "swap": {"pswpin": 0, "pswpout": 0},
        "link": {"tcp_bytes": 3 << 20, "rdma_bytes": 5 << 30},
        "clocks": {
            "samples": 40,
            "clock_mhz": 2400,
            "clock_max_mhz": 3003,
            "power_w": 70.0,
            "temperature_c": 66.0,
            "reasons": {},
        },
        "transport": {},
        "strangers": [],
        "load_before": 0.6,
        "cpus": 20,
        "gpus": ["NVIDIA GB10"],
        **more,
    }


def document(made: str = "2026-11-14T09:00:00Z", *, scale: float = 1.0, **more: Any) -> dict[str, Any]:
    parts = {"model": "qwen3-235b-awq", "weights": "a/b", "image_id": "sha256:" + "a" * 64, "nodes": 2, "flags": FLAGS}
    parts |= more.pop("parts", {})
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "made": made,
        "key": key_of(parts),
        "key_parts": parts,
        "model": "qwen3-235b-awq",
        "simulation": False,
        "versions": {"vllm": "0.33.0", "image": "dgx-spark/serving:26.10"},
        "points": [point(1, request=17 * scale), point(4, request=10 * scale), point(1, 2048, request=16 * scale)],
        "plan": PLAN,
        "startup": {"engine start": 20.0, "weights": 300.0, "other until ready": 40.0},
        "loading": {"text": "weights: 115.5 GiB in 300 s = 0.385 GiB/s; the rate of the disk was not measured"},
        "evidence": {"spark-1": node(), "spark-2": node()},
        **more,
    }


def history(count: int = 5) -> list[dict[str, Any]]:
    return [document(f"2026-11-{day:02d}T09:00:00Z", scale=1 + 0.02 * (day % 3 - 1)) for day in range(1, count + 1)]
