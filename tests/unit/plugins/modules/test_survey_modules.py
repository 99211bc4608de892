# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The modules that survey and diagnose, run in process on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node import diagnosis
from ansible_collections.dgx_spark.vllm.plugins.modules import (
    node_diagnosis_info,
    node_info,
    node_survey_info,
    node_takeover,
)

from tests.unit.plugins.fake_docker import use_docker

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a module's main and return its result; a result of fail_json has ``failed``."""

    def call(module: Any, **arguments: Any) -> dict[str, Any]:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


def test_survey_looks_at_this_machine(run: Run) -> None:
    result = run(node_survey_info, min_available_gib=0.01)
    assert result["changed"] is False
    assert {"memory", "containers", "shares", "updates"} <= {row["check"] for row in result["findings"]}
    assert result["identity"]["kernel"]
    assert set(result["takeover"]) == {"containers", "units"}
    assert result["survey"]["memory_total_gib"] > 0.1
    assert result["msg"].startswith(f"{len(result['findings'])} findings: ")


def test_survey_tells_of_memory_that_is_not_there(run: Run) -> None:
    (row,) = [row for row in run(node_survey_info, min_available_gib=1e6)["findings"] if row["check"] == "memory"]
    assert row["level"] == "red"
    assert "1e+06 GiB are needed" in row["found"]


def test_survey_with_unusable_arguments(run: Run) -> None:
    result = run(node_survey_info, min_available_gib=-1)
    assert result["failed"] is True
    assert "negative" in result["msg"]


def test_node_info_gives_each_look_its_answer(run: Run) -> None:
    result = run(
        node_info,
        requirements={"min_memory_gib": "1e6", "require_root": False},
        occupants={},
        runtime={"require_gpu": False},
    )
    assert "failed" not in result and result["changed"] is False
    assert any("1e+06 GiB" in problem or "1000000" in problem for problem in result["requirements"]["problems"])
    assert result["occupants"]["identity"]["kernel"]
    assert set(result["runtime"]) >= {"healthy", "gpu_present", "findings"}
    assert "runtime" not in run(node_info, occupants={})
    services = run(node_info, services={})["services"]
    assert (services["units"], services["settled"]) == ([], True)
    assert "snapshot" not in services


def test_a_look_of_node_info_that_fails_lets_the_others_go_on(run: Run) -> None:
    result = run(
        node_info,
        requirements={"fabric_address": "spark-1"},
        occupants={"min_available_gib": "much"},
        runtime={"require_gpu": False},
        services={"snapshot": "much"},
    )
    assert "failed" not in result
    assert result["services"]["failed"] and "snapshot" in result["services"]["msg"]
    assert result["requirements"]["failed"] and "not an IP address" in result["requirements"]["msg"]
    assert result["occupants"]["failed"] and "min_available_gib" in result["occupants"]["msg"]
    assert "failed" not in result["runtime"]


def test_node_info_wants_something_to_look_at(run: Run) -> None:
    assert "nothing to check" in run(node_info)["msg"]


def test_diagnosis_of_this_machine_holds_no_secret(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = Path("/proc/sys/kernel/osrelease").read_text().strip()
    (tmp_path / "api_key").write_text(release)
    monkeypatch.setattr(diagnosis, "COMMANDS", {"system/uname.txt": diagnosis.COMMANDS["system/uname.txt"]})
    results = {"survey": {"msg": f"{release} is it", "survey": {"x": 1}}}
    result = run(node_diagnosis_info, units=[], journal_lines=0, secrets_folder=str(tmp_path), results=results)
    assert json.loads(result["documents"]["results/survey.json"]) == {"msg": "<redacted api_key> is it"}
    assert result["changed"] is False
    assert "<redacted api_key>" in result["documents"]["system/uname.txt"], "the kernel's release plays the secret"
    assert release not in json.dumps({key: value for key, value in result.items() if key != "invocation"})
    assert result["msg"].endswith(" not there")


def test_diagnosis_with_unusable_arguments(run: Run) -> None:
    result = run(node_diagnosis_info, journal_lines=-1)
    assert result["failed"] is True
    assert "0 leaves the journals out" in result["msg"]


# --- node_takeover ------------------------------------------------------------------------------------------------

INSPECTED = json.dumps([{"State": {"Running": True}, "HostConfig": {"RestartPolicy": {"Name": "always"}}}])


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker that knows one running container, fails to stop one called stuck, and writes down what it is asked."""
    log = tmp_path / "log"
    program = tmp_path / "docker"
    program.write_text(
        f"#!/bin/sh\necho \"$@\" >>{log}\ncase \"$1 $2\" in 'inspect '*) echo '{INSPECTED}' ;; 'stop stuck') echo no >&2; exit 1 ;; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    use_docker(str(program), monkeypatch)
    return log


def test_takeover_stops_and_says_how_to_undo(run: Run, docker: Path) -> None:
    result = run(node_takeover, containers=["ollama"])
    assert (result["changed"], result["stopped"]) == (True, ["container ollama"])
    assert result["undo"] == ["docker update --restart=always ollama", "docker start ollama"]
    assert docker.read_text().splitlines()[1:] == ["update --restart=no ollama", "stop ollama"]


def test_takeover_only_looks_in_check_mode(run: Run, docker: Path) -> None:
    result = run(node_takeover, containers=["ollama"], _ansible_check_mode=True)
    assert (result["changed"], result["msg"]) == (True, "would stop container ollama")
    assert docker.read_text().splitlines() == ["inspect --type container ollama"]


def test_takeover_of_nothing(run: Run) -> None:
    result = run(node_takeover)
    assert (result["changed"], result["msg"]) == (False, "nothing of others runs here")


def test_takeover_that_fails_says_what_is_stopped_already(run: Run, docker: Path) -> None:
    result = run(node_takeover, containers=["ollama", "stuck"])
    assert result["failed"] is True
    assert "container stuck cannot be stopped" in result["msg"]
    assert result["stopped"] == ["container ollama"]
    assert "docker start ollama" in result["undo"]


def test_takeover_refuses_our_own(run: Run) -> None:
    result = run(node_takeover, containers=["spark-vllm"])
    assert result["failed"] is True
    assert "playbooks/stop.yml" in result["msg"]
