# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A unit that takes another's place, since the ranks with Ray and without never both run on a node; and one that systemd has yet to read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker import service_unit
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.service_state import UnitState
from ansible_collections.dgx_spark.vllm.plugins.modules import container_service


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []
    monkeypatch.setattr(service_unit, "UNITS", tmp_path)
    monkeypatch.setattr(service_unit, "RECORDS", tmp_path)
    monkeypatch.setattr(service_unit, "HOLDS", str(tmp_path / "holds"))
    monkeypatch.setattr(service_unit, "TRIAL_UNITS", tmp_path / "run")
    monkeypatch.setattr(service_unit, "TRIAL_RECORDS", tmp_path / "run")
    monkeypatch.setattr(service_unit, "image_id", lambda _run, _image: "sha256:" + "c" * 64)

    def state(_run: Any, _name: str) -> UnitState:
        return UnitState(
            loaded=True, active="active", sub="running", enabled=True, restarts=0, result="success", need_reload=False
        )

    monkeypatch.setattr(service_unit, "unit_state", state)

    def run(argv: list[str], *_seconds: float) -> tuple[int, str, str]:
        commands.append(list(argv))
        return 0, "", ""

    monkeypatch.setattr(container_service, "run", run)
    return commands


def write(capsys: pytest.CaptureFixture[str], check: bool = False) -> dict[str, Any]:
    arguments = {
        "name": "spark-vllm-worker",
        "image": "serving",
        "command": ["vllm", "serve"],
        "replaces": ["spark-ray-worker"],
        "_ansible_check_mode": check,
    }
    with patch_module_args(arguments), pytest.raises(SystemExit):
        container_service.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_the_other_unit_goes(tmp_path: Path, said: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    other, record = tmp_path / "spark-ray-worker.service", tmp_path / "spark-ray-worker.json"
    other.write_text("x", encoding="utf-8")
    record.write_text("{}", encoding="utf-8")
    checked = write(capsys, check=True)
    assert checked["changed"]
    assert other.exists()
    done = write(capsys)
    assert "stopped spark-ray-worker.service" in done["actions"]
    assert not other.exists()
    assert not record.exists()
    assert (tmp_path / "spark-vllm-worker.service").exists()
    assert ["systemctl", "stop", "spark-ray-worker.service"] in said
    assert not write(capsys)["changed"]


def test_a_stop_of_what_is_not_there_changes_nothing(
    said: list[list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = UnitState(
        loaded=False, active="inactive", sub="dead", enabled=False, restarts=0, result="success", need_reload=False
    )
    monkeypatch.setattr(service_unit, "unit_state", lambda _run, _name: absent)
    results = {}
    for state in ("stopped", "started"):
        with patch_module_args({"name": "spark-vllm-worker", "state": state}), pytest.raises(SystemExit):
            container_service.main()
        results[state] = json.loads(capsys.readouterr().out)
    assert results["stopped"]["changed"] is False
    assert results["started"]["failed"] and "does not exist on this node" in results["started"]["msg"]
    assert said == []


def test_systemd_reads_a_unit_that_it_knows_otherwise(
    said: list[list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A run that died between writing the unit and the reload leaves this behind.
    write(capsys)
    said.clear()
    assert not write(capsys)["changed"]
    assert ["systemctl", "daemon-reload"] not in said
    state = service_unit.unit_state
    monkeypatch.setattr(service_unit, "unit_state", lambda *asked: dataclasses.replace(state(*asked), need_reload=True))
    write(capsys)
    assert ["systemctl", "daemon-reload"] in said


@pytest.mark.parametrize("active", ["inactive", "failed"])
def test_a_start_by_the_operator_takes_the_watchdogs_hold_away(
    active: str,
    tmp_path: Path,
    said: list[list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hold = tmp_path / "holds" / "spark-vllm"
    hold.parent.mkdir()
    hold.write_text("held after 3 failures\n", encoding="utf-8")
    (tmp_path / "holds" / "spark-ray-head").write_text("another's\n", encoding="utf-8")
    state = service_unit.unit_state

    def found(*asked: Any) -> UnitState:
        return dataclasses.replace(state(*asked), active=active)

    monkeypatch.setattr(service_unit, "unit_state", found)
    told = {}
    for check in (True, False):
        arguments = {"name": "spark-vllm", "state": "started", "_ansible_check_mode": check}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            container_service.main()
        told[check] = json.loads(capsys.readouterr().out)
        assert hold.exists() is check
    assert told[True]["actions"] == told[False]["actions"] == ["started spark-vllm.service", f"removed {hold}"]
    assert (tmp_path / "holds" / "spark-ray-head").exists()
    # Gone before systemd starts it: the gate of the start asks the watchdog at once.
    assert [command[1] for command in said] == ["reset-failed", "start"]
