# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What follows from what the nodes show: the ports of the link, its addresses, the disk, the model. Plain data in and out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.host import Host
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.link import (
    Demands,
    Fabric,
    FabricError,
    Gid,
    Other,
    Rail,
    Route,
    Twin,
    judge,
    judge_pair,
    judge_rails,
    plan_rails,
    select_interfaces,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.catalog import (
    SIMULATED,
    ModelDataError,
    check_model,
    find_model,
    node_problem,
)

from setup_wizard.console import Refusal

#: Subnets that are tried for the link: that of NVIDIA's guide, then others where it is in use. A cable has two interfaces, each with a subnet.
SUBNETS = tuple(f"192.168.{number}.0" for number in (100, 110, 120, 130, 140, 150, 160, 180, 200, 220))
FIRST_HOST = 10
#: Model of one Spark and of more.
MODELS = {1: "gpt-oss-120b"}
MODEL = "qwen3-235b-awq"
#: File systems that weights may lie on.
_DISKS = {"ext4", "ext3", "xfs", "btrfs", "zfs", "f2fs"}
#: Folders whose file systems serve something else.
_NOT_FOR_WEIGHTS = ("/boot", "/etc", "/usr", "/var", "/run", "/snap", "/tmp", "/proc", "/sys", "/dev")
_GIB = 1024**3


@dataclass(frozen=True)
class Node:
    """A node as it was named: inventory name, address, and whether it is the machine on which this runs."""

    name: str
    address: str
    local: bool = False


@dataclass(frozen=True)
class Disk:
    """A file system of a node, with what is free there in bytes."""

    mount: str
    free: int


@dataclass(frozen=True)
class Look:
    """What a node shows. `identity` is the same for the same machine, whatever the address."""

    name: str
    fabric: Fabric = field(default_factory=Fabric)
    identity: str = ""
    address: str = ""
    product: str = ""
    memory_gib: float = 0.0
    disks: tuple[Disk, ...] = ()

    def sentence(self) -> str:
        """What a person is told."""
        ports = len(self.fabric.ports())
        words = [
            self.product or "a machine without a name",
            f"{self.memory_gib:.0f} GiB of memory",
            f"{ports} QSFP port{'' if ports == 1 else 's'}, {len(self.fabric.cabled())} with a cable",
        ]
        return f"{self.name}: {', '.join(words)}"


@dataclass(frozen=True)
class Link:
    """The link of the nodes: an address each, and the settings that it needs (None: the setting's default)."""

    addresses: tuple[str, ...]
    prefix: int = 24
    interfaces: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    host_settings: tuple[Mapping[str, Any], ...] = ()
    said: str = ""


# --- what was seen ----------------------------------------------------------------------------------------------


def fabric_of(facts: Mapping[str, Any]) -> Fabric:
    """The link as module fabric_info returned it."""
    twins = [
        Twin(
            **{
                **row,
                "gids": tuple(Gid(**gid) for gid in row["gids"]),
                "addresses": tuple(row["addresses"]),
                "link_local": tuple(row["link_local"]),
            }
        )
        for row in facts["twins"]
    ]
    return Fabric(
        twins=twins,
        others=[Other(row["interface"], tuple(row["addresses"])) for row in facts["others"]],
        routes=[Route(**row) for row in facts["routes"]],
        management=tuple(facts["management"]),
        host=Host(**facts["host"]),
    )


def look_of(name: str, setup: Mapping[str, Any], fabric: Mapping[str, Any]) -> Look:
    """A node from the facts that Ansible gathered and the link that fabric_info read."""
    default = setup.get("ansible_default_ipv4") or {}
    disks = [
        Disk(str(row["mount"]), int(row.get("size_available") or 0))
        for row in setup.get("ansible_mounts") or []
        if row.get("fstype") in _DISKS and "rw" in str(row.get("options", "")).split(",")
    ]
    macs = sorted(str(row["mac"]) for row in fabric["twins"] if row.get("mac"))
    return Look(
        name=name,
        fabric=fabric_of(fabric),
        # A cloned disk has the same machine-id, so that the network card has to be the same as well.
        identity=f"{setup.get('ansible_machine_id', '')} {default.get('macaddress') or ' '.join(macs)}".strip(),
        address=str(default.get("address") or ""),
        product=str(setup.get("ansible_product_name") or "").replace("NA", "").replace("_", " ").strip(),
        memory_gib=float(setup.get("ansible_memtotal_mb") or 0) / 1024,
        disks=tuple(disk for disk in disks if not _apart(disk.mount)),
    )


def _apart(mount: str) -> bool:
    return any(mount == folder or mount.startswith(f"{folder}/") for folder in _NOT_FOR_WEIGHTS)


def refuse_twice(looks: Sequence[Look], nodes: Sequence[Node]) -> None:
    """Raises Refusal where two addresses lead to one machine."""
    seen: dict[str, Node] = {}
    for look, node in zip(looks, nodes, strict=True):
        other = seen.setdefault(look.identity, node) if look.identity else node
        if other is not node:
            raise Refusal(f"{other.address} and {node.address} are the same machine: give each Spark once")


# --- the link ---------------------------------------------------------------------------------------------------


def link_of(looks: Sequence[Look], nodes: Sequence[Node]) -> Link:
    """The link that is proposed. Raises Refusal with what is wrong with the cables or ports."""
    if len(looks) == 1:
        # There is no link with one node: Ray listens at the node's own address.
        own = looks[0].address or nodes[0].address
        return Link((own,), settings={"fabric_manage": False}, said="one Spark: no link to configure")
    if not any(look.fabric.twins for look in looks):
        return _network_of(looks)
    for look in looks:
        dark = [finding for finding in judge(look.fabric, Demands(rails=())) if finding.code != "fabric.iommu"]
        if dark:
            raise Refusal(f"{look.name}: {dark[0].sentence()}")
    ports = _common_ports(looks)
    chosen = [_interfaces(look, ports) for look in looks]
    if any(names != chosen[0] for names in chosen) or not chosen[0]:
        nodes_seen = {
            look.name: {"rails": [{"interface": name, "address": "0.0.0.0/0", "mtu": 0} for name in names]}
            for look, names in zip(looks, chosen, strict=True)
        }
        wrong = [entry for entry in judge_pair(nodes_seen) if entry.code == "fabric.other_interfaces"]
        raise Refusal(
            wrong[0].sentence() if wrong else "no QSFP port is free on all nodes: use one that has no default route"
        )
    names = tuple(chosen[0])
    # Where more than one port has a cable, naming them keeps the addresses in place when one is pulled.
    named = len(ports) > 1 or any(len(look.fabric.cabled()) != 1 for look in looks)
    settings: dict[str, Any] = {"fabric_interfaces": list(names) if named else None}
    said = f"{len(ports)} cable{'s' if len(ports) > 1 else ''}, in the same port of each node: {', '.join(names)}"
    return _held(looks, names, settings, said) or _fresh(looks, names, settings, said)


def _common_ports(looks: Sequence[Look]) -> list[str]:
    """The ports with a cable on every node; those of the first where there is none, so that the difference is told."""
    common = [port for port in looks[0].fabric.cabled() if all(port in look.fabric.cabled() for look in looks)]
    return common or looks[0].fabric.cabled()


def _interfaces(look: Look, ports: Sequence[str]) -> list[str]:
    twins = {twin.interface: twin.port for twin in look.fabric.twins}
    try:
        usable = select_interfaces(look.fabric)
    except FabricError as error:
        raise Refusal(f"{look.name}: {error}") from None
    return [name for name in usable if twins[name] in ports] or usable


def _held(looks: Sequence[Look], names: Sequence[str], settings: dict[str, Any], said: str) -> Link | None:
    """The addresses that the ports of all nodes have already, if they make a link."""
    rails: list[list[Rail]] = []
    for look in looks:
        by_name = {twin.interface: [entry for entry in twin.addresses if _lasting(entry)] for twin in look.fabric.twins}
        if not all(by_name[name] for name in names):
            return None
        rails.append([Rail(name, by_name[name][0]) for name in names])
    if any(judge_rails(own, look.fabric) for own, look in zip(rails, looks, strict=True)):
        return None
    for column in zip(*rails, strict=True):
        if len({rail.network() for rail in column}) != 1 or len({rail.address for rail in column}) != len(looks):
            return None
    firsts = [ipaddress.IPv4Interface(own[0].address) for own in rails]
    prefix = firsts[0].network.prefixlen
    derived = all(
        8 <= prefix <= 30 and plan_rails(names, str(first.ip), prefix) == own
        for first, own in zip(firsts, rails, strict=True)
    )
    hosts = tuple(
        {} if derived else {"fabric_addresses": {rail.interface: rail.address for rail in own}} for own in rails
    )
    return Link(
        tuple(str(first.ip) for first in firsts),
        prefix,
        tuple(names),
        {**settings, "fabric_manage": None, "fabric_prefix": None if prefix == 24 else prefix},
        hosts,
        f"{said}; they have their addresses already",
    )


def _lasting(entry: str) -> bool:
    return not ipaddress.IPv4Interface(entry).is_link_local


def _fresh(looks: Sequence[Look], names: Sequence[str], settings: dict[str, Any], said: str) -> Link:
    """Addresses in the first subnet that collides with nothing on any node."""
    for subnet in SUBNETS:
        first = ipaddress.IPv4Address(subnet) + FIRST_HOST
        addresses = tuple(str(first + place) for place in range(len(looks)))
        link = Link(addresses, 24, tuple(names), {**settings, "fabric_manage": None, "fabric_prefix": None}, (), said)
        if not collision(looks, link):
            return link
    raise Refusal(
        f"every subnet that was tried for the link is in use on a node ({', '.join(SUBNETS)}): name addresses with fabric_addresses"
    )


def collision(looks: Sequence[Look], link: Link) -> str:
    """Why the link's addresses cannot be on these nodes; empty where they can."""
    if not link.interfaces:
        return ""
    for look, address in zip(looks, link.addresses, strict=True):
        try:
            found = judge_rails(plan_rails(link.interfaces, address, link.prefix), look.fabric)
        except FabricError as error:
            return str(error)
        if found:
            return f"{look.name}: {found[0].sentence()}"
    return ""


def with_addresses(link: Link, addresses: Sequence[str]) -> Link:
    """The link with other addresses than the proposed ones."""
    if tuple(addresses) == link.addresses:
        return link
    return replace(link, addresses=tuple(addresses), host_settings=())


def _network_of(looks: Sequence[Look]) -> Link:
    """A network that is there already, for machines without a QSFP port. Raises Refusal where they share none beside their own way out."""
    shared = [addresses for _network, addresses in sorted(_networks(looks)) if len(set(addresses)) == len(looks)]
    if not shared:
        dark = judge(looks[0].fabric, Demands(rails=()))
        raise Refusal(f"{looks[0].name}: {dark[0].sentence()}")
    return Link(
        shared[0],
        24,
        (),
        {
            "fabric_manage": False,
            "fabric_interfaces": None,
            "fabric_prefix": None,
            "spark_devices": ["nvidia.com/gpu=all"],
        },
        (),
        "no node has a QSFP port: they use the network that they share, over TCP, at about a tenth of a Spark's bandwidth",
    )


def _networks(looks: Sequence[Look]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each network in which every node has an address, but for the one of the default route."""
    for other in looks[0].fabric.others:
        for entry in other.addresses if other.interface not in looks[0].fabric.management else ():
            interface = ipaddress.IPv4Interface(entry)
            if interface.is_loopback or interface.is_link_local:
                continue
            found = [_address_in(look, interface.network) for look in looks]
            if all(found):
                yield str(interface.network), tuple(found)


def _address_in(look: Look, network: ipaddress.IPv4Network) -> str:
    held = [ipaddress.IPv4Interface(entry) for other in look.fabric.others for entry in other.addresses]
    return next((str(entry.ip) for entry in held if entry.network == network), "")


# --- which cable goes where ----------------------------------------------------------------------------------------


def probes(looks: Sequence[Look]) -> list[tuple[str, str, str, str]]:
    """What to ping from the first node: interface there, address, and node and interface that have it.

    Addresses without a link-local one (fe80::) may not be set yet: then nothing is asked, and nothing follows.
    """
    ways = [twin.interface for twin in looks[0].fabric.twins if twin.carrier]
    return [
        (way, f"{address}%{way}", look.name, twin.interface)
        for look in looks[1:]
        for twin in look.fabric.twins
        if twin.carrier
        for address in twin.link_local
        for way in ways
    ]


def ends(
    looks: Sequence[Look], answered: Sequence[tuple[str, str, str, str]]
) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Which port of the first node leads to which port of which other, from the pings that were answered; with an interface of each."""
    port = {look.name: {twin.interface: twin.port for twin in look.fabric.twins} for look in looks}
    first = looks[0].name
    found: dict[tuple[str, str, str], tuple[str, str]] = {}
    for way, _address, name, far in answered:
        found.setdefault((port[first][way], name, port[name][far]), (way, far))
    return found


def cables(looks: Sequence[Look], answered: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """What is known of where each cable leads, one line each. Raises Refusal where two cables are crossed."""
    found = ends(looks, answered)
    for (near, name, far), (way, other) in found.items():
        # On a switch every port reaches every other.
        if len(looks) == 2 and near != far and (near, name, near) not in found:
            raise Refusal(
                f"the cables are crossed: {way} of {looks[0].name} leads to {other} of {name}: put each cable into the same port of both"
            )
    return [
        f"{way} of {looks[0].name} reaches {other} of {name}"
        for (near, name, far), (way, other) in found.items()
        if near == far
    ]


# --- disk and model -------------------------------------------------------------------------------------------------


def store_of(look: Look) -> tuple[str, str]:
    """Folder of the weights on the file system of the head with most free space, and what there is to say of it."""
    if not look.disks:
        return "/srv/models", "no file system of its own was seen for it"
    disk = max(look.disks, key=lambda disk: (disk.free, disk.mount == "/"))
    folder = {"/": "/srv/models", "/srv": "/srv/models"}.get(disk.mount, f"{disk.mount}/models")
    return folder, f"{disk.free / _GIB:.0f} GiB are free on {disk.mount} of {look.name}"


def model_data(name: str, folders: Sequence[Path]) -> dict[str, Any]:
    """The file of a model. Raises ValueError where there is none."""
    try:
        path = find_model(name, folders)
        return check_model(yaml.safe_load(path.read_text(encoding="utf-8")), path)
    except ModelDataError as error:
        raise ValueError(str(error)) from None


def models(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """The models that can be chosen, by name."""
    names = {path.stem for folder in folders for path in folder.glob("*.yml")} - {SIMULATED}
    return {name: model_data(name, folders) for name in sorted(names)}


def model_of(name: str, folders: Sequence[Path], nodes: int) -> str:
    """The model's name. Raises ValueError where there is none, or it needs more nodes."""
    if problem := node_problem(name, model_data(name, folders), nodes):
        raise ValueError(problem)
    return name


def default_model(nodes: int) -> str:
    """The model that is proposed."""
    return MODELS.get(nodes, MODEL)


def shape_of(model: Mapping[str, Any], nodes: int) -> dict[str, Any]:
    """How ranks share a model: each layer among all where its heads divide, else groups of layers."""
    heads = int((model.get("config") or {}).get("num_attention_heads") or 0)
    default: dict[str, Any] = {"vllm_serve_tensor_parallel_size": None, "vllm_serve_pipeline_parallel_size": None}
    if nodes < 3 or (heads and heads % nodes == 0):
        return default
    tensor = 2 if nodes == 4 else 1
    return {"vllm_serve_tensor_parallel_size": tensor, "vllm_serve_pipeline_parallel_size": nodes // tensor}
