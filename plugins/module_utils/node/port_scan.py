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
CONTROLLER, NODES = "outside", "the nodes"
#: Ports of a row that are named.
_SHOWN = 3
#: What those who may reach a port are called, by the reach of the table of listeners.
_MAY = {"anyone": "anyone", "fabric": "the nodes", "loopback": "the node itself"}


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
class Line:
    """Ports in the table that are alike: their owner, from where they are reached, who may, and why."""

    node: str
    ports: tuple[int, ...]
    owner: str
    places: tuple[str, ...]
    reach: str
    reason: str

    @property
    def named(self) -> str:
        """The ports in a few words: a program may have dozens that the kernel handed out."""
        shown = ", ".join(map(str, self.ports[:_SHOWN]))
        return f"{shown} and {len(self.ports) - _SHOWN} more" if len(self.ports) > _SHOWN else shown


def rows_of(node: Node) -> list[Line]:
    """Return the table of a node's ports; those that differ in nothing but their number are one row."""
    alike: dict[tuple[str, tuple[str, ...], str, str], list[int]] = {}
    for port in sorted({one.port for one in node.sockets}):
        holders = [one for one in node.sockets if one.port == port]
        places = tuple(
            place for place in (CONTROLLER, NODES) if any(at[1] == port for at in node.reached.get(place, ()))
        )
        row = next(
            (row for row in node.rows if int(row["first"]) <= port <= int(row["last"]) and row["protocol"] == "tcp"),
            None,
        )
        ours = next((one.owner for one in holders if one.ours), "")
        reach, reason = "", ""
        if row is not None:
            reach, reason = str(row["reach"]), str(row["name"])
        elif ours and node.dynamic[0] <= port <= node.dynamic[1]:
            reach, reason = "fabric", "handed out by the kernel"
        elif ours:
            reach = "loopback"
        alike.setdefault((ours or holders[0].owner, places, reach, reason), []).append(port)
    return [Line(node.name, tuple(ports), *key) for key, ports in alike.items()]


def judge(row: Line, closed: bool) -> Finding:
    """Return what is to be said of a row.

    Args:
        row: of the table.
        closed: whether the packet filter is on: a port that is open nevertheless, or of another program and unnamed, is red, and yellow without it.
    """
    many = len(row.ports) > 1
    what = f"port{'s' * many} {row.named} of {row.node} ({row.owner}{f', {row.reason}' if row.reason else ''})"
    is_reached = f"{'are' if many else 'is'} reached from"
    if not row.reach:
        if not row.places:
            return fine("node", "ports", f"{what}: reached by nobody else")
        return Finding(
            "node.port_of_others",
            RED if closed else YELLOW,
            "ports",
            f"{what} {is_reached} {' and '.join(row.places)}, and no part of this collection",
            "close it by ufw or the program's own setting, or name it in packet_filter_open_ports where that is meant",
            subject=row.node,
        )
    allowed = {"anyone": {CONTROLLER, NODES}, "fabric": {NODES}, "loopback": set()}[row.reach]
    beyond = [place for place in row.places if place not in allowed]
    if not beyond:
        return fine("node", "ports", f"{what}: reached by those who may alone")
    return Finding(
        "node.port_open",
        RED if closed or not row.reason else YELLOW,
        "ports",
        f"{what} {is_reached} {' and '.join(beyond)}, and for {_MAY[row.reach]} alone",
        "run playbooks/nodes.yml, which puts the packet filter in force"
        if closed
        else "set packet_filter_enabled to true, and run playbooks/nodes.yml",
        subject=row.node,
    )


def table(rows: Iterable[Line]) -> list[str]:
    """Return the table as lines of text, with columns of one width."""
    head = ("node", "port", "owner", "reached from", "who may", "reason")
    lines = [head] + [
        (row.node, row.named, row.owner, " and ".join(row.places) or "-", _MAY.get(row.reach, "-"), row.reason or "-")
        for row in rows
    ]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
