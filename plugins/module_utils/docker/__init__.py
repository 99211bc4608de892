# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Docker: containers under units, their digests and state, images by content, the GPU by CDI.

Imports: system, report.
May be imported by: command, fabric, gpu, node, peer, service, settings, vllm, modules.
"""
