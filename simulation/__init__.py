# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Two simulated DGX Sparks and a model hub on one ordinary machine: what `make demo` and the tests stand on."""
