# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Documentation fragments that modules of this collection share."""

from __future__ import annotations


class ModuleDocFragment:
    """The attributes of a module: check mode, diff mode, platform."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and return what it would change without changing it.
    support: full
  diff_mode:
    description: Returns what changed, or would change, in diff mode.
    support: full
  platform:
    description: The operating systems it runs on.
    platforms: linux
    support: full
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode. This module only reads and never reports a change.
    support: full
  diff_mode:
    description: Returns what changed, or would change, in diff mode.
    support: N/A
  platform:
    description: The operating systems it runs on.
    platforms: linux
    support: full
"""
