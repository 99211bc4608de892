# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The modules that look and prove, run in process with their arguments as Ansible hands them over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.dgx_spark.vllm.plugins.module_utils.ray.cluster import NODES_PATH, VERSION_PATH
from ansible_collections.dgx_spark.vllm.plugins.modules import (
    node_preflight_info,
    ray_cluster_info,
    vllm_chat_check,
    vllm_server_info,
)

from tests.unit.plugins.fake_server import Reply, chat_route, closed_port, completion, fake_server

RECORDED = Path(__file__).parents[1] / "module_utils" / "fixtures" / "ray_2_60"
HEAD, WORKER = "192.168.100.10", "192.168.100.11"
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a module's main and return its result; a result of fail_json has ``failed``."""

    def call(module: Any, **arguments: Any) -> dict[str, Any]:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


# --- ray_cluster_info ----------------------------------------------------------------------------------------


def ray_routes(name: str) -> dict[str, Any]:
    return {
        f"GET {NODES_PATH}": Reply(json.loads((RECORDED / f"{name}.json").read_text())),
        f"GET {VERSION_PATH}": Reply(json.loads((RECORDED / "version.json").read_text())),
    }


def test_ray_is_ready(run: Run, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0k3n\n")
    with fake_server(ray_routes("nodes_two_alive")) as fake:
        result = run(
            ray_cluster_info,
            dashboard_url=fake.url,
            token_file=str(tmp_path / "token"),
            expected_nodes=[HEAD, WORKER],
            expected_gpus=2,
        )
    assert result["ready"] is True
    assert result["changed"] is False
    assert (result["reason"], result["alive"], result["gpus_alive"]) == ("", [HEAD, WORKER], 2)
    assert result["msg"].startswith("Ray 2.60.0: 2 nodes alive")
    assert {asked.authorization for asked in fake.asked} == {"Bearer t0k3n"}


def test_ray_is_not_ready(run: Run) -> None:
    with fake_server(ray_routes("nodes_worker_killed")) as fake:
        result = run(ray_cluster_info, dashboard_url=fake.url, expected_nodes=[HEAD, WORKER], _ansible_check_mode=True)
    assert (result["reachable"], result["ready"], result["dead"]) == (True, False, [WORKER])
    assert result["msg"] == result["reason"]
    assert f"{WORKER} is dead" in result["reason"]


def test_ray_is_down(run: Run, tmp_path: Path) -> None:
    result = run(ray_cluster_info, dashboard_url=f"http://127.0.0.1:{closed_port()}", token_file=str(tmp_path / "none"))
    assert "failed" not in result
    assert (result["reachable"], result["ready"]) == (False, False)
    assert "none cannot be read on this node: No such file or directory" in result["reason"]


def test_ray_with_an_unusable_address(run: Run) -> None:
    result = run(ray_cluster_info, dashboard_url="127.0.0.1:8265")
    assert result["failed"] is True
    assert "expected http://<host>:<port>" in result["msg"]


# --- vllm_server_info ----------------------------------------------------------------------------------------

SERVER: dict[str, Any] = {
    "GET /health": Reply(""),
    "GET /version": Reply({"version": "0.32.0"}),
    "GET /metrics": Reply('vllm:generation_tokens_total{engine="0"} 5.0\n'),
    "GET /v1/models": Reply({"data": [{"id": "tiny", "max_model_len": 8192}]}),
}


def test_server_serves(run: Run, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    with fake_server(SERVER, key="k") as fake:
        result = run(vllm_server_info, base_url=fake.url, model="tiny", api_key_file=str(tmp_path / "key"))
    assert result["serving"] is True
    assert result["metrics"] == {"generation_tokens_total": 5}
    assert result["msg"] == f"vLLM 0.32.0 at {fake.url} serves tiny (up to 8192 tokens)"


def test_server_without_its_key_file(run: Run, tmp_path: Path) -> None:
    with fake_server(SERVER, key="k") as fake:
        result = run(vllm_server_info, base_url=fake.url, model="tiny", api_key_file=str(tmp_path / "none"))
    assert result["serving"] is False
    assert "refuses the API key (401)" in result["reason"]
    assert "cannot be read on this node" in result["reason"]


def test_server_is_down(run: Run) -> None:
    result = run(vllm_server_info, base_url=f"http://127.0.0.1:{closed_port()}", model="tiny")
    assert "failed" not in result
    assert (result["reachable"], result["serving"]) == (False, False)


# --- vllm_chat_check -----------------------------------------------------------------------------------------


ANY = [{"ask": "Who are you?"}]


def test_chat_passes_and_hides_the_key(run: Run) -> None:
    routes = {"POST /v1/chat/completions": chat_route(text=completion("your key is sk-secret"))}
    with fake_server(routes, key="sk-secret") as fake:
        result = run(vllm_chat_check, base_url=fake.url, model="tiny", api_key="sk-secret", questions=ANY)
    assert result["passed"] == ["authentication", "completion", "stream", "tool_call"]
    assert result["changed"] is False
    assert "sk-secret" not in json.dumps(result)


def test_chat_fails_in_one_sentence(run: Run) -> None:
    routes = {"POST /v1/chat/completions": chat_route(call=completion(None, "stop", 30))}
    with fake_server(routes) as fake:
        result = run(vllm_chat_check, base_url=fake.url, model="tiny", questions=ANY)
    assert result["failed"] is True
    assert result["msg"].startswith(f"tiny at {fake.url}: the tool call vanished: 30 tokens were written")
    assert result["passed"] == ["completion", "stream"]
    assert result["authentication"] == "not checked"


def test_chat_takes_no_wrong_answer(run: Run) -> None:
    with fake_server({"POST /v1/chat/completions": chat_route()}) as fake:
        result = run(vllm_chat_check, base_url=fake.url, model="tiny")
        odd = run(vllm_chat_check, base_url=fake.url, model="tiny", questions=[{"ask": "Who?", "expect": "("}])
    assert "'What is the capital of France?' was answered by 'I am a model.'" in result["msg"]
    assert result["passed"] == []
    assert "expect '(' is no regular expression" in odd["msg"]


def test_chat_does_only_what_is_asked(run: Run) -> None:
    with fake_server({"POST /v1/chat/completions": chat_route()}, key="k") as fake:
        result = run(
            vllm_chat_check,
            base_url=fake.url,
            model="tiny",
            api_key="k",
            checks=["completion"],
            check_authentication=False,
            questions=[{"ask": "Hi"}],
            max_tokens=9,
        )
    assert result["passed"] == ["completion"]
    (asked,) = fake.asked
    assert asked.body is not None
    assert asked.body["messages"][0]["content"] == "Hi"
    assert asked.body["max_tokens"] == 9


def test_chat_sends_nothing_in_check_mode(run: Run) -> None:
    with fake_server({"POST /v1/chat/completions": chat_route()}) as fake:
        result = run(vllm_chat_check, base_url=fake.url, model="tiny", _ansible_check_mode=True)
    assert (result["skipped"], result["changed"], fake.asked) == (True, False, [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_tokens": 0}, "max_tokens 0 is not usable"),
        ({"api_key_file": "/none/key"}, "key file /none/key cannot be read"),
        ({"tools": [{"name": "x"}]}, "tool 1 is not in OpenAI's form"),
        ({"base_url": "nowhere"}, "expected http://<host>:<port>"),
        ({"timeout": 0}, "timeout 0"),
    ],
)
def test_chat_with_unusable_arguments(run: Run, arguments: dict[str, Any], words: str) -> None:
    result = run(vllm_chat_check, **{"base_url": "http://127.0.0.1:9", "model": "tiny"} | arguments)
    assert result["failed"] is True
    assert words in result["msg"]


# --- node_preflight_info -------------------------------------------------------------------------------------


def test_preflight_looks_at_this_machine(run: Run) -> None:
    result = run(
        node_preflight_info,
        fabric_address="127.0.0.1",
        min_memory_gib=0.1,
        paths=[{"path": "/", "need_gib": 0}],
        require_systemd=False,
        require_root=False,
    )
    assert result["problems"] == []
    assert result["node"]["fabric_interface"] == "lo"
    assert result["node"]["memory_total_gib"] > 0.1
    assert "meets the requirements" in result["msg"]


def test_preflight_tells_all_problems(run: Run) -> None:
    result = run(
        node_preflight_info,
        fabric_address="203.0.113.9",
        min_memory_gib=1e6,
        architectures=["z80"],
        min_python="99",
        require_systemd=False,
        require_root=False,
    )
    assert "failed" not in result
    assert len(result["problems"]) == 4
    assert result["msg"] == "; ".join(result["problems"])


def test_preflight_with_unusable_arguments(run: Run) -> None:
    result = run(node_preflight_info, fabric_address="spark-1")
    assert result["failed"] is True
    assert "not an IP address" in result["msg"]
