# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Reading and judging a Ray cluster; the fixtures are recorded from Ray 2.60.0 (see their README)."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.ray.cluster import (
    GROUPS_PATH,
    NODES_PATH,
    VERSION_PATH,
    RayCluster,
    judge,
    parse_nodes,
    pending_groups,
    read_cluster,
    summary,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.http_json import HttpClient, HttpError

from tests.unit.plugins.fake_server import Reply, closed_port, fake_server

RECORDED = Path(__file__).parents[1] / "fixtures" / "ray_2_60"
HEAD, WORKER = "192.168.100.10", "192.168.100.11"


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text())


def cluster(answer: Any) -> RayCluster:
    return RayCluster(reachable=True, ray_version="2.60.0", nodes=parse_nodes(answer))


def said(found: RayCluster, nodes: list[str], gpus: int | None) -> str:
    """Return why a cluster is not ready."""
    trouble = judge(found, nodes, gpus)
    assert trouble is not None and trouble.remedy
    return trouble.found


def test_two_nodes_alive() -> None:
    found = cluster(recorded("nodes_two_alive"))
    assert [(node.ip, node.state, node.is_head, node.gpus) for node in found.nodes] == [
        (HEAD, "ALIVE", True, 1),
        (WORKER, "ALIVE", False, 1),
    ]
    assert (found.alive, found.dead, found.gpus_alive) == ([HEAD, WORKER], [], 2)
    assert judge(found, [HEAD, WORKER], 2) is None
    assert judge(found, [], None) is None
    assert summary(found) == f"Ray 2.60.0: 2 nodes alive ({HEAD}, {WORKER}) with 2 GPUs"


def test_a_killed_worker_is_dead_although_listed() -> None:
    found = cluster(recorded("nodes_worker_killed"))
    assert (found.alive, found.dead, found.gpus_alive) == ([HEAD], [WORKER], 1)
    assert said(found, [HEAD, WORKER], 2) == (
        f"Ray is not complete: {WORKER} is dead (Unexpected termination: health check failed due to missing too many "
        f"heartbeats); 1 GPUs are alive where 2 are expected (alive: {HEAD})"
    )


def test_a_worker_that_came_back_is_not_dead() -> None:
    found = cluster(recorded("nodes_worker_came_back"))
    assert len(found.nodes) == 3
    assert (found.alive, found.dead, found.gpus_alive) == ([HEAD, WORKER], [], 2)
    assert judge(found, [HEAD, WORKER], 2) is None


@pytest.mark.parametrize(
    ("nodes", "gpus", "words"),
    [
        ([HEAD, WORKER, "192.168.100.12"], None, "192.168.100.12 never joined or left long ago"),
        ([HEAD], None, f"{WORKER} joined though not expected"),
        ([HEAD, WORKER], 4, "2 GPUs are alive where 4 are expected"),
        ([HEAD, WORKER], 1, "2 GPUs are alive where 1 are expected"),
    ],
)
def test_other_clusters_than_expected(nodes: list[str], gpus: int | None, words: str) -> None:
    assert words in said(cluster(recorded("nodes_two_alive")), nodes, gpus)


def test_an_address_alive_twice_is_not_ready() -> None:
    # Invented: the 15 s in which Ray has not seen yet that the earlier raylet of a restarted node died.
    answer = copy.deepcopy(recorded("nodes_two_alive"))
    rows = answer["data"]["result"]["result"]
    rows.append({**rows[0], "node_id": "f" * 56})
    assert f"{WORKER} is listed alive more than once" in said(cluster(answer), [HEAD, WORKER], None)


def test_nothing_alive_is_never_ready() -> None:
    answer = copy.deepcopy(recorded("nodes_two_alive"))
    for row in answer["data"]["result"]["result"]:
        row["state"] = "DEAD"
    assert "no node is alive" in said(cluster(answer), [], None)


@pytest.mark.parametrize("answer", [None, [], {}, {"data": {}}, {"data": {"result": {"result": ["x"]}}}])
def test_an_answer_of_another_form(answer: Any) -> None:
    with pytest.raises(HttpError, match="unknown form"):
        parse_nodes(answer)


def test_an_answer_that_reports_its_own_failure() -> None:
    # Form from Ray's source (dashboard.optional_utils.rest_response), not recorded.
    with pytest.raises(HttpError, match="could not list its nodes: GCS is gone"):
        parse_nodes({"result": False, "msg": "GCS is gone", "data": {}})


def test_reading_over_http() -> None:
    routes: dict[str, Any] = {
        f"GET {NODES_PATH}": Reply(recorded("nodes_two_alive")),
        f"GET {VERSION_PATH}": Reply(recorded("version")),
    }
    with fake_server(routes) as fake:
        found = read_cluster(HttpClient(fake.url, token="t"))
    assert found.reachable
    assert found.ray_version == "2.60.0"
    facts = found.as_facts()
    assert facts["gpus_alive"] == 2
    assert facts["nodes"][0]["ip"] == HEAD
    assert json.loads(json.dumps(facts)) == facts


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        # Recorded words of Ray 2.60.0 with token authentication.
        (401, "Unauthorized: Missing authentication token", "requires the cluster token"),
        (403, "Forbidden: Invalid authentication token", "which is not the one that the head was started with"),
        (500, "boom", "answered 500"),
    ],
)
def test_refusals_are_findings(status: int, body: str, words: str) -> None:
    with fake_server({f"GET {NODES_PATH}": Reply(body, status=status)}) as fake:
        found = read_cluster(HttpClient(fake.url))
    assert not found.reachable
    assert words in said(found, [HEAD], 1)


def test_a_dashboard_that_is_down_is_a_finding() -> None:
    found = read_cluster(HttpClient(f"http://127.0.0.1:{closed_port()}"))
    assert not found.reachable
    assert "does not answer" in said(found, [], None)
    assert "still starting" in said(found, [], None)


def groups(*rows: Any) -> dict[str, Any]:
    return {"result": True, "data": {"result": {"total": len(rows), "result": list(rows)}}}


def test_groups_that_wait_are_named() -> None:
    rows = [
        {"placement_group_id": "b", "state": "PENDING"},
        {"placement_group_id": "c", "state": "CREATED"},
        {"placement_group_id": "d", "state": "REMOVED"},
        {"placement_group_id": "a", "state": "pending"},
        {"placement_group_id": "e"},
    ]
    with fake_server({f"GET {GROUPS_PATH}": Reply(groups(*rows))}) as server:
        assert pending_groups(HttpClient(server.url)) == ["a", "b"]
        server.routes[f"GET {GROUPS_PATH}"] = Reply(groups())
        assert pending_groups(HttpClient(server.url)) == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"result": False, "msg": "GCS is away"}, "could not list its placement groups: GCS is away"),
        ({"result": False}, "it gives no reason"),
        ({"result": True, "data": {}}, "for its placement groups in an unknown form"),
        (groups("a"), "in an unknown form"),
        ([], "in an unknown form"),
    ],
)
def test_an_answer_on_groups_that_is_none_is_one_sentence(answer: Any, words: str) -> None:
    with (
        fake_server({f"GET {GROUPS_PATH}": Reply(answer)}) as server,
        pytest.raises(HttpError, match=words),
    ):
        pending_groups(HttpClient(server.url))
