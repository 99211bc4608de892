# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.restart_plan import restart_plan, units_of


def unit(name: str, *differs: str, active: str = "active") -> dict[str, Any]:
    return {"name": name, "differs": list(differs), "active": active}


def cluster(
    head: str = "", vllm: str = "", worker: str = "", active: str = "active"
) -> dict[str, list[dict[str, Any]]]:
    return {
        "spark-1": [
            unit("spark-ray-head", *([head] if head else []), active=active),
            unit("spark-vllm", *([vllm] if vllm else []), active=active),
        ],
        "spark-2": [unit("spark-ray-worker", *([worker] if worker else []), active=active)],
    }


def steps(plan: dict[str, Any]) -> list[str]:
    """Return the steps as one line each."""
    return [f"{step['unit']} {step['state']} {','.join(step['hosts'])}" for step in plan["steps"]]


WHOLE = [
    "spark-vllm stopped spark-1",
    "spark-ray-worker stopped spark-2",
    "spark-ray-head stopped spark-1",
    "spark-ray-head started spark-1",
    "spark-ray-worker started spark-2",
    "spark-vllm started spark-1",
]


def test_a_healthy_cluster_is_left_alone() -> None:
    assert restart_plan(cluster()) == {"changed": False, "steps": [], "reasons": []}


def test_vllm_alone_restarts_alone() -> None:
    plan = restart_plan(cluster(vllm="command: argument 3 is 'a', wanted 'b'"))
    assert steps(plan) == ["spark-vllm stopped spark-1", "spark-vllm started spark-1"]
    assert plan["reasons"] == ["spark-1: spark-vllm: command: argument 3 is 'a', wanted 'b'"]


def test_a_worker_takes_vllm_along_but_not_the_head() -> None:
    plan = restart_plan(cluster(worker="image is a, wanted b"))
    assert steps(plan) == [step for step in WHOLE if "head" not in step]
    assert plan["reasons"][-1] == "spark-vllm: restarts because a Ray worker under it does"


def test_the_head_takes_everything_along_in_order() -> None:
    plan = restart_plan(cluster(head="image is a, wanted b"))
    assert plan["changed"]
    assert steps(plan) == WHOLE
    assert plan["reasons"][-1] == "spark-vllm: restarts because the Ray head under it does"


def test_what_is_stopped_is_only_started() -> None:
    gone = "it is not running"
    plan = restart_plan(cluster(head=gone, vllm=gone, worker=gone, active="inactive"))
    assert steps(plan) == WHOLE[3:]


def test_a_unit_that_is_down_takes_no_stop_and_the_others_do() -> None:
    units = cluster(worker="it is not running")
    units["spark-2"][0]["active"] = "failed"
    assert steps(restart_plan(units)) == [
        "spark-vllm stopped spark-1",
        "spark-ray-worker started spark-2",
        "spark-vllm started spark-1",
    ]


def test_only_the_broken_one_of_several_workers_restarts() -> None:
    units = cluster()
    units["spark-3"] = [unit("spark-ray-worker", "image is a, wanted b")]
    assert steps(restart_plan(units)) == [
        "spark-vllm stopped spark-1",
        "spark-ray-worker stopped spark-3",
        "spark-ray-worker started spark-3",
        "spark-vllm started spark-1",
    ]


def test_one_node_without_workers() -> None:
    plan = restart_plan({"spark-1": [unit("spark-ray-head", "x"), unit("spark-vllm")]})
    assert steps(plan) == [step for step in WHOLE if "worker" not in step]


def test_foreign_units_are_ignored() -> None:
    assert not restart_plan({"spark-1": [unit("something-else", "x")]})["changed"]
    assert not restart_plan({"spark-1": [unit("something-else", "x")]}, "stop")["changed"]


def without_ray(vllm: str = "", worker: str = "") -> dict[str, list[dict[str, Any]]]:
    others = {f"spark-{n}": [unit("spark-vllm-worker", *([worker] if worker and n == 3 else []))] for n in (2, 3, 4)}
    return {"spark-1": [unit("spark-vllm", *([vllm] if vllm else []))], **others}


def test_ranks_without_ray_all_restart_together() -> None:
    for broken in (without_ray(vllm="image is a, wanted b"), without_ray(worker="image is a, wanted b")):
        plan = restart_plan(broken)
        assert steps(plan) == [
            "spark-vllm stopped spark-1",
            "spark-vllm-worker stopped spark-2,spark-3,spark-4",
            "spark-vllm-worker started spark-2,spark-3,spark-4",
            "spark-vllm started spark-1",
        ]
    assert plan["reasons"][-1] == "spark-vllm: restarts because a rank of it does"
    assert not restart_plan(without_ray())["changed"]


def test_a_stop_takes_everything_down_and_starts_nothing() -> None:
    assert steps(restart_plan(cluster(), "stop")) == WHOLE[:3]


def test_a_stop_needs_no_look_at_the_nodes() -> None:
    plan = restart_plan(units_of(["spark-2", "spark-1", "spark-3"], "spark-1"), "stop")
    assert steps(plan) == [
        "spark-vllm stopped spark-1",
        "spark-vllm-worker stopped spark-2,spark-3",
        "spark-ray-worker stopped spark-2,spark-3",
        "spark-ray-head stopped spark-1",
    ]


def test_another_kind_of_plan_is_refused() -> None:
    with pytest.raises(ValueError, match="kind of plan is 'halt', expected restart or stop"):
        restart_plan(cluster(), "halt")
