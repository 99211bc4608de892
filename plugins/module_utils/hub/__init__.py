# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""One verified copy of the weights: the store, the hub's client, the download and its queue.

Imports: system, report.
May be imported by: command, peer, service, modules.
"""
