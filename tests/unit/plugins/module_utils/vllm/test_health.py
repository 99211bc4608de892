# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Reading a vLLM server, over real sockets; the metrics page is recorded from vLLM 0.32.0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.http_json import HttpClient
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.health import (
    COUNTERS,
    GAUGES,
    parse_metrics,
    read_server,
    summarize_metrics,
)

from tests.unit.plugins.fake_server import Reply, closed_port, fake_server

METRICS = (Path(__file__).parents[1] / "fixtures" / "vllm_0_32" / "metrics.txt").read_text()
MODELS = {"object": "list", "data": [{"id": "tiny", "root": "/srv/models/tiny", "max_model_len": 8192}]}


def routes(**changed: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "GET /health": Reply(""),
        "GET /version": Reply({"version": "0.32.0"}),
        "GET /metrics": Reply(METRICS),
        "GET /v1/models": Reply(MODELS),
    }
    return found | {f"GET /{name.replace('_', '/')}": reply for name, reply in changed.items()}


def test_a_server_that_serves() -> None:
    with fake_server(routes(), key="k") as fake:
        state = read_server(HttpClient(fake.url, token="k"), "tiny")
    assert state.serving
    assert state.as_facts() == {
        "reachable": True,
        "healthy": True,
        "health_status": 200,
        "serving": True,
        "version": "0.32.0",
        "models": [{"id": "tiny", "root": "/srv/models/tiny", "max_model_len": 8192}],
        "metrics": summarize_metrics(parse_metrics(METRICS)),
        "reason": "",
    }


def test_a_server_that_is_down() -> None:
    state = read_server(HttpClient(f"http://127.0.0.1:{closed_port()}"), "tiny")
    assert (state.reachable, state.healthy, state.serving) == (False, False, False)
    assert "it is not running, or still loading the model" in str(state.trouble)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"health": Reply("", status=503)}, "is dead (/health answers 503)"),
        ({"health": Reply("", status=404)}, "it is not vLLM"),
        ({"v1_models": Reply({"data": []})}, "lists no model"),
        ({"v1_models": Reply({"data": [{"id": "other"}]})}, "serves other instead of tiny"),
        ({"v1_models": Reply({"x": 1})}, "not an OpenAI-compatible server"),
        ({"v1_models": Reply("boom", status=500)}, "does not list its models"),
    ],
)
def test_a_server_that_does_not_serve(changed: dict[str, Any], words: str) -> None:
    with fake_server(routes(**changed)) as fake:
        state = read_server(HttpClient(fake.url), "tiny")
    assert state.reachable
    assert not state.serving
    assert words in str(state.trouble)


def test_a_refused_key_is_said() -> None:
    with fake_server(routes(), key="k") as fake:
        state = read_server(HttpClient(fake.url, token="wrong"), "tiny")
    assert state.healthy
    assert not state.serving
    assert "refuses the API key (401)" in str(state.trouble)


def test_any_model_will_do_when_none_is_named() -> None:
    with fake_server(routes()) as fake:
        assert read_server(HttpClient(fake.url), None).serving


def test_hidden_version_and_metrics_do_not_matter() -> None:
    with fake_server(routes(version=Reply("", status=404), metrics=Reply("", status=403))) as fake:
        state = read_server(HttpClient(fake.url), "tiny")
    assert state.serving
    assert (state.version, state.metrics) == ("", {})


def test_figures() -> None:
    figures = summarize_metrics(parse_metrics(METRICS))
    assert figures["num_requests_running"] == 0
    assert figures["generation_tokens_total"] > 0
    assert figures["request_success_total"] > 0
    assert 0 <= figures["kv_cache_usage_perc"] <= 1
    assert figures["engine_sleep_state"]["awake"] == 1.0
    assert figures["cache_config"]["block_size"] == "128"
    assert set(figures) == {*GAUGES, *COUNTERS, "cache_config"}


def test_series_of_engines_are_summed_and_shares_averaged() -> None:
    page = """
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_running{engine="1",model_name="m"} 3.0
vllm:kv_cache_usage_perc{engine="0"} 0.2
vllm:kv_cache_usage_perc{engine="1"} 0.4
vllm:engine_sleep_state{engine="0",sleep_state="awake"} 1.0
vllm:engine_sleep_state{engine="0",sleep_state="weights_offloaded"} 0.0
"""
    figures = summarize_metrics(parse_metrics(page))
    assert figures["num_requests_running"] == 5
    assert figures["kv_cache_usage_perc"] == pytest.approx(0.3)
    assert figures["engine_sleep_state"] == {"awake": 1.0, "weights_offloaded": 0.0}
    assert "generation_tokens_total" not in figures


def test_lines_of_the_text_format() -> None:
    page = '# HELP a b\na 1\nb{x="1\\"2\\\\3\\n4",y="}"} 2.5e3 1700000000\nnonsense\nc notanumber\nd NaN\n'
    found = parse_metrics(page)
    assert [(sample.name, sample.labels) for sample in found] == [
        ("a", {}),
        ("b", {"x": '1"2\\3\n4', "y": "}"}),
        ("d", {}),
    ]
    assert found[1].value == 2500.0
