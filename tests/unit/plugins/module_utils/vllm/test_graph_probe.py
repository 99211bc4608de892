# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A trial's questions against a server that misbehaves."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.http_json import HttpClient
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm import graph_probe
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.graph_probe import (
    GraphProbe,
    Pace,
    ProbeFailed,
    parse_answer,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.graph_trial import compare

from tests.unit.plugins.vllm_stand_in import StandIn, stand_in

QUICK = Pace(answer_s=1.0, stall_s=0.5, soak_s=0.6, concurrency=3, longest_answer=120)


def probe(server: StandIn) -> GraphProbe:
    return GraphProbe(HttpClient(server.url), "tiny", QUICK)


def test_the_same_server_twice() -> None:
    with stand_in() as server:
        one, two = probe(server).alone(), probe(server).together()
    found = compare(one, two)
    assert (len(one), found.equal, found.problems) == (len(graph_probe.PROMPTS), len(graph_probe.PROMPTS), [])
    assert all(len(answer.tokens) == graph_probe.COMPARED_TOKENS for answer in one)


@pytest.mark.parametrize(
    ("behaviour", "ties", "said"),
    [("tie", 8, ""), ("text", 0, "one that eager did not consider"), ("stutter", 0, "times in a row")],
)
def test_another_server(behaviour: str, ties: int, said: str) -> None:
    with stand_in() as eager, stand_in(behaviour) as graphs:
        found = compare(probe(eager).alone(), probe(graphs).alone())
    assert found.ties == ties
    assert bool(found.problems) == bool(said)
    assert all(said in problem for problem in found.problems)


@pytest.mark.parametrize(
    ("behaviour", "kind", "said"),
    [
        ("hang", "hang", "no answer of 48 tokens within 1 s"),
        ("crash", "crash", "broke off"),
        ("error", "crash", "EngineCore encountered an issue"),
        ("nan", "crash", "the model's numbers are broken"),
    ],
)
def test_a_server_that_fails_an_answer(behaviour: str, kind: str, said: str) -> None:
    with stand_in(behaviour, after=3) as server, pytest.raises(ProbeFailed, match=said) as caught:
        probe(server).together()
    assert caught.value.kind == kind


def test_a_soak_has_short_requests_in_a_row_and_long_ones_at_once() -> None:
    with stand_in() as server:
        soak = probe(server).soak()
    assert soak.requests == server.streams >= graph_probe.SHORT_REQUESTS + QUICK.concurrency
    assert server.longest == QUICK.longest_answer
    assert soak.tokens > soak.requests
    assert soak.seconds >= QUICK.soak_s
    assert soak.tokens_per_s > 0


@pytest.mark.parametrize("after", [4, 25], ids=["in the short ones", "in the mixed ones"])
@pytest.mark.parametrize("behaviour", ["hang", "hang in stream"])
def test_a_soak_that_hangs(behaviour: str, after: int) -> None:
    with stand_in(behaviour, after) as server, pytest.raises(ProbeFailed, match=r"no token for 0\.5 s") as caught:
        probe(server).soak()
    assert caught.value.kind == "hang"


@pytest.mark.parametrize("behaviour", ["crash", "error"])
def test_a_soak_that_breaks_off(behaviour: str) -> None:
    with stand_in(behaviour, 28) as server, pytest.raises(ProbeFailed, match="broke off") as caught:
        probe(server).soak()
    assert caught.value.kind == "crash"


def test_nobody_there() -> None:
    with stand_in() as server:
        url = server.url
    with pytest.raises(ProbeFailed, match="Connection refused"):
        GraphProbe(HttpClient(url), "tiny", QUICK).alone()


@pytest.mark.parametrize(
    "document",
    [{}, {"choices": []}, {"choices": [{"text": "a", "logprobs": None}]}, [], None],
)
def test_answers_without_numbers(document: Any) -> None:
    with pytest.raises(ValueError, match="no tokens with log probabilities"):
        parse_answer(document)


def test_first_tokens_have_no_alternatives_in_some_versions() -> None:
    choice = {"text": "ab", "logprobs": {"tokens": ["a", "b"], "top_logprobs": [None, {"b": -0.5}]}}
    assert parse_answer({"choices": [choice]}).likeliest == ({}, {"b": -0.5})
