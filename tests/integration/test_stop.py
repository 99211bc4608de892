# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What clients see of a planned stop, and of a restart of the whole cluster."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from endpoint import MODEL, URL, api_key, chat
from testinfra.host import Host

from tests.integration.conftest import Playbook

#: vllm_serve_drain_timeout, and what a request may take beyond it.
DRAIN_S, MARGIN_S = 30, 15
CLIENTS = 4
#: So long that a stop meets answers that run.
TOKENS = 300
QUESTION = "What is the capital of France?"


@dataclass
class Request:
    """One request and how it ended: ``right``, ``error`` with what the client was told, ``wrong``, or ``hangs``."""

    begun: float
    ended: float = 0.0
    outcome: str = "hangs"
    told: str = ""


@dataclass
class Traffic:
    """Clients that stream answers one after the other until they are told to end."""

    key: str
    requests: list[Request] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Traffic:
        self.threads = [threading.Thread(target=self.client) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(DRAIN_S + MARGIN_S + 10)

    def client(self) -> None:
        while not self.over.is_set():
            request = Request(time.monotonic())
            self.requests.append(request)
            try:
                request.outcome, request.told = self.ask()
            except TimeoutError:
                request.outcome = "hangs"
            except (OSError, http.client.HTTPException) as error:
                request.outcome, request.told = "error", type(error).__name__
            request.ended = time.monotonic()
            if request.outcome != "right":
                time.sleep(0.5)

    def ask(self) -> tuple[str, str]:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": QUESTION}],
            "max_tokens": TOKENS,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
        }
        host, _, port = URL.removeprefix("http://").partition(":")
        line = http.client.HTTPConnection(host, int(port), timeout=DRAIN_S + MARGIN_S)
        try:
            line.request(
                "POST",
                "/v1/chat/completions",
                json.dumps(body),
                {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"},
            )
            answer = line.getresponse()
            if answer.status != 200:
                return "error", f"HTTP {answer.status}"
            return self.read(answer)
        finally:
            line.close()

    def read(self, answer: http.client.HTTPResponse) -> tuple[str, str]:
        text, reason = "", ""
        for raw in answer:
            data = raw.decode().strip().removeprefix("data: ")
            if data == "[DONE]":
                if reason == "abort":
                    return "error", "finish_reason abort"
                return ("right", "") if "Paris" in text and reason == "length" else ("wrong", text[:80])
            event = json.loads(data) if data else {}
            if "error" in event:
                return "error", "event in the stream"
            for choice in event.get("choices", ()):
                text += choice["delta"].get("content") or ""
                reason = choice.get("finish_reason") or reason
        return "error", "the stream was closed"


def summary(requests: list[Request], stopped: float) -> str:
    """Return what the clients saw from the stop on: each outcome, how often, and when last; then the longest request."""
    counts = Counter(f"{request.outcome} {request.told}".strip() for request in requests)
    last = {f"{request.outcome} {request.told}".strip(): request.ended - stopped for request in requests}
    told = [f"{counts[name]} x {name}, last after {last[name]:.1f} s" for name in counts]
    return "; ".join(
        [*told, f"longest {max((request.ended - request.begun for request in requests), default=0):.1f} s"]
    )


#: What a client is told that comes while the server stops, or after.
REFUSED = {
    "HTTP 500",
    "HTTP 503",
    "finish_reason abort",
    "ConnectionRefusedError",
    "ConnectionResetError",
    "BrokenPipeError",
    "RemoteDisconnected",
}
#: What a client is told whose answer was cut.
CUT = {"the stream was closed", "event in the stream", "IncompleteRead"}


def stop_under_traffic(playbook: Playbook, head: Host) -> tuple[list[Request], str]:
    """Run stop.yml while clients stream; return the requests that ended after it began, and what they saw in words."""
    with Traffic(api_key(head)) as traffic:
        deadline = time.monotonic() + 120
        while sum(request.outcome == "right" for request in list(traffic.requests)) < CLIENTS:
            assert time.monotonic() < deadline, "nothing is served: there is no traffic to stop"
            time.sleep(0.2)
        time.sleep(0.5)
        begun = time.monotonic()
        stop = playbook("playbooks/stop.yml")
        took = time.monotonic() - begun
    assert stop.status == "successful", stop.output[-3000:]
    seen = [request for request in traffic.requests if request.ended == 0.0 or request.ended > begun]
    told = f"stop.yml took {took:.0f} s: {summary(seen, begun)}"
    print(told)
    return seen, told


def test_a_stop_lets_running_requests_end_and_none_hangs(playbook: Playbook, head: Host) -> None:
    seen, told = stop_under_traffic(playbook, head)
    assert {request.outcome for request in seen} <= {"right", "error"}, told
    assert all(request.ended - request.begun <= DRAIN_S + MARGIN_S for request in seen), told
    # What ran when the server heard of the stop has ended right: none was cut.
    assert {request.told for request in seen if request.outcome == "error"} <= REFUSED, told
    assert sum(request.outcome == "right" for request in seen) >= CLIENTS, told


def test_a_restart_is_refused_while_the_stop_flag_is_set(playbook: Playbook) -> None:
    run = playbook("playbooks/restart.yml")
    assert run.status == "failed"
    assert "stop flag is set" in run.failures[0]
    assert run.changed == set()


@pytest.mark.long
def test_without_a_drain_requests_are_cut_and_none_hangs(playbook: Playbook, head: Host) -> None:
    # Stopped as it is, the pair takes the setting into its units and starts nothing.
    assert "stop flag is set" in playbook(extra={"vllm_serve_drain_timeout": 0}).failures[-1]
    start = playbook("playbooks/start.yml")
    assert start.status == "successful", start.output[-3000:]
    seen, told = stop_under_traffic(playbook, head)
    assert {request.outcome for request in seen} <= {"right", "error"}, told
    assert {request.told for request in seen if request.outcome == "error"} <= REFUSED | CUT, told
    whole = max(request.ended - request.begun for request in seen if request.outcome == "right")
    assert all(request.ended - request.begun <= whole + MARGIN_S for request in seen), told
    assert "stop flag is set" in playbook().failures[-1]


def test_a_start_serves_again(playbook: Playbook, head: Host) -> None:
    start = playbook("playbooks/start.yml")
    assert start.status == "successful", start.output[-3000:]
    assert "Paris" in chat(QUESTION, api_key(head))["content"]


@pytest.mark.long
def test_a_restart_takes_every_container_anew_in_order(
    playbook: Playbook, head: Host, containers: Callable[[], dict[str, str]]
) -> None:
    before = containers()
    run = playbook("playbooks/restart.yml")
    assert run.status == "successful", run.output[-3000:]
    after = containers()
    assert set(before) == set(after) == {"spark-ray-head", "spark-ray-worker", "spark-vllm"}
    assert not set(before.values()) & set(after.values())
    named = [task.removeprefix("Set the state of the unit: ") for task in run.tasks if "Set the state of" in task]
    # A stop asks no node what it has, so it names the units of both executors.
    steps = [step for step in named if "spark-vllm-worker" not in step]
    assert steps == [
        "spark-vllm stopped",
        "spark-ray-worker stopped",
        "spark-ray-head stopped",
        "spark-ray-head started",
        "spark-ray-worker started",
        "spark-vllm started",
    ]
    assert "Paris" in chat(QUESTION, api_key(head))["content"]
