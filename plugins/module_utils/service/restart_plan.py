# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Which units are stopped and started, on which nodes and in which order: the cluster's order is said here alone.

The order is the chain of dependence: the Ray head comes up first and goes down last, vLLM comes up last and goes down first. A
worker cannot outlive its head, and the engine cannot outlive a rank, so a restart always takes along what stands on it. Ranks
without Ray meet the server once, when they start: they all restart together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..system.units import ORDER, RAY_HEAD, RAY_WORKER, VLLM, VLLM_WORKER

#: Further units of ours on a node, those first that start or heal others; a new one goes here, so that remove.yml takes it away.
OTHERS = (
    *("spark-watchdog", "spark-follower", "spark-gateway", "spark-packet-filter"),
    *("spark-chat", "spark-metrics", "spark-node-exporter", "spark-prometheus"),
    *("spark-fabric-share", "spark-model-download", "spark-cdi", "dgx-spark-fabric-rollback-boot"),
)
#: Units that only the head has; the others run on the further nodes.
ON_HEAD = frozenset({RAY_HEAD, VLLM})
#: What systemd says of a unit that has nothing to stop.
_DOWN = frozenset({"inactive", "failed"})


def units_of(hosts: Iterable[str], head: str) -> dict[str, list[dict[str, Any]]]:
    """Return the units that each node may have, for a plan that is made without asking the nodes."""
    return {host: [{"name": name} for name in ORDER if (name in ON_HEAD) == (host == head)] for host in hosts}


def restart_plan(units_by_host: Mapping[str, Sequence[Mapping[str, Any]]], kind: str = "restart") -> dict[str, Any]:
    """Return what to do, in order.

    Args:
        units_by_host: for each host the ``units`` that ``container_service_info`` returned: ``name``, ``differs`` (list of
            reasons, empty when the wanted container runs), ``active`` (systemd's ActiveState). A stop needs the names alone.
        kind: ``restart`` for what is not in the desired state, with what depends on it; a cluster that is stopped is thereby started.
            ``stop`` for everything.

    Returns:
        ``steps``: dicts of ``unit``, ``state`` (``stopped``, ``started``) and ``hosts``, one after the other; ``reasons``: sentences,
        one for each unit that is not what is wanted; ``changed``: whether there is a step.

    Raises:
        ValueError: another kind.
    """
    if kind not in ("restart", "stop"):
        raise ValueError(f"kind of plan is {kind!r}, expected restart or stop")
    found = {
        name: {host: unit for host in sorted(units_by_host) for unit in units_by_host[host] if unit["name"] == name}
        for name in ORDER
    }
    reasons: list[str] = []
    affected = {name: list(hosts) for name, hosts in found.items()}
    if kind == "restart":
        affected, reasons = _restarted(found)
    down = [
        {"unit": name, "state": "stopped", "hosts": hosts}
        for name in reversed(ORDER)
        if (hosts := [host for host in affected[name] if found[name][host].get("active") not in _DOWN])
    ]
    up = [{"unit": name, "state": "started", "hosts": affected[name]} for name in ORDER if affected[name]]
    steps = down + (up if kind == "restart" else [])
    return {"changed": bool(steps), "steps": steps, "reasons": reasons}


def _restarted(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the hosts on which each unit restarts, and why."""
    broken = {name: [host for host, unit in hosts.items() if unit["differs"]] for name, hosts in found.items()}
    reasons = [
        f"{host}: {name}: {reason}"
        for host in sorted({host for hosts in found.values() for host in hosts})
        for name in ORDER
        for reason in found[name].get(host, {}).get("differs", [])
    ]
    head = list(found[RAY_HEAD]) if broken[RAY_HEAD] else []
    workers = list(found[RAY_WORKER]) if head else broken[RAY_WORKER]
    vllm = bool(broken[VLLM] or broken[VLLM_WORKER] or head or workers)
    if vllm and not broken[VLLM]:
        under = "the Ray head under it" if head else "a Ray worker under it" if workers else "a rank of it"
        reasons.append(f"{VLLM}: restarts because {under} does")
    return {
        RAY_HEAD: head,
        RAY_WORKER: workers,
        VLLM_WORKER: list(found[VLLM_WORKER]) if vllm else [],
        VLLM: list(found[VLLM]) if vllm else [],
    }, reasons
