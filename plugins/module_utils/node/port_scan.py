# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Which ports of the nodes are reached from where, tried by connecting, held against who may reach them.

A port is asked for by a TCP connection that is closed at once; nothing is sent. UDP cannot be told that way and is left out.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..report.finding import RED, YELLOW, Finding, fine

#: Connections at once: a scan of two nodes ends within a few seconds, and no machine notices it.
AT_ONCE = 64
#: From where a port is tried, in the order in which it is told.
CONTROLLER, NODES = "this machine", "the other nodes"
#: What those who may reach a port are called, by the reach of the table of listeners.
_MAY = {"anyone": "anyone", "fabric": "the cluster's nodes", "loopback": "the node itself"}


def connects(address: str, port: int, seconds: float) -> bool:
    """Say whether a TCP connection comes about."""
    try:
        socket.create_connection((address, port), seconds).close()
    except OSError:
        return False
    return True


def reached(targets: Sequence[tuple[str, int]], seconds: float) -> list[tuple[str, int]]:
    """Return the targets to which a connection comes about.

    Args:
        targets: addresses and ports.
        seconds: for each connection.
    """
    if not targets:
        return []
    with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(targets))) as pool:
        found = list(pool.map(lambda target: connects(target[0], target[1], seconds), targets))
    return [target for target, there in zip(targets, found, strict=True) if there]


def is_outside(address: str) -> bool:
    """Say whether an address of a node, or one that a socket is bound to, can be reached from another machine."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return not (found.is_loopback or found.is_link_local)


@dataclass(frozen=True)
class Socket:
    """A listening socket of a node: what it is bound to, and who holds it."""

    address: str
    port: int
    owner: str
    ours: bool

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Socket:
        """Return a row as module port_scan_info returns it."""
        names = [str(row.get(name) or "") for name in ("container", "unit", "process")]
        owner = next(filter(None, names), "unknown")
        return cls(str(row["address"]), int(row["port"]), owner, owner.startswith("spark-"))


@dataclass(frozen=True)
class Node:
    """What a node listens on, and what was reached.

    Attributes:
        name: of the inventory.
        addresses: at which others reach it.
        sockets: that listen.
        rows: who may reach which ports, of the table of listeners.
        dynamic: first and last of the TCP ports that the kernel hands out.
        reached: addresses and ports to which connections came about, by from where.
    """

    name: str
    addresses: tuple[str, ...]
    sockets: tuple[Socket, ...]
    rows: tuple[Mapping[str, Any], ...]
    dynamic: tuple[int, int]
    reached: Mapping[str, frozenset[tuple[str, int]]]

    def targets(self) -> list[tuple[str, int]]:
        """Return what another machine has to try: each port that listens, at each address of the node."""
        ports = sorted(
            {one.port for one in self.sockets if one.address in ("0.0.0.0", "::") or is_outside(one.address)}
        )
        return [(address, port) for address in self.addresses for port in ports]


@dataclass(frozen=True)
class Row:
    """A port in the table: its owner, from where it is reached, who may, and why; with the finding that it is."""

    node: str
    port: int
    owner: str
    reached_from: str
    may: str
    reason: str
    finding: Finding


def rows_of(node: Node, closed: bool) -> list[Row]:
    """Return the table of a node's ports that are open beyond itself, or that nobody has a reason for.

    Args:
        node: the node.
        closed: whether the packet filter is on: a port that is open nevertheless is red, and yellow without it.
    """
    found = []
    for port in sorted({one.port for one in node.sockets}):
        holders = [one for one in node.sockets if one.port == port]
        places = [place for place in (CONTROLLER, NODES) if any(at[1] == port for at in node.reached.get(place, ()))]
        row = next(
            (row for row in node.rows if int(row["first"]) <= port <= int(row["last"]) and row["protocol"] == "tcp"),
            None,
        )
        owner = next((one.owner for one in holders if one.ours), holders[0].owner)
        reach, reason = ("", "")
        if row is not None:
            reach, reason = str(row["reach"]), str(row["name"])
        elif any(one.ours for one in holders) and node.dynamic[0] <= port <= node.dynamic[1]:
            reach, reason = "fabric", "a port that the kernel handed out"
        elif any(one.ours for one in holders):
            reach = "loopback"
        finding = _judge(node.name, port, owner, reach, reason, places, closed)
        found.append(
            Row(node.name, port, owner, " and ".join(places) or "-", _MAY.get(reach, "-"), reason or "-", finding)
        )
    return found


def _judge(node: str, port: int, owner: str, reach: str, reason: str, places: Sequence[str], closed: bool) -> Finding:
    what = f"port {port} of {node} ({owner})"
    if not reach:
        if not places:
            return fine("node", "ports", f"{what} is reached by nobody else")
        return Finding(
            "node.port_of_others",
            YELLOW,
            "ports",
            f"{what} is reached from {' and '.join(places)} and is not this collection's",
            "see whether that is meant; ufw, or the program's own setting, closes it",
            subject=str(port),
        )
    allowed = {"anyone": {CONTROLLER, NODES}, "fabric": {NODES}, "loopback": set()}[reach]
    beyond = [place for place in places if place not in allowed]
    if not beyond:
        return fine("node", "ports", f"{what} is reached by those who may alone")
    return Finding(
        "node.port_open",
        RED if closed or not reason else YELLOW,
        "ports",
        f"{what} is reached from {' and '.join(beyond)}, and {reason or 'nothing of it is known'}: it is for {_MAY[reach]} alone",
        "run playbooks/nodes.yml, which puts the packet filter in force"
        if closed
        else "set packet_filter_enabled to true, and run playbooks/nodes.yml",
        subject=str(port),
    )


def table(rows: Iterable[Row]) -> list[str]:
    """Return the table as lines of text, with columns of one width."""
    head = ("node", "port", "owner", "reached from", "who may", "reason")
    lines = [head, *((row.node, str(row.port), row.owner, row.reached_from, row.may, row.reason) for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
