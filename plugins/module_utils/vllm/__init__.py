# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""vLLM: its flags and its own parser, its environment, its health, a real completion, CUDA graphs.

Imports: system, report, docker, gpu, model.
May be imported by: benchmark, command, service, settings, modules, filters.
"""
