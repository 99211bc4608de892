# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What keeps the cluster in order: the gates before a start, watchdog and followers, the watch over ranks, the restart plan, the table of listeners.

Imports: system, report, nfs, ray, hub, docker, peer, vllm.
May be imported by: command, modules, plugins of the controller, programs on the node.
"""
