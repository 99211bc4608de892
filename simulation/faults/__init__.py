# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Faults put on the running pair under traffic, and what clients see of them."""
