# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""From node to node over the fabric: the share, copies of the weights, images as streams.

Imports: system, docker, hub.
May be imported by: command, service, modules.
"""
