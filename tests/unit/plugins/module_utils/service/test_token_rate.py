# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The rate of the last hour, over restarts of the server and silences."""

from __future__ import annotations

from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.token_rate import SPAN_S, TokenRate


def fed(seconds: int, rate: float, begun: float = 1000.0, start: float = 50_000.0) -> TokenRate:
    """Return what a server made that generates at a rate, looked at every other second."""
    counted = TokenRate()
    for passed in range(0, seconds + 1, 2):
        counted.take(begun + passed, start + rate * passed)
    return counted


def test_nothing_is_known_before_a_minute() -> None:
    assert TokenRate().facts(5.0) == {"hour": None, "span_s": 0.0}
    assert fed(40, 10).facts(1040.0) == {"hour": None, "span_s": 40.0}


def test_what_was_counted_before_the_first_look_is_not_ours() -> None:
    assert fed(600, 10).facts(1600.0) == {"hour": 10.0, "span_s": 600.0}


def test_only_the_last_hour_counts_and_no_more_is_kept() -> None:
    counted = fed(7200, 10)
    for passed in range(7202, 14402, 2):
        counted.take(1000.0 + passed, 50_000.0 + 72_000.0)
    facts = counted.facts(15_400.0)
    assert facts["hour"] == 0.0
    assert facts["span_s"] is not None
    assert SPAN_S <= facts["span_s"] <= SPAN_S + 60
    assert len(counted._kept) <= 62


def test_a_server_that_starts_anew_takes_nothing_away() -> None:
    counted = fed(600, 10)
    counted.take(1602.0, None)
    counted.take(1604.0, 40.0)
    counted.take(2200.0, 600.0)
    assert counted.facts(2200.0)["hour"] == round((6000 + 600) / 1200, 2)
