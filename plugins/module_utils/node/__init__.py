# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The machine: is it fit, who else is on it, how it is reached, what keeps it alive, and what a diagnosis packs.

Imports: system, report, nfs, docker.
May be imported by: command, gpu, modules, plugins of the controller.
"""
