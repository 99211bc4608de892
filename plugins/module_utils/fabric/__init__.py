# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The QSFP link: what it is, its netplan, and its bandwidth and transport.

Imports: system, report, docker.
May be imported by: benchmark, command, modules, filters.
"""
