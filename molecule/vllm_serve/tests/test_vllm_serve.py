# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The endpoint serves from its unit, closed by default, also after the plug was pulled."""

from __future__ import annotations

from endpoint import CALCULATE, api_key, ask, chat, wait_until_active
from testinfra.host import Host


def test_the_units_become_active_and_start_at_boot(host: Host) -> None:
    for unit in ("spark-ray-head", "spark-vllm", "spark-watchdog"):
        wait_until_active(host, unit)
        assert host.service(unit).is_enabled


def test_a_question_is_answered(host: Host) -> None:
    assert "Paris" in chat("What is the capital of France?", api_key(host))["content"]


def test_a_tool_call_comes_back_parsed(host: Host) -> None:
    message = chat("What is 127 factorial?", api_key(host), tools=[CALCULATE], tool_choice="auto")
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["calculate"]


def test_without_the_key_there_is_no_answer(host: Host) -> None:
    assert ask("/v1/models")[0] == 401


def test_no_secret_is_where_others_look(host: Host) -> None:
    key = api_key(host)
    with host.sudo():
        token = host.check_output("cat /etc/dgx-spark/secrets/cluster_token").strip()
        places = {
            "units": host.run("cat /etc/systemd/system/spark-*.service /etc/dgx-spark/containers/*").stdout,
            "process list": host.run("ps -eo args").stdout,
            "docker inspect": host.run("docker inspect spark-ray-head spark-vllm").stdout,
            "journal": host.run("journalctl --no-pager --unit 'spark-*' --output cat").stdout,
            "Ray's logs": host.run(f"grep -rl -e {key} -e {token} /var/lib/dgx-spark/ray || true").stdout,
        }
    for place, text in places.items():
        assert place == "Ray's logs" or len(text) > 100, f"{place} is empty, so that this test proves nothing"
        assert key not in text, f"the API key is in the {place}"
        assert token not in text, f"the cluster's token is in the {place}"
    assert places["Ray's logs"] == ""


def test_secrets_are_for_root_only(host: Host) -> None:
    with host.sudo():
        for name in ("api_key", "cluster_token"):
            assert host.file(f"/etc/dgx-spark/secrets/{name}").mode == 0o400
        assert host.file("/etc/dgx-spark/secrets").mode == 0o700


def test_the_dashboard_is_on_loopback_only(host: Host) -> None:
    with host.sudo():
        listening = host.check_output("ss --listening --tcp --numeric --no-header")
    dashboards = [line.split()[3] for line in listening.splitlines() if line.split()[3].endswith(":8265")]
    assert dashboards == ["127.0.0.1:8265"]
