# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the link between the nodes: what does not fit, and whom to ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils.fabric.link import judge_pair
from ..module_utils.report.finding import sentences


def _rails(results: Any, name: str) -> dict[str, list[dict[str, Any]]]:
    if not isinstance(results, Mapping):
        raise AnsibleFilterError(f"{name}: expected a mapping of inventory names to results of fabric_info")
    for node, result in results.items():
        if not isinstance(result, Mapping) or "rails" not in result:
            raise AnsibleFilterError(
                f"{name}: there is no result of fabric_info for {node}: run the play over all nodes of the link"
            )
    return {str(node): [dict(rail) for rail in result["rails"]] for node, result in results.items()}


def fabric_misfits(results: Any, mtu: bool = True) -> list[str]:
    """Return what does not fit between the nodes; see fabric.link.judge_pair.

    Args:
        results: inventory names and their results of fabric_info.
        mtu: compare MTUs as well.
    """
    rails = _rails(results, "fabric_misfits")
    return sentences(
        judge_pair(
            {node: {"rails": [rail if mtu else {**rail, "mtu": 0} for rail in mine]} for node, mine in rails.items()}
        )
    )


def fabric_peers(results: Any, host: str) -> list[dict[str, Any]]:
    """Return the other nodes as fabric_info wants them: name and addresses of their rails."""
    rails = _rails(results, "fabric_peers")
    return [
        {"name": node, "addresses": [rail["address"] for rail in mine]} for node, mine in rails.items() if node != host
    ]


class FilterModule:
    """Filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fabric_misfits": fabric_misfits, "fabric_peers": fabric_peers}
