# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Is an address range of the simulation already in use on this machine? Reads `ip route`; decides without touching anything."""

from __future__ import annotations

import ipaddress
import json
import shutil
import socket
import struct
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulation.settings import Network, SimulationError

# VPNs replace the default route by two halves of the address space and the like: whatever is this wide is a default route.
WIDEST_PREFIX = 8


@dataclass(frozen=True)
class Route:
    """One route of this machine."""

    destination: ipaddress.IPv4Network
    device: str
    gateway: str | None = None

    def __str__(self) -> str:
        via = f" via {self.gateway}" if self.gateway else ""
        return f"{self.destination}{via} on {self.device}"


def parse_ip_routes(text: str) -> list[Route]:
    """Routes from `ip -json -4 route show table all`, without the kernel's own table of local addresses.

    Raises ValueError when the text is not what `ip` prints.
    """
    routes = []
    for entry in json.loads(text or "[]"):
        if entry.get("table") == "local" or entry.get("type") == "throw":
            continue
        destination = "0.0.0.0/0" if entry["dst"] == "default" else entry["dst"]
        hops = [entry, *entry.get("nexthops", [])]
        device = next((hop["dev"] for hop in hops if "dev" in hop), str(entry.get("type", "no device")))
        gateway = next((hop["gateway"] for hop in hops if "gateway" in hop), None)
        routes.append(Route(ipaddress.IPv4Network(destination), device, gateway))
    return routes


def parse_proc_routes(text: str) -> list[Route]:
    """Routes from /proc/net/route (the main table), for machines without `ip`."""
    routes = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8:
            continue

        def address(field: str) -> str:
            # The kernel prints addresses as hexadecimal numbers in this machine's byte order.
            return socket.inet_ntoa(struct.pack("=I", int(field, 16)))

        gateway = address(fields[2])
        destination = ipaddress.IPv4Network(f"{address(fields[1])}/{address(fields[7])}")
        routes.append(Route(destination, fields[0], None if gateway == "0.0.0.0" else gateway))
    return routes


def read_routes() -> list[Route]:
    """The routes of this machine. Raises SimulationError when they cannot be read."""
    try:
        if command := shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin"):
            argv = [command, "-json", "-4", "route", "show", "table", "all"]
            return parse_ip_routes(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
        return parse_proc_routes(Path("/proc/net/route").read_text(encoding="ascii"))
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        raise SimulationError(f"The routes of this machine could not be read: {error}") from error


def find_conflict(subnet: str, routes: Iterable[Route], own_devices: Collection[str]) -> Route | None:
    """The first route that covers any part of the subnet and is neither ours nor a default route."""
    wanted = ipaddress.IPv4Network(subnet)
    for route in routes:
        if route.device in own_devices or route.destination.prefixlen < WIDEST_PREFIX:
            continue
        if route.destination.overlaps(wanted):
            return route
    return None


def find_docker_conflict(network: Network, existing: Iterable[Mapping[str, Any]]) -> str | None:
    """Name of another Docker network that has a part of this one's addresses.

    existing: Docker networks as the engine's API lists them.
    """
    wanted = ipaddress.IPv4Network(network.subnet)
    for other in existing:
        if other.get("Name") == network.name:
            continue
        for pool in (other.get("IPAM") or {}).get("Config") or []:
            subnet = ipaddress.ip_network(pool["Subnet"], strict=False) if pool.get("Subnet") else None
            if isinstance(subnet, ipaddress.IPv4Network) and subnet.overlaps(wanted):
                return str(other.get("Name"))
    return None


def refuse_conflicts(
    networks: Iterable[Network], routes: Iterable[Route], existing: Iterable[Mapping[str, Any]]
) -> None:
    """Raises SimulationError with the reason where a network of the simulation is already in use on this machine."""
    networks, routes, existing = list(networks), list(routes), list(existing)
    own_devices = {network.bridge for network in networks}
    for network in networks:
        if name := find_docker_conflict(network, existing):
            raise SimulationError(
                f"{network.subnet} is in use by the Docker network '{name}', and the simulated Sparks need it for their "
                f"{network.key} network: remove that network (`docker network rm {name}`) or use another machine."
            )
        if route := find_conflict(network.subnet, routes, own_devices):
            raise SimulationError(
                f"{network.subnet} is already routed on this machine ({route}), and the simulated Sparks need it for their "
                f"{network.key} network: disconnect that network or VPN, or use another machine (not a node of a real pair)."
            )
