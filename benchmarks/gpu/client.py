# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Decode and prefill rates of a server, from whole answers: no stream, so that the client costs next to nothing.

A request of one token and one of N tokens with as long a prompt differ by N - 1 decode steps and nothing else. Each prompt is made
of fresh random tokens, so that no prefix is ever found in the cache.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.http_json import HttpClient, HttpError

#: Fewest and most new tokens of a decode measurement, and the seconds that it may take.
LEAST_TOKENS, MOST_TOKENS, DECODE_SECONDS = 32, 256, 4.0
#: Ids below are special tokens in most vocabularies.
FIRST_ID = 1000


@dataclass(frozen=True)
class Batch:
    """Requests that ran side by side: seconds until each was answered, and until the last was."""

    seconds: list[float]
    wall_s: float


def decode_point(
    concurrency: int, prompt_tokens: int, output_tokens: int, first: Batch, whole: Batch
) -> dict[str, Any]:
    """Return a point from a batch of one token each and a batch of ``output_tokens`` each.

    Raises:
        ValueError: the longer batch did not take longer.
    """
    steps = output_tokens - 1
    spent = whole.wall_s - first.wall_s
    if spent <= 0 or steps < 1:
        raise ValueError(
            f"{output_tokens} tokens took {whole.wall_s:.3f} s and one token {first.wall_s:.3f} s: no decode rate follows"
        )
    return {
        "concurrency": concurrency,
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "ttft_s": round(statistics.fmean(first.seconds), 5),
        "tpot_ms": round(1000 * spent / steps, 4),
        "decode_tok_s_request": round(steps / spent, 3),
        "decode_tok_s_total": round(concurrency * steps / spent, 3),
    }


def prefill_point(prompt_tokens: int, batches: Sequence[Batch]) -> dict[str, Any]:
    """Return a point from single requests of one new token; the median counts."""
    seconds = statistics.median(batch.wall_s for batch in batches)
    return {
        "concurrency": 1,
        "prompt_tokens": prompt_tokens,
        "output_tokens": 1,
        "ttft_s": round(seconds, 5),
        "prefill_tok_s": round(prompt_tokens / seconds, 1),
    }


def tokens_for(rate: float) -> int:
    """Return how many new tokens to ask for at this many tokens a second and request."""
    return max(LEAST_TOKENS, min(MOST_TOKENS, round(rate * DECODE_SECONDS)))


class Load:
    """Sends batches to one server."""

    def __init__(
        self, url: str, model: str, vocabulary: int, *, timeout: float = 120.0, seed: int | None = None
    ) -> None:
        self.client = HttpClient(url, timeout=timeout)
        self.model = model
        self.vocabulary = vocabulary
        self._random = random.Random(seed)

    def prompt(self, tokens: int) -> list[int]:
        """Return random token ids."""
        low = FIRST_ID if self.vocabulary > 2 * FIRST_ID else 3
        return [self._random.randrange(low, self.vocabulary) for _ in range(tokens)]

    def batch(self, concurrency: int, prompt_tokens: int, output_tokens: int) -> Batch:
        """Send ``concurrency`` requests at once and wait for all.

        Raises:
            HttpError: one of them failed, or was answered with another number of tokens.
        """
        bodies = [
            {
                "model": self.model,
                "prompt": self.prompt(prompt_tokens),
                "max_tokens": output_tokens,
                "temperature": 0,
                "ignore_eos": True,
            }
            for _ in range(concurrency)
        ]
        seconds = [0.0] * concurrency
        errors: list[HttpError] = []
        gate = threading.Barrier(concurrency + 1)

        def send(index: int) -> None:
            gate.wait()
            started = time.monotonic()
            try:
                answer = self.client.post_json("/v1/completions", bodies[index])
                seconds[index] = time.monotonic() - started
                check_usage(answer, prompt_tokens, output_tokens)
            except HttpError as error:
                errors.append(error)

        threads = [threading.Thread(target=send, args=(index,)) for index in range(concurrency)]
        for thread in threads:
            thread.start()
        gate.wait()
        started = time.monotonic()
        for thread in threads:
            thread.join()
        wall = time.monotonic() - started
        if errors:
            raise errors[0]
        return Batch(seconds, wall)

    def measure(
        self, points: Sequence[tuple[int, int]], prefill: Sequence[int], tell: Callable[[str], None] = lambda _: None
    ) -> list[dict[str, Any]]:
        """Return points: decode at each (concurrency, prompt tokens), and prefill at each prompt length."""
        measured: list[dict[str, Any]] = []
        # Kernels that are built on first use, and a first idea of the rate.
        self.batch(1, 128, 4)
        short, longer = self.batch(1, 128, 1), self.batch(1, 128, 17)
        rate = 16 / max(longer.wall_s - short.wall_s, 1e-3)
        for concurrency, prompt_tokens in points:
            output_tokens = tokens_for(rate)
            self.batch(concurrency, prompt_tokens, 2)
            first = min((self.batch(concurrency, prompt_tokens, 1) for _ in range(2)), key=lambda batch: batch.wall_s)
            whole = self.batch(concurrency, prompt_tokens, output_tokens)
            point = decode_point(concurrency, prompt_tokens, output_tokens, first, whole)
            rate = point["decode_tok_s_request"]
            measured.append(point)
            tell(f"{concurrency} x {prompt_tokens}: {rate:.1f} tok/s a request")
        for prompt_tokens in prefill:
            self.batch(1, prompt_tokens, 1)
            point = prefill_point(prompt_tokens, [self.batch(1, prompt_tokens, 1) for _ in range(3)])
            measured.append(point)
            tell(f"prefill {prompt_tokens}: {point['prefill_tok_s']:.0f} tok/s")
        return measured


def check_usage(answer: Any, prompt_tokens: int, output_tokens: int) -> None:
    """Raise HttpError unless the server says that it read and wrote as many tokens as it was asked to."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    seen = (usage.get("prompt_tokens"), usage.get("completion_tokens")) if isinstance(usage, dict) else None
    if seen != (prompt_tokens, output_tokens):
        raise HttpError(f"the answer counts {seen} tokens (prompt, new), expected ({prompt_tokens}, {output_tokens})")
