# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the watchdog says of a server, over courses of samples as they were seen on GPUs and on the simulated pair."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import verdict as v
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.verdict import Judge, Sample, Verdict

FLOOR = 15.0
#: Seen on two GPUs as two hosts over TCP.
PREFILL = 1746.0


def figures(running: int = 0, waiting: int = 0, tokens: int = 0, kv: float = 0.0, prompts: int = 0) -> dict[str, Any]:
    return {
        "num_requests_running": running,
        "num_requests_waiting": waiting,
        "generation_tokens_total": tokens,
        "prompt_tokens_total": prompts,
        "kv_cache_usage_perc": kv,
        "request_success_total": 0,
        "num_preemptions_total": 0,
    }


def sample(at: float, **more: Any) -> Sample:
    given: dict[str, Any] = {
        "at": at,
        "active": "active",
        "sub": "running",
        "up_s": at,
        "prefill": PREFILL,
        "step_tokens": 2048,
        "kv_tokens": 110_000,
        "metrics": figures(),
    }
    return Sample(**{**given, **more})


def course(judge: Judge, *samples: Sample) -> Verdict:
    said = Verdict("", "")
    for one in samples:
        said = judge.judge(one)
    return said


def serving(until: float = 400.0) -> Judge:
    """Return a judge that saw a server be idle for longer than the grace after a start."""
    judge = Judge(FLOOR)
    course(judge, *(sample(at / 1.0) for at in range(0, int(until) + 1, 2)))
    return judge


def verdicts(judge: Judge, begin: float, seconds: float, **more: Any) -> Iterator[tuple[float, Verdict]]:
    at = begin
    while at <= begin + seconds:
        yield at, judge.judge(sample(at, **more))
        at += 2.0


def first(judge: Judge, state: str, begin: float, seconds: float, **more: Any) -> float | None:
    return next((at - begin for at, said in verdicts(judge, begin, seconds, **more) if said.state == state), None)


def test_a_stopped_rank_is_hung_within_twenty_seconds() -> None:
    judge = serving()
    course(judge, *(sample(402.0 + n, metrics=figures(8, 0, tokens=100 * n, kv=0.1)) for n in range(0, 20, 2)))
    seconds = first(judge, v.HUNG, 422.0, 120.0, metrics=figures(8, 0, tokens=1800, kv=0.1))
    assert seconds is not None and seconds <= 20.0


def test_the_verdict_names_its_figures() -> None:
    judge = serving()
    *_, (_at, said) = verdicts(judge, 402.0, 60.0, metrics=figures(8, 0, tokens=1800, kv=0.1))
    assert said.sick
    assert "frozen_s" in said.line() and "allowed_s" in said.line() and "running 8" in said.line()


def test_the_longest_prefill_is_not_hung() -> None:
    """32,768 tokens in chunks of 2,048 at 1,746 tokens a second: no token for 19 s and more, yet blocks are taken at each step."""
    judge = serving()
    for step in range(16):
        begin = 402.0 + step * 4.0
        said = course(
            judge, *(sample(begin + part, metrics=figures(1, 0, kv=0.02 * (step + 1))) for part in (0.0, 2.0))
        )
        assert said.state == v.BUSY


@pytest.mark.parametrize("chunk", [2048, 8192, 16384])
@pytest.mark.parametrize("context", [0, 32_768, 100_000])
@pytest.mark.parametrize("rate", [100.0, 400.0, 1746.0, 10_000.0])
def test_one_step_of_prefill_is_not_hung_at_any_rate(chunk: int, context: int, rate: float) -> None:
    judge = serving()
    kv_tokens = 110_000
    step = chunk / rate * (1 + context / v.CONTEXT_TOKENS)
    more = {
        "prefill": rate,
        "step_tokens": chunk,
        "kv_tokens": kv_tokens,
        "metrics": figures(1, 1, 5, context / kv_tokens),
    }
    assert first(judge, v.HUNG, 402.0, 2.5 * step, **more) is None


def test_before_a_rate_was_seen_a_slow_machine_is_assumed() -> None:
    judge = serving()
    seconds = first(judge, v.HUNG, 402.0, 900.0, prefill=None, step_tokens=0, metrics=figures(1))
    assert seconds is not None and seconds + 2.0 >= 8192 / v.UNSEEN_PREFILL * v.MARGIN


def test_sixty_four_requests_at_once_are_saturated_not_hung() -> None:
    judge = serving()
    said = course(judge, *(sample(402.0 + n, metrics=figures(16, 48, tokens=10 * n, kv=0.9)) for n in range(0, 120, 2)))
    assert said.state == v.SATURATED
    assert "48 wait" in said.reason


def test_a_slow_first_request_after_a_start_is_not_hung() -> None:
    judge = Judge(FLOOR)
    course(judge, sample(0.0, active="activating", sub="start-post"), sample(2.0))
    assert first(judge, v.HUNG, 4.0, 115.0, metrics=figures(1)) is None


def test_the_grace_after_a_start_ends_with_the_first_answers() -> None:
    judge = Judge(FLOOR)
    course(judge, sample(0.0))
    answered = {**figures(1), "request_success_total": 10}
    assert first(judge, v.HUNG, 2.0, 60.0, metrics=answered) is not None


def test_a_watchdog_that_was_started_again_gives_no_new_grace() -> None:
    judge = Judge(FLOOR)
    seconds = first(judge, v.HUNG, 5000.0, 60.0, metrics=figures(1), up_s=4000.0)
    assert seconds is not None and seconds <= 20.0


def test_compiling_kernels_is_not_hung() -> None:
    judge = serving()
    assert first(judge, v.HUNG, 402.0, 600.0, metrics=figures(2, 0, 7, 0.1), compiling=True) is None


def test_the_power_of_work_gives_time_and_that_of_a_deadlock_does_not() -> None:
    spinning = first(serving(), v.HUNG, 402.0, 300.0, metrics=figures(2, 0, 7, 0.1), watts=22.0)
    working = first(serving(), v.HUNG, 402.0, 300.0, metrics=figures(2, 0, 7, 0.1), watts=80.0)
    assert spinning is not None and working is not None
    assert working >= 2 * FLOOR > spinning


def test_a_paused_machine_is_not_hung() -> None:
    judge = serving()
    course(judge, sample(402.0, metrics=figures(4, 0, 100, 0.1)), sample(404.0, metrics=figures(4, 0, 100, 0.1)))
    # An hour in which nothing ran, the watchdog included; then the same figures for a moment, and they move.
    assert course(judge, sample(4004.0, metrics=figures(4, 0, 100, 0.1))).state == v.BUSY
    assert course(judge, sample(4006.0, metrics=figures(4, 0, 140, 0.1))).state == v.BUSY


def test_clients_that_come_and_go_are_no_progress() -> None:
    judge = serving()
    found = [
        course(judge, sample(402.0 + n, metrics=figures(1 + n % 3, n % 2, 50, 0.1))).state for n in range(0, 40, 2)
    ]
    assert v.HUNG in found


def test_an_engine_that_froze_while_idle_is_mute() -> None:
    judge = serving()
    said = course(judge, *(sample(402.0 + n, asked=float(n)) for n in range(0, 26, 2)))
    assert said.state == v.MUTE
    assert said.figures["asked_s"] > FLOOR


def test_a_server_that_refuses_its_own_completion_is_mute() -> None:
    assert course(serving(), sample(402.0, refused="POST /v1/completions answered 500")).state == v.MUTE


def test_a_page_that_never_answers_is_hung_and_a_storm_is_not() -> None:
    judge = serving()
    assert first(judge, v.HUNG, 402.0, 30.0, metrics=None) is None
    assert first(judge, v.HUNG, 434.0, 60.0, metrics=None) is not None


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({"active": "inactive", "sub": "dead", "stop_flag": True}, v.STOPPED),
        ({"active": "inactive", "sub": "dead"}, v.DEAD),
        ({"active": "failed", "sub": "failed"}, v.DEAD),
        ({"active": "inactive", "sub": "dead", "held": "held after 3 failures"}, v.HELD),
        ({"active": "activating", "sub": "start-pre", "waits_for": "nothing answers on 192.168.100.11"}, v.WAITING),
        ({"active": "activating", "sub": "start-post", "progress": "weights read: 40 %"}, v.LOADING),
        ({"active": "activating", "sub": "auto-restart"}, v.DEAD),
        ({"active": "deactivating", "sub": "stop"}, v.DRAINING),
        ({"active": "unknown"}, v.DEAD),
    ],
)
def test_a_server_that_does_not_serve_is_told_by_its_unit(more: dict[str, Any], state: str) -> None:
    said = course(serving(), sample(402.0, metrics=None, **more))
    assert said.state == state
    assert not said.sick


def test_a_new_start_begins_with_a_clean_slate() -> None:
    judge = serving()
    frozen = figures(8, 0, 1800, 0.1)
    assert first(judge, v.HUNG, 402.0, 60.0, metrics=frozen) is not None
    course(judge, sample(470.0, active="activating", sub="start-post"))
    assert course(judge, sample(472.0, metrics=frozen)).state == v.BUSY
