# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Asks a running server what a trial of CUDA graphs needs to know: greedy answers to fixed prompts, and a short soak.

A hang is told from outside: requests are open and no token of any of them comes. ``/health`` stays green then, and vLLM itself
gives up after five minutes.
"""

from __future__ import annotations

import json
import math
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..system.http_json import HttpClient, HttpError
from .graph_trial import CRASH, HANG, Answer

#: Fixed prompts of several kinds: prose, facts, code, numbers, another language, a list. Their answers need not be right.
PROMPTS = (
    "The capital of France is",
    "Question: What is 17 + 26? Answer:",
    "def fibonacci(n):\n    ",
    "Once upon a time, a small computer on a desk",
    '{"name": "Ada", "languages": ["',
    "Die drei Grundfarben sind",
    "1, 2, 4, 8, 16,",
    "The steps to make a cup of tea are: first,",
)
#: Tokens of a compared answer; those of requests in the soak. Two Sparks were seen to hang 200 to 900 tokens into an answer
#: (vllm#46253), and within twenty short requests without a pause (vllm#40969): the soak has both.
COMPARED_TOKENS = 48
SOAK_TOKENS = (16, 1024, 64, 256)
SHORT_REQUESTS = 24
SHORT_TOKENS = 16
#: Alternatives whose log probability is asked for: enough to see a tie.
LIKELIEST = 5


@dataclass(frozen=True)
class Pace:
    """Limits in seconds: for one whole answer that may compile kernels, without any token before it is a hang, and of the soak."""

    answer_s: float = 600
    stall_s: float = 90
    soak_s: float = 180
    concurrency: int = 4
    longest_answer: int = 1024


class ProbeFailed(Exception):
    """The server failed a trial: ``kind`` is hang or crash; one sentence."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass
class Soak:
    """What came out of a soak."""

    requests: int = 0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second over all requests."""
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass
class _Progress:
    """Shared by the soak's threads."""

    soak: Soak = field(default_factory=Soak)
    last: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)
    errors: queue.Queue[HttpError] = field(default_factory=queue.Queue)


class GraphProbe:
    """Asks one server.

    Args:
        client: its address and key; the client's own time limit is not used for streams that take longer.
        model: served name.
        pace: limits.
    """

    def __init__(self, client: HttpClient, model: str, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()
        self.model = model
        limit = self.pace.answer_s + self.pace.soak_s
        self._client = HttpClient(client.base_url, token=client.token, timeout=limit)

    def alone(self) -> list[Answer]:
        """Return the answers to the fixed prompts, asked one after the other."""
        return [self._watched([prompt])[0] for prompt in PROMPTS]

    def together(self) -> list[Answer]:
        """Return the answers to the fixed prompts, asked four at a time: another batch size is another captured graph."""
        size = max(self.pace.concurrency, 1)
        found: list[Answer] = []
        for start in range(0, len(PROMPTS), size):
            found += self._watched(PROMPTS[start : start + size])
        return found

    def soak(self) -> Soak:
        """Load the server for a while: short requests one after the other, then several at once, short and long mixed.

        Raises:
            ProbeFailed: no token came for ``stall_s``, or the server broke off.
        """
        state = _Progress(last=time.monotonic())
        started = time.monotonic()

        def short() -> None:
            for number in range(SHORT_REQUESTS):
                self._stream(PROMPTS[number % len(PROMPTS)], SHORT_TOKENS, state)

        self._run([short], state)
        until = time.monotonic() + self.pace.soak_s

        def mixed(offset: int) -> None:
            number = offset
            while time.monotonic() < until and state.errors.empty():
                tokens = min(SOAK_TOKENS[number % len(SOAK_TOKENS)], self.pace.longest_answer)
                self._stream(PROMPTS[number % len(PROMPTS)], tokens, state)
                number += 1

        self._run([lambda offset=offset: mixed(offset) for offset in range(self.pace.concurrency)], state)
        state.soak.seconds = round(time.monotonic() - started, 1)
        return state.soak

    # --- how ---

    def _run(self, jobs: Sequence[Any], state: _Progress) -> None:
        """Run jobs in threads and watch that tokens come. The threads are daemons: a hung server cannot hold the process."""

        def guarded(job: Any) -> None:
            try:
                job()
            except HttpError as error:
                state.errors.put(error)

        state.last = time.monotonic()
        threads = [threading.Thread(target=guarded, args=(job,), daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(0.1)
            if not state.errors.empty():
                break
            if time.monotonic() - state.last > self.pace.stall_s:
                raise ProbeFailed(
                    HANG,
                    f"no token for {self.pace.stall_s:g} s with requests open, after {state.soak.requests} requests and "
                    f"{state.soak.tokens} tokens",
                )
        if not state.errors.empty():
            raise ProbeFailed(CRASH, f"the server broke off: {state.errors.get()}")

    def _stream(self, prompt: str, tokens: int, state: _Progress) -> None:
        body = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
        came = 0
        for _seconds, data in self._client.post_stream("/v1/completions", body):
            if data == "[DONE]":
                break
            problem = _stream_problem(data)
            if problem:
                raise HttpError(f"the stream says {problem}")
            came += 1
            with state.lock:
                state.soak.tokens += 1
                state.last = time.monotonic()
        if not came:
            raise HttpError("a stream ended without a token")
        with state.lock:
            state.soak.requests += 1
            state.last = time.monotonic()

    def _watched(self, prompts: Sequence[str]) -> list[Answer]:
        """Ask all prompts at once; the first answers after a start may take long, because kernels are compiled."""
        answers: dict[int, Answer] = {}
        errors: list[Exception] = []

        def ask(number: int, prompt: str) -> None:
            try:
                answers[number] = self._ask(prompt)
            except (HttpError, ValueError) as error:
                errors.append(error)

        threads = [
            threading.Thread(target=ask, args=(number, prompt), daemon=True) for number, prompt in enumerate(prompts)
        ]
        for thread in threads:
            thread.start()
        until = time.monotonic() + self.pace.answer_s
        for thread in threads:
            while thread.is_alive() and not errors:
                thread.join(0.1)
                if time.monotonic() > until:
                    raise ProbeFailed(HANG, f"no answer of {COMPARED_TOKENS} tokens within {self.pace.answer_s:g} s")
        if errors:
            raise ProbeFailed(CRASH, f"the server broke off: {errors[0]}")
        return [answers[number] for number in range(len(prompts))]

    def _ask(self, prompt: str) -> Answer:
        body = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": COMPARED_TOKENS,
            "temperature": 0,
            "ignore_eos": True,
            "logprobs": LIKELIEST,
            "return_tokens_as_token_ids": True,
        }
        return parse_answer(self._client.post_json("/v1/completions", body))


def parse_answer(document: Any) -> Answer:
    """Return the answer in a response of ``/v1/completions`` with log probabilities.

    Raises:
        ValueError: it holds none, or a log probability that is no number.
    """
    try:
        choice = document["choices"][0]
        said = choice["logprobs"]
        tokens = tuple(str(token) for token in said["tokens"])
        likeliest = tuple(
            {str(token): _finite(value) for token, value in (row or {}).items()} for row in said["top_logprobs"]
        )
        text = str(choice["text"])
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError("the answer holds no tokens with log probabilities") from error
    return Answer(tokens, likeliest, text)


def _finite(value: Any) -> float:
    """Return a log probability; a model whose numbers broke answers with something that is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ValueError(f"a log probability is {value!r}: the model's numbers are broken")
    return float(value)


def _stream_problem(data: str) -> str:
    try:
        event = json.loads(data)
    except ValueError:
        return f"something that is not JSON: {data[:80]!r}"
    if isinstance(event, Mapping) and event.get("error"):
        return str(event["error"])[:200]
    return ""
