# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Failures are counted by cause and forgiven by serving."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.budget import (
    FORGIVEN_S,
    PAUSES_S,
    WINDOW_S,
    Budget,
)


def test_the_third_failure_of_one_cause_holds() -> None:
    budget = Budget()
    assert budget.fail("hung") == ""
    assert budget.fail("mute") == ""
    assert budget.fail("hung") == ""
    assert "3 failures of the same cause" in budget.fail("hung")


def test_a_start_that_fails_twice_by_the_same_error_holds() -> None:
    budget = Budget()
    assert budget.fail("failed start: no memory", start=True) == ""
    assert budget.fail("failed start: another", start=True) == ""
    assert budget.fail("failed start: no memory", start=True)


def test_many_failures_of_any_cause_hold() -> None:
    budget = Budget()
    assert [bool(budget.fail(f"cause {n}")) for n in range(6)] == [False] * 5 + [True]


def test_slow_starts_that_fail_are_all_in_the_window() -> None:
    """Three loads of 40 minutes, each with the longest pause: the third failure still sees the first."""
    budget = Budget()
    for _start in range(2):
        assert budget.fail("failed start: no memory") == ""
        budget.tick(40 * 60 + PAUSES_S[-1], serving=False)
    assert budget.fail("failed start: no memory")


def test_quick_healthy_starts_are_no_failures() -> None:
    budget = Budget()
    for _start in range(20):
        budget.tick(60, serving=True)
    assert budget.failures == []


def test_serving_wears_failures_off_one_by_one() -> None:
    budget = Budget()
    budget.fail("hung")
    budget.fail("hung")
    budget.tick(FORGIVEN_S / 2, serving=True)
    assert len(budget.failures) == 2
    assert budget.tick(FORGIVEN_S / 2, serving=True)
    assert len(budget.failures) == 1


def test_time_that_does_not_serve_forgives_nothing_before_the_window_ends() -> None:
    budget = Budget()
    budget.fail("hung")
    budget.tick(FORGIVEN_S * 3, serving=False)
    assert len(budget.failures) == 1
    budget.tick(WINDOW_S, serving=False)
    assert budget.failures == []


def test_pauses_grow_and_pass() -> None:
    budget = Budget()
    assert budget.pause() == 0
    for pause in PAUSES_S:
        budget.fail(f"cause {pause}")
        assert budget.pause() == pause
    budget.tick(PAUSES_S[-1], serving=False)
    assert budget.pause() == 0


def test_it_outlives_the_watchdog_and_a_torn_file_is_a_new_budget(tmp_path: Path) -> None:
    path = tmp_path / "budget.json"
    budget = Budget(path)
    budget.fail("hung")
    assert [failure.cause for failure in Budget.load(path).failures] == ["hung"]
    for text in ("{", "[]", '{"failures": 3}', '{"failures": [{"at": "x", "cause": 1}]}'):
        path.write_text(text)
        assert Budget.load(path).failures == []


def test_a_start_by_the_operator_forgets() -> None:
    budget = Budget()
    budget.fail("hung")
    budget.forget()
    assert budget.failures == [] and budget.pause() == 0
