# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The watchdog's modules in process; what they think is tested in module_utils, nothing of this machine is changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system import node_service as service
from ansible_collections.dgx_spark.vllm.plugins.modules import node_service, vllm_watchdog_info

Run = Callable[..., dict[str, Any]]
SERVING = {"state": "serving", "reason": "idle", "nodes": {}, "expected": []}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(module: Any, **arguments: Any) -> dict[str, Any]:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return call


def codes(result: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in result["findings"]]


def test_a_fresh_state_is_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "watchdog.json"
    path.write_text(json.dumps(SERVING))
    result = run(vllm_watchdog_info, path=str(path))
    assert result["changed"] is False
    assert codes(result) == ["watchdog.ok"]
    assert result["state"] == SERVING
    assert result["msg"] == "serving: idle"


@pytest.mark.parametrize("kind", ["missing", "stale", "damaged", "folder"])
def test_a_state_that_tells_nothing_is_a_watchdog_that_does_not_run(run: Run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "watchdog.json"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_text("{" if kind == "damaged" else json.dumps(SERVING))
    if kind == "stale":
        past = path.stat().st_mtime - 31
        os.utime(path, (past, past))
    result = run(vllm_watchdog_info, path=str(path))
    assert not result.get("failed")
    assert codes(result) == ["watchdog.silent"]
    assert ("31 s old" in result["msg"]) is (kind == "stale")


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a systemctl in front of the machine's own; return the file that it writes what it is asked to."""
    log = tmp_path / "asked"
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{log}\n[ "$1" = start ] && echo "Job failed." >&2 && exit 1\n'
        "echo ActiveState=inactive\necho UnitFileState=disabled\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    # The defaults of its arguments are bound already.
    monkeypatch.setattr(service.NodeService.__init__, "__defaults__", (tmp_path, tmp_path / "library"))
    return log


def test_a_service_in_check_mode_changes_nothing(run: Run, systemctl: Path, tmp_path: Path) -> None:
    config = tmp_path / "etc" / "watchdog.json"
    result = run(
        node_service,
        name="spark-follower",
        config_path=str(config),
        config={"address": "a"},
        _ansible_check_mode=True,
        _ansible_diff=True,
    )
    assert result["changed"] is True
    assert result["actions"][-1] == "started spark-follower.service"
    assert result["msg"] == "; ".join(result["actions"])
    assert {difference["after_header"] for difference in result["diff"]} == {
        str(config),
        str(tmp_path / "spark-follower.service"),
    }
    assert all(line.startswith("show ") for line in systemctl.read_text().splitlines())
    assert not config.exists()


def test_a_service_that_does_not_start_fails_with_a_sentence(run: Run, systemctl: Path, tmp_path: Path) -> None:
    result = run(node_service, name="spark-watchdog", config_path=str(tmp_path / "watchdog.json"), config={})
    assert result["failed"]
    assert result["msg"] == (
        "systemctl start spark-watchdog.service failed: Job failed.; see `journalctl -u spark-watchdog`"
    )
    assert f"wrote {tmp_path / 'watchdog.json'}" in result["actions"]


def test_a_service_that_is_away_is_absent(run: Run, systemctl: Path, tmp_path: Path) -> None:
    result = run(node_service, name="spark-watchdog", state="absent", config_path=str(tmp_path / "none.json"))
    assert (result["changed"], result["msg"]) == (False, "spark-watchdog is as wanted")
