# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Models as data: the files of models/, the shape in config.json, chat templates, and flags that suit them.

Imports: report.
May be imported by: plan, settings, vllm, modules, plugins of the controller.
"""
