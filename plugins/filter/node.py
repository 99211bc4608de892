# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of a node: which interface holds an address, and why a node cannot be worked on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils.node.reach import interface_of, judge_reach
from ..module_utils.report.finding import as_dicts


def interface_of_filter(facts: Any, address: str) -> str:
    """Return the interface that holds ``address``; see node_reach.interface_of."""
    try:
        return interface_of(facts if isinstance(facts, Mapping) else {}, str(address))
    except ValueError as error:
        raise AnsibleFilterError(f"interface_of: {error}") from None


def reach_findings(result: Any, host: str, variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the finding of a node that cannot be worked on, or none; see node.reach.judge_reach."""
    found = judge_reach(result if isinstance(result, Mapping) else {}, host, variables)
    return as_dicts([found] if found else [])


class FilterModule:
    """Filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"interface_of": interface_of_filter, "reach_findings": reach_findings}
