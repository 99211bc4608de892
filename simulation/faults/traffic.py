# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Constant traffic of prompts whose answers are known, and what became of each request.

Every request ends as one of: right, wrong (an answer that is not the known one: must never be), error (an HTTP error, a stream that ends
with an error event, a refused or closed connection: a client can act on it), silent (no byte for SILENT_S: must never be).
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

RIGHT, WRONG, ERROR, SILENT = "right", "wrong", "error", "silent"
#: A client that hears nothing for this long hangs: no recovery may keep it waiting longer.
SILENT_S = 90.0
#: Seconds between the requests of one client: the machine is to have time for more than them.
PAUSE_S = 0.5
PROMPTS = (
    "What is the capital of France?",
    "What is the capital of Japan?",
    "What is the capital of Italy?",
    "Tell me about Ray.",
)


@dataclass(frozen=True)
class Outcome:
    """What became of a request: seconds of the monotonic clock, one of the four words, and the error in a few words."""

    sent: float
    ended: float
    kind: str
    detail: str = ""


@dataclass
class Client:
    """An OpenAI client over one connection for each request; `url` with `/v1`."""

    url: str
    key: str
    model: str

    def ask(self, prompt: str, stream: bool, tokens: int = 24) -> str:
        """Return the answer.

        Raises:
            TimeoutError: no byte for SILENT_S.
            RuntimeError: an error that the server or the network told.
        """
        parts = urlsplit(self.url)
        line = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=SILENT_S)
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": stream,
        }
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        try:
            line.request("POST", f"{parts.path}/chat/completions", json.dumps(body), headers)
            answer = line.getresponse()
            if answer.status != 200:
                raise RuntimeError(f"HTTP {answer.status}")
            if not stream:
                return str(json.loads(answer.read())["choices"][0]["message"]["content"])
            return self._stream(answer)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError) as error:
            raise RuntimeError(type(error).__name__) from error
        finally:
            line.close()

    @staticmethod
    def _stream(answer: http.client.HTTPResponse) -> str:
        text, ended = "", False
        for raw in answer:
            line = raw.decode("utf-8", "replace").strip()
            if not line.startswith("data:"):
                continue
            data = line[5:].strip()
            if data == "[DONE]":
                ended = True
                break
            event = json.loads(data)
            if "error" in event:
                raise RuntimeError("error event in the stream")
            for choice in event.get("choices", []):
                text += choice.get("delta", {}).get("content") or ""
        if not ended:
            raise RuntimeError("stream closed before its end")
        return text


@dataclass
class Traffic:
    """Clients that ask for ever, in threads; every second one streams."""

    client: Client
    clients: int = 3
    outcomes: list[Outcome] = field(default_factory=list)
    _known: dict[str, str] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def learn(self, prompts: Sequence[str] = PROMPTS) -> None:
        """Ask each prompt twice while all is well; only what is answered alike is a known prompt."""
        for prompt in prompts:
            first = self.client.ask(prompt, False)
            if first and first == self.client.ask(prompt, True):
                self._known[prompt] = first
        if not self._known:
            raise RuntimeError(
                "the endpoint answers none of the prompts alike twice: nothing can be told right from wrong"
            )

    def start(self) -> None:
        """Begin to ask."""
        for number in range(self.clients):
            thread = threading.Thread(target=self._ask_on, args=(number,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End after the requests that run."""
        self._stop.set()
        for thread in self._threads:
            thread.join(SILENT_S + 10)

    def _ask_on(self, number: int) -> None:
        prompts = list(self._known)
        turn = number
        while not self._stop.is_set():
            self.outcomes.append(self.once(prompts[turn % len(prompts)], turn % 2 == 0))
            turn += 1
            self._stop.wait(PAUSE_S)

    def once(self, prompt: str, stream: bool) -> Outcome:
        """Ask once and return what became of it."""
        sent = time.monotonic()
        try:
            answer = self.client.ask(prompt, stream)
        except TimeoutError:
            return Outcome(sent, time.monotonic(), SILENT)
        except RuntimeError as error:
            return Outcome(sent, time.monotonic(), ERROR, str(error))
        right = answer == self._known[prompt]
        return Outcome(sent, time.monotonic(), RIGHT if right else WRONG, "" if right else answer[:80])

    def since(self, moment: float) -> list[Outcome]:
        """Return what ended since a moment."""
        return [outcome for outcome in list(self.outcomes) if outcome.ended >= moment]

    def open_since(self) -> float:
        """Return how long no request ended, in seconds: clients wait."""
        ended = [outcome.ended for outcome in list(self.outcomes)]
        return time.monotonic() - max(ended, default=time.monotonic())


def counted(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Return how many of each kind, and for errors how many of each form."""
    kinds = Counter(outcome.kind for outcome in outcomes)
    kinds.update(f"{ERROR}: {outcome.detail}" for outcome in outcomes if outcome.kind == ERROR)
    return dict(kinds)
