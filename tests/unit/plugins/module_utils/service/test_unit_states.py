# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the units of a node do, in one sentence and in figures. (Through the module: test_benchmark_modules.py.)"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker import service_snapshot
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import unit_states

ASKED = {"names": None, "startup_of": None, "snapshot": False}


def unit(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "present": True, "active": "active", "sub": "running", "restarts": 0, "differs": []} | fields


def silent(argv: Sequence[str], _seconds: float | None = None) -> tuple[int, str, str]:
    return 1, "", f"{argv[0]}: not here"


@pytest.fixture(autouse=True)
def nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A node without records, so that this machine's own say nothing."""
    monkeypatch.setattr(unit_states, "RECORDS", tmp_path)
    monkeypatch.setattr(unit_states, "STOP_FLAG", str(tmp_path / "stopped"))


def test_a_node_without_units_is_settled() -> None:
    found = unit_states.answer(ASKED, silent)
    assert (found["units"], found["settled"], found["stop_flag"]) == ([], True, False)
    assert found["msg"] == "no container is managed on this node"
    assert "snapshot" not in found


def test_the_units_are_those_with_a_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "spark-vllm.json").touch()
    (tmp_path / "stopped").touch()
    waits = unit("spark-vllm", active="activating", sub="start-pre", settled=False)
    monkeypatch.setattr(unit_states, "service_status", lambda _run, _name: waits)
    monkeypatch.setattr(unit_states, "journal", lambda _run, _name: ["first", " the store is not mounted yet "])
    found = unit_states.answer(ASKED, silent)
    assert [entry["name"] for entry in found["units"]] == ["spark-vllm"]
    assert (found["settled"], found["stop_flag"]) == (False, True)
    assert found["msg"] == "spark-vllm is activating (start-pre): the store is not mounted yet"


def test_what_stands_beside_the_cluster_is_no_unit_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    record = {"digest": "d", "argv": ["python3", "-m", "uvicorn", "--port", "8242"]}
    (tmp_path / "spark-chat.json").write_text(json.dumps(record))
    fails = unit("spark-chat", active="failed", settled=False)
    monkeypatch.setattr(unit_states, "service_status", lambda _run, _name: fails)
    found = unit_states.answer(ASKED, silent)
    assert (found["units"], found["settled"], found["failed_units"]) == ([], True, [])
    assert found["aside"] == [{"name": "spark-chat", "active": "failed", "differs": [], "port": 8242}]


def test_units_that_differ_and_units_that_run() -> None:
    runs, other = unit("spark-ray-head", settled=True), unit("spark-vllm", settled=True, differs=["another image runs"])
    assert unit_states.summary([runs], {}, {}) == "in the desired state and active: spark-ray-head"
    assert unit_states.summary([runs, other], {}, {}) == "spark-vllm: another image runs"


def test_the_verified_state_comes_along_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(service_snapshot, "RECORDS", tmp_path)
    monkeypatch.setattr(service_snapshot, "GOOD", tmp_path / "services.json")
    # A fresh node, on which check mode comes this far, has no Docker.
    found = unit_states.answer({**ASKED, "snapshot": True}, silent)["snapshot"]
    assert (found["digest"], found["unproven"], found["kept"]) == ("", [], True)
    assert found["good"]["problem"] == "no verified state is recorded on this node"


def test_code_of_the_models_repository_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(unit_states, "service_status", lambda _run, name: unit(name, settled=True))
    for name, flags in (("spark-ray-head", []), ("spark-vllm", ["--trust-remote-code"])):
        record = {"digest": "d", "argv": ["vllm", "serve", "/srv/models/m", *flags]}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    first, second = unit_states.answer(ASKED, silent)["findings"]
    assert (first["code"], second["code"], second["level"]) == ("service.ok", "service.remote_code", "yellow")
    assert second["found"].startswith("spark-vllm runs code from the model's repository")
    (tmp_path / "spark-vllm.json").unlink()
    assert len(unit_states.answer(ASKED, silent)["findings"]) == 1


def test_where_the_image_came_from_is_said_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(unit_states, "service_status", lambda _run, name: unit(name, settled=True))
    for name in ("spark-ray-head", "spark-vllm"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"digest": "d", "image": "serving:1", "argv": []}))

    def docker(argv: Sequence[str], _seconds: float | None = None) -> tuple[int, str, str]:
        inspected = [{"Id": "sha256:1", "RepoDigests": ["example/serving@sha256:2"]}]
        return (0, json.dumps(inspected), "") if "image" in argv else (1, "", "")

    _units, image = unit_states.answer(ASKED, docker)["findings"]
    assert (image["code"], image["found"]) == ("image.ok", "serving:1, from example/serving@sha256:2")
