# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""The command line reads what it acts on."""

from __future__ import annotations

from typing import Any

import pytest

from simulation import __main__ as command
from simulation import engine, machines, nodes, settings
from simulation.host import Report


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What the commands would do to Docker."""
    done: list[tuple[str, dict[str, Any]]] = []

    def record(name: str) -> Any:
        def call(client: object, progress: object, *given: Any, **options: Any) -> Report:
            done.append((name, {"given": given, **options}))
            return Report()

        return call

    monkeypatch.setattr(engine, "ask", lambda: engine.Answer.YES)
    monkeypatch.setattr(engine, "ensure", lambda progress: object())
    monkeypatch.setattr(machines, "down", lambda progress: Report())
    monkeypatch.setattr(nodes, "prepare", lambda progress, **options: options)
    for name in ("up", "down", "reboot", "unplug", "plug", "cut", "heal"):
        monkeypatch.setattr(nodes, name, record(name))
    return done


ONE, TWO = settings.NODES


@pytest.mark.parametrize(
    ("line", "name", "options"),
    [
        ("up", "up", {"given": ({"folders": True, "hub": True},), "nodes": settings.NODES, "owner": "demo"}),
        (
            "up spark-1 --owner molecule:x --no-hub --bare",
            "up",
            {"given": ({"folders": False, "hub": False},), "nodes": [ONE], "owner": "molecule:x"},
        ),
        ("down --owner x --cache", "down", {"given": (), "cache": True, "owner": "x"}),
        ("down", "down", {"given": (), "cache": False, "owner": None}),
        ("reboot spark-1 spark-2 --hard", "reboot", {"given": ([ONE, TWO],), "hard": True}),
        ("unplug spark-2", "unplug", {"given": ([TWO],), "hard": True}),
        ("unplug spark-2 --soft", "unplug", {"given": ([TWO],), "hard": False}),
        ("plug spark-2 --no-wait", "plug", {"given": ([TWO],), "wait": False}),
        ("cut spark-1 --network fabric", "cut", {"given": ([ONE], [settings.FABRIC])}),
        ("heal spark-1", "heal", {"given": ([ONE], list(settings.NETWORKS))}),
    ],
)
def test_commands(calls: list[tuple[str, dict[str, Any]]], line: str, name: str, options: dict[str, Any]) -> None:
    assert command.main(line.split()) == 0
    assert calls == [(name, options)]


def test_failures_are_one_sentence(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["plug", "spark-x"]) == 1
    assert (
        capsys.readouterr().err
        == "\nERROR: There is no simulated node 'spark-x': nodes are called spark-1 to spark-100.\n"
    )
    assert calls == []


def test_without_an_engine_nothing_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine, "ask", lambda: engine.Answer.NO)
    assert command.main(["status"]) == 0
    assert "No Docker engine runs" in capsys.readouterr().out


@pytest.mark.parametrize(("line", "count"), [("demo", 2), ("demo --nodes 1", 1), ("demo --nodes 4", 4)])
def test_the_demo_has_as_many_nodes_as_asked(monkeypatch: pytest.MonkeyPatch, line: str, count: int) -> None:
    asked: list[int] = []
    monkeypatch.setattr(command.demo, "run", asked.append)
    assert command.main(line.split()) == 0
    assert asked == [count]
