# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What was measured, beside the plan and earlier runs, with the causes of what is slow.

Imports: system, report, fabric, gpu, vllm.
May be imported by: command, modules, filters.
"""
