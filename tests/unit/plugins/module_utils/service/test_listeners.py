# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""One table of ports: what clashes, what does not, what the preflight asks for, and that no role opens another port."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.bench import NCCL_PORT
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.bench import PORT as BENCH_PORT
from ansible_collections.dgx_spark.vllm.plugins.module_utils.peer.share import DEFAULT_PORT
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.listeners import (
    LISTENERS,
    filter_rows,
    open_ports,
    port_needs,
    port_problems,
    settings_asked,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.settings.shared import SHARED

ROOT = Path(__file__).parents[5]
#: Settings that name a port which another setting opens.
MIRRORS = {"ray_worker_head_port": "ray_head_port"}


def said(nodes: int = 2, **values: Any) -> list[str]:
    values.setdefault("spark_api_port", 8235)
    return port_problems([("head", values), *[("worker", values)] * (nodes - 1)])


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"vllm_serve_port": 8235},
        {"serving_image_share_port": 8236, "model_share_port": 8236},
        {"serving_image_share_port": 8236, "model_share_port": 8236, "model_share_method": "copy"},
        {"ray_head_port": 6379, "ray_head_dashboard_port": 8265},
        {"vllm_serve_executor": "mp", "vllm_serve_master_port": 29501, "vllm_serve_watch_port": 29502},
        # Nothing of Ray runs with executor mp, nothing of mp's with Ray.
        {"vllm_serve_executor": "mp", "spark_api_port": 6379},
        {"spark_api_port": 29501},
        {"spark_api_port": "8000"},
        # No page, no port of it.
        {"spark_api_port": 8242},
    ],
)
def test_what_is_stated_or_free_is_no_clash(values: dict[str, Any]) -> None:
    assert said(**values) == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"chat_ui_enabled": True, "chat_ui_port": 8235},
            "chat_ui_port and spark_api_port are both 8235",
        ),
        (
            {"spark_api_port": 8265},
            "spark_api_port is 8265, the port of Ray dashboard on the head: give one of them another",
        ),
        (
            {"spark_api_port": 6380},
            "spark_api_port is 6380, the port of Ray node manager on the same node: choose another",
        ),
        ({"spark_api_port": 6379}, "spark_api_port is 6379, the port of Ray head (GCS) on the head: give one"),
        ({"spark_api_port": 22}, "spark_api_port is 22, the port of SSH on the same node: choose another port"),
        ({"ray_head_port": 22}, "ray_head_port is 22, the port of SSH on the same node"),
        ({"spark_api_port": 10150}, "spark_api_port is 10150, the port of Ray worker processes on the same node"),
        ({"spark_api_port": 2049}, "spark_api_port is 2049, the port of NFS on the head: choose another port"),
        ({"vllm_serve_port": 9000, "ray_head_port": 9000}, "ray_head_port and vllm_serve_port are both 9000"),
        ({"ray_head_dashboard_port": 52365}, "ray_head_dashboard_port is 52365, the port of Ray dashboard agent, HTTP"),
        ({"serving_image_share_port": 8235}, "serving_image_share_port and spark_api_port are both 8235"),
        (
            {"vllm_serve_executor": "mp", "spark_api_port": 29502},
            "spark_api_port is 29502, the port of watch over the ranks",
        ),
        ({"spark_api_port": 0}, "spark_api_port is 0, expected a TCP port from 1 to 65535"),
        ({"ray_head_port": 70000}, "ray_head_port is 70000, expected a TCP port"),
    ],
)
def test_anothers_port_is_refused(values: dict[str, Any], sentence: str) -> None:
    (problem,) = said(**values)
    assert sentence in problem


def test_what_only_several_nodes_need_takes_no_port_on_one() -> None:
    assert said(1, spark_api_port=2049) == []
    assert [found.listener.name for found in open_ports({"vllm_serve_executor": "mp"}, "head", 1)] == [
        "SSH",
        "endpoint",
        "watchdog",
    ]


def test_the_preflight_asks_for_the_ports_of_the_executor() -> None:
    values = {"spark_api_port": 8000, "ray_head_port": 6400}
    agents = {6380, 6381, 6382, 6383, 6384, 52365}
    head, worker = (port_needs(values, kind, 2) for kind in ("head", "worker"))
    assert {need["port"] for need in head} == {8000, 6400, 8265, 8237, 10001} | agents
    assert {need["port"] for need in worker} == agents
    assert all(need["units"] == ["spark-ray-head.service", "spark-ray-worker.service"] for need in worker)
    # The gateway's port too, should it be turned off just now.
    assert head[0] == {"port": 8000, "units": ["spark-vllm.service", "spark-gateway.service"]}
    guarded = port_needs({**values, "gateway_enabled": True}, "head", 2)
    assert guarded[0] == {"port": 8000, "units": ["spark-gateway.service", "spark-vllm.service"]}
    assert guarded[1] == {"port": 8238, "units": ["spark-vllm.service"]}
    without_ray = {"vllm_serve_executor": "mp", "vllm_serve_watch_port": 30000}
    assert {need["port"] for need in port_needs(without_ray, "head", 2)} == {8235, 8237, 29501, 30000}
    assert port_needs(without_ray, "worker", 2) == [{"port": 30000, "units": ["spark-vllm-worker.service"]}]


def test_another_kind_of_node_is_refused() -> None:
    with pytest.raises(ValueError, match="kind of node is 'store', expected head or worker"):
        open_ports({}, "store", 2)


def test_every_port_of_a_role_is_in_the_table() -> None:
    table = {name: listener.default for listener in LISTENERS for name in listener.settings}
    found = {}
    for path in ROOT.glob("roles/*/defaults/main.yml"):
        defaults = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        found |= {name: value for name, value in defaults.items() if name.endswith("_port")}
    assert set(found) - set(MIRRORS) == set(table) - {"spark_api_port"}
    stated = {name: value for name, value in found.items() if isinstance(value, int)}
    assert {"ray_head_port", "vllm_serve_watch_port", "model_share_port"} <= set(stated)
    assert stated == {name: table[name] for name in stated}
    assert SHARED["spark_api_port"]["default"] == table["spark_api_port"]


def test_ports_that_programs_know_are_those_of_the_table() -> None:
    by_name = {listener.name: listener for listener in LISTENERS}
    assert by_name["share of the image"].default == by_name["share of the weights"].default == DEFAULT_PORT
    assert by_name["measurement of the link"].default == BENCH_PORT
    assert by_name["rendezvous of the link's NCCL run"].default == NCCL_PORT
    assert all(listener.reach == "loopback" for listener in LISTENERS if listener.address == "loopback")


def test_a_packet_filter_finds_ssh_on_every_node() -> None:
    for kind, nodes in (("head", 1), ("head", 2), ("worker", 2)):
        (ssh,) = [
            found for found in open_ports({}, kind, nodes) if found.listener.reach == "anyone" and found.first == 22
        ]
        assert ssh.listener.owners == ("ssh.service",)


def test_ports_that_are_meant_to_be_open_come_first() -> None:
    """SSH's own number on the way to the node, and what the settings name: a filter lets them pass, a scan takes them for meant."""
    rows = filter_rows({"ansible_port": "2222", "packet_filter_open_ports": [3000, 29500]}, "head", 2)
    assert [(row["name"], row["first"], row["reach"]) for row in rows[:4]] == [
        ("SSH", 2222, "anyone"),
        ("packet_filter_open_ports", 3000, "anyone"),
        ("packet_filter_open_ports", 29500, "anyone"),
        ("SSH", 22, "anyone"),
    ]
    assert {"ansible_port", "packet_filter_open_ports"} <= set(settings_asked())
