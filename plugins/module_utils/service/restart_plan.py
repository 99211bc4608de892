# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Which units must be stopped and started so that what runs is what is wanted, in the cluster's order.

The order is the chain of dependence: vLLM goes down first and comes up last, the Ray head restarts before its workers. A
worker cannot outlive its head, and the engine cannot outlive a rank, so a restart always takes along what stands on it. Ranks
without Ray meet the server once, when they start: they all restart together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

RAY_HEAD = "spark-ray-head"
RAY_WORKER = "spark-ray-worker"
VLLM = "spark-vllm"
#: Ranks of the further nodes where vLLM's own executor (mp) runs them instead of Ray.
VLLM_WORKER = "spark-vllm-worker"


def restart_plan(units_by_host: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return what to do.

    Args:
        units_by_host: for each host the ``units`` that ``container_service_info`` returned: ``name``, ``differs`` (list of
            reasons, empty when the wanted container runs), ``active`` (systemd's ActiveState).

    Returns:
        ``stop`` and ``start``: for each host a list of unit names, in order; ``restart_ray_head``, ``restart_ray_workers`` (hosts),
        ``restart_vllm``; ``reasons``: sentences, one for each unit that is not what is wanted; ``changed``.
    """
    reasons: list[str] = []
    broken: dict[str, set[str]] = {RAY_HEAD: set(), RAY_WORKER: set(), VLLM: set(), VLLM_WORKER: set()}
    owners: dict[str, list[str]] = {RAY_HEAD: [], RAY_WORKER: [], VLLM: [], VLLM_WORKER: []}
    for host in sorted(units_by_host):
        for unit in units_by_host[host]:
            name = unit["name"]
            if name not in owners:
                continue
            owners[name].append(host)
            for reason in unit["differs"]:
                reasons.append(f"{host}: {name}: {reason}")
            if unit["differs"]:
                broken[name].add(host)

    restart_head = bool(broken[RAY_HEAD])
    workers = sorted(owners[RAY_WORKER]) if restart_head else sorted(broken[RAY_WORKER])
    restart_vllm = bool(broken[VLLM]) or bool(broken[VLLM_WORKER]) or restart_head or bool(workers)
    if restart_head and not broken[VLLM]:
        reasons.append(f"{VLLM}: restarts because the Ray head under it does")
    elif workers and not broken[VLLM]:
        reasons.append(f"{VLLM}: restarts because a Ray worker under it does")
    elif broken[VLLM_WORKER] and not broken[VLLM]:
        reasons.append(f"{VLLM}: restarts because a rank of it does")

    chain = [
        (VLLM, owners[VLLM] if restart_vllm else []),
        (VLLM_WORKER, owners[VLLM_WORKER] if restart_vllm else []),
        (RAY_WORKER, workers),
        (RAY_HEAD, owners[RAY_HEAD] if restart_head else []),
    ]
    stop: dict[str, list[str]] = {}
    start: dict[str, list[str]] = {}
    for name, hosts in chain:
        for host in hosts:
            stop.setdefault(host, []).append(name)
    for name, hosts in reversed(chain):
        for host in hosts:
            start.setdefault(host, []).append(name)
    return {
        "changed": bool(stop),
        "stop": stop,
        "start": start,
        "restart_ray_head": restart_head,
        "restart_ray_workers": workers,
        "restart_vllm": restart_vllm,
        "reasons": reasons,
    }
