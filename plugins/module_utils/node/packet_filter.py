# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Closes the cluster's ports to everybody but its own nodes: a table of nftables of its own, taken back unless a new connection confirms it.

The table only refuses; what it lets pass is still judged by every other table (ufw's, Docker's). It refuses new connections to the ports
of the table of listeners and, where asked for, to all ports that the kernel hands out, where NCCL, Gloo and ranks listen. SSH and the
endpoint are let pass first, so that neither is among them by any setting.
"""

from __future__ import annotations

import hashlib
import ipaddress
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..system.files import Changes, read_text, write_atomic
from ..system.networks import is_everybody
from ..system.run import MISSING, Runner, last_line
from ..system.systemd_unit import CLOSED, render
from ..system.timer import arm, disarm

TABLE, UNIT, PACKAGE, PROGRAM = "dgx_spark", "spark-packet-filter.service", "nftables", "/usr/sbin/nft"
CONFIG = Path("/etc/dgx-spark/packet-filter.nft")
UNIT_FILE = Path("/etc/systemd/system") / UNIT
STATE = Path("/run/dgx-spark/packet-filter")
#: The timer that takes an unconfirmed table back.
UNDO = "spark-packet-filter-undo"
PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: Before ufw's and Docker's chains (priority filter, 0), so that a packet of ours is refused before others count it.
_PRIORITY = -5
_WRITTEN = "# Written by dgx_spark.vllm.packet_filter; the next run of site.yml replaces what is changed here.\n"
PROTOCOLS = ("tcp", "udp")


class FilterError(Exception):
    """One sentence for the user."""


@dataclass(frozen=True)
class Ports:
    """Ports ``first`` to ``last`` of a protocol, and what listens there."""

    protocol: str
    first: int
    last: int
    name: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Ports:
        """Return a row that came from the controller.

        Raises:
            FilterError: it names no ports.
        """
        try:
            found = cls(str(row["protocol"]), int(row["first"]), int(row["last"]), str(row.get("name") or ""))
        except (KeyError, TypeError, ValueError):
            raise FilterError(f"{dict(row)} names no ports: expected protocol, first and last") from None
        if found.protocol not in PROTOCOLS or not 1 <= found.first <= found.last <= 65535:
            raise FilterError(
                f"{found.protocol} {found.first} to {found.last} are no ports: expected tcp or udp, and 1 to 65535"
            )
        return found

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True)
class Wanted:
    """What is wanted of the filter.

    Attributes:
        own: ports that the node itself alone may reach.
        cluster: ports that the cluster's nodes may reach as well.
        open: ports that anyone may reach, whatever else is closed.
        nodes: addresses, or networks, of the cluster's nodes and of others that may reach its ports.
        dynamic: whether the ports that the kernel hands out are the cluster's as well.
    """

    own: tuple[Ports, ...]
    cluster: tuple[Ports, ...]
    open: tuple[Ports, ...]
    nodes: tuple[str, ...]
    dynamic: bool = True

    def __post_init__(self) -> None:
        if not self.nodes:
            raise FilterError(
                "nodes is empty: without the cluster's own addresses the filter would close the cluster to itself"
            )
        for address in self.nodes:
            network(address)


def network(address: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Return an address or network that may reach the cluster's ports.

    Raises:
        FilterError: it is none, or everybody.
    """
    try:
        found = ipaddress.ip_network(address)
    except ValueError as error:
        raise FilterError(
            f"{address!r} is no address and no network ({error}): expected 192.168.1.20 or 192.168.1.0/24"
        ) from None
    if is_everybody(found):
        raise FilterError(f"{address} is nearly everybody: set packet_filter_enabled to false where that is meant")
    return found


def dynamic_ports(text: str) -> Ports:
    """Return the TCP ports that the kernel hands out, from the text of ip_local_port_range.

    Raises:
        FilterError: the text is not that.
    """
    words = text.split()
    if len(words) != 2 or not all(word.isdigit() for word in words):
        raise FilterError(f"{PORT_RANGE} holds {text.strip()!r}, expected two ports")
    return Ports("tcp", int(words[0]), int(words[1]), "ports that the kernel hands out")


def _set(elements: Iterable[str]) -> str:
    return "{ " + ", ".join(elements) + " }"


def _ports(rows: Sequence[Ports], protocol: str) -> str:
    """Return a set of the ports of a protocol, joined where they touch; empty where there are none."""
    spans: list[list[int]] = []
    for row in sorted((row for row in rows if row.protocol == protocol), key=lambda row: (row.first, row.last)):
        if spans and row.first <= spans[-1][1] + 1:
            spans[-1][1] = max(spans[-1][1], row.last)
        else:
            spans.append([row.first, row.last])
    return _set(str(first) if first == last else f"{first}-{last}" for first, last in spans) if spans else ""


def rules(wanted: Wanted, dynamic: Ports | None) -> str:
    """Return the table, for ``nft -f``: it replaces an earlier one as a whole, in one step.

    Args:
        wanted: what is wanted.
        dynamic: the ports that the kernel hands out; None leaves them open.
    """
    found = [network(address) for address in wanted.nodes]
    lines = [
        f"type filter hook input priority {_PRIORITY}; policy accept;",
        'iif "lo" accept',
        "ct state established,related accept",
    ]

    def each(rows: Sequence[Ports], verdict: Mapping[str, str], comment: str) -> None:
        lines.extend(
            f'{protocol} dport {ports} {verdict[protocol]} comment "{comment}"'
            for protocol in PROTOCOLS
            if (ports := _ports(rows, protocol))
        )

    refuse = {"tcp": "counter reject with tcp reset", "udp": "counter drop"}
    each(wanted.open, dict.fromkeys(PROTOCOLS, "accept"), "for anyone")
    each(wanted.own, refuse, "for the node itself")
    for version, word in ((4, "ip"), (6, "ip6")):
        if own := [str(one) for one in ipaddress.collapse_addresses(one for one in found if one.version == version)]:  # type: ignore[type-var]
            lines.append(f"{word} saddr {_set(own)} accept")
    each([*wanted.cluster, *([dynamic] if dynamic else [])], refuse, "for the cluster's nodes")
    body = "\n".join(f"\t\t{line}" for line in lines)
    chain = f"\tchain input {{\n{body}\n\t}}\n"
    digest = hashlib.sha256(chain.encode()).hexdigest()[:16]
    # The empty table first: a table that is not there cannot be deleted.
    return f'{_WRITTEN}table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n\tcomment "{digest}"\n{chain}}}\n'


def digest_of(text: str) -> str:
    """Return the digest that a table's text, or nft's listing of it, names; empty where it names none."""
    return text.partition('comment "')[2].partition('"')[0]


def unit_text() -> str:
    """Return the unit that brings the table back at boot, before any network is up."""
    return _WRITTEN + render(
        [
            (
                "Unit",
                [
                    ("Description", "Closes the cluster's ports to everybody but its own nodes"),
                    ("DefaultDependencies", "no"),
                    ("Wants", "network-pre.target"),
                    ("Before", "network-pre.target shutdown.target"),
                    ("Conflicts", "shutdown.target"),
                    ("After", "local-fs.target nftables.service"),
                    # Whenever it starts or reloads, nftables.service flushes every table.
                    ("PartOf", "nftables.service"),
                    ("ReloadPropagatedFrom", "nftables.service"),
                    ("RequiresMountsFor", str(CONFIG.parent)),
                ],
            ),
            (
                "Service",
                [
                    ("Type", "oneshot"),
                    ("RemainAfterExit", "yes"),
                    ("ExecStart", f"{PROGRAM} -f {CONFIG}"),
                    ("ExecReload", f"{PROGRAM} -f {CONFIG}"),
                    ("ExecStop", f"-{PROGRAM} delete table inet {TABLE}"),
                    ("CapabilityBoundingSet", "CAP_NET_ADMIN"),
                    *CLOSED,
                    ("ProtectSystem", "strict"),
                    ("ProtectHome", "yes"),
                    ("RestrictAddressFamilies", "AF_NETLINK AF_UNIX"),
                    ("UMask", "0077"),
                ],
            ),
            ("Install", [("WantedBy", "multi-user.target")]),
        ]
    )


@dataclass
class Filter:
    """Brings the packet filter of this node to what is wanted.

    A new table is in force at once, but only until its timer takes it back: it stays, and comes back at boot, once ``confirm`` was called
    over a connection that was made under it.
    """

    run: Runner
    check: bool
    config: Path = CONFIG
    unit_file: Path = UNIT_FILE
    state: Path = STATE
    port_range: Path = PORT_RANGE
    changes: Changes = field(init=False)

    def __post_init__(self) -> None:
        self.changes = Changes(self.check)

    @property
    def actions(self) -> list[str]:
        """What was done, or would be."""
        return self.changes.actions

    @property
    def new(self) -> Path:
        """The text of a table that waits to be confirmed."""
        return self.state / "new.nft"

    def live(self) -> str:
        """Return the digest of the table that is in force; empty where there is none."""
        status, out, _err = self.run([PROGRAM, "list", "table", "inet", TABLE], 20)
        return digest_of(out) if status == 0 else ""

    def missing_packages(self) -> list[str]:
        """Return the packages that the node lacks."""
        status, _out, _err = self.run([PROGRAM, "--version"], 20)
        return [PACKAGE] if status == MISSING else []

    def apply(self, wanted: Wanted, seconds: int) -> bool:
        """Put the table in force where it differs; return whether it now waits to be confirmed.

        Raises:
            FilterError: nft refuses the table, or the timer cannot be started; nothing is changed then.
            OSError: a file cannot be written.
        """
        if not 10 <= seconds <= 600:
            raise FilterError(f"seconds is {seconds}, expected 10 to 600: a new connection has to be made in that time")
        text = rules(wanted, dynamic_ports(read_text(self.port_range)) if wanted.dynamic else None)
        before = read_text(self.config)
        if self.live() == digest_of(text) and before == text and not self.new.exists():
            self._unit()
            return False
        self.changes.note(f"put the table inet {TABLE} in force", self.config, before, text)
        if self.check:
            return False
        write_atomic(self.new, text, 0o600)
        status, out, err = self.run([PROGRAM, "--check", "--file", str(self.new)], 30)
        if status:
            self.new.unlink()
            raise FilterError(f"nft refuses the table, so nothing was changed: {last_line(out, err)}")
        self._arm(seconds)
        status, out, err = self.run([PROGRAM, "--file", str(self.new)], 30)
        if status:
            self._undo_now()
            raise FilterError(
                f"the table could not be put in force, and the earlier one is back: {last_line(out, err)}"
            )
        return True

    def confirm(self) -> bool:
        """Keep what waits; return whether something did.

        Raises:
            FilterError: it was taken back meanwhile.
            OSError: a file cannot be written.
        """
        text = read_text(self.new)
        if not text:
            return False
        if self.check:
            return True
        disarm(self.run, UNDO)
        if self.live() != digest_of(text):
            self.new.unlink(missing_ok=True)
            raise FilterError(
                "no new connection confirmed the packet filter in time, so it was taken back: see whether the node's SSH port is among "
                "packet_filter_open_ports, or give it longer (packet_filter_confirm_seconds)"
            )
        self.changes.write(self.config, text, 0o600)
        self.new.unlink(missing_ok=True)
        self._unit()
        return True

    def remove(self) -> bool:
        """Take everything away; return whether there was something.

        Raises:
            FilterError: systemd or nft refuses.
            OSError: a file cannot be removed.
        """
        there = bool(self.live())
        if self.unit_file.exists():
            self.actions.append(f"stopped and disabled {UNIT}")
            self._systemctl("disable", "--now", UNIT)
        if there:
            self.actions.append(f"deleted the table inet {TABLE}")
            if not self.check and self.live():
                status, out, err = self.run([PROGRAM, "delete", "table", "inet", TABLE], 20)
                if status:
                    raise FilterError(f"the table inet {TABLE} could not be deleted: {last_line(out, err)}")
        for path in (self.unit_file, self.config, self.new):
            self.changes.remove(path)
        return bool(self.actions)

    def _unit(self) -> None:
        """Have the unit bring the table back at boot."""
        written = self.changes.write(self.unit_file, unit_text())
        if written:
            self._systemctl("daemon-reload")
        status, out, _err = self.run(["systemctl", "is-enabled", UNIT], 20)
        if status or out.strip() != "enabled":
            self.actions.append(f"enabled {UNIT}")
            self._systemctl("enable", UNIT)
        status, _out, _err = self.run(["systemctl", "is-active", "--quiet", UNIT], 20)
        if status:
            self.actions.append(f"started {UNIT}")
            self._systemctl("start", UNIT)

    def _systemctl(self, *arguments: str) -> None:
        if self.check:
            return
        status, out, err = self.run(["systemctl", *arguments], 60)
        if status:
            raise FilterError(f"systemctl {' '.join(arguments)} failed: {last_line(out, err)}")

    def _script(self) -> str:
        """Return what takes an unconfirmed table back: the confirmed one, or none."""
        config, new = shlex.quote(str(self.config)), shlex.quote(str(self.new))
        return (
            f"#!/bin/sh\n# Takes back a packet filter that nobody confirmed.\nrm -f {new}\n"
            f"if [ -e {config} ]; then {PROGRAM} -f {config} && exit 0; fi\n{PROGRAM} delete table inet {TABLE}\n"
        )

    def _arm(self, seconds: int) -> None:
        script = self.state / "undo.sh"
        write_atomic(script, self._script(), 0o700)
        if why := arm(self.run, UNDO, seconds, "Takes back a packet filter that nobody confirmed", script):
            self.new.unlink(missing_ok=True)
            raise FilterError(f"the timer that would take it back could not be started ({why}), so nothing was changed")

    def _undo_now(self) -> None:
        self.run(["/bin/sh", str(self.state / "undo.sh")], 30)
        disarm(self.run, UNDO)
