# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Speed, measured as ratios within one run; nothing here is a test."""
