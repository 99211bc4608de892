# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a Ray cluster consists of, asked from the dashboard of its head, and whether that is what was expected.

The source is the state API, ``GET /api/v0/nodes?detail=true``, and ``GET /api/version`` (seen with Ray 2.60). The
command ``ray status`` is no source: it ends with 0 for a dead node and still lists it as active.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from ..report.finding import RED, Finding, fine
from ..system.http_json import HttpError

#: What was checked.
CHECK = "Ray"
#: Port of the dashboard on the head, on loopback, and its address there.
DASHBOARD_PORT = 8265
DASHBOARD = f"http://127.0.0.1:{DASHBOARD_PORT}"

# The state API gives 100 rows unless told (ray.util.state.common.DEFAULT_LIMIT); dead nodes stay in the list for long.
NODES_PATH = "/api/v0/nodes?detail=true&limit=10000"
VERSION_PATH = "/api/version"
GROUPS_PATH = "/api/v0/placement_groups?detail=true&limit=10000"


class JsonSource(Protocol):
    """What this module needs of an HTTP client."""

    def get_json(self, path: str) -> Any:
        """Return the JSON at ``path``, or raise HttpError."""


@dataclass(frozen=True)
class RayNode:
    """One node as Ray knows it: a raylet, alive or gone. ``gpus`` counts what it brought, used or not."""

    node_id: str
    ip: str
    state: str
    is_head: bool
    gpus: float
    cpus: float
    memory_bytes: int
    message: str

    @property
    def alive(self) -> bool:
        """True for a node that Ray may place work on."""
        return self.state == "ALIVE"


@dataclass
class RayCluster:
    """The cluster that answered, or why none did.

    Attributes:
        reachable: the dashboard answered, and the key was right.
        trouble: why it was not reachable; None otherwise.
        ray_version: of the head, as ``2.60.0``, or an empty string.
        nodes: every node that Ray remembers, dead ones included.
    """

    reachable: bool
    trouble: Finding | None = None
    ray_version: str = ""
    nodes: list[RayNode] = field(default_factory=list)

    @property
    def alive(self) -> list[str]:
        """Addresses of the nodes that are alive, sorted."""
        return sorted(node.ip for node in self.nodes if node.alive)

    @property
    def dead(self) -> list[str]:
        """Addresses that only dead nodes are left of: a node that came back under its address is not dead."""
        return sorted({node.ip for node in self.nodes} - set(self.alive))

    @property
    def gpus_alive(self) -> float:
        """GPUs on the nodes that are alive."""
        return sum(node.gpus for node in self.nodes if node.alive)

    def as_facts(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "reachable": self.reachable,
            "ray_version": self.ray_version,
            "nodes": [asdict(node) for node in self.nodes],
            "alive": self.alive,
            "dead": self.dead,
            "gpus_alive": plain_number(self.gpus_alive),
        }


def plain_number(value: float) -> float | int:
    """Return 2 for 2.0, so that facts and sentences read as people count."""
    return int(value) if float(value).is_integer() else value


def _rows(answer: Any, what: str) -> list[Mapping[str, Any]]:
    result: Any = None
    if isinstance(answer, Mapping) and answer.get("result") is False:
        raise HttpError(f"Ray's dashboard could not list its {what}: {answer.get('msg') or 'it gives no reason'}")
    if isinstance(answer, Mapping) and isinstance(answer.get("data"), Mapping):
        inner = answer["data"].get("result")
        result = inner.get("result") if isinstance(inner, Mapping) else inner
    if not isinstance(result, list) or not all(isinstance(row, Mapping) for row in result):
        raise HttpError(
            f"Ray's dashboard answered the question for its {what} in an unknown form: is it Ray 2.x on this port?"
        )
    return result


def pending_groups(source: JsonSource) -> list[str]:
    """Return the ids of placement groups that wait for resources: one is what a server's ranks wait for before they exist.

    Raises:
        HttpError: the dashboard does not answer, or in another form.
    """
    rows = _rows(source.get_json(GROUPS_PATH), "placement groups")
    return sorted(
        str(row.get("placement_group_id", "")) for row in rows if str(row.get("state", "")).upper() == "PENDING"
    )


def parse_nodes(answer: Any) -> list[RayNode]:
    """Return the nodes in an answer of the state API, head first, then by address, the living before the dead.

    Raises:
        HttpError: the answer has another form, or says that the query failed.
    """
    nodes = [_parse_node(row) for row in _rows(answer, "nodes")]
    return sorted(nodes, key=lambda node: (not node.is_head, node.ip, not node.alive, node.node_id))


def _parse_node(row: Mapping[str, Any]) -> RayNode:
    resources = row.get("resources_total") or {}
    return RayNode(
        node_id=str(row.get("node_id", "")),
        ip=str(row.get("node_ip", "")),
        state=str(row.get("state", "")).upper(),
        is_head=bool(row.get("is_head_node")),
        gpus=plain_number(float(resources.get("GPU", 0.0))),
        cpus=plain_number(float(resources.get("CPU", 0.0))),
        memory_bytes=int(resources.get("memory", 0)),
        message=str(row.get("state_message") or ""),
    )


def read_cluster(source: JsonSource) -> RayCluster:
    """Ask the dashboard; a cluster that does not answer is a finding, not an error."""
    try:
        nodes = parse_nodes(source.get_json(NODES_PATH))
        version = source.get_json(VERSION_PATH)
    except HttpError as error:
        return RayCluster(reachable=False, trouble=_unreachable(error))
    return RayCluster(
        reachable=True,
        ray_version=str(version.get("ray_version", "")) if isinstance(version, Mapping) else "",
        nodes=nodes,
    )


def _unreachable(error: HttpError) -> Finding:
    if error.refused:
        return Finding(
            "ray.silent",
            RED,
            CHECK,
            f"Ray's dashboard does not answer ({error}), so the head is not running, or still starting",
            "look at `systemctl status spark-ray-head` on the head",
        )
    if error.status == 401:
        return Finding(
            "ray.token_missing", RED, CHECK, "Ray's dashboard requires the cluster token (401)", "give token_file"
        )
    if error.status == 403:
        return Finding(
            "ray.token_refused",
            RED,
            CHECK,
            "Ray's dashboard refuses the cluster token (403), which is not the one that the head was started with",
            "run playbooks/site.yml, which gives all nodes the same token",
        )
    return Finding(
        "ray.unknown_answer", RED, CHECK, str(error), "see that Ray's dashboard, and nothing else, listens on this port"
    )


def judge(cluster: RayCluster, expected_nodes: Sequence[str], expected_gpus: float | None) -> Finding | None:
    """Return why the cluster is not the expected one, or None.

    Ready means exactly the expected nodes and GPUs: on a node too many, vLLM may place ranks where no weights are.
    With nothing expected, any cluster that has a living node is ready.
    """
    if not cluster.reachable:
        return cluster.trouble
    found = [*_other_nodes(cluster, expected_nodes)]
    if not cluster.alive:
        found.append("no node is alive")
    if expected_gpus is not None and cluster.gpus_alive != expected_gpus:
        found.append(
            f"{plain_number(cluster.gpus_alive)} GPUs are alive where {plain_number(expected_gpus)} are expected"
        )
    if not found:
        return None
    return Finding(
        "ray.incomplete",
        RED,
        CHECK,
        "Ray is not complete: " + "; ".join(found) + f" (alive: {', '.join(cluster.alive) or 'none'})",
        "wait where it is just starting; else look at `systemctl status spark-ray-worker` on the node that is missing",
    )


def _other_nodes(cluster: RayCluster, expected: Sequence[str]) -> Iterator[str]:
    """Say which nodes are missing, dead, too many, or listed twice."""
    alive = Counter(cluster.alive)
    missing = [address for address in expected if address not in alive]
    dead = [address for address in missing if address in cluster.dead]
    absent = [address for address in missing if address not in cluster.dead]
    if absent:
        yield f"{_and(absent)} never joined or left long ago"
    for address in dead:
        yield f"{address} is dead{_death(cluster, address)}"
    strangers = sorted(set(alive) - set(expected)) if expected else []
    if strangers:
        yield f"{_and(strangers)} joined though not expected"
    twice = sorted(address for address, count in alive.items() if count > 1)
    if twice:
        yield f"{_and(twice)} is listed alive more than once (Ray needs some 15 s to see that the earlier one died)"


def _death(cluster: RayCluster, address: str) -> str:
    messages = [node.message for node in cluster.nodes if node.ip == address and node.message]
    return f" ({messages[-1].rstrip('.')})" if messages else ""


def _and(addresses: Sequence[str]) -> str:
    return " and ".join(addresses)


def summary(cluster: RayCluster) -> str:
    """Return one sentence on a cluster that is ready."""
    count = len(cluster.alive)
    return (
        f"Ray {cluster.ray_version or '(version unknown)'}: {count} node{'' if count == 1 else 's'} alive "
        f"({', '.join(cluster.alive)}) with {plain_number(cluster.gpus_alive)} GPUs"
    )


def look(
    source: JsonSource, expected_nodes: Sequence[str], expected_gpus: float | None, no_token: str = ""
) -> tuple[RayCluster, Finding]:
    """Ask and judge; ``no_token`` says why there is none to ask with, which explains a dashboard that does not answer."""
    cluster = read_cluster(source)
    trouble = judge(cluster, expected_nodes, expected_gpus)
    if trouble and not cluster.reachable:
        trouble = replace(trouble, found=trouble.found + no_token)
    return cluster, trouble or fine("ray", CHECK, summary(cluster))
