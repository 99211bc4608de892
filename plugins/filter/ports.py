# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the scan of ports: what is to be tried, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils.node.port_scan import CONTROLLER, NODES, Node, Socket, judge, rows_of, table
from ..module_utils.report.finding import GREEN, as_dicts


def _node(name: str, found: Mapping[str, Any], rows: Iterable[Mapping[str, Any]] = ()) -> Node:
    sockets = tuple(Socket.of(row) for row in found["listening"])
    first, last = found["dynamic"]
    return Node(name, tuple(found["addresses"]), sockets, tuple(rows), (int(first), int(last)), {})


def port_targets(found: Mapping[str, Mapping[str, Any]], *without: str) -> list[dict[str, Any]]:
    """Return what a machine has to try of the nodes, but for those that it is itself."""
    try:
        nodes = [_node(name, answer) for name, answer in found.items() if name not in without]
    except (KeyError, TypeError, ValueError) as error:
        raise AnsibleFilterError(f"port_targets: {error!r} is missing in what port_scan_info returned") from None
    return [{"address": address, "port": port} for node in nodes for address, port in node.targets()]


def port_rows(
    found: Mapping[str, Mapping[str, Any]],
    rows: Mapping[str, list[Mapping[str, Any]]],
    reached: Mapping[str, list[Mapping[str, Any]]],
    outside: list[Mapping[str, Any]],
    closed: bool,
) -> dict[str, Any]:
    """Return the table of all nodes' ports as lines, and the findings that are not green."""

    def places(answers: Iterable[Mapping[str, Any]], addresses: Iterable[str]) -> frozenset[tuple[str, int]]:
        own = set(addresses)
        return frozenset((str(at["address"]), int(at["port"])) for at in answers if at["address"] in own)

    try:
        told = []
        for name, answer in found.items():
            node = _node(name, answer, rows.get(name) or ())
            others = [at for other, list_of in reached.items() if other != name for at in list_of]
            seen = {CONTROLLER: places(outside, node.addresses), NODES: places(others, node.addresses)}
            told += rows_of(replace(node, reached=seen))
    except (KeyError, TypeError, ValueError) as error:
        raise AnsibleFilterError(f"port_rows: {error!r} is missing in what was found") from None
    findings = [finding for row in told if (finding := judge(row, closed)).level != GREEN]
    return {"table": table(told), "findings": as_dicts(findings)}


class FilterModule:
    """Filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"port_rows": port_rows, "port_targets": port_targets}
