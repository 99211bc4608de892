# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What every program needs of the machine: commands, files, units of systemd, HTTP, secrets kept out of texts.

Imports: nothing of this package.
May be imported by: every room, modules and plugins.
"""
