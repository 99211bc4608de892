# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""How faults are found and what is made of what clients saw. What the pair does is in tests/integration/test_watchdog.py."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulation.faults import catalog, suite, traffic
from simulation.faults.suite import BEGIN, END, STEADY_S, Result
from simulation.faults.traffic import ERROR, RIGHT, SILENT, WRONG, Client, Outcome, Traffic
from simulation.settings import SimulationError
from tests.unit.plugins.fake_server import Chunks, Reply, Route, chunk, completion, fake_server, text_stream


def seen(*rows: tuple[float, str], begun: float = 1000.0) -> list[Outcome]:
    """Return outcomes that ended so many seconds behind the fault."""
    return [Outcome(begun + ended - 0.5, begun + ended, kind) for ended, kind in rows]


def right(*ended: float) -> list[tuple[float, str]]:
    return [(moment, RIGHT) for moment in ended]


# --- the catalog ------------------------------------------------------------------------------------------------


def test_all_faults_the_quick_ones_and_those_of_a_text() -> None:
    assert catalog.find([], quick=False) == list(catalog.FAULTS)
    quick = catalog.find([], quick=True)
    assert 0 < len(quick) < len(catalog.FAULTS)
    assert all(fault.quick for fault in quick)
    # A name is asked for although it is not quick, and in the catalog's order.
    found = catalog.find(["plug pulled", "kill -9 of the API server"], quick=True)
    assert [fault.name for fault in found] == [
        "kill -9 of the API server",
        "plug pulled on spark-2 for 60 s",
        "plug pulled on spark-2 for 10 min",
        "plug pulled on spark-1 for 45 s",
    ]


@pytest.mark.parametrize("names", [["nonsense"], ["link cut", "nonsense"]])
def test_a_text_that_no_fault_has_is_told(names: list[str]) -> None:
    with pytest.raises(SimulationError, match="No fault is called 'nonsense'"):
        catalog.find(names, quick=False)


def test_names_are_told_apart_and_each_fault_has_its_bound() -> None:
    names = [fault.name for fault in catalog.FAULTS]
    assert len(set(names)) == len(names)
    assert all(0 <= fault.restarts <= 3 and 0 < fault.notice_s < fault.given_up_s for fault in catalog.FAULTS)


def test_what_is_to_be_taken_back_is_so_once() -> None:
    pair = catalog.Pair(None, Client("", "", ""), lambda _line: None)
    done: list[str] = []
    pair.later(60.0, lambda: done.append("healed"))
    (undo,) = pair.undo
    undo()
    undo()
    assert done == ["healed"]


# --- what clients saw -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "seconds"),
    [
        # Nothing was missed.
        (right(1, 2, 3, 4), 0.0),
        ([], 0.0),
        # Slow, and within what is no gap.
        (right(4.9, 9.8), 0.0),
        # A hang that ended well.
        (right(1, 31, 32), 31.0),
        (right(40, 41), 40.0),
        # Two hangs: the last counts.
        (right(1, 20, 21, 50, 51), 50.0),
        # Failures: the first right answer behind the last of them.
        ([*right(1), (2, ERROR), (30, ERROR), *right(31, 32)], 31.0),
        ([(2, ERROR), *right(3, 4), (10, WRONG), *right(11)], 11.0),
        ([*right(1), (90, SILENT), *right(91)], 91.0),
        # An error, then a right answer that was under way, then a hang.
        ([(1, ERROR), *right(1.5, 60, 61)], 60.0),
        # It never came back.
        ([*right(1), (2, ERROR)], None),
        ([(2, ERROR), *right(30), (31, SILENT)], None),
    ],
)
def test_recovery_ends_behind_the_last_failure_or_gap(rows: list[tuple[float, str]], seconds: float | None) -> None:
    assert suite.recovery(seen(*rows), 1000.0) == seconds
    # Clients end in any order.
    assert suite.recovery(seen(*reversed(rows)), 1000.0) == seconds


@pytest.mark.parametrize(
    ("rows", "well"),
    [
        (right(90, 95, 99), True),
        (right(95, 99), False),
        (right(1, 2, 3), False),
        ([*right(90, 95, 99), (98, ERROR)], False),
        ([*right(90, 95, 99), (100 - STEADY_S - 1, ERROR)], True),
        ([*right(90, 95, 99), (99.5, SILENT)], False),
        ([], False),
    ],
)
def test_right_answers_alone_for_a_while_are_a_service(rows: list[tuple[float, str]], well: bool) -> None:
    assert suite.steady(seen(*rows), 1100.0) is well


def test_outcomes_are_counted_by_kind_and_errors_by_form() -> None:
    outcomes = [
        *seen((1, RIGHT), (2, RIGHT)),
        Outcome(0, 1, ERROR, "HTTP 500"),
        Outcome(0, 1, ERROR, "HTTP 500"),
        Outcome(0, 1, ERROR, "ConnectionRefusedError"),
    ]
    assert traffic.counted(outcomes) == {
        RIGHT: 2,
        ERROR: 3,
        "error: HTTP 500": 2,
        "error: ConnectionRefusedError": 1,
    }


# --- the table --------------------------------------------------------------------------------------------------


def result(fault: str = "cut", recovered_s: float | None = 30.0, **more: Any) -> Result:
    given: dict[str, Any] = {
        "clients": {RIGHT: 10, ERROR: 2, "error: HTTP 500": 2},
        "longest_s": 9.0,
        "restarts": 1,
        "allowed_restarts": 1,
        **more,
    }
    return Result(fault, recovered_s, **given)


def cells(results: list[Result], cold_s: float | None = 20.0) -> list[list[str]]:
    """Return the rows below the table's head."""
    lines = [line for line in suite.table(results, cold_s).splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_a_row_says_what_clients_saw_how_long_and_what_the_watchdog_said() -> None:
    (row,) = cells([result(verdict="hung: nothing moves", verdict_s=17.4)])
    assert row == ["cut", "2 error: HTTP 500, 10 right", "30", "1.5", "1", "after 17 s: hung: nothing moves"]


def test_runs_of_one_fault_are_one_row_of_medians_and_the_worst_starts() -> None:
    runs = [result(recovered_s=seconds, restarts=starts) for seconds, starts in ((10.0, 0), (50.0, 2), (30.0, 1))]
    (row, other) = cells([runs[0], result("other"), *runs[1:]])
    assert row == ["cut (median of 3)", "6 error: HTTP 500, 30 right", "30", "1.5", "2", "-"]
    assert other[0] == "other"


def test_one_run_of_three_that_never_came_back_is_never() -> None:
    (row,) = cells([result(), result(recovered_s=None), result()])
    assert row[2] == "**never**"


def test_what_nobody_missed_has_no_ratio_and_so_has_a_run_without_a_yardstick() -> None:
    assert cells([result(recovered_s=0.0)])[0][2:4] == ["0", "-"]
    assert cells([result()], cold_s=None)[0][3] == "-"
    assert suite.table([result()], None).startswith("| fault")
    assert suite.table([result()], 20.4).startswith("A cold start in the same run: 20 s.\n\n| fault")


def test_what_is_not_right_stands_in_its_row_once() -> None:
    wrong = "1 wrong answers, for example 'a | b'"
    (row,) = cells([result(problems=[wrong]), result(problems=[wrong, "spark-2 has 2 ranks"])])
    assert row[-1] == "- **1 wrong answers, for example 'a \\| b'; spark-2 has 2 ranks**"


def test_a_result_in_one_line() -> None:
    said = suite.line(result(verdict="hung", verdict_s=17.4, problems=["2 starts"]), 20.0)
    assert (
        said == "30 s (1.5x cold); clients: 2 error, 10 right; 1 starts; watchdog after 17 s: hung; NOT RIGHT: 2 starts"
    )
    assert suite.line(result(recovered_s=None), None) == "never; clients: 2 error, 10 right; 1 starts"


def test_the_same_as_json() -> None:
    told = json.loads(suite.as_json([result(verdict="hung")], 20.0))
    assert told["cold_start_s"] == 20.0
    assert told["results"][0] | {"fault": "cut", "recovered_s": 30.0, "verdict": "hung"} == told["results"][0]


def test_the_table_is_written_between_its_marks_and_again(tmp_path: Path) -> None:
    page = tmp_path / "faults.md"
    page.write_text(f"# Faults\n\n{BEGIN}\nold\n{END}\n\nBelow.\n", encoding="utf-8")
    for _time in range(2):
        suite.write_docs(page, suite.table([result()], 20.0))
        assert page.read_text(encoding="utf-8") == (
            f"# Faults\n\n{BEGIN}\n{suite.table([result()], 20.0)}{END}\n\nBelow.\n"
        )


@pytest.mark.parametrize("text", ["no marks", f"{BEGIN}\n", f"{END}\n", f"{END}\n{BEGIN}\n"])
def test_a_page_without_marks_is_told_and_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "faults.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(SimulationError, match="has no marks"):
        suite.write_docs(page, "new")
    assert page.read_text(encoding="utf-8") == text


# --- what became of a request -----------------------------------------------------------------------------------

EVENT: Chunks = [chunk(content="Pa"), {"error": {"message": "EngineDeadError"}}]


def once(route: Route, stream: bool) -> Outcome:
    with fake_server({"POST /v1/chat/completions": route}) as server:
        asked = Traffic(Client(f"{server.url}/v1", "key", "m"))
        asked._known["question"] = "Paris"
        return asked.once("question", stream)


@pytest.mark.parametrize(
    ("route", "stream", "kind", "detail"),
    [
        (completion("Paris"), False, RIGHT, ""),
        (text_stream("Pa", "ris"), True, RIGHT, ""),
        (completion("Rome"), False, WRONG, "Rome"),
        (text_stream("Pa"), True, WRONG, "Pa"),
        (Reply({"error": "x"}, status=503), False, ERROR, "HTTP 503"),
        (Reply({"error": "x"}, status=500), True, ERROR, "HTTP 500"),
        (Reply("no JSON"), False, ERROR, "JSONDecodeError"),
        (Reply({"choices": []}), False, ERROR, "IndexError"),
        # Half an answer is no wrong one where the client is told that it is half.
        (text_stream("Pa", done=False), True, ERROR, "stream closed before its end"),
        (Reply(chunks=EVENT), True, ERROR, "error event in the stream"),
    ],
)
def test_each_request_ends_as_one_of_four(route: Route, stream: bool, kind: str, detail: str) -> None:
    outcome = once(route, stream)
    assert (outcome.kind, outcome.detail) == (kind, detail)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_without_a_byte_is_silent(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "SILENT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as stopped:
        # The kernel takes the connection of a process that is stopped.
        asked = Traffic(Client(f"http://127.0.0.1:{stopped.getsockname()[1]}/v1", "key", "m"))
        assert asked.once("question", stream).kind == SILENT


def answers(*texts: str) -> Callable[[str, bool], str]:
    left = iter(texts)
    return lambda _prompt, _stream: next(left)


def test_only_a_prompt_that_is_answered_alike_twice_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client("", "", "")
    monkeypatch.setattr(client, "ask", answers("Paris", "Paris", "Tokyo", "Kyoto", "", ""))
    asked = Traffic(client)
    asked.learn(["France", "Japan", "nothing"])
    assert asked._known == {"France": "Paris"}
    monkeypatch.setattr(client, "ask", answers("a", "b"))
    with pytest.raises(RuntimeError, match="alike twice"):
        Traffic(client).learn(["x"])


def test_the_page_has_every_fault_and_says_where_one_did_not_end_well() -> None:
    from simulation.faults.page import page

    good = page([result(), result("<b>other</b>")], 20.0, "2026-11-27")
    assert "2 faults; every client got a right answer or a clean error." in good
    assert "1. cut" in good and "<b>other" not in good
    assert "class='box verdict green'" in good
    bad = page([result(), result("stopped", None, problems=["2 requests hung"])], None, "2026-11-27")
    assert "1 of 2 faults did not end as they must: stopped." in bad
    assert "class='box verdict red'" in bad


# --- one after the other, and at random -------------------------------------------------------------------------


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], suite.Suite]:
    """Return a suite whose node says under what the ranks run, and whose traffic and clock are stand-ins."""

    class Asking(Traffic):
        def start(self) -> None:
            self.outcomes += [Outcome(0.0, 1.0, RIGHT), Outcome(0.0, 2.0, ERROR, "HTTP 503")]

        def learn(self, _prompts: Any = ()) -> None:
            return

    def made(ray: bool) -> suite.Suite:
        monkeypatch.setattr(suite.Suite, "_client", staticmethod(lambda: Client("", "", "")))
        monkeypatch.setattr(suite.nodes, "execute", lambda *_asked: json.dumps({"ray": ray}))
        monkeypatch.setattr(suite, "Traffic", Asking)
        now = [0.0]
        monkeypatch.setattr(suite.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(suite.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
        return suite.Suite(None, lambda _line: None)

    return made


def test_what_is_rays_own_is_left_out_under_mp(pair: Callable[[bool], suite.Suite]) -> None:
    assert pair(True).possible(catalog.FAULTS) == list(catalog.FAULTS)
    left = pair(False).possible(catalog.FAULTS)
    assert left and not any("Ray" in fault.name or "raylet" in fault.name for fault in left)
    assert [unit for _node, unit in pair(False).units] == ["spark-vllm-worker", "spark-vllm"]
    with pytest.raises(SimulationError, match="None of these faults"):
        pair(False).possible(catalog.find(["raylet"], quick=False))


def test_a_soak_puts_faults_at_random_under_one_traffic(
    pair: Callable[[bool], suite.Suite], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pair(True)
    put: list[str] = []
    traffics: set[int] = set()

    def once(fault: catalog.Fault, asking: Traffic | None = None) -> Result:
        put.append(fault.name)
        traffics.add(id(asking))
        return result(fault.name, recovered_s=45.0)

    monkeypatch.setattr(found, "run", once)
    faults = catalog.find([], quick=True)
    whole = found.soak(faults, 10, 120.0, 7)
    assert len(put) == 5 and len(set(put)) > 1 and len(traffics) == 1
    again, put[:] = list(put), []
    found.soak(faults, 10, 120.0, 7)
    assert put == again
    assert whole.sentence() == (
        "10 minutes, 5 faults (at random, seed 7, one every 120 s or when the pair served again): 1 right, 1 error, 0 wrong, 0 silent; "
        "without an answer for 3.8 minutes of them; 5 starts"
    )
    text = suite.soak_table(whole, 50.0)
    assert text.startswith(whole.sentence()) and "| fault | clients saw |" in text
