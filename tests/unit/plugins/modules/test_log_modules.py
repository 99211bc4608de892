# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Logs of a node without its secrets, and those of all nodes on the controller. Every key here is invented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.dgx_spark.vllm.plugins.action import unit_logs_report
from ansible_collections.dgx_spark.vllm.plugins.modules import unit_logs_info

from tests.unit.plugins.action.test_report_and_bundle import run as act

KEY = "k3y-of-the-endpoint"


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A node with two units, of which one has no journal, and a secret."""

    def run(argv: Any, *_rest: Any, **_more: Any) -> tuple[int, str, str]:
        if "spark-watchdog.service" in argv:
            return 1, "", "no journal"
        row = {"__REALTIME_TIMESTAMP": "1000000", "MESSAGE": f"asked with {KEY}", "PRIORITY": "3"}
        return 0, json.dumps(row), ""

    (tmp_path / "api_key").write_text(KEY)
    monkeypatch.setattr(unit_logs_info, "run", run)
    monkeypatch.setattr(unit_logs_info, "SECRETS", tmp_path)
    monkeypatch.setattr(unit_logs_info, "own_units", lambda: ["spark-vllm", "spark-watchdog"])


def read(capsys: pytest.CaptureFixture[str], **arguments: Any) -> dict[str, Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit):
        unit_logs_info.main()
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.usefixtures("node")
def test_no_secret_leaves_the_node_and_a_journal_that_is_missing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    result = read(capsys)
    assert KEY not in json.dumps(result)
    assert [line["text"] for line in result["logs"]] == ["asked with <redacted api_key>"]
    assert result["left_out"] == {"spark-watchdog": "the journal of spark-watchdog cannot be read: no journal"}
    assert result["changed"] is False


def test_a_number_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert read(capsys, lines=0)["msg"] == "lines is 0, expected 1 or more"


def line(at: float, text: str, level: str = "green") -> dict[str, Any]:
    return {"at": at, "unit": "spark-vllm", "level": level, "text": text}


NODES = {
    "spark-1": {"logs": [line(2, "late", "red")], "left_out": {"spark-cdi": "the journal of spark-cdi cannot be read"}},
    "spark-2": {"logs": [line(1, "early")]},
    "spark-3": {"unreachable": True, "msg": "timed out"},
}


def test_shown_and_written_in_one_order(tmp_path: Path) -> None:
    place = tmp_path / "cluster.log"
    result, screen = act(unit_logs_report, nodes=NODES, file=str(place))
    assert not result.get("failed"), result
    assert [shown.rpartition(" ")[2] for shown, _color in screen.lines[:2]] == ["early", "late"]
    assert [color for _shown, color in screen.lines] == [None, "red", "red", "red"]
    assert result["missing"] == ["spark-1: the journal of spark-cdi cannot be read", "spark-3 is missing: timed out"]
    assert place.read_text().splitlines() == [shown for shown, _color in screen.lines]
    assert place.stat().st_mode & 0o777 == 0o600


def test_check_mode_writes_nothing_and_a_wrong_place_is_one_sentence(tmp_path: Path) -> None:
    act(unit_logs_report, True, nodes=NODES, file=str(tmp_path / "x"))
    assert not list(tmp_path.iterdir())
    result, _screen = act(unit_logs_report, nodes=NODES, file="/proc/nobody/x")
    assert result["failed"] and "cannot be written to /proc/nobody/x" in result["msg"]
