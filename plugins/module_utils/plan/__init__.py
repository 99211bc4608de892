# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Does the model fit and how fast should it be: arithmetic, fitted constants, and the plan as text.

Imports: report, model.
May be imported by: modules, plugins of the controller, benchmarks/.
"""
