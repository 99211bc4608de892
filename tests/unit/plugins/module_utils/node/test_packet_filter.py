# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The packet filter: its rules by the real nft between two network namespaces, and its way onto a node with a stand-in of systemd.

What a namespace does not prove: the order at boot, and ufw or Docker beside it. The integration test has a node's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node import packet_filter
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node.packet_filter import (
    Filter,
    FilterError,
    Ports,
    Wanted,
    digest_of,
    dynamic_ports,
    rules,
    unit_text,
)

RAY, WORKERS, CLIENT = (
    Ports("tcp", 6379, 6379, "Ray"),
    Ports("tcp", 10100, 10199, "workers"),
    Ports("tcp", 10001, 10001, "client"),
)
SSH = Ports("tcp", 22, 22, "SSH")
WANTED = Wanted((CLIENT,), (RAY, WORKERS), (SSH,), ("192.168.100.10", "192.168.100.11"))
RANGE = "32768\t60999\n"


# --- the text


def test_the_rules_in_their_order() -> None:
    lines = [line.strip() for line in rules(WANTED, dynamic_ports(RANGE)).splitlines()]
    wanted = [
        'iif "lo" accept',
        "ct state established,related accept",
        'tcp dport { 22 } accept comment "for anyone"',
        'tcp dport { 10001 } counter reject with tcp reset comment "for the node itself"',
        "ip saddr { 192.168.100.10/31 } accept",
        'tcp dport { 6379, 10100-10199, 32768-60999 } counter reject with tcp reset comment "for the cluster\'s nodes"',
    ]
    places = [lines.index(line) for line in wanted]
    assert places == sorted(places)
    assert "policy accept" in rules(WANTED, None) and "32768" not in rules(WANTED, None)


def test_ports_that_touch_are_one_span_and_udp_is_dropped() -> None:
    rows = (RAY, Ports("tcp", 6380, 6384, "a"), Ports("tcp", 6382, 6383, "b"), Ports("udp", 4791, 4791, "RoCE"))
    text = rules(replace(WANTED, cluster=rows), None)
    assert "tcp dport { 6379-6384 }" in text and "udp dport { 4791 } counter drop" in text


def test_addresses_of_both_versions() -> None:
    text = rules(replace(WANTED, nodes=("192.168.100.10", "fd00::1", "fd00::/64")), None)
    assert "ip saddr { 192.168.100.10/32 } accept" in text and "ip6 saddr { fd00::/64 } accept" in text


def test_a_table_names_what_it_is() -> None:
    one, other = rules(WANTED, None), rules(replace(WANTED, nodes=("10.0.0.1",)), None)
    assert len(digest_of(one)) == 16 and digest_of(one) != digest_of(other)
    assert digest_of("table inet dgx_spark {\n}\n") == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nodes": ()}, "close the cluster to itself"),
        ({"nodes": ("spark-2",)}, "'spark-2' is no address and no network"),
        ({"nodes": ("192.168.100.10/24",)}, "has host bits set"),
        ({"nodes": ("0.0.0.0/0",)}, "is nearly everybody"),
        ({"nodes": ("::/0",)}, "is nearly everybody"),
        ({"nodes": ("0.0.0.0/1", "128.0.0.0/1")}, "is nearly everybody"),
        ({"nodes": ("2000::/3",)}, "is nearly everybody"),
    ],
)
def test_sources_that_cannot_be(change: dict[str, tuple[str, ...]], said: str) -> None:
    with pytest.raises(FilterError, match=said):
        replace(WANTED, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"protocol": "tcp", "first": 0, "last": 0},
        {"protocol": "tcp", "first": 20, "last": 10},
        {"protocol": "sctp", "first": 20, "last": 20},
        {"protocol": "tcp", "first": "x", "last": 1},
        {"protocol": "tcp", "first": 1, "last": 65536},
    ],
)
def test_ports_that_are_none(row: dict[str, object]) -> None:
    with pytest.raises(FilterError, match="ports"):
        Ports.of(row)


def test_a_range_that_cannot_be_read() -> None:
    with pytest.raises(FilterError, match="expected two ports"):
        dynamic_ports("")


# --- onto a node


class Machine:
    """A node whose nft and systemd are stand-ins: the table in force, and a timer."""

    def __init__(self) -> None:
        self.table = ""
        self.timer: list[str] = []
        self.enabled = self.active = False
        self.refuses = self.breaks = self.no_timer = False
        self.ran: list[str] = []

    def run(
        self,
        argv: Sequence[str],
        seconds: float | None = None,
        /,
        *,
        data: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[int, str, str]:
        self.ran.append(" ".join(argv))
        word = argv[1]
        if argv[0] == packet_filter.PROGRAM:
            return self._nft(argv)
        if argv[0] == "systemd-run":
            if self.no_timer:
                return 1, "", "Failed to start transient timer unit"
            self.timer = list(argv[-2:])
            return 0, "", ""
        if argv[0] == "/bin/sh":
            self.undo(argv[1])
            return 0, "", ""
        if word == "is-enabled":
            return (0, "enabled\n", "") if self.enabled else (1, "disabled\n", "")
        if word == "is-active":
            return (0 if self.active else 3), "", ""
        if word == "stop":
            self.timer = []
        elif word == "enable":
            self.enabled = True
        elif word == "start":
            self.active = True
        elif word == "disable":
            self.enabled = self.active = False
            self.table = ""
        return 0, "", ""

    def _nft(self, argv: Sequence[str]) -> tuple[int, str, str]:
        if argv[1] == "list":
            return (0, self.table, "") if self.table else (1, "", "No such file or directory")
        if argv[1] == "--check":
            return (1, "", "syntax error, unexpected string") if self.refuses else (0, "", "")
        if argv[1] == "--file":
            if self.breaks:
                return 1, "", "Operation not supported"
            self.table = Path(argv[2]).read_text()
        elif argv[1] == "delete":
            self.table = ""
        return 0, "", ""

    def undo(self, script: str) -> None:
        """Do what the script does: the confirmed table, or none."""
        text = Path(script).read_text()
        config = Path(text.partition("-e ")[2].partition(" ]")[0])
        Path(text.partition("rm -f ")[2].partition("\n")[0]).unlink(missing_ok=True)
        self.table = config.read_text() if config.exists() else ""

    def passes(self) -> None:
        """Let the time of the timer pass."""
        if self.timer:
            self.undo(self.timer[1])
        self.timer = []


@pytest.fixture
def machine() -> Machine:
    return Machine()


def on(machine: Machine, folder: Path, *, check: bool = False) -> Filter:
    (folder / "range").write_text(RANGE)
    return Filter(
        machine.run,
        check,
        folder / "filter.nft",
        folder / "spark-packet-filter.service",
        folder / "state",
        folder / "range",
    )


def test_a_table_that_is_confirmed_stays_and_comes_back_at_boot(machine: Machine, tmp_path: Path) -> None:
    assert on(machine, tmp_path).apply(WANTED, 60) is True
    assert machine.timer and machine.table and not (tmp_path / "filter.nft").exists()
    assert on(machine, tmp_path).confirm() is True
    assert not machine.timer and machine.enabled and machine.active
    assert (tmp_path / "filter.nft").read_text() == machine.table
    assert (tmp_path / "filter.nft").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "spark-packet-filter.service").read_text() == unit_text()
    again = on(machine, tmp_path)
    assert again.apply(WANTED, 60) is False
    assert again.actions == []
    assert on(machine, tmp_path).confirm() is False


def test_a_start_or_reload_of_nftables_service_does_not_end_the_table() -> None:
    """That one flushes every table; ours has to come after it, and again with it."""
    said = dict(line.split("=", 1) for line in unit_text().splitlines() if "=" in line)
    assert "nftables.service" in said["After"].split()
    assert said["PartOf"] == said["ReloadPropagatedFrom"] == "nftables.service"


def test_a_table_that_nobody_confirms_is_taken_back(machine: Machine, tmp_path: Path) -> None:
    on(machine, tmp_path).apply(WANTED, 60)
    machine.passes()
    assert machine.table == "" and not machine.enabled
    assert on(machine, tmp_path).confirm() is False, "nothing waits any more"

    on(machine, tmp_path).apply(WANTED, 60)
    on(machine, tmp_path).confirm()
    first = machine.table
    on(machine, tmp_path).apply(replace(WANTED, nodes=("10.0.0.1",)), 60)
    assert machine.table != first
    machine.passes()
    assert machine.table == first, "the confirmed one is back"


def test_a_confirmation_that_comes_too_late_says_so(machine: Machine, tmp_path: Path) -> None:
    on(machine, tmp_path).apply(WANTED, 60)
    machine.table = ""
    with pytest.raises(FilterError, match="no new connection confirmed the packet filter in time"):
        on(machine, tmp_path).confirm()
    assert not machine.enabled


def test_what_nft_refuses_changes_nothing(machine: Machine, tmp_path: Path) -> None:
    machine.refuses = True
    with pytest.raises(FilterError, match="nothing was changed: syntax error"):
        on(machine, tmp_path).apply(WANTED, 60)
    assert machine.table == "" and not machine.timer and not (tmp_path / "state" / "new.nft").exists()


def test_without_a_timer_nothing_is_changed(machine: Machine, tmp_path: Path) -> None:
    machine.no_timer = True
    with pytest.raises(FilterError, match="could not be started"):
        on(machine, tmp_path).apply(WANTED, 60)
    assert machine.table == ""


def test_a_table_that_the_kernel_refuses_leaves_the_earlier_one(machine: Machine, tmp_path: Path) -> None:
    on(machine, tmp_path).apply(WANTED, 60)
    on(machine, tmp_path).confirm()
    first, machine.breaks = machine.table, True
    with pytest.raises(FilterError, match="the earlier one is back: Operation not supported"):
        on(machine, tmp_path).apply(replace(WANTED, nodes=("10.0.0.1",)), 60)
    assert machine.table == first and not machine.timer


def test_check_mode_says_what_it_would_do(machine: Machine, tmp_path: Path) -> None:
    found = on(machine, tmp_path, check=True)
    assert found.apply(WANTED, 60) is False
    assert found.actions == ["put the table inet dgx_spark in force"]
    assert "tcp dport" in found.changes.diff[0]["after"]
    assert machine.table == "" and sorted(path.name for path in tmp_path.iterdir()) == ["range"]


def test_somebody_who_flushed_all_rules_is_put_right(machine: Machine, tmp_path: Path) -> None:
    on(machine, tmp_path).apply(WANTED, 60)
    on(machine, tmp_path).confirm()
    machine.table = ""
    assert on(machine, tmp_path).apply(WANTED, 60) is True


def test_it_goes_without_a_trace(machine: Machine, tmp_path: Path) -> None:
    on(machine, tmp_path).apply(WANTED, 60)
    on(machine, tmp_path).confirm()
    assert on(machine, tmp_path).remove() is True
    assert machine.table == "" and not machine.enabled
    assert not (tmp_path / "filter.nft").exists() and not (tmp_path / "spark-packet-filter.service").exists()
    assert on(machine, tmp_path).remove() is False


@pytest.mark.parametrize("seconds", [0, 9, 601])
def test_a_time_that_cannot_be(machine: Machine, tmp_path: Path, seconds: int) -> None:
    with pytest.raises(FilterError, match="expected 10 to 600"):
        on(machine, tmp_path).apply(WANTED, seconds)


# --- the real nft

real = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip") or not Path(packet_filter.PROGRAM).exists(),
    reason="needs root, iproute2 and nftables",
)
LISTEN = """
import socket, sys
def serve(port, family):
    line = socket.socket(family); line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6: line.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    line.bind(("", port)); line.listen(); return line
held = [serve(int(port), family) for port in sys.argv[1:] for family in (socket.AF_INET, socket.AF_INET6)]
print("ready", flush=True)
sys.stdin.read()
"""
ASK = """
import socket, sys
for place in sys.argv[1:]:
    host, port = place.rsplit(",", 1)
    try:
        socket.create_connection((host, int(port)), 2).close(); print(place, "open")
    except OSError as error:
        print(place, "refused" if isinstance(error, ConnectionRefusedError) else type(error).__name__)
"""


@pytest.fixture
def pair() -> Iterator[tuple[str, str]]:
    """A node and a stranger's machine: two network namespaces with a cable; the stranger has a cluster address as well."""
    node, other = (f"pf{os.getpid()}{letter}" for letter in "ab")

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        for name in (node, other):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", f"{node}v", "netns", node, "type", "veth", "peer", "name", f"{other}v", "netns", other)
        for name, number in ((node, 1), (other, 2)):
            for address in (f"10.9.0.{number}/24", f"192.168.100.1{number}/24"):
                ip("-n", name, "address", "add", address, "dev", f"{name}v")
            ip("-n", name, "address", "add", f"fd09::{number}/64", "dev", f"{name}v", "nodad")
            ip("-n", name, "link", "set", f"{name}v", "up")
    except subprocess.CalledProcessError as error:
        subprocess.run(["ip", "netns", "delete", node], check=False, capture_output=True)
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    yield node, other
    for name in (node, other):
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def asked(namespace: str, *places: str, source: str = "") -> dict[str, str]:
    """Return how each address and port answers from a namespace."""
    script = ASK if not source else ASK.replace("int(port)), 2)", f"int(port)), 2, ('{source}', 0))")
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, sys.executable, "-c", script, *places],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())


@real
def test_a_stranger_reaches_ssh_alone_and_the_cluster_all_of_its_ports(pair: tuple[str, str], tmp_path: Path) -> None:
    node, other = pair
    ports = ("22", "6379", "10001", "10150", "40000", "8080")
    listening = subprocess.Popen(
        ["ip", "netns", "exec", node, sys.executable, "-c", LISTEN, *ports],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert listening.stdout is not None and listening.stdout.readline() == "ready\n"
        places = [f"{host},{port}" for host in ("10.9.0.1", "192.168.100.11", "fd09::1") for port in ports]
        deadline = time.monotonic() + 10
        while "open" not in asked(other, places[-1]).values() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert set(asked(other, *places).values()) == {"open"}, "without the filter everything is open"

        text = tmp_path / "rules.nft"
        text.write_text(rules(replace(WANTED, nodes=("192.168.100.11", "192.168.100.12")), dynamic_ports(RANGE)))
        nft = ["ip", "netns", "exec", node, packet_filter.PROGRAM]
        subprocess.run([*nft, "--check", "--file", str(text)], check=True)
        for _twice in range(2):
            subprocess.run([*nft, "--file", str(text)], check=True)
        listed = subprocess.run(
            [*nft, "list", "table", "inet", "dgx_spark"], check=True, capture_output=True, text=True
        ).stdout
        assert digest_of(listed) == digest_of(text.read_text())
        stranger = asked(other, *[place for place in places if not place.startswith("192")])
        closed = {place for place in stranger if place.rsplit(",", 1)[1] in ("6379", "10001", "10150", "40000")}
        assert {place for place, said in stranger.items() if said == "refused"} == closed
        assert {place for place, said in stranger.items() if said == "open"} == set(stranger) - closed

        cluster = asked(other, *[f"192.168.100.11,{port}" for port in ports], source="192.168.100.12")
        assert {place for place, said in cluster.items() if said != "open"} == {"192.168.100.11,10001"}
        own = asked(node, *[f"{host},{port}" for host in ("127.0.0.1", "10.9.0.1", "::1") for port in ports])
        assert set(own.values()) == {"open"}, "the node itself reaches all of its ports, by any of its addresses"
    finally:
        listening.communicate("")
