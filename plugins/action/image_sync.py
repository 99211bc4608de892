# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows how far the image is; documented in plugins/modules/image_sync.py."""

from __future__ import annotations

from ..plugin_utils.long_work import LongWork


class ActionModule(LongWork):
    """See LongWork."""
