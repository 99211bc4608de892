# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Names of the units that serve, each of which runs one container of the same name."""

from __future__ import annotations

RAY_HEAD = "spark-ray-head"
RAY_WORKER = "spark-ray-worker"
VLLM = "spark-vllm"
#: Ranks of the further nodes where vLLM's own executor (mp) runs them instead of Ray.
VLLM_WORKER = "spark-vllm-worker"
#: All of them in the order in which they start; they stop in the reverse.
ORDER = (RAY_HEAD, RAY_WORKER, VLLM_WORKER, VLLM)
