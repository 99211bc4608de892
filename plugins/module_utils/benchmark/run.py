# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""One point of a benchmark: how ``vllm bench serve`` is called, and what its JSON says.

The load comes from vLLM's own benchmark in the serving container, so that the figures can be compared with those of others. Rates
are computed here from its start times and latencies of each request, because its own throughput counts prompt and answer together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..vllm.serving import Server

#: The key of the server inside its container (vllm_serve mounts it), and the variable that vLLM's benchmark reads a key from.
KEY_IN_CONTAINER = "/run/secrets/api_key"
KEY_VARIABLE = "OPENAI_API_KEY"
#: A prompt of one token crashes vLLM 0.32 for CPUs; below a handful, special tokens leave nothing to draw at random.
MIN_PROMPT_TOKENS = 8
MIN_OUTPUT_TOKENS = 2
#: Seconds between TERM and KILL for a benchmark that takes too long.
GRACE = 5
# Reads the key where it is a file, and becomes the program: no process list and no `docker inspect` ever shows it.
_SCRIPT = (
    f'if [ -r {KEY_IN_CONTAINER} ]; then {KEY_VARIABLE}="$(cat {KEY_IN_CONTAINER})"; export {KEY_VARIABLE}; fi; '
    'mkdir -p "$1"; shift; exec "$@"'
)


class BenchmarkError(Exception):
    """One sentence for the user."""


@dataclass(frozen=True)
class Load:
    """What is asked of the server at one point.

    Attributes:
        concurrency: requests at a time.
        prompt_tokens: tokens of each prompt, drawn at random.
        output_tokens: tokens of each answer; the end-of-text token is ignored so that all have this length.
        requests: requests in all.
        seed: what the prompts are drawn from. Another run needs another one, or the prefix cache answers for the model.
    """

    concurrency: int
    prompt_tokens: int
    output_tokens: int
    requests: int
    seed: int

    def __post_init__(self) -> None:
        bounds = {
            "concurrency": (self.concurrency, 1),
            "prompt_tokens": (self.prompt_tokens, MIN_PROMPT_TOKENS),
            "output_tokens": (self.output_tokens, MIN_OUTPUT_TOKENS),
            "requests": (self.requests, 1),
            "seed": (self.seed, 0),
        }
        for name, (value, least) in bounds.items():
            if value < least:
                raise ValueError(f"{name} is {value}, expected at least {least}")

    def words(self) -> str:
        """Return what is asked, for a person."""
        at = "one request at a time" if self.concurrency == 1 else f"{self.concurrency} requests at a time"
        return (
            f"{at}, {self.prompt_tokens} tokens of prompt and {self.output_tokens} of answer, {self.requests} requests"
        )


def bench_argv(load: Load, server: Server, folder: str, timeout: float) -> list[str]:
    """Return the command to run in the serving container; it writes ``folder``/result.json there and holds no key."""
    argv = [
        *("vllm", "bench", "serve", "--backend", "openai", "--endpoint", "/v1/completions"),
        *("--base-url", server.base_url, "--model", server.model, "--tokenizer", server.tokenizer),
        *("--dataset-name", "random", "--random-input-len", str(load.prompt_tokens)),
        *("--random-output-len", str(load.output_tokens), "--num-prompts", str(load.requests)),
        *("--max-concurrency", str(load.concurrency), "--seed", str(load.seed), "--ignore-eos", "--temperature", "0"),
        *(
            "--save-result",
            "--save-detailed",
            "--disable-tqdm",
            "--result-dir",
            folder,
            "--result-filename",
            "result.json",
        ),
    ]
    if server.trust_remote_code:
        argv.append("--trust-remote-code")
    # `docker exec` that is killed leaves its process behind: the limit is kept inside.
    limit = ["timeout", f"--kill-after={GRACE}", f"{timeout:g}"]
    return ["/bin/sh", "-c", _SCRIPT, "bench", folder, *limit, *argv]


@dataclass(frozen=True)
class Point:
    """What was measured under one load.

    Attributes:
        prompt_tokens: as asked; prompt_tokens_counted is the mean that the server counted, as random tokens may join when they are read again.
        ttft_s: median seconds from sending a request to its first token; ttft_p99_s for the slowest.
        tpot_ms: median milliseconds for each further token of a request.
        itl_p99_ms: milliseconds between two tokens that 1 in 100 gaps exceeds: how it stutters.
        decode_tok_s_request: tokens a second that one request sees after its first token.
        decode_tok_s_total: tokens after the first, of all requests together, for each second in which any request was being answered.
        prefill_tok_s: prompt tokens for each second in which any request waited for its first token.
        output_tok_s: vLLM's own output throughput, prefill time included.
        seconds: how long the load lasted.
    """

    concurrency: int
    prompt_tokens: int
    prompt_tokens_counted: int
    output_tokens: int
    requests: int
    completed: int
    failed: int
    ttft_s: float
    ttft_p99_s: float
    tpot_ms: float
    itl_p99_ms: float
    decode_tok_s_request: float
    decode_tok_s_total: float
    prefill_tok_s: float
    output_tok_s: float
    seconds: float

    def as_facts(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the seconds that lie in at least one of the intervals (start, end)."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        if end > reached:
            total += end - max(start, reached)
            reached = end
    return total


def read_point(text: str, load: Load) -> Point:
    """Return the point from the JSON that ``vllm bench serve --save-result --save-detailed`` wrote.

    Raises:
        BenchmarkError: it is no such document, or requests failed.
    """
    try:
        document = json.loads(text)
    except ValueError:
        raise BenchmarkError("vllm bench serve wrote a result that is not JSON: is its disk full?") from None
    if not isinstance(document, Mapping):
        raise BenchmarkError("vllm bench serve wrote a result that is not an object")
    completed, failed = _count(document, "completed"), _count(document, "failed")
    if completed < load.requests:
        errors = [str(error).strip() for error in document.get("errors") or [] if str(error).strip()]
        last = errors[0].splitlines()[-1][:200] if errors else "no reason given"
        raise BenchmarkError(
            f"{load.requests - completed} of {load.requests} requests failed ({last}): see `journalctl -u spark-vllm`"
        )
    columns = {
        name: _column(document, name, completed) for name in ("input_lens", "output_lens", "start_times", "ttfts")
    }
    starts, firsts = columns["start_times"], columns["ttfts"]
    latencies = _latencies(document, completed, firsts)
    prefill = covered((start, start + first) for start, first in zip(starts, firsts, strict=True))
    decode = covered(
        (start + first, start + latency)
        for start, first, latency in zip(starts, firsts, latencies, strict=True)
        if latency > first
    )
    tpot = _number(document, "median_tpot_ms")
    return Point(
        concurrency=load.concurrency,
        prompt_tokens=load.prompt_tokens,
        prompt_tokens_counted=round(sum(columns["input_lens"]) / completed),
        output_tokens=load.output_tokens,
        requests=load.requests,
        completed=completed,
        failed=failed,
        ttft_s=_figures(_number(document, "median_ttft_ms") / 1000),
        ttft_p99_s=_figures(_number(document, "p99_ttft_ms") / 1000),
        tpot_ms=_figures(tpot),
        itl_p99_ms=_figures(_number(document, "p99_itl_ms")),
        decode_tok_s_request=_figures(1000 / tpot if tpot else 0.0),
        decode_tok_s_total=_figures(
            sum(max(tokens - 1, 0) for tokens in columns["output_lens"]) / decode if decode else 0.0
        ),
        prefill_tok_s=_figures(sum(columns["input_lens"]) / prefill if prefill else 0.0),
        output_tok_s=_figures(_number(document, "output_throughput")),
        seconds=_figures(_number(document, "duration")),
    )


def _figures(value: float) -> float:
    """Four figures: more would claim a precision that no run repeats."""
    return float(f"{value:.4g}")


def _count(document: Mapping[str, Any], name: str) -> int:
    value = document.get(name, 0)
    return value if isinstance(value, int) else 0


def _number(document: Mapping[str, Any], name: str) -> float:
    value = document.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise BenchmarkError(
            f"the result of vllm bench serve has no number {name}: this version of vLLM is not known here"
        )
    return float(value)


def _column(document: Mapping[str, Any], name: str, length: int) -> list[float]:
    values = document.get(name)
    if not isinstance(values, Sequence) or len(values) != length:
        raise BenchmarkError(
            f"the result of vllm bench serve has no {name} for each of {length} requests: this version of vLLM is not known here"
        )
    return [float(value) for value in values]


def _latencies(document: Mapping[str, Any], length: int, firsts: Sequence[float]) -> list[float]:
    """Return seconds to the last token of each request; vLLM before 0.30 gives the gaps between tokens instead."""
    if isinstance(document.get("latencies"), list):
        return _column(document, "latencies", length)
    gaps = document.get("itls")
    if not isinstance(gaps, list) or len(gaps) != length:
        raise BenchmarkError(
            "the result of vllm bench serve has neither latencies nor itls: this version of vLLM is not known here"
        )
    return [first + sum(gap) for first, gap in zip(firsts, gaps, strict=True)]


# --- what the server counted meanwhile ----------------------------------------------------------------------


def counted(before: Mapping[str, Any], after: Mapping[str, Any], load: Load) -> dict[str, Any]:
    """Return what the server's counters say of the time of a load, from /metrics before and after.

    Returns:
        ``prefix_hit_share`` (0..1 of the prompt tokens; None where not told), ``preemptions``, ``other_requests`` (finished and not ours).
    """

    def moved(name: str) -> float | None:
        first, last = before.get(name), after.get(name)
        if not isinstance(first, (int, float)) or not isinstance(last, (int, float)) or last < first:
            return None
        return last - first

    queries, hits, done = (
        moved("prefix_cache_queries_total"),
        moved("prefix_cache_hits_total"),
        moved("request_success_total"),
    )
    preempted = moved("num_preemptions_total")
    return {
        "prefix_hit_share": round(hits / queries, 4) if queries and hits is not None else None,
        "preemptions": None if preempted is None else int(preempted),
        "other_requests": None if done is None else max(int(done) - load.requests, 0),
    }


def busy_reason(metrics: Mapping[str, Any]) -> str:
    """Say that others use the server; empty where nobody does."""
    running, waiting = (int(metrics.get(f"num_requests_{kind}") or 0) for kind in ("running", "waiting"))
    if not running and not waiting:
        return ""
    parts = [f"{count} {kind}" for count, kind in ((running, "running"), (waiting, "waiting")) if count]
    total = running + waiting
    return (
        f"others use the endpoint now ({' and '.join(parts)} request{'' if total == 1 else 's'}): both would be slower and the figures worth "
        "nothing; wait, or set vllm_benchmark_while_busy to measure all the same"
    )
