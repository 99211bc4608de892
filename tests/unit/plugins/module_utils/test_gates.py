# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils import gates


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def answers(*texts: str) -> Callable[[], str]:
    """Each text once, the last one for ever."""
    left: Iterator[str] = iter(texts)
    last = texts[-1]
    return lambda: next(left, last)


def test_a_gate_says_what_it_waits_for_once_and_opens(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    gates.wait_for(answers("no peer", "no peer", "no memory", ""), sleep=clock.sleep, clock=clock)
    assert capsys.readouterr().out.splitlines() == ["waiting: no peer", "waiting: no memory", "no longer waiting"]


def test_a_gate_reminds_each_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    gates.wait_for(answers(*(["no peer"] * 260), ""), sleep=clock.sleep, clock=clock)
    assert capsys.readouterr().out.count("waiting: no peer") == 3


def test_an_open_gate_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    gates.wait_for(lambda: "")
    assert capsys.readouterr().out == ""


def test_weights_need_their_stamp(tmp_path: Path) -> None:
    snapshot = tmp_path / "c0ffee"
    assert "not there" in gates.weights_obstacle(snapshot)
    snapshot.mkdir()
    assert "not verified" in gates.weights_obstacle(snapshot)
    (tmp_path / "c0ffee.verified").write_text("{}")
    assert gates.weights_obstacle(snapshot) == ""


def test_memory_is_the_kernels_available(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       127600748 kB\nMemAvailable:   94371840 kB\n")
    assert gates.memory_obstacle(90, meminfo) == ""
    assert gates.memory_obstacle(91, meminfo).startswith("90.0 GiB of memory are available, 91 GiB are needed")


def test_a_port_that_answers_and_one_that_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert gates.port_obstacle("127.0.0.1", port) == ""
    assert f"127.0.0.1:{port}" in gates.port_obstacle("127.0.0.1", port)


def test_a_start_that_serves() -> None:
    clock = Clock()
    seconds = gates.serve_proof(lambda: "", answers("loading", "loading", ""), 60, sleep=clock.sleep, clock=clock)
    assert seconds == 1


def test_a_start_that_lost_a_rank_is_given_up() -> None:
    clock = Clock()
    with pytest.raises(gates.GateError, match=r"Ray cluster changed under it: 192\.168\.100\.11 is gone"):
        gates.serve_proof(lambda: "192.168.100.11 is gone", lambda: "loading", 3600, sleep=clock.sleep, clock=clock)
    assert 10 <= clock.now < 12


def test_one_bad_answer_of_ray_is_no_lost_rank() -> None:
    clock = Clock()
    ray = answers(*(["busy"] * 15), "", *(["busy"] * 15), "")
    assert gates.serve_proof(ray, answers(*(["loading"] * 40), ""), 60, sleep=clock.sleep, clock=clock) == 20


def test_a_start_whose_server_ended_is_given_up() -> None:
    clock = Clock()
    with pytest.raises(gates.GateError, match="process 4711 ended 0 s after the start"):
        gates.serve_proof(
            lambda: "",
            lambda: "refused",
            3600,
            process=answers("", "the server's process 4711 ended"),
            sleep=clock.sleep,
            clock=clock,
        )


def test_a_process_that_lives_and_one_that_does_not(tmp_path: Path) -> None:
    (tmp_path / "17").mkdir()
    assert gates.process_obstacle("17", tmp_path) == ""
    assert "18" in gates.process_obstacle("18", tmp_path)
    assert gates.process_obstacle("", tmp_path) == ""


def test_a_start_has_a_time_limit() -> None:
    clock = Clock()
    with pytest.raises(gates.GateError, match=r"no completion within 60 s \(loading\)"):
        gates.serve_proof(lambda: "", lambda: "loading", 60, sleep=clock.sleep, clock=clock)


def test_the_exit_status_tells(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> float:
        raise gates.GateError("it is over")

    monkeypatch.setattr(gates, "serve_proof", never)
    assert (
        gates.main(
            [
                "serving",
                "--node",
                "192.0.2.1",
                "--gpus",
                "1",
                "--url",
                "http://127.0.0.1:1",
                "--model",
                "m",
                "--timeout",
                "1",
            ]
        )
        == 1
    )
    assert capsys.readouterr().out == "failed: it is over\n"
    assert gates.main(["memory", "0"]) == 0
