# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a vLLM server says about itself: health, version, models, and the figures of its /metrics page.

``/health`` alone proves little: it stays 200 while the engine hangs. *Serving* here means healthy and the model listed;
only a completion proves more (module ``vllm_chat_check``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ..report.finding import RED, Finding, fine
from ..system.http_json import HttpClient, HttpError

#: What was checked.
CHECK = "server"

# name{label="value",...} number [timestamp], after the Prometheus text format 0.0.4.
_SAMPLE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?$")
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:\\.|[^"\\])*)"')
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}

# Figures worth a fact, summed over engines (names of vLLM 0.32); counters keep their _total.
GAUGES = (
    "num_requests_running",
    "num_requests_waiting",
    "kv_cache_usage_perc",
    "engine_sleep_state",
)
COUNTERS = (
    "prompt_tokens_total",
    "generation_tokens_total",
    "num_preemptions_total",
    "request_success_total",
    "prefix_cache_queries_total",
    "prefix_cache_hits_total",
    "tool_call_parser_invocations_total",
)
# A share of 1, not a count: several engines are averaged.
_SHARES = frozenset({"kv_cache_usage_perc"})
# One series for each state a sleeping engine can be in; their sum says nothing.
_BY_LABEL = {"engine_sleep_state": "sleep_state"}


@dataclass(frozen=True)
class Sample:
    """One line of a metrics page."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass
class ServerState:
    """What was found; every field has a value also when the server is down.

    Attributes:
        reachable: something that speaks HTTP answered on the address.
        health_status: HTTP status of /health, or None.
        models: id, root and max_model_len of each model listed.
        metrics: figures by the names of GAUGES and COUNTERS, and ``cache_config`` (the labels of cache_config_info).
        trouble: why it is not serving; None when it is.
    """

    reachable: bool = False
    health_status: int | None = None
    version: str = ""
    models: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    trouble: Finding | None = None

    @property
    def healthy(self) -> bool:
        """True when /health answered 200."""
        return self.health_status == 200

    @property
    def serving(self) -> bool:
        """True when healthy, and the model asked for (or any, if none was) is listed."""
        return self.healthy and self.trouble is None

    def as_facts(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "reachable": self.reachable,
            "healthy": self.healthy,
            "health_status": self.health_status,
            "serving": self.serving,
            "version": self.version,
            "models": self.models,
            "metrics": self.metrics,
            "reason": self.trouble.sentence() if self.trouble else "",
        }


def parse_metrics(text: str) -> list[Sample]:
    """Return the samples of a page in the Prometheus text format; lines that are none are passed over."""
    samples = []
    for line in text.splitlines():
        match = None if line.startswith("#") else _SAMPLE.match(line.strip())
        if not match:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        labels = {key: re.sub(r"\\.", _unescape, raw) for key, raw in _LABEL.findall(match[2] or "")}
        samples.append(Sample(match[1], labels, value))
    return samples


def _unescape(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[0], match[0])


def summarize_metrics(samples: list[Sample]) -> dict[str, Any]:
    """Return the figures of GAUGES and COUNTERS that the page holds, and the cache configuration.

    A figure that the page does not have is left out, not zero: versions of vLLM differ in what they show.
    """
    found: dict[str, Any] = {}
    for name in (*GAUGES, *COUNTERS):
        series = [sample for sample in samples if sample.name == f"vllm:{name}"]
        if not series:
            continue
        if name in _BY_LABEL:
            found[name] = {sample.labels.get(_BY_LABEL[name], ""): sample.value for sample in series}
        elif name in _SHARES:
            found[name] = sum(sample.value for sample in series) / len(series)
        else:
            found[name] = _whole(sum(sample.value for sample in series))
    for sample in samples:
        if sample.name == "vllm:cache_config_info":
            found["cache_config"] = {key: value for key, value in sample.labels.items() if key != "engine"}
            break
    return found


def _whole(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def read_server(client: HttpClient, model: str | None) -> ServerState:
    """Ask the server; whatever does not answer ends up in ``reason``, never as an exception."""
    state = ServerState()
    try:
        state.health_status = client.get("/health").status
        state.reachable = True
    except HttpError as error:
        state.health_status = error.status
        state.reachable = error.status is not None
        state.trouble = _not_healthy(client.base_url, error)
        return state
    # Information only: whatever stands in front of vLLM may hide these two pages.
    with suppress(HttpError):
        version = client.get_json("/version")
        state.version = str(version.get("version", "")) if isinstance(version, Mapping) else ""
    with suppress(HttpError):
        state.metrics = summarize_metrics(parse_metrics(client.get("/metrics").text))
    try:
        state.models = _models(client.get_json("/v1/models"))
    except HttpError as error:
        state.trouble = _no_models(client.base_url, error)
        return state
    listed = [entry["id"] for entry in state.models]
    if not listed:
        state.trouble = Finding(
            "vllm.no_model",
            RED,
            CHECK,
            f"the server at {client.base_url} is healthy but lists no model",
            "look at `journalctl --unit spark-vllm` on the head",
        )
    elif model is not None and model not in listed:
        state.trouble = Finding(
            "vllm.other_model",
            RED,
            CHECK,
            f"the server at {client.base_url} is healthy but serves {', '.join(listed)} instead of {model}",
            "ask for the served model name that it runs with, or run playbooks/site.yml to serve the desired one",
        )
    return state


def _models(answer: Any) -> list[dict[str, Any]]:
    rows = answer.get("data") if isinstance(answer, Mapping) else None
    if not isinstance(rows, list):
        raise HttpError("/v1/models answered without a list of models: it is not an OpenAI-compatible server")
    return [
        {"id": str(row.get("id", "")), "root": row.get("root"), "max_model_len": row.get("max_model_len")}
        for row in rows
        if isinstance(row, Mapping)
    ]


def _not_healthy(base_url: str, error: HttpError) -> Finding:
    if error.refused:
        return Finding(
            "vllm.silent",
            RED,
            CHECK,
            f"no server answers at {base_url} ({error}), so it is not running, or still loading the model",
            "look at `systemctl status spark-vllm` on the head, which says what it waits for",
        )
    if error.status == 503:
        return Finding(
            "vllm.engine_dead",
            RED,
            CHECK,
            f"the engine of the server at {base_url} is dead (/health answers 503)",
            "stop and start it with playbooks/stop.yml and playbooks/start.yml, and see its journal",
        )
    if error.status is not None:
        return Finding(
            "vllm.not_vllm",
            RED,
            CHECK,
            f"/health at {base_url} answers {error.status}, so it is not vLLM, or something in front of it refuses",
            "see what listens there, and correct spark_api_port",
        )
    return Finding(
        "vllm.unknown_answer", RED, CHECK, str(error), "see that vLLM, and nothing else, listens on this port"
    )


def _no_models(base_url: str, error: HttpError) -> Finding:
    if error.status in (401, 403):
        return Finding(
            "vllm.key_refused",
            RED,
            CHECK,
            f"the server at {base_url} refuses the API key ({error.status})",
            "give the key that it was started with",
        )
    return Finding(
        "vllm.no_model",
        RED,
        CHECK,
        f"the server at {base_url} is healthy but does not list its models: {error}",
        "look at `journalctl --unit spark-vllm` on the head",
    )


def look(client: HttpClient, model: str | None, no_key: str = "") -> tuple[ServerState, Finding]:
    """Ask and judge; ``no_key`` says why there is none to ask with, which explains a server that refuses."""
    state = read_server(client, model)
    if state.trouble and state.reachable:
        state.trouble = replace(state.trouble, found=state.trouble.found + no_key)
    names = ", ".join(
        entry["id"] + (f" (up to {entry['max_model_len']} tokens)" if entry["max_model_len"] else "")
        for entry in state.models
    )
    said = f"vLLM {state.version or '(version unknown)'} at {client.base_url} serves {names}"
    return state, state.trouble or fine("vllm", CHECK, said)
