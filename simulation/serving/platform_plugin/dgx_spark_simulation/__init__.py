# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Lets vLLM's CPU platform run on Ray: a simulated Spark stands in for a machine with one GPU."""


def register() -> str:
    """Entry point of group `vllm.platform_plugins`: the class of the platform to use."""
    return "dgx_spark_simulation.cpu_on_ray.CpuOnRayPlatform"
