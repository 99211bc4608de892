# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The GPU: driver and clocks, and what really runs on it in the serving image.

Imports: system, report, docker, node.
May be imported by: benchmark, command, vllm, modules.
"""
