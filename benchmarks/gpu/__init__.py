# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs of a real vLLM on one CUDA GPU, of real models' shapes with random weights: memory, rates and phases for the planner."""

import sys
from pathlib import Path

# What renders and waits is the collection's own code, found here without an installed collection.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "collections"))
