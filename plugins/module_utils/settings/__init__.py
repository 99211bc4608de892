# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Every setting is checked before a machine is touched.

Imports: system, report, docker, model, vllm.
May be imported by: plugins of the controller.
"""
