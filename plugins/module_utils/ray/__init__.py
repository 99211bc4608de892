# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Ray: the command that starts it, and what its cluster looks like from outside.

Imports: system, report.
May be imported by: command, service, modules, filters.
"""
