# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
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
