# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""The demo's talk with the endpoint: a streamed answer and a tool call, as any OpenAI client would ask for them."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from simulation.settings import SimulationError

# Seconds; the first request on two busy cores took 10.
TIMEOUT = 120

CALCULATE = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "Perform calculations",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
    },
}


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible endpoint and the key to it."""

    url: str
    """With `/v1`."""
    key: str

    def _open(
        self, path: str, body: dict[str, Any] | None = None, timeout: float = TIMEOUT
    ) -> http.client.HTTPResponse:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        # The endpoint is on this machine: no proxy.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            response: http.client.HTTPResponse = opener.open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            said = error.read(400).decode(errors="replace").strip()
            raise SimulationError(f"{self.url}{path} answered with HTTP {error.code}: {said}") from error
        except (OSError, http.client.HTTPException) as error:
            raise SimulationError(f"{self.url}{path} does not answer: {error}") from error
        return response

    def model(self, timeout: float = TIMEOUT) -> str:
        """Name of the model that is served. Raises SimulationError when there is none."""
        with self._open("/models", timeout=timeout) as response:
            served = json.load(response).get("data") or []
        if not served:
            raise SimulationError(f"{self.url}/models lists no model.")
        return str(served[0]["id"])

    def stream(self, model: str, question: str, on_text: Callable[[str], None]) -> str:
        """Ask one question and hand over the answer piece by piece. Returns all of it."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": 64,
            "temperature": 0,
            "stream": True,
        }
        answer = ""
        with self._open("/chat/completions", body) as response:
            for text in stream_texts(response):
                on_text(text)
                answer += text
        if not answer:
            raise SimulationError(f"{self.url} streamed an empty answer to '{question}'.")
        return answer

    def call_tool(self, model: str, question: str) -> tuple[str, dict[str, Any]]:
        """Ask a question that needs the calculator; the model decides whether to use it (tool_choice auto).

        Returns the function's name and its arguments. Raises SimulationError where no parsed call comes back.
        """
        body = {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "tools": [CALCULATE],
            "tool_choice": "auto",
            "max_tokens": 128,
            "temperature": 0,
        }
        with self._open("/chat/completions", body) as response:
            return parse_tool_call(json.load(response))


def stream_texts(lines: Iterable[bytes]) -> Iterator[str]:
    """The pieces of text in a stream of server-sent events. Raises SimulationError for an error sent in the stream."""
    for raw in lines:
        line = raw.decode("utf-8").strip()
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        event = json.loads(data)
        if "error" in event:
            raise SimulationError(f"The endpoint broke the stream off: {event['error'].get('message', event['error'])}")
        for choice in event.get("choices", []):
            if text := choice.get("delta", {}).get("content"):
                yield text


def parse_tool_call(answer: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Function and arguments of the tool call in an answer. Raises SimulationError where the call came as text or not at all."""
    message = answer["choices"][0]["message"]
    calls = message.get("tool_calls") or []
    if not calls:
        raise SimulationError(
            f"No tool call came back, but the text {message.get('content')!r}: the tool-call parser does not fit the model."
        )
    function = calls[0]["function"]
    try:
        arguments = json.loads(function["arguments"])
    except ValueError as error:
        raise SimulationError(f"The tool call's arguments are not JSON: {function['arguments']!r}") from error
    return str(function["name"]), arguments
