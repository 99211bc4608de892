# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs of a real vLLM on one CUDA GPU, of real models' shapes with random weights: memory, rates and phases for the planner."""
