# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Stand-ins that make a simulated node look like a DGX Spark with a GB10, healthy or sick in one way."""
