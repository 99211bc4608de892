# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a scan of ports comes to, and that a connection is what it says."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node.port_scan import (
    CONTROLLER,
    NODES,
    Node,
    Socket,
    is_outside,
    judge,
    reached,
    rows_of,
    table,
)

ROWS = (
    {"protocol": "tcp", "first": 22, "last": 22, "name": "SSH", "reach": "anyone"},
    {"protocol": "tcp", "first": 6379, "last": 6379, "name": "Ray head (GCS)", "reach": "fabric"},
    {"protocol": "tcp", "first": 10001, "last": 10001, "name": "Ray client server", "reach": "loopback"},
)
LAN, LINK = "10.9.0.1", "192.168.100.10"


def node(port: int, owner: str, *places: str) -> Node:
    """Return a node with one socket that is reached from these places."""
    at = {place: frozenset({(LAN, port)}) for place in places}
    return Node(
        "spark-1", (LAN, LINK), (Socket("0.0.0.0", port, owner, owner.startswith("spark-")),), ROWS, (32768, 60999), at
    )


@pytest.mark.parametrize(
    ("port", "owner", "places", "closed", "level", "code"),
    [
        (22, "ssh.service", (CONTROLLER, NODES), True, "green", "node.ok"),
        (6379, "spark-ray-head", (NODES,), True, "green", "node.ok"),
        (6379, "spark-ray-head", (CONTROLLER, NODES), True, "red", "node.port_open"),
        (6379, "spark-ray-head", (CONTROLLER, NODES), False, "yellow", "node.port_open"),
        (10001, "spark-ray-head", (NODES,), True, "red", "node.port_open"),
        (10001, "spark-ray-head", (), True, "green", "node.ok"),
        (41000, "spark-vllm", (NODES,), True, "green", "node.ok"),
        (41000, "spark-vllm", (CONTROLLER,), True, "red", "node.port_open"),
        (7777, "spark-vllm", (CONTROLLER,), False, "red", "node.port_open"),
        (7777, "spark-vllm", (), False, "green", "node.ok"),
        (8888, "jupyter.service", (CONTROLLER,), True, "red", "node.port_of_others"),
        (8888, "jupyter.service", (CONTROLLER,), False, "yellow", "node.port_of_others"),
        (8888, "jupyter.service", (), True, "green", "node.ok"),
    ],
)
def test_who_reaches_what(port: int, owner: str, places: tuple[str, ...], closed: bool, level: str, code: str) -> None:
    (row,) = rows_of(node(port, owner, *places))
    finding = judge(row, closed)
    assert (finding.level, finding.code) == (level, code), finding.sentence()
    assert finding.level == "green" or finding.remedy


def test_the_remedy_fits() -> None:
    (row,) = rows_of(node(6379, "spark-ray-head", CONTROLLER))
    assert judge(row, True).remedy.startswith("run playbooks/nodes.yml")
    assert judge(row, False).remedy.startswith("set packet_filter_enabled")
    assert (
        judge(row, True).found
        == "port 6379 of spark-1 (spark-ray-head, Ray head (GCS)) is reached from outside, and for the nodes alone"
    )


def test_ports_that_are_alike_are_one_row() -> None:
    ports = (41000, 41001, 41002, 41003, 41004)
    sockets = tuple(Socket("0.0.0.0", port, "spark-vllm", True) for port in ports)
    at = {CONTROLLER: frozenset((LAN, port) for port in ports if port != 41003)}
    rows = rows_of(replace(node(1, "a"), sockets=sockets, reached=at))
    assert [(row.named, row.places) for row in rows] == [
        ("41000, 41001, 41002 and 1 more", (CONTROLLER,)),
        ("41003", ()),
    ]
    assert (
        "ports 41000, 41001, 41002 and 1 more of spark-1 (spark-vllm, handed out by the kernel) are reached"
        in judge(rows[0], True).found
    )


def test_what_is_tried() -> None:
    sockets = (
        Socket("127.0.0.1", 8265, "spark-ray-head", True),
        Socket("::1", 631, "cups.service", False),
        Socket("::", 22, "ssh.service", False),
        Socket("0.0.0.0", 22, "ssh.service", False),
        Socket(LINK, 8237, "spark-watchdog", True),
    )
    found = replace(node(1, "a"), sockets=sockets)
    assert found.targets() == [(LAN, 22), (LAN, 8237), (LINK, 22), (LINK, 8237)]


@pytest.mark.parametrize(
    ("address", "outside"),
    [
        ("127.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("169.254.1.1", False),
        (LAN, True),
        ("fd00::1", True),
        ("x", False),
    ],
)
def test_addresses_that_others_reach(address: str, outside: bool) -> None:
    assert is_outside(address) is outside


def test_the_owner_is_the_container_then_the_unit_then_the_process() -> None:
    row = {"address": "0.0.0.0", "port": 1, "process": "python3", "unit": "a.service", "container": "spark-vllm"}
    assert (Socket.of(row).owner, Socket.of(row).ours) == ("spark-vllm", True)
    assert Socket.of({**row, "container": ""}).owner == "a.service"
    assert Socket.of({**row, "container": "", "unit": ""}).owner == "python3"
    assert Socket.of({"address": "0.0.0.0", "port": 1}).owner == "unknown"


def test_a_table_has_a_line_for_each_port() -> None:
    lines = table(rows_of(node(6379, "spark-ray-head", CONTROLLER, NODES)))
    assert lines[0].split() == ["node", "port", "owner", "reached", "from", "who", "may", "reason"]
    assert lines[1].split("  ")[0] == "spark-1" and lines[1].endswith("Ray head (GCS)")


def test_a_connection_comes_about_or_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        there, gone = listening.getsockname()[1], bound.getsockname()[1]
        assert reached([("127.0.0.1", there), ("127.0.0.1", gone)], 2) == [("127.0.0.1", there)]
    assert reached([], 2) == []
