# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the benchmark: its loads, and its page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils.benchmark.result import ResultError, check_document
from ..plugin_utils import pages


def benchmark_page(document: dict[str, Any], earlier: Sequence[dict[str, Any]]) -> str:
    """Return the HTML page of a result; see plugin_utils/pages.py."""
    try:
        return pages.benchmark_page(check_document(document), earlier)
    except ResultError as error:
        raise AnsibleFilterError(f"benchmark_page: {error}") from None


class FilterModule:
    """Filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"benchmark_page": benchmark_page}
