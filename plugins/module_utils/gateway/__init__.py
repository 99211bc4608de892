# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The gateway in front of vLLM: named keys and a certificate as HAProxy reads them.

Imports: system.
May be imported by: command, modules, plugins of the controller.
"""
