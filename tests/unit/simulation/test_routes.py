# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Is an address range in use already?"""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from simulation.routes import (
    Route,
    find_conflict,
    find_docker_conflict,
    parse_ip_routes,
    parse_proc_routes,
    refuse_conflicts,
)
from simulation.settings import FABRIC, NETWORKS, SimulationError

# Printed by iproute2 6.1: a laptop with Docker, and a VPN that keeps its routes in a table of its own.
IP_ROUTES = """[
{"dst":"default","gateway":"192.0.2.1","dev":"eth0","flags":[]},
{"dst":"10.8.0.0/16","dev":"tun0","table":"52","flags":[]},
{"type":"throw","dst":"192.168.100.0/24","table":"52","flags":[]},
{"dst":"172.17.0.0/16","dev":"docker0","protocol":"kernel","scope":"link","prefsrc":"172.17.0.1","flags":["linkdown"]},
{"dst":"192.0.2.0/24","dev":"eth0","protocol":"kernel","scope":"link","prefsrc":"192.0.2.2","flags":[]},
{"dst":"198.51.100.7","nexthops":[{"gateway":"192.0.2.9","dev":"eth0","weight":1,"flags":[]}],"flags":[]},
{"type":"local","dst":"192.168.100.1","dev":"br-spark-fabric","table":"local","protocol":"kernel","flags":[]}]"""

PROC_ROUTES = """Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
eth0	000200C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
wlan0	0064A8C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""


def route(destination: str, device: str = "wlan0") -> Route:
    return Route(ipaddress.IPv4Network(destination), device)


def test_parse_ip_routes() -> None:
    routes = parse_ip_routes(IP_ROUTES)
    assert [str(one.destination) for one in routes] == [
        "0.0.0.0/0",
        "10.8.0.0/16",
        "172.17.0.0/16",
        "192.0.2.0/24",
        "198.51.100.7/32",
    ]
    assert (routes[-1].device, routes[-1].gateway) == ("eth0", "192.0.2.9")
    assert find_conflict(FABRIC.subnet, routes, set()) is None


def test_parse_proc_routes() -> None:
    routes = parse_proc_routes(PROC_ROUTES)
    assert [str(one) for one in routes] == [
        "0.0.0.0/0 via 192.0.2.1 on eth0",
        "192.0.2.0/24 on eth0",
        "192.168.100.0/24 on wlan0",
    ]
    assert find_conflict(FABRIC.subnet, routes, set()) == routes[2]


@pytest.mark.parametrize(
    ("destination", "device", "conflict"),
    [
        ("192.168.100.0/24", "wlan0", True),
        ("192.168.100.10/32", "wlan0", True),
        ("192.168.0.0/16", "tun0", True),
        ("192.168.101.0/24", "wlan0", False),
        ("192.168.100.0/24", "br-spark-fabric", False),
        ("0.0.0.0/0", "eth0", False),
        ("128.0.0.0/1", "tun0", False),
    ],
)
def test_find_conflict(destination: str, device: str, conflict: bool) -> None:
    found = find_conflict(FABRIC.subnet, [route(destination, device)], {FABRIC.bridge})
    assert (found is not None) is conflict


def docker_network(name: str, *subnets: str) -> dict[str, Any]:
    return {"Name": name, "IPAM": {"Config": [{"Subnet": subnet} for subnet in subnets] or None}}


@pytest.mark.parametrize(
    ("existing", "name"),
    [
        ([docker_network("bridge", "172.17.0.0/16"), docker_network("host")], None),
        ([docker_network("other", "fd00::/64", "192.168.100.0/25")], "other"),
        ([docker_network(FABRIC.name, FABRIC.subnet)], None),
    ],
)
def test_find_docker_conflict(existing: list[dict[str, Any]], name: str | None) -> None:
    assert find_docker_conflict(FABRIC, existing) == name


def test_refusal_says_what_to_do() -> None:
    with pytest.raises(SimulationError, match=r"192\.168\.100\.0/24 is already routed on this machine \(.* on wlan0\)"):
        refuse_conflicts(NETWORKS, [route(FABRIC.subnet)], [])
    with pytest.raises(SimulationError, match="docker network rm other"):
        refuse_conflicts(NETWORKS, [route(FABRIC.subnet, "br-1234")], [docker_network("other", FABRIC.subnet)])
    refuse_conflicts(NETWORKS, [route("10.0.0.0/8", "tun0")], [])
