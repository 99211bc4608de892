# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a person is told who asks wrongly: one sentence, never a traceback."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command import main
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command.cluster import Cluster, CommandError

from tests.unit.plugins.module_utils.command.world import PAIR


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(main, "load", lambda: PAIR)


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def fails(_options: argparse.Namespace, _cluster: Cluster, _terminal: Any) -> int:
        raise error

    monkeypatch.setitem(main.COMMANDS, "status", fails)
    return main.main(["status"])


def test_a_plain_user_is_told_what_to_type(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main.main(["status"]) == 1
    assert capsys.readouterr().err == "spark status: only root may see and do this: run `sudo spark status`\n"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["go"],
        ["status", "--watch", "0"],
        ["status", "--watch", "often"],
        ["logs", "-n", "-1"],
        ["keys"],
        ["keys", "add"],
        ["keys", "add", "a", "--per-minute", "many"],
        ["keys", "add", "a", "--role", "king"],
        ["stop", "now"],
    ],
    ids=" ".join,
)
def test_words_that_are_not_known(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(words)
    assert ended.value.code == 2
    assert "usage: spark" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], *([name] for name in main.COMMANDS), ["keys", "add"]], ids=" ".join)
def test_everybody_may_ask_for_help(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit) as ended:
        main.main([*words, "--help"])
    assert ended.value.code == 0
    assert "usage: spark" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CommandError("it cannot be"), 1, "spark status: it cannot be\n"),
        (ValueError("no number"), 1, "spark status: no number\n"),
        (PermissionError(13, "Permission denied", "/etc/x"), 1, "spark status: /etc/x: Permission denied\n"),
        (
            ZeroDivisionError("by nought"),
            1,
            "spark status: ZeroDivisionError: by nought; please report this as a bug\n",
        ),
        (KeyboardInterrupt(), 130, "\n"),
    ],
)
def test_no_traceback_reaches_a_person(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(monkeypatch, error) == code
    assert capsys.readouterr().err == said


def test_a_reader_that_has_enough_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as out:
        os.close(read)
        monkeypatch.setattr(sys, "stdout", out)
        assert failing(monkeypatch, BrokenPipeError()) == 0
    assert capfd.readouterr().err == ""


def test_what_is_asked_reaches_who_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    def keys(what: str, name: str, given: Any, _terminal: Any) -> int:
        told.update(what=what, name=name, given=given)
        return 0

    def logs(node: str, _terminal: Any, **how: Any) -> int:
        told.update(node=node, **how)
        return 0

    monkeypatch.setattr(main.keys, "run", keys)
    monkeypatch.setattr(main.logs, "run", logs)
    assert main.main(["keys", "add", "alice", "--at-once", "4"]) == 0
    assert told == {"what": "add", "name": "alice", "given": {"at_once": 4}}
    told.clear()
    assert main.main(["logs", "-f", "-n", "9", "--since", "-1h", "--unit", "vllm"]) == 0
    assert told == {"node": "spark-1", "lines": 9, "since": "-1h", "units": ["vllm"], "following": True}
