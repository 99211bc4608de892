# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Two machines serve one model: what a user relies on, before and after both plugs were pulled."""

from __future__ import annotations

import json

from endpoint import CALCULATE, api_key, ask, chat, wait_until_active
from testinfra.host import Host


def test_the_endpoint_comes_up_by_itself(host: Host) -> None:
    for unit in ("spark-ray-head", "spark-vllm"):
        wait_until_active(host, unit)


def test_ray_has_exactly_two_nodes_that_live(host: Host) -> None:
    with host.sudo():
        answer = host.check_output(
            'curl --silent --header "Authorization: Bearer $(cat /etc/dgx-spark/secrets/cluster_token)" '
            "'http://127.0.0.1:8265/api/v0/nodes?detail=true'"
        )
    nodes = json.loads(answer)["data"]["result"]["result"]
    assert sorted(node["node_ip"] for node in nodes if node["state"] == "ALIVE") == ["192.168.100.10", "192.168.100.11"]


def test_ray_asks_for_its_token(host: Host) -> None:
    status = host.check_output(
        "curl --silent --output /dev/null --write-out '%{http_code}' http://127.0.0.1:8265/api/v0/nodes"
    )
    assert status == "401"


def test_the_model_is_spread_over_both_nodes(host: Host) -> None:
    with host.sudo():
        argv = json.loads(host.check_output("cat /etc/dgx-spark/containers/spark-vllm.json"))["argv"]
    assert argv[argv.index("--tensor-parallel-size") + 1] == "2"
    assert argv[argv.index("--distributed-executor-backend") + 1] == "ray"


def test_a_question_is_answered(host: Host) -> None:
    assert "Paris" in chat("What is the capital of France?", api_key(host))["content"]


def test_a_tool_call_comes_back_parsed(host: Host) -> None:
    message = chat("What is 127 factorial?", api_key(host), tools=[CALCULATE], tool_choice="auto")
    (call,) = message["tool_calls"]
    assert call["function"]["name"] == "calculate"
    assert "127" in json.loads(call["function"]["arguments"])["expression"]


def test_without_the_key_there_is_no_answer(host: Host) -> None:
    assert ask("/v1/models")[0] == 401
    assert ask("/v1/models", key="wrong-key")[0] == 401
