# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The one finding that every look returns, and the report that shows findings as a table and as a page.

Imports: system.
May be imported by: every room but system, modules and plugins.
"""
