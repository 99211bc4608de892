# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.restart_plan import restart_plan


def unit(name: str, *differs: str) -> dict[str, Any]:
    return {"name": name, "differs": list(differs), "active": "active"}


def cluster(head: str = "", vllm: str = "", worker: str = "") -> dict[str, list[dict[str, Any]]]:
    return {
        "spark-1": [unit("spark-ray-head", *([head] if head else [])), unit("spark-vllm", *([vllm] if vllm else []))],
        "spark-2": [unit("spark-ray-worker", *([worker] if worker else []))],
    }


def test_a_healthy_cluster_is_left_alone() -> None:
    plan = restart_plan(cluster())
    assert not plan["changed"]
    assert plan["stop"] == plan["start"] == {}


def test_vllm_alone_restarts_alone() -> None:
    plan = restart_plan(cluster(vllm="command: argument 3 is 'a', wanted 'b'"))
    assert plan["stop"] == plan["start"] == {"spark-1": ["spark-vllm"]}
    assert plan["reasons"] == ["spark-1: spark-vllm: command: argument 3 is 'a', wanted 'b'"]


def test_a_worker_takes_vllm_along_but_not_the_head() -> None:
    plan = restart_plan(cluster(worker="it is not running"))
    assert plan["stop"] == {"spark-1": ["spark-vllm"], "spark-2": ["spark-ray-worker"]}
    assert not plan["restart_ray_head"]
    assert plan["reasons"][-1] == "spark-vllm: restarts because a Ray worker under it does"


def test_the_head_takes_everything_along_in_order() -> None:
    plan = restart_plan(cluster(head="image is a, wanted b"))
    assert plan["stop"] == {"spark-1": ["spark-vllm", "spark-ray-head"], "spark-2": ["spark-ray-worker"]}
    assert plan["start"] == {"spark-1": ["spark-ray-head", "spark-vllm"], "spark-2": ["spark-ray-worker"]}


def test_only_the_broken_one_of_several_workers_restarts() -> None:
    units = cluster()
    units["spark-3"] = [unit("spark-ray-worker", "it is not running")]
    plan = restart_plan(units)
    assert plan["restart_ray_workers"] == ["spark-3"]
    assert "spark-2" not in plan["stop"]


def test_one_node_without_workers() -> None:
    plan = restart_plan({"spark-1": [unit("spark-ray-head", "x"), unit("spark-vllm")]})
    assert plan["start"] == {"spark-1": ["spark-ray-head", "spark-vllm"]}


def test_foreign_units_are_ignored() -> None:
    assert not restart_plan({"spark-1": [unit("something-else", "x")]})["changed"]


def without_ray(vllm: str = "", worker: str = "") -> dict[str, list[dict[str, Any]]]:
    others = {f"spark-{n}": [unit("spark-vllm-worker", *([worker] if worker and n == 3 else []))] for n in (2, 3, 4)}
    return {"spark-1": [unit("spark-vllm", *([vllm] if vllm else []))], **others}


def test_ranks_without_ray_all_restart_together() -> None:
    workers = {f"spark-{n}": ["spark-vllm-worker"] for n in (2, 3, 4)}
    for broken in (without_ray(vllm="it is not running"), without_ray(worker="it is not running")):
        plan = restart_plan(broken)
        assert plan["stop"] == plan["start"] == {"spark-1": ["spark-vllm"], **workers}
    assert plan["reasons"][-1] == "spark-vllm: restarts because a rank of it does"
    assert not restart_plan(without_ray())["changed"]
