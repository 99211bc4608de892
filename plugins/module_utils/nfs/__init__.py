# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The weights shared by NFS: export, mount, and what the kernel must offer for it.

Imports: system, report.
May be imported by: command, node, service, modules.
"""
