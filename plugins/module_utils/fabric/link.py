# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The QSFP link of a node: its ConnectX-7 ports, the two network devices ("twins") behind each, and what is wrong with them.

A DGX Spark reaches its ConnectX-7 over two PCIe links of four lanes each. Every physical port therefore shows as two network devices with an
RDMA device each, in two PCI domains (``enp1s0f1np1``/``rocep1s0f1`` and ``enP2p1s0f1np1``/``roceP2p1s0f1``); one of them carries about half of
what the cable does. Source: NVIDIA/dgx-spark-playbooks @0db7c14, nvidia/connect-two-sparks.

Reading (``Machine``, ``collect``) and judging (``judge``, ``judge_pair``) are apart: the judge takes plain data and needs no machine.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..report.finding import RED, YELLOW, Finding
from ..system.run import Runner
from .environment import network_environment
from .host import BY_IOMMU, CHECK, MELLANOX, Host, read_host, why_no_port

# A Spark's port does 200 Gb/s; `ethtool` says `Speed: 200000Mb/s` where autonegotiation got there (NVIDIA/dgx-spark-playbooks
# @0db7c14, nvidia/multi-sparks-through-switch, which also shows the sick value 100000Mb/s).
PORT_MBPS = 200_000
# A port of a 400G switch that is split in four (4 x 100G) does 100. Four such Sparks decoded within 3 % of 200 (NVIDIA forum 373146).
BREAKOUT_MBPS = 100_000
# What every Ethernet port does; RoCE takes packets of 1024 bytes over it and brought 20.9 GB/s to NCCL so (an owner's three Sparks).
LEAST_MTU = 1500
# Headers of IPv4 and of ICMP, which a ping's payload does not count.
PING_OVERHEAD = 28
# InfiniBand counts data in words of four bytes (port_xmit_data, port_rcv_data).
COUNTER_WORD = 4
# Signs of a RoCE link that loses packets; names of mlx5's hw_counters.
TROUBLE_COUNTERS = ("local_ack_timeout_err", "out_of_sequence", "packet_seq_err", "rnr_nak_retry_err")


class FabricError(Exception):
    """The link cannot be read, or what is asked of it cannot be; ``str()`` is one sentence."""


# --- what is found ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gid:
    """An entry of an RDMA device's table of addresses: ``kind`` is ``RoCE v2`` or ``IB/RoCE v1``."""

    index: int
    address: str
    kind: str


@dataclass(frozen=True)
class Twin:
    """One network device of a port, with its RDMA device.

    ``port`` names the physical port: the PCI address without its domain, so that twins share it. Speeds are in Mb/s;
    None stands for what the kernel does not say. ``why_down`` is ethtool's reason for a missing carrier.
    """

    interface: str
    rdma: str = ""
    pci: str = ""
    port: str = ""
    mac: str = ""
    mtu: int = 0
    state: str = ""
    carrier: bool = False
    speed: int | None = None
    addresses: tuple[str, ...] = ()
    link_local: tuple[str, ...] = ()
    rdma_state: str = ""
    gids: tuple[Gid, ...] = ()
    firmware: str = ""
    pcie: str = ""
    pcie_best: str = ""
    why_down: str = ""

    def roce_gid(self) -> Gid | None:
        """Return the RoCE v2 entry of one of the device's IPv4 addresses, which NCCL wants."""
        held = {entry.split("/")[0] for entry in self.addresses}
        return next((gid for gid in self.gids if gid.kind == "RoCE v2" and gid.address in held), None)


@dataclass(frozen=True)
class Other:
    """A network device that is no port of the fabric, with its IPv4 addresses (with prefix)."""

    interface: str
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Route:
    """A route of the main table that leads somewhere over ``interface``."""

    network: str
    interface: str


@dataclass
class Fabric:
    """What a node's link is."""

    twins: list[Twin] = field(default_factory=list)
    others: list[Other] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    management: tuple[str, ...] = ()
    host: Host = field(default_factory=Host)

    def ports(self) -> dict[str, list[Twin]]:
        """Return the twins of each physical port."""
        found: dict[str, list[Twin]] = {}
        for twin in self.twins:
            found.setdefault(twin.port, []).append(twin)
        return found

    def cabled(self) -> list[str]:
        """Return the ports with a carrier: one for each cable."""
        return [port for port, twins in self.ports().items() if any(twin.carrier for twin in twins)]

    def as_facts(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {**asdict(self), "cables": len(self.cabled())}


# --- parsing ----------------------------------------------------------------------------------------------------


def parse_ip_json(text: str, command: str) -> list[dict[str, Any]]:
    """Return the objects that ``ip -json`` printed; older versions print an empty object for what they filter out.

    Raises:
        FabricError: the text is not that.
    """
    try:
        rows = json.loads(text or "[]")
    except ValueError as error:
        raise FabricError(
            f"the output of `{command}` cannot be read ({error}): install iproute2 4.13 or newer"
        ) from error
    return [row for row in rows if isinstance(row, dict) and row]


def parse_routes(text: str) -> tuple[list[Route], tuple[str, ...]]:
    """Return the routes in the output of ``ip -json -4 route show``, and the interfaces of the default routes.

    A route over several next hops has no ``dev`` of its own, but one in each of them.
    """
    routes = []
    defaults: dict[str, None] = {}
    for row in parse_ip_json(text, "ip -json -4 route show"):
        devices = [row["dev"]] if "dev" in row else [hop["dev"] for hop in row.get("nexthops", []) if "dev" in hop]
        for device in devices:
            if row.get("dst") == "default":
                defaults[str(device)] = None
            elif "dst" in row:
                routes.append(Route(str(row["dst"]), str(device)))
    return routes, tuple(defaults)


_IBDEV = re.compile(r"^\s*(\S+)\s+port\s+(\d+)\s+==>\s+(\S+)\s+\((\w+)\)\s*$")


def parse_ibdev2netdev(text: str) -> list[tuple[str, str, bool]]:
    """Return (RDMA device, network device, up) of each line of ``ibdev2netdev``."""
    return [
        (found[1], found[3], found[4].lower() == "up") for line in text.splitlines() if (found := _IBDEV.match(line))
    ]


def parse_ethtool(text: str) -> tuple[int | None, bool | None, str]:
    """Return speed in Mb/s, whether there is a link, and the reason where there is none, from ``ethtool <interface>``."""
    speed = re.search(r"^\s*Speed:\s*(\d+)Mb/s", text, re.MULTILINE)
    link = re.search(r"^\s*Link detected:\s*(yes|no)(?:\s*\((.+)\))?", text, re.MULTILINE)
    return (int(speed[1]) if speed else None, link[1] == "yes" if link else None, (link[2] or "") if link else "")


def gid_address(text: str) -> str:
    """Return a GID as the kernel prints it as an address: IPv4 where it stands for one, empty for an unused entry."""
    try:
        address = ipaddress.IPv6Address(text.strip())
    except ValueError:
        return ""
    return "" if int(address) == 0 else str(address.ipv4_mapped or address)


_NAME = re.compile(r"^en(P\d+)?p(\d+)s(\d+)f(\d+)")


def port_of(pci: str, interface: str) -> str:
    """Return the name of the physical port: the PCI address without its domain, or what the interface's name says of it."""
    if found := re.fullmatch(r"[0-9a-f]{4}:([0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f])", pci):
        return found[1]
    if found := _NAME.match(interface):
        return f"{int(found[2]):02x}:{int(found[3]):02x}.{int(found[4]):x}"
    return interface


# --- collecting -------------------------------------------------------------------------------------------------


class Machine:
    """Reads one machine below ``root``, its commands by ``run``."""

    def __init__(self, run: Runner, root: Path = Path("/")) -> None:
        self.run = run
        self.root = root

    def text(self, path: Path) -> str:
        """Return a file of the kernel's, stripped; empty where it is missing or refuses to be read."""
        try:
            return path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def command(self, *argv: str) -> str:
        """Return what a command printed; empty where it is missing or failed."""
        status, out, _err = self.run(argv)
        return out if status == 0 else ""

    def rdma_of(self) -> dict[str, str]:
        """Return the RDMA device of each network device.

        From the kernel; where /sys hides it, as in a container, from ibdev2netdev.
        """
        folder = self.root / "sys/class/infiniband"
        found = {}
        for device in sorted(folder.iterdir()) if folder.is_dir() else []:
            nets = device / "device/net"
            for net in sorted(nets.iterdir()) if nets.is_dir() else []:
                found[net.name] = device.name
        return found or {net: rdma for rdma, net, _up in parse_ibdev2netdev(self.command("ibdev2netdev"))}

    def gids(self, rdma: str) -> tuple[Gid, ...]:
        """Return the used entries of an RDMA device's table, port 1."""
        port = self.root / "sys/class/infiniband" / rdma / "ports/1"
        found = []
        entries = (port / "gids").iterdir() if (port / "gids").is_dir() else iter(())
        for entry in sorted(entries, key=lambda path: int(path.name)):
            address = gid_address(self.text(entry))
            if address:
                found.append(Gid(int(entry.name), address, self.text(port / "gid_attrs/types" / entry.name)))
        return tuple(found)

    def counters(self, rdma: str) -> dict[str, int]:
        """Return bytes sent and received by RDMA, which the network device's own counters do not see, and signs of trouble."""
        port = self.root / "sys/class/infiniband" / rdma / "ports/1"
        found = {}
        for name, counter in (("sent_bytes", "port_xmit_data"), ("received_bytes", "port_rcv_data")):
            value = self.text(port / "counters" / counter)
            if value.isdigit():
                found[name] = int(value) * COUNTER_WORD
        for name in TROUBLE_COUNTERS:
            value = self.text(port / "hw_counters" / name)
            if value.isdigit():
                found[name] = int(value)
        return found

    def twin(self, interface: str, rdma: str, row: Mapping[str, Any]) -> Twin:
        """Return one network device, from ``ip``'s row and the kernel's files."""
        net = self.root / "sys/class/net" / interface
        device = net / "device"
        pci = device.resolve().name if device.exists() else ""
        carrier = "LOWER_UP" in row.get("flags", []) or self.text(net / "carrier") == "1"
        speed = self.text(net / "speed")
        ethtool = (None, None, "") if carrier and speed.isdigit() else parse_ethtool(self.command("ethtool", interface))
        links = [
            (self.text(device / f"{kind}_link_speed"), self.text(device / f"{kind}_link_width"))
            for kind in ("current", "max")
        ]
        pcie, best = (f"{rate} x{width}" if rate and width else "" for rate, width in links)
        held = [(str(entry["local"]), entry.get("prefixlen")) for entry in row.get("addr_info", []) if "local" in entry]
        return Twin(
            interface=interface,
            rdma=rdma,
            pci=pci if re.fullmatch(r"[0-9a-f]{4}(:[0-9a-f]{2}){2}\.[0-9a-f]", pci) else "",
            port=port_of(pci, interface),
            mac=str(row.get("address", "")),
            mtu=int(row.get("mtu", 0)),
            state=str(row.get("operstate", "")),
            carrier=carrier,
            speed=int(speed) if speed.isdigit() else ethtool[0],
            addresses=tuple(f"{address}/{prefix}" for address, prefix in held if ":" not in address),
            link_local=tuple(address for address, _prefix in held if address.lower().startswith("fe80:")),
            rdma_state=self.text(self.root / "sys/class/infiniband" / rdma / "ports/1/state").partition(": ")[2]
            if rdma
            else "",
            gids=self.gids(rdma) if rdma else (),
            firmware=self.text(self.root / "sys/class/infiniband" / rdma / "fw_ver") if rdma else "",
            pcie=pcie,
            pcie_best=best,
            why_down="" if carrier else ethtool[2],
        )


def collect(machine: Machine) -> Fabric:
    """Read the link.

    Raises:
        FabricError: the interfaces cannot be read.
    """
    status, out, err = machine.run(["ip", "-json", "address", "show"])
    if status:
        raise FabricError(f"`ip -json address show` failed ({err.strip() or status}): install iproute2 on the node")
    rows = {str(row["ifname"]): row for row in parse_ip_json(out, "ip -json address show") if "ifname" in row}
    routes, management = parse_routes(machine.command("ip", "-json", "-4", "route", "show"))
    rdma_of = machine.rdma_of()
    fabric = Fabric(routes=routes, management=management, host=read_host(machine.run, machine.root))
    for name, row in rows.items():
        if name in rdma_of or machine.text(machine.root / "sys/class/net" / name / "device/vendor") == MELLANOX:
            fabric.twins.append(machine.twin(name, rdma_of.get(name, ""), row))
        else:
            held = tuple(
                f"{entry['local']}/{entry['prefixlen']}"
                for entry in row.get("addr_info", [])
                if ":" not in str(entry.get("local", ":"))
            )
            fabric.others.append(Other(name, held))
    # The first PCI domain first: the address that the user names belongs to it.
    fabric.twins.sort(key=lambda twin: (twin.port, twin.pci, len(twin.interface), twin.interface))
    return fabric


# --- what is wanted ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rail:
    """A network device of the fabric with the address (and prefix) that belongs on it."""

    interface: str
    address: str

    def network(self) -> ipaddress.IPv4Network:
        """Return its subnet."""
        return ipaddress.IPv4Interface(self.address).network


def select_interfaces(fabric: Fabric, wanted: Sequence[str] = (), address: str = "") -> list[str]:
    """Return the network devices to use: those that are named, or both twins of every port with a cable.

    The port that holds ``address`` counts as well: while the other node is off there is no carrier, and the addresses must not move.

    Raises:
        FabricError: one that is named does not exist, or carries the way to this machine.
    """
    names = [twin.interface for twin in fabric.twins]
    every = {*names, *(other.interface for other in fabric.others)}
    for name in wanted:
        if name not in every and not names:
            raise FabricError(
                f"interface {name} does not exist on this node: {why_no_port(fabric.host).sentence()}. "
                "If another interface is meant, correct fabric_interfaces"
            )
        if name not in every:
            raise FabricError(
                f"interface {name} does not exist on this node (RDMA ports: {', '.join(names) or 'none'}): correct fabric_interfaces; "
                "names follow the port in which the cable is"
            )
        if name in fabric.management:
            raise FabricError(
                f"interface {name} carries the default route of this node, so it is no fabric: take it out of fabric_interfaces"
            )
    if len(set(wanted)) != len(wanted):
        raise FabricError(f"fabric_interfaces names an interface twice ({', '.join(wanted)}): name each once")
    if wanted:
        return list(wanted)
    holding = {twin.port for twin in fabric.twins if address in [entry.split("/")[0] for entry in twin.addresses]}
    ports = {*fabric.cabled(), *holding}
    chosen = [twin for twin in fabric.twins if twin.port in ports and twin.interface not in fabric.management]
    # First the port that has the address already, so that a second cable adds to the first one's addresses.
    return [twin.interface for twin in sorted(chosen, key=lambda twin: twin.port not in holding)]


def plan_rails(
    interfaces: Sequence[str], address: str, prefix: int, explicit: Mapping[str, str] | None = None
) -> list[Rail]:
    """Return an address for each interface: the first takes ``address``, each further one the same host number one subnet on.

    192.168.100.10/24 on the first twin makes 192.168.101.10/24 on the second, as in NVIDIA's guide. ``explicit`` maps interfaces to
    addresses with prefix and leaves nothing to derive.

    Raises:
        FabricError: an address is not usable; one sentence that names it.
    """
    if explicit:
        missing = [name for name in interfaces if name not in explicit]
        unknown = [name for name in explicit if name not in interfaces]
        if missing or unknown:
            raise FabricError(
                f"fabric_addresses names {', '.join(explicit)}, but the fabric's interfaces are {', '.join(interfaces)}: name exactly those"
            )
        return [Rail(name, _checked(explicit[name], "fabric_addresses")) for name in interfaces]
    if not 8 <= prefix <= 30:
        raise FabricError(f"fabric_prefix is {prefix}, expected 8 to 30: two nodes need two addresses in a subnet")
    first = ipaddress.IPv4Interface(_checked(f"{address}/{prefix}", "spark_fabric_address"))
    step = 2 ** (32 - prefix)
    try:
        return [Rail(name, f"{first.ip + step * place}/{prefix}") for place, name in enumerate(interfaces)]
    except ValueError:
        raise FabricError(
            f"there is no room for {len(interfaces)} subnets after {first.network}: choose a smaller spark_fabric_address, or set fabric_addresses"
        ) from None


def _checked(text: str, setting: str) -> str:
    try:
        interface = ipaddress.IPv4Interface(text)
    except ValueError as error:
        raise FabricError(
            f"{setting} {text!r} is no IPv4 address with prefix ({error}): expected one like 192.168.100.10/24"
        ) from None
    network = interface.network
    if "/" not in text or network.prefixlen > 30:
        raise FabricError(f"{setting} {text!r} has no prefix of 30 or less: expected one like 192.168.100.10/24")
    if interface.ip in (network.network_address, network.broadcast_address):
        raise FabricError(
            f"{setting} {interface} is the network's own or its broadcast address: choose one between them"
        )
    return str(interface)


def judge_rails(rails: Sequence[Rail], fabric: Fabric) -> list[Finding]:
    """Return where the rails' subnets collide with each other or with what the node has."""
    found = []
    for place, rail in enumerate(rails):
        network = rail.network()
        for other in rails[:place]:
            if network.overlaps(other.network()):
                found.append(
                    Finding(
                        "fabric.subnet",
                        RED,
                        CHECK,
                        f"{other.interface} ({other.address}) and {rail.interface} ({rail.address}) would be in one subnet, so that the kernel "
                        "sends both ways over one of them",
                        "give each twin a subnet of its own",
                        subject=rail.interface,
                    )
                )
        names = {entry.interface for entry in rails}
        taken = _overlaps(network, names, fabric)
        if taken:
            found.append(
                Finding(
                    "fabric.subnet",
                    RED,
                    CHECK,
                    f"the fabric's subnet {network} for {rail.interface} collides with {taken} on this node",
                    "choose another spark_fabric_address",
                    subject=rail.interface,
                )
            )
    return found


def _overlaps(network: ipaddress.IPv4Network, own: Iterable[str], fabric: Fabric) -> str:
    names = set(own)
    holders = [(other.interface, other.addresses) for other in fabric.others]
    holders += [(twin.interface, twin.addresses) for twin in fabric.twins]
    for interface, addresses in holders:
        for entry in addresses if interface not in names else ():
            if network.overlaps(ipaddress.IPv4Interface(entry).network):
                return f"{interface} ({entry})"
    for route in fabric.routes:
        if route.interface in names:
            continue
        try:
            found = ipaddress.IPv4Network(route.network)
        except ValueError:
            continue
        # A wide route, as a VPN sets it, gives way to the fabric's narrower one; only what would take its packets away counts.
        if network.overlaps(found) and found.prefixlen >= network.prefixlen:
            return f"the route to {route.network} over {route.interface}"
    return ""


# --- judging ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Demands:
    """What the link must be: ``rails`` with ``mtu`` (0: any); ``rdma`` says whether NCCL is to use RDMA over them.

    ``managed`` says that role fabric comes next and writes addresses and MTU of the ports; ``named`` that it was told which interfaces, so that
    it needs no carrier to find them. ``least_mbps`` is the speed of a port from which nothing is said, in Mb/s; ``one_twin`` says that a twin may
    be left unused.
    """

    rails: tuple[Rail, ...]
    mtu: int = 9000
    rdma: bool = True
    managed: bool = False
    named: bool = False
    least_mbps: int = PORT_MBPS
    one_twin: bool = False


#: What role fabric writes.
WRITTEN = frozenset({"fabric.address", "fabric.mtu"})


def judge(fabric: Fabric, wanted: Demands) -> list[Finding]:
    """Return everything that is wrong with the link; empty when it is in the desired state."""
    twins = {twin.interface: twin for twin in fabric.twins}
    found = list(_port_findings(fabric, wanted))
    for rail in wanted.rails:
        twin = twins.get(rail.interface)
        if twin is not None:
            found.extend(_twin_findings(twin, rail, wanted))
        else:
            held = [entry for other in fabric.others if other.interface == rail.interface for entry in other.addresses]
            if rail.address not in held:
                found.append(_address_finding(rail, held))
    found.extend(_half_findings(fabric, wanted))
    found.extend(judge_rails(wanted.rails, fabric))
    return [_foreseen(finding, set(twins), wanted) for finding in found] if wanted.managed else found


def _foreseen(finding: Finding, ports: set[str], wanted: Demands) -> Finding:
    """Return in yellow what role fabric is about to fix.

    A carrier that is missing before an interface was ever switched on says little, where the interfaces are named.
    """
    written = finding.code in WRITTEN and finding.subject in ports
    dark = finding.code in {"fabric.no_link", "fabric.port_down"} and wanted.named
    return finding.milder("role fabric configures it") if written or dark else finding


def _port_findings(fabric: Fabric, wanted: Demands) -> Iterator[Finding]:
    """Judge the node's ports together."""
    if wanted.rdma and not fabric.twins:
        yield why_no_port(fabric.host)
    if fabric.twins and not fabric.cabled():
        reasons = ", ".join(sorted({twin.why_down for twin in fabric.twins if twin.why_down}))
        yield Finding(
            "fabric.no_link",
            RED,
            CHECK,
            f"no QSFP port of this node has a link{f' ({reasons})' if reasons else ''}",
            "plug the cable into the same port of both nodes until it clicks, and see that the other node is on",
        )

    if fabric.twins and (fact := fabric.host.translated()):
        yield Finding(
            "fabric.iommu",
            YELLOW,
            CHECK,
            f"{fact}, so that the card's memory accesses are translated; where an owner's node was so, NCCL stayed at 3 GB/s",
            BY_IOMMU,
        )


def _address_finding(rail: Rail, held: Sequence[str]) -> Finding:
    return Finding(
        "fabric.address",
        RED,
        CHECK,
        f"{rail.interface} has {', '.join(held) or 'no IPv4 address'}, not {rail.address}",
        "run playbooks/site.yml with fabric_manage: true, or configure it",
        subject=rail.interface,
    )


def _twin_findings(twin: Twin, rail: Rail, wanted: Demands) -> Iterator[Finding]:
    yield from _speed_findings(twin, wanted.least_mbps)
    if rail.address not in twin.addresses:
        yield _address_finding(rail, twin.addresses)
    if wanted.mtu and twin.mtu != wanted.mtu:
        yield _mtu_finding(twin, wanted.mtu)
    if wanted.rdma:
        yield from _rdma_findings(twin, rail)
    if twin.link_local:
        yield Finding(
            "fabric.link_local",
            YELLOW,
            CHECK,
            f"{twin.interface} has the link-local address {twin.link_local[0]}, which shifts the indices of its RDMA addresses",
            "set `link-local: []` in netplan, as fabric_manage writes it",
            subject=twin.interface,
        )


def _mtu_finding(twin: Twin, wanted: int) -> Finding:
    """Judge another MTU than the wanted one: any that Ethernet has serves, if both ends have the same."""
    said = f"{twin.interface} has MTU {twin.mtu}, not {wanted}"
    written = "run playbooks/site.yml with fabric_manage: true"
    if twin.mtu < LEAST_MTU:
        return Finding("fabric.mtu", RED, CHECK, said, f"{written}, or set fabric_mtu", subject=twin.interface)
    cost = (
        "RDMA is as fast over it, TCP takes more of the processor"
        if twin.mtu < wanted
        else "it works as well, if the other node and a switch between have it too"
    )
    return Finding(
        "fabric.mtu",
        YELLOW,
        CHECK,
        f"{said}; {cost}",
        f"{written}, or set fabric_mtu: {twin.mtu} to keep it",
        subject=twin.interface,
    )


def _speed_findings(twin: Twin, least: int) -> Iterator[Finding]:
    """Judge carrier, speed and PCIe link of a twin; nothing is said of a speed of ``least`` Mb/s."""
    name = twin.interface
    if not twin.carrier:
        yield Finding(
            "fabric.port_down",
            RED,
            CHECK,
            f"{name} has no link{f' ({twin.why_down})' if twin.why_down else ''}",
            "see that the cable sits in this port on both nodes and that the other node is on",
            subject=name,
        )
    elif twin.speed is not None and twin.speed < min(least, PORT_MBPS):
        said = f"{name} runs at {twin.speed / 1000:g} of {PORT_MBPS // 1000} Gb/s"
        cable = "use an approved QSFP112 or QSFP56 cable for 200 Gb/s, and behind a switch fix its port at 200G without autonegotiation"
        kept = f"or set fabric_accept_gbits: {twin.speed // 1000} where it is meant so, as with a port of a switch that is split in four"
        if twin.speed >= BREAKOUT_MBPS:
            yield Finding(
                "fabric.port_speed",
                YELLOW,
                CHECK,
                f"{said}; it serves: token by token within 3 % of 200 Gb/s as published, while long prompts and what else goes over the link "
                "take up to twice as long",
                f"{cable}, {kept}",
                subject=name,
            )
        else:
            yield Finding("fabric.port_speed", RED, CHECK, said, f"{cable}, {kept}", subject=name)
    if twin.pcie and twin.pcie_best and twin.pcie != twin.pcie_best:
        # No stop: boxes of partners are known that always run so (ASUS GX10: the second controller at x2 of x4; forums.developer.nvidia.com 367853).
        yield Finding(
            "fabric.pcie",
            YELLOW,
            CHECK,
            f"the PCIe link of {name} runs at {twin.pcie}, it can do {twin.pcie_best}",
            "update the firmware (`fwupdmgr update`), then take its power away for a minute",
            subject=name,
        )


def _rdma_findings(twin: Twin, rail: Rail) -> Iterator[Finding]:
    """Judge the RDMA device of a twin."""
    name = twin.interface
    if not twin.rdma:
        yield Finding(
            "fabric.no_rdma_device",
            RED,
            CHECK,
            f"{name} has no RDMA device, so that NCCL would use TCP",
            "load the kernel's mlx5_ib",
            subject=name,
        )
        return
    if rail.address in twin.addresses and (twin.gids or twin.rdma_state) and twin.roce_gid() is None:
        yield Finding(
            "fabric.no_gid",
            RED,
            CHECK,
            f"RDMA device {twin.rdma} has no RoCE v2 entry for {rail.address.split('/')[0]} of {name}",
            "take the interface down and up again (`ip link set`), or reboot the node",
            subject=name,
        )
    if twin.carrier and twin.rdma_state and twin.rdma_state != "ACTIVE":
        yield Finding(
            "fabric.rdma_state",
            RED,
            CHECK,
            f"RDMA device {twin.rdma} of {name} is {twin.rdma_state}, not ACTIVE",
            "see `rdma link` and `dmesg`",
            subject=name,
        )


def _half_findings(fabric: Fabric, wanted: Demands) -> Iterator[Finding]:
    """Say where one twin of a port is used and the other is not: half of the cable's bandwidth."""
    used = {rail.interface for rail in wanted.rails}
    for twins in fabric.ports().values():
        names = [twin.interface for twin in twins]
        mine = [name for name in names if name in used]
        if mine and len(mine) < len(names) and not wanted.one_twin:
            rest = ", ".join(name for name in names if name not in used)
            yield Finding(
                "fabric.one_twin",
                YELLOW,
                CHECK,
                f"of the port's two interfaces only {', '.join(mine)} is used, which halves the bandwidth; token by token that is hardly "
                "felt, in long prompts it is",
                f"add {rest} to fabric_interfaces (it then gets an address of its own), or set fabric_accept_one_twin: true where it is meant so",
                subject=mine[0],
            )


def judge_pair(nodes: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Return what does not fit between nodes: ``nodes`` maps inventory names to ``rails`` (dicts with interface, address, mtu).

    Every node must use the same interfaces, since NCCL and Ray take one list of names for all, and the n-th rail of all must be in one subnet.
    """
    names = list(nodes)
    found = [
        finding
        for name in names[1:]
        for finding in _against_first(names[0], nodes[names[0]]["rails"], name, nodes[name]["rails"])
    ]
    seen: dict[str, str] = {}
    for name in names:
        for rail in nodes[name]["rails"]:
            address = rail["address"].split("/")[0]
            if seen.setdefault(address, name) != name:
                found.append(
                    Finding(
                        "fabric.address_twice",
                        RED,
                        CHECK,
                        f"{seen[address]} and {name} both have the address {address}",
                        "give one of them another spark_fabric_address",
                        subject=address,
                    )
                )
    return found


def _against_first(
    one: str, first: Sequence[Mapping[str, Any]], name: str, other: Sequence[Mapping[str, Any]]
) -> Iterator[Finding]:
    """Compare a node's rails with those of the first node."""
    if [rail["interface"] for rail in first] != [rail["interface"] for rail in other]:
        yield Finding(
            "fabric.other_interfaces",
            RED,
            CHECK,
            f"{one} uses {', '.join(rail['interface'] for rail in first) or 'no port'}, {name} uses "
            f"{', '.join(rail['interface'] for rail in other) or 'no port'}",
            "put the cable into the same port of both, or set fabric_interfaces per host",
            subject=name,
        )
    for mine, theirs in zip(first, other, strict=False):
        here, there = ipaddress.IPv4Interface(mine["address"]), ipaddress.IPv4Interface(theirs["address"])
        if here.network != there.network:
            yield Finding(
                "fabric.other_subnet",
                RED,
                CHECK,
                f"{mine['interface']} of {one} ({here}) and {theirs['interface']} of {name} ({there}) are in different subnets",
                "correct spark_fabric_address or fabric_addresses of one of them",
                subject=name,
            )
        if mine["mtu"] != theirs["mtu"]:
            yield Finding(
                "fabric.other_mtu",
                RED,
                CHECK,
                f"{mine['interface']} has MTU {mine['mtu']} on {one} and {theirs['mtu']} on {name}",
                "set fabric_mtu the same for both",
                subject=name,
            )


# --- end to end -------------------------------------------------------------------------------------------------


def jumbo_ping(run: Runner, rail: Rail, peer: str, mtu: int) -> Finding | None:
    """Return why packets of full size do not reach ``peer`` over the rail, or None."""
    argv = ["ping", "-n", "-q", "-c", "3", "-i", "0.2", "-W", "2", "-M", "do"]
    payload = ["-s", str(mtu - PING_OVERHEAD)]
    way = ["-I", rail.interface, peer]
    status, out, err = run([*argv, *payload, *way])
    if status == 0:
        return None
    if status == 127:
        return Finding(
            "fabric.no_ping",
            RED,
            CHECK,
            "`ping` is missing",
            "install iputils-ping on the node",
            subject=rail.interface,
        )
    if found := re.search(r"[Mm]essage too long, mtu\s*=\s*(\d+)", f"{out}\n{err}"):
        return Finding(
            "fabric.packet_size",
            RED,
            CHECK,
            f"packets of {mtu} bytes do not leave {rail.interface}, whose MTU is {found[1]}",
            f"set fabric_mtu on this node, or fabric_mtu: {found[1]} on both",
            subject=rail.interface,
        )
    if run([*argv, "-s", "56", *way])[0] == 0:
        return Finding(
            "fabric.packet_size",
            RED,
            CHECK,
            f"small packets reach {peer} over {rail.interface}, packets of {mtu} bytes do not",
            "set the same fabric_mtu on both nodes, and on a switch between them",
            subject=rail.interface,
        )
    return Finding(
        "fabric.peer_silent",
        RED,
        CHECK,
        f"{peer} does not answer over {rail.interface}",
        "see that the other node has this address on the same twin, and that the cable is in the same port",
        subject=rail.interface,
    )


def with_status(twins: Sequence[Twin], rails: Sequence[Rail]) -> list[dict[str, Any]]:
    """Return the rails as facts: what is wanted and what is there, one dict each."""
    by_name = {twin.interface: twin for twin in twins}
    facts = []
    for rail in rails:
        twin = by_name.get(rail.interface, Twin(rail.interface))
        gid = replace(twin, addresses=(rail.address,)).roce_gid()
        facts.append(
            {
                "interface": rail.interface,
                "address": rail.address,
                "rdma": twin.rdma,
                "mtu": twin.mtu,
                "carrier": twin.carrier,
                "speed": twin.speed,
                "gid_index": gid.index if gid else None,
                "firmware": twin.firmware,
            }
        )
    return facts


# --- the environment that follows -------------------------------------------------------------------------------


def fabric_environment(address: str, rails: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the network's part of a serving container's environment, from this node's own rails.

    Args:
        address: fabric address of the node, without prefix; Ray and vLLM know the node by it.
        rails: dicts with ``interface``, ``address`` (with prefix) and ``rdma`` (empty for none).

    Raises:
        FabricError: no rail holds the address.
    """
    control = next((str(rail["interface"]) for rail in rails if str(rail["address"]).partition("/")[0] == address), "")
    if not control:
        raise FabricError(f"no interface of the fabric holds {address}: correct spark_fabric_address")
    return network_environment(address, control, [str(rail["rdma"]) for rail in rails if rail.get("rdma")])
