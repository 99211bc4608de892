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
from dataclasses import dataclass, field
from typing import Any

from ..system.http_json import HttpClient, HttpError

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
        reason: why it is not serving, in words; empty when it is.
    """

    reachable: bool = False
    health_status: int | None = None
    version: str = ""
    models: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    reason: str = ""

    @property
    def healthy(self) -> bool:
        """True when /health answered 200."""
        return self.health_status == 200

    @property
    def serving(self) -> bool:
        """True when healthy, and the model asked for (or any, if none was) is listed."""
        return self.healthy and not self.reason

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
            "reason": self.reason,
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
        state.reason = _not_healthy(client.base_url, error)
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
        state.reason = _no_models(client.base_url, error)
        return state
    listed = [entry["id"] for entry in state.models]
    if not listed:
        state.reason = f"the server at {client.base_url} is healthy but lists no model"
    elif model is not None and model not in listed:
        state.reason = (
            f"the server at {client.base_url} is healthy but serves {', '.join(listed)} instead of {model}: "
            "it runs with another served model name"
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


def _not_healthy(base_url: str, error: HttpError) -> str:
    if error.refused:
        return f"no server answers at {base_url} ({error}): it is not running, or still loading the model"
    if error.status == 503:
        return f"the engine of the server at {base_url} is dead (/health answers 503): restart it, and see its journal"
    if error.status is not None:
        return f"/health at {base_url} answers {error.status}: it is not vLLM, or something in front of it refuses"
    return str(error)


def _no_models(base_url: str, error: HttpError) -> str:
    if error.status in (401, 403):
        return f"the server at {base_url} refuses the API key ({error.status}): give the key that it was started with"
    return f"the server at {base_url} is healthy but does not list its models: {error}"
