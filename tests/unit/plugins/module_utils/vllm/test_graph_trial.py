# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Modes of CUDA graphs: the choice, the trial record, and what counts as the same answer. All names and versions are invented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm import flags, graph_trial
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.graph_trial import (
    Answer,
    GraphRequest,
    TrialError,
    TrialKey,
    begin,
    choose,
    compare,
    end,
    entry_for,
    find,
    heal,
    own_tie,
    read_record,
    verdict_of,
    write_record,
)

KEY = TrialKey("sha256:a", "c0ffee", 2, "2.30.7")
NOW = "2026-11-23T19:00:00Z"


def entry(**modes: dict[str, Any]) -> dict[str, Any]:
    """An entry of the trial record with these outcomes."""
    return {"key": {**vars(KEY)}, "modes": modes}


PASSED = {"state": "passed", "at": NOW}


def failed(kind: str, **more: Any) -> dict[str, Any]:
    return {"state": "failed", "kind": kind, "reason": f"it was a {kind}", "at": NOW, **more}


# --- the choice ---


@pytest.mark.parametrize(
    ("asked", "known", "mode", "candidates", "said"),
    [
        (GraphRequest(verdict="try"), None, "eager", ("decode", "piecewise"), "until decode or piecewise passed"),
        (GraphRequest(verdict="allowed"), None, "eager", ("decode", "piecewise"), "until"),
        (GraphRequest(verdict="refused", verdict_reason="NCCL is old"), None, "eager", (), "NCCL is old"),
        (GraphRequest(verdict="unknown", verdict_reason="nobody looked"), None, "eager", (), "nobody looked"),
        (GraphRequest("off", "allowed"), None, "eager", (), "as set"),
        # What passed stays without a look at the kernels, which a serving cluster does not get after a boot.
        (GraphRequest(verdict="unknown"), entry(decode=PASSED), "decode", (), "passed on"),
        (GraphRequest(verdict="try"), entry(decode=PASSED), "decode", (), "passed on"),
        (GraphRequest(verdict="refused", verdict_reason="broken"), entry(decode=PASSED), "eager", (), "broken"),
        (GraphRequest("off"), entry(decode=PASSED), "eager", (), "as set"),
        (GraphRequest(verdict="try"), entry(decode=failed("hang")), "eager", ("piecewise",), "until piecewise"),
        (GraphRequest(verdict="try"), entry(decode=failed("text"), piecewise=PASSED), "piecewise", (), "passed on"),
        (
            GraphRequest(verdict="try"),
            entry(decode=failed("hang"), piecewise=failed("crash")),
            "eager",
            (),
            "it was a hang",
        ),
        (GraphRequest(verdict="try"), entry(decode=failed("reboot")), "eager", (), "no further mode"),
        (
            GraphRequest(verdict="try"),
            entry(decode=failed("interrupted", interruptions=1)),
            "eager",
            ("decode", "piecewise"),
            "until",
        ),
        (
            GraphRequest(verdict="try"),
            entry(decode=failed("interrupted", interruptions=2)),
            "eager",
            ("piecewise",),
            "until piecewise",
        ),
        (GraphRequest(verdict="try", order=("full",)), None, "eager", ("full",), "until full"),
        (GraphRequest(verdict="try", pipeline_parallel_size=2), None, "eager", ("piecewise",), "until piecewise"),
        (GraphRequest(verdict="try", order=("decode",), pipeline_parallel_size=2), None, "eager", (), "stages"),
    ],
)
def test_choice(
    asked: GraphRequest, known: dict[str, Any] | None, mode: str, candidates: tuple[str, ...], said: str
) -> None:
    choice = choose(asked, known)
    assert (choice.mode, choice.candidates) == (mode, candidates)
    assert said in choice.reason
    assert choice.warning == ""


@pytest.mark.parametrize(
    ("asked", "known", "mode", "warning"),
    [
        (
            GraphRequest("on", "try", "not tried between these nodes"),
            None,
            "decode",
            "without a trial (not tried between",
        ),
        (GraphRequest("on", "unknown"), None, "decode", "nothing is known of them here"),
        (GraphRequest("on", "allowed"), None, "decode", "without a trial: wrong text"),
        (GraphRequest("on", "refused", "NCCL is old"), None, "eager", "are refused: NCCL is old"),
        (GraphRequest("on", "try"), entry(decode=failed("hang")), "piecewise", "without a trial"),
        (
            GraphRequest("on", "try"),
            entry(decode=failed("hang"), piecewise=failed("text")),
            "eager",
            "every mode failed",
        ),
        (GraphRequest("on", "try"), entry(decode=PASSED), "decode", ""),
    ],
)
def test_on_warns(asked: GraphRequest, known: dict[str, Any] | None, mode: str, warning: str) -> None:
    choice = choose(asked, known)
    assert choice.mode == mode
    assert choice.candidates == ()
    assert warning in choice.warning if warning else choice.warning == ""


def test_full_is_tried_where_no_collective_crosses_machines() -> None:
    assert graph_trial.order_for(1) == ("full", "decode", "piecewise")
    assert "full" not in graph_trial.order_for(2)


def test_the_modes_are_those_that_flags_know() -> None:
    assert set(graph_trial.MODES) == set(flags.GRAPH_MODES)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: GraphRequest("maybe"), "expected auto, on, off"),
        (lambda: GraphRequest(order=("eager",)), "expected full"),
        (lambda: TrialKey("", "c", 1), "image_id is empty"),
        (lambda: TrialKey("a", "c", 0), "nodes is 0"),
    ],
)
def test_values_that_are_none(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


# --- the trial record ---


def test_a_new_image_model_or_nccl_is_tried_anew() -> None:
    record = {"format": 1, "trials": [entry(decode=PASSED)]}
    assert find(record, KEY)
    assert find(record, TrialKey("sha256:a", "c0ffee", 2))
    for other in (
        TrialKey("sha256:b", "c0ffee", 2, "2.30.7"),
        TrialKey("sha256:a", "other", 2, "2.30.7"),
        TrialKey("sha256:a", "c0ffee", 1, "2.30.7"),
        TrialKey("sha256:a", "c0ffee", 2, "2.31.0"),
        TrialKey("sha256:a", "c0ffee", 2, "2.30.7", "mp"),
    ):
        assert find(record, other) is None


def test_the_book_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "lib" / "trials.json"
    record = read_record(path)
    one = entry_for(record, KEY)
    begin(one, "decode", "boot-1", NOW)
    write_record(path, record)
    assert path.stat().st_mode & 0o777 == 0o644
    again = read_record(path)
    assert find(again, KEY) == one
    assert entry_for(again, KEY) is again["trials"][0]
    for broken in ("{", "[]", '{"format": 2, "trials": []}', '{"format": 1, "trials": [{"key": 1}, {}]}'):
        path.write_text(broken)
        assert read_record(path)["trials"] == []


def test_the_book_does_not_grow_for_ever() -> None:
    record: dict[str, Any] = {"format": 1, "trials": []}
    for number in range(25):
        entry_for(record, TrialKey(f"sha256:{number}", "c", 1))
    assert len(record["trials"]) == 20
    assert record["trials"][-1]["key"]["image_id"] == "sha256:24"


def test_a_run_that_was_killed_is_closed() -> None:
    one = entry()
    begin(one, "decode", "boot-1", NOW)
    assert heal(one, "boot-1", NOW) == ["decode: the run ended during the trial"]
    assert choose(GraphRequest(verdict="try"), one).candidates == ("decode", "piecewise")
    begin(one, "decode", "boot-1", NOW)
    heal(one, "boot-1", NOW)
    assert choose(GraphRequest(verdict="try"), one).candidates == ("piecewise",)
    assert heal(one, "boot-1", NOW) == []


def test_a_node_that_went_down_in_a_trial_ends_all_trials() -> None:
    one = entry()
    begin(one, "decode", "boot-1", NOW)
    assert heal(one, "boot-2", NOW) == ["decode: the machine was rebooted during the trial"]
    choice = choose(GraphRequest(verdict="try"), one)
    assert (choice.mode, choice.candidates) == ("eager", ())


def test_the_first_verdict_stays() -> None:
    one = entry()
    begin(one, "decode", "boot-1", NOW)
    end(one, "decode", NOW, kind="hang", reason="no token for 90 s")
    end(one, "decode", NOW, kind="start", reason="the task failed")
    assert one["modes"]["decode"]["kind"] == "hang"
    end(one, "piecewise", NOW, tokens_per_s=9.0)
    assert one["modes"]["piecewise"] == {"state": "passed", "at": NOW, "tokens_per_s": 9.0}
    with pytest.raises(TrialError, match="expected one of full"):
        begin(one, "eager", "boot-1", NOW)


# --- answers ---


def answer(tokens: str, **gaps: float) -> Answer:
    """One token a letter; ``gaps`` names a place and by how much the alternative ``z`` is less likely there."""
    rows = []
    for place, token in enumerate(tokens):
        row = {token: -0.1, "y": -9.0}
        if f"at{place}" in gaps:
            row["z"] = -0.1 - gaps[f"at{place}"]
        rows.append(row)
    return Answer(tuple(tokens), tuple(rows), tokens)


def test_equal_answers() -> None:
    found = compare([answer("abc")] * 3, [answer("abc")] * 3)
    assert (found.equal, found.ties, found.problems) == (3, 0, [])


def test_what_follows_a_tie_may_differ() -> None:
    found = compare([answer("abcde", at2=0.3)], [answer("abzxx")])
    assert (found.equal, found.ties, found.problems) == (0, 1, [])
    assert found.widest == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("eager", "graphs", "said"),
    [
        (
            answer("abcde", at2=1.4),
            answer("abzxx"),
            "prompt 1: token 3 differs, which eager found less likely by 1.4 nats",
        ),
        (answer("abcde"), answer("abqqq"), "one that eager did not consider"),
        (answer("abcde"), answer(""), "no token came"),
        (answer("abcde"), answer("abc"), "3 tokens came, eager gave 5"),
        (answer("abcdefghijklmnop", at0=0.1), answer("z" * 16), "one token 12 times in a row"),
        (Answer(tuple("ab")), Answer(tuple("ac")), "did not consider"),
    ],
)
def test_other_answers(eager: Answer, graphs: Answer, said: str) -> None:
    problems = compare([eager], [graphs]).problems
    assert len(problems) == 1
    assert said in problems[0]


def test_a_model_that_stutters_anyway_may_do_so() -> None:
    assert compare([answer("a" * 16)], [answer("a" * 16)]).problems == []


def test_too_few_answers() -> None:
    assert compare([answer("a")] * 2, [answer("a")]).problems == ["1 answers to 2 prompts"]


def test_the_tie_follows_eager_itself() -> None:
    assert own_tie([answer("ab")], [answer("ab")]) == graph_trial.NEAR_TIE
    assert own_tie([answer("abc", at1=0.8)], [answer("azc")]) == pytest.approx(1.2)
    assert own_tie([answer("abc", at1=1.9)], [answer("azc")]) == graph_trial.WIDEST_TIE


def test_answers_survive_the_book() -> None:
    one = answer("abc", at1=0.2)
    assert Answer.from_dict(json.loads(json.dumps(one.as_dict()))) == one


# --- the runtime's verdict ---


def check(verdict: str, nccl: str = "2.30.7") -> dict[str, Any]:
    """The part of a result of gb10_kernel_check that is read."""
    return {
        "capabilities": {"cuda_graphs": {"verdict": verdict, "reason": f"{verdict} here"}},
        "checks": [{"name": "versions", "details": {"nccl": nccl}}],
    }


@pytest.mark.parametrize(
    ("checks", "verdict", "nccl"),
    [
        ([], "unknown", ""),
        ([{}], "unknown", ""),
        ([check("try"), check("try")], "try", "2.30.7"),
        ([check("allowed"), check("refused")], "refused", "2.30.7"),
        ([check("try"), {}], "unknown", "2.30.7"),
        ([check("try"), check("try", "2.28.9")], "refused", ""),
    ],
)
def test_the_worst_node_decides(checks: list[dict[str, Any]], verdict: str, nccl: str) -> None:
    found = verdict_of(checks)
    assert (found["verdict"], found["nccl"]) == (verdict, nccl)
    assert found["reason"]
