# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Every port that the product listens on, and SSH: the one table that the settings' check, the preflight, docs and a packet filter read.

A port is a setting's value or fixed. Which listeners a node has follows from the settings (executor, share of the weights), the kind
of the node and the number of nodes: ``open_ports`` says so. NCCL and Gloo take ports that the kernel chooses, between fabric addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..nfs.share import PORT as NFS_PORT
from ..nfs.share import RDMA_PORT as NFS_RDMA_PORT
from ..peer.share import DEFAULT_PORT as SHARE_PORT
from ..ray.cluster import DASHBOARD_PORT
from ..ray.start import CLIENT_PORT, NODE_PORTS, WORKER_PORTS
from ..system.units import RAY_HEAD, RAY_WORKER, VLLM, VLLM_WORKER
from ..vllm.flags import MASTER_PORT
from .pulse import PORT as WATCHDOG_PORT

#: Kinds of nodes. ``any`` in the table stands for both.
KINDS = ("head", "worker")
_RAY_UNITS = tuple(f"{name}.service" for name in (RAY_HEAD, RAY_WORKER))
_GATEWAY = "spark-gateway.service"
_CHAT = "spark-chat.service"
_EXPORTER, _PROMETHEUS = "spark-node-exporter.service", "spark-prometheus.service"
_VLLM, _RAY_HEAD, _VLLM_WORKER = (f"{name}.service" for name in (VLLM, RAY_HEAD, VLLM_WORKER))


@dataclass(frozen=True)
class Listener:
    """One row.

    ``node``: ``head``, ``worker`` or ``any``. ``address``: what it binds: ``all``, ``fabric`` or ``loopback``. ``settings``: names whose value
    is the port, the first that is set counts; none where the port is fixed. ``default``: the port without a setting. ``last``: last port of
    a range. ``owners``: systemd units and containers that open it. ``reach``: who may reach it: ``anyone``, ``fabric`` (the
    other nodes) or ``loopback`` (the node itself). ``executor``, ``share``, ``transport``, ``gateway``: only with this ``vllm_serve_executor``,
    ``model_share_method``, ``model_share_nfs_transport``, with the gateway ``on`` or ``off``, with monitoring ``on``
    (``head`` where Prometheus is on the head as well), and with the chat page ``on``. ``several``: only with more than one node.
    ``lasting``: whether it is open for good; what is open for a while is never open at the same time as another such. ``checked``: whether
    the preflight asks that it is free.
    """

    name: str
    node: str
    address: str
    default: int
    owners: tuple[str, ...]
    reach: str
    settings: tuple[str, ...] = ()
    last: int | None = None
    protocol: str = "tcp"
    executor: str | None = None
    share: str | None = None
    transport: str | None = None
    gateway: str | None = None
    monitoring: str | None = None
    chat: str | None = None
    several: bool = False
    lasting: bool = True
    checked: bool = True


#: What each port of Ray's processes is for, and whether other nodes need it; the dashboard on the head asks the agents.
_RAY_NODE = {
    "node-manager-port": ("Ray node manager", "fabric"),
    "object-manager-port": ("Ray object manager", "fabric"),
    "metrics-export-port": ("Ray metrics", "fabric"),
    "dashboard-agent-grpc-port": ("Ray dashboard agent, gRPC", "fabric"),
    "dashboard-agent-listen-port": ("Ray dashboard agent, HTTP", "fabric"),
    "runtime-env-agent-port": ("Ray runtime environment agent", "loopback"),
}

#: Setting that opens further ports to anyone.
OPENED = "packet_filter_open_ports"

#: Where clients ask, whatever answers there; the default of spark_api_port.
ENDPOINT_PORT = 8235

# Ray's servers bind all addresses even with --node-ip-address (seen: gcs_server *:6379), and so does torch's rendezvous; the dashboard is put on loopback.
LISTENERS: tuple[Listener, ...] = (
    # Not the product's own, but no other may take it, and a packet filter that leaves it out locks everybody out.
    Listener("SSH", "any", "all", 22, ("ssh.service",), "anyone", checked=False),
    # The public port goes from one to the other when the gateway is turned on or off: for the preflight it is not taken by a stranger.
    Listener(
        "endpoint",
        "head",
        "all",
        ENDPOINT_PORT,
        (_VLLM, _GATEWAY),
        "anyone",
        ("vllm_serve_port", "spark_api_port"),
        gateway="off",
    ),
    Listener("gateway", "head", "all", ENDPOINT_PORT, (_GATEWAY, _VLLM), "anyone", ("spark_api_port",), gateway="on"),
    Listener(
        "vLLM behind the gateway",
        "head",
        "loopback",
        8238,
        (_VLLM,),
        "loopback",
        ("vllm_serve_port", "gateway_server_port"),
        gateway="on",
    ),
    Listener("Ray head (GCS)", "head", "all", 6379, (_RAY_HEAD,), "fabric", ("ray_head_port",), executor="ray"),
    Listener(
        "Ray dashboard",
        "head",
        "loopback",
        DASHBOARD_PORT,
        (_RAY_HEAD,),
        "loopback",
        ("ray_head_dashboard_port",),
        executor="ray",
    ),
    Listener("Ray client server", "head", "all", CLIENT_PORT, (_RAY_HEAD,), "loopback", executor="ray"),
    *(
        Listener(_RAY_NODE[flag][0], "any", "all", port, _RAY_UNITS, _RAY_NODE[flag][1], executor="ray")
        for flag, port in NODE_PORTS.items()
    ),
    Listener(
        "Ray worker processes",
        "any",
        "all",
        WORKER_PORTS[0],
        _RAY_UNITS,
        "fabric",
        last=WORKER_PORTS[1],
        executor="ray",
        checked=False,
    ),
    Listener(
        "rendezvous of the ranks",
        "head",
        "all",
        MASTER_PORT,
        (_VLLM,),
        "fabric",
        ("vllm_serve_master_port",),
        executor="mp",
        several=True,
    ),
    Listener(
        "watch over the ranks",
        "head",
        "fabric",
        29502,
        (_VLLM,),
        "fabric",
        ("vllm_serve_watch_port",),
        executor="mp",
        several=True,
    ),
    Listener(
        "watch over the ranks",
        "worker",
        "fabric",
        29502,
        (_VLLM_WORKER,),
        "fabric",
        ("vllm_worker_watch_port", "vllm_serve_watch_port"),
        executor="mp",
        several=True,
    ),
    Listener(
        "watchdog",
        "head",
        "fabric",
        WATCHDOG_PORT,
        ("spark-watchdog.service",),
        "fabric",
        ("vllm_watchdog_port",),
    ),
    Listener(
        "figures of the node",
        "any",
        "fabric",
        8239,
        (_EXPORTER,),
        "fabric",
        ("monitoring_exporter_port",),
        monitoring="on",
    ),
    Listener(
        "Prometheus",
        "head",
        "loopback",
        8240,
        (_PROMETHEUS,),
        "loopback",
        ("monitoring_prometheus_port",),
        monitoring="head",
    ),
    Listener(
        "figures of the gateway",
        "head",
        "fabric",
        8241,
        (_GATEWAY,),
        "fabric",
        ("monitoring_gateway_port",),
        gateway="on",
        monitoring="on",
    ),
    Listener("chat page", "head", "all", 8242, (_CHAT,), "anyone", ("chat_ui_port",), chat="on"),
    Listener(
        "NFS",
        "head",
        "all",
        NFS_PORT,
        ("nfs-server.service",),
        "fabric",
        share="nfs",
        several=True,
        checked=False,
    ),
    Listener(
        "NFS over RDMA",
        "head",
        "all",
        NFS_RDMA_PORT,
        ("nfs-server.service",),
        "fabric",
        protocol="rdma",
        share="nfs",
        transport="rdma",
        several=True,
        checked=False,
    ),
    Listener(
        "share of the image",
        "head",
        "fabric",
        SHARE_PORT,
        ("spark-fabric-share.service",),
        "fabric",
        ("serving_image_share_port",),
        several=True,
        lasting=False,
        checked=False,
    ),
    Listener(
        "share of the weights",
        "head",
        "fabric",
        SHARE_PORT,
        ("spark-fabric-share.service",),
        "fabric",
        ("model_share_port",),
        share="copy",
        several=True,
        lasting=False,
        checked=False,
    ),
    Listener(
        "measurement of the link",
        "any",
        "fabric",
        12000,
        ("spark-fabric-benchmark",),
        "fabric",
        last=12003,
        several=True,
        lasting=False,
        checked=False,
    ),
    Listener(
        "rendezvous of the link's NCCL run",
        "head",
        "fabric",
        12100,
        ("spark-fabric-benchmark",),
        "fabric",
        several=True,
        lasting=False,
        checked=False,
    ),
)


@dataclass(frozen=True)
class Open:
    """A listener with its ports: ``first`` and ``last`` are the same where there is one. ``setting`` set it; empty for the default."""

    listener: Listener
    first: int
    last: int
    setting: str

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


def _on(values: Mapping[str, Any], name: str) -> bool:
    return str(values.get(name)).lower() in ("true", "yes", "1")


def gateway_on(values: Mapping[str, Any]) -> bool:
    """Say whether the gateway stands before vLLM, by the settings of a node as far as they are set."""
    return _on(values, "gateway_enabled")


def monitoring_kinds(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which rows of monitoring hold, by the settings of a node as far as they are set."""
    if not _on(values, "monitoring_enabled"):
        return ()
    return ("on",) if str(values.get("monitoring_on") or "head") == "elsewhere" else ("on", "head")


def open_ports(values: Mapping[str, Any], kind: str, nodes: int) -> list[Open]:
    """Return what a node listens on.

    Args:
        values: settings of the node by name, as far as they are set; ports are whole numbers or their text.
        kind: ``head`` or ``worker``.
        nodes: how many nodes the cluster has.

    Raises:
        ValueError: another kind, or a port that is no number.
    """
    if kind not in KINDS:
        raise ValueError(f"kind of node is {kind!r}, expected head or worker")
    chosen = {
        "executor": str(values.get("vllm_serve_executor") or "ray"),
        "share": str(values.get("model_share_method") or "nfs"),
        "transport": str(values.get("model_share_nfs_transport") or "tcp"),
        "gateway": "on" if gateway_on(values) else "off",
        "chat": "on" if _on(values, "chat_ui_enabled") else "off",
    }
    found = []
    for listener in LISTENERS:
        if listener.node not in ("any", kind) or (listener.several and nodes < 2):
            continue
        if any(getattr(listener, name) not in (None, value) for name, value in chosen.items()):
            continue
        if listener.monitoring is not None and listener.monitoring not in monitoring_kinds(values):
            continue
        setting = next((name for name in listener.settings if values.get(name) is not None), "")
        first = int(values[setting]) if setting else listener.default
        found.append(Open(listener, first, listener.last or first, setting))
    return found


def port_problems(nodes: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return a sentence for each port that is none, and for each that two listeners of one node would take.

    Args:
        nodes: kind and settings of each node.
    """
    given = list(nodes)
    problems: list[str] = []
    for kind, values in given:
        ports = open_ports(values, kind, len(given))
        for one in ports:
            if not 1 <= one.first <= 65535:
                problems.append(f"{one.setting} is {one.first}, expected a TCP port from 1 to 65535")
        problems += [
            _clash(one, other) for place, one in enumerate(ports) for other in ports[:place] if _collide(one, other)
        ]
    return list(dict.fromkeys(problems))


def _collide(one: Open, other: Open) -> bool:
    if one.last < other.first or other.last < one.first:
        return False
    if one.listener.protocol != other.listener.protocol or not (one.listener.lasting or other.listener.lasting):
        return False
    places = {one.listener.address, other.listener.address}
    return "all" in places or len(places) == 1


def _clash(one: Open, other: Open) -> str:
    """Return one sentence on two listeners that take one port; the setting that was set stands first."""
    mine, its = (one, other) if one.setting else (other, one)
    if its.setting:
        return f"{mine.setting} and {its.setting} are both {mine}: give each a port of its own"
    own = next(iter(its.listener.settings), "")
    way = f"give one of them another port ({own})" if own else "choose another port"
    return (
        f"{mine.setting or mine.listener.name} is {mine}, the port of {its.listener.name} on the "
        f"{'same node' if its.listener.node == 'any' else its.listener.node}: {way}"
    )


def port_needs(values: Mapping[str, Any], kind: str, nodes: int) -> list[dict[str, Any]]:
    """Return what the preflight finds free, or held by its owner: dicts of ``port`` and ``units``; see ``open_ports``."""
    return [
        {"port": found.first, "units": list(found.listener.owners)}
        for found in open_ports(values, kind, nodes)
        if found.listener.checked
    ]


def filter_rows(values: Mapping[str, Any], kind: str, nodes: int) -> list[dict[str, Any]]:
    """Return who may reach which ports of a node: dicts of ``protocol``, ``first``, ``last``, ``name`` and ``reach``; see ``open_ports``.

    First the ports that the settings open to anyone, SSH's among them, whatever its number on this node or on the way to it.
    NFS over RDMA is not among them: what goes by RDMA passes no packet filter.
    """
    ssh = [int(values["ansible_port"])] if values.get("ansible_port") is not None else []
    named = {"SSH": ssh, OPENED: [int(port) for port in values.get(OPENED) or ()]}
    return [
        {"protocol": "tcp", "first": port, "last": port, "name": name, "reach": "anyone"}
        for name, ports in named.items()
        for port in ports
    ] + [
        {
            "protocol": found.listener.protocol,
            "first": found.first,
            "last": found.last,
            "name": found.listener.name,
            "reach": found.listener.reach,
        }
        for found in open_ports(values, kind, nodes)
        if found.listener.protocol != "rdma"
    ]


def settings_asked() -> list[str]:
    """Return the names of all settings that decide which ports are open."""
    names = [name for listener in LISTENERS for name in listener.settings]
    return list(
        dict.fromkeys(
            [
                *names,
                "ansible_port",
                OPENED,
                "vllm_serve_executor",
                "model_share_method",
                "model_share_nfs_transport",
                "gateway_enabled",
                "monitoring_enabled",
                "monitoring_on",
                "chat_ui_enabled",
            ]
        )
    )
