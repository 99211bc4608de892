# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The look at a node within seconds, and the status that the controller makes of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.dgx_spark.vllm.plugins.action import status_report
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command import looks as node_looks
from ansible_collections.dgx_spark.vllm.plugins.modules import node_status_info

from tests.unit.plugins.action.test_report_and_bundle import run as act
from tests.unit.plugins.fake_server import Asked, Reply, fake_server

ROOT = Path(__file__).parents[4]
SHAPE = json.loads((ROOT / "docs/status.schema.json").read_text(encoding="utf-8"))


def look(capsys: pytest.CaptureFixture[str], **arguments: Any) -> dict[str, Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit):
        node_status_info.main()
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose programs say nothing."""
    monkeypatch.setattr(node_looks, "run", lambda argv, *_rest, **_more: (127, "", "not there"))


@pytest.mark.usefixtures("quiet")
def test_a_bare_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    result = look(capsys, disk=str(tmp_path / "not" / "there"), reserve_gib=1)
    looks = result["looks"]
    assert not result["changed"]
    assert set(looks) == {"services", "guard", "memory", "gpu", "link", "disk"}
    assert looks["memory"]["headroom_gib"] == pytest.approx(looks["memory"]["available_gib"] - 1)
    assert looks["disk"]["path"] == str(tmp_path)
    assert looks["gpu"] == {"gpus": [], "findings": []}
    assert looks["link"]["failed"] and "iproute2" in looks["link"]["msg"]


@pytest.mark.usefixtures("quiet")
def test_a_look_that_hangs_is_left_behind(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(_params: Any, _run: Any) -> dict[str, Any]:
        time.sleep(20)
        return {}

    stuck.__name__ = "gpu"
    monkeypatch.setattr(node_looks, "ALWAYS", (stuck, node_looks.memory))
    begun = time.monotonic()
    result = look(capsys, seconds=0.3)
    assert time.monotonic() - begun < 15
    assert result["looks"]["gpu"] == {"failed": True, "msg": "gpu: no answer within 0.3 s"}
    assert result["looks"]["memory"]["total_gib"] > 0
    assert result["msg"] == "gpu: no answer within 0.3 s"


def test_no_program_outlives_the_look() -> None:
    brief = node_looks.Brief(0.3)
    for seconds in (None, 60):
        begun = time.monotonic()
        status, _out, _err = brief(["sleep", "20"], seconds)
        assert status == 124
        assert time.monotonic() - begun < 15


@pytest.mark.usefixtures("quiet")
def test_what_is_asked_for_on_the_head(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = tmp_path / "watchdog.json"
    state.write_text(json.dumps({"state": "serving", "reason": "idle", "for_s": 3.0}))
    monkeypatch.setattr(node_looks, "WATCHDOG", state)
    nobody = "http://127.0.0.1:1"
    result = look(
        capsys,
        watchdog=True,
        ray={"dashboard_url": nobody, "token_file": "/none", "expected_nodes": ["a"], "expected_gpus": 1},
        server={"base_url": nobody, "model": "m", "api_key_file": "/none"},
        weights={"repo_id": "a/b", "revision": "main", "dest": str(tmp_path)},
    )
    looks = result["looks"]
    assert looks["watchdog"]["state"]["state"] == "serving"
    assert [finding["code"] for finding in looks["server"]["findings"]] == ["vllm.silent"]
    assert looks["rate"]["tokens_per_s"] is None
    assert (looks["ray"]["reachable"], looks["ray"]["ready"]) == (False, False)
    assert looks["weights"]["findings"][0]["code"] == "hub.incomplete"


@pytest.mark.usefixtures("quiet")
def test_the_rate_is_two_readings_of_the_counter(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_looks, "RATE_S", 0.5)
    monkeypatch.setattr(node_looks, "ASKED", {"server": (node_looks.rate,)})
    counted = iter((100, 120, 500, 20))

    def metrics(_asked: Asked) -> Reply:
        return Reply(f'vllm:generation_tokens_total{{engine="0"}} {next(counted)}\n')

    with fake_server({"GET /metrics": metrics}) as fake:
        for low, high in ((20, 40.1), (None, None)):
            asked = {"base_url": fake.url, "model": "m", "api_key_file": "/none"}
            rate = look(capsys, server=asked)["looks"]["rate"]["tokens_per_s"]
            # A counter that fell is of a server that was started anew.
            assert rate is None if low is None or high is None else low < rate < high


def test_a_time_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert look(capsys, seconds=0)["msg"] == "seconds is 0, expected more than 0"


# --- status_report ------------------------------------------------------------------------------------------------

NODES = {
    "spark-1": {"looks": {"memory": {"total_gib": 121.7, "available_gib": 9.0, "headroom_gib": 5.0, "findings": []}}},
    "spark-2": {"unreachable": True, "msg": "connection timed out"},
}


def test_the_status_is_shown_in_colours_and_written(tmp_path: Path) -> None:
    files = {"json_file": str(tmp_path / "status.json"), "page": str(tmp_path / "status.html")}
    result, shown = act(status_report, nodes=NODES, head="spark-1", **files)
    assert not result.get("failed"), result
    assert result["changed"] is False
    assert shown.lines[0][1] == "red"
    assert any("connection timed out" in line for line, _color in shown.lines)
    written = json.loads((tmp_path / "status.json").read_text())
    jsonschema.validate(written, SHAPE)
    assert written == result["status"]
    assert "<h1>Status</h1>" in (tmp_path / "status.html").read_text()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_check_mode_and_no_file_write_nothing(tmp_path: Path) -> None:
    act(status_report, True, nodes=NODES, head="spark-1", page=str(tmp_path / "status.html"))
    act(status_report, nodes=NODES, head="spark-1")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_one_sentence() -> None:
    result, _shown = act(status_report, nodes=NODES, head="spark-1", json_file="/proc/nobody/status.json")
    assert result["failed"]
    assert result["msg"].startswith("json_file cannot be written to /proc/nobody/status.json on the controller")


def test_why_a_node_does_not_answer_is_said_as_the_report_says_it() -> None:
    result, _shown = act(status_report, nodes=NODES | {"spark-1": {"failed": True, "msg": "Timed out"}}, head="spark-1")
    found = {row["node"]: row for row in result["status"]["findings"]}
    assert (found["spark-1"]["code"], found["spark-2"]["code"]) == ("node.no_task_runs", "node.unreachable")
    assert "does not answer over SSH (connection timed out)" in result["status"]["nodes"][1]["reason"]


def test_a_result_that_is_none_is_one_sentence() -> None:
    result, _shown = act(status_report, nodes={"a": "x"}, head="a")
    assert result["failed"]
    assert result["msg"] == "nodes has 'a': 'x', expected the registered result of node_status_info"


def test_findings_that_are_none_are_one_sentence() -> None:
    result, _shown = act(status_report, nodes={"a": {"looks": {"x": {"findings": "no"}}}}, head="a")
    assert result["failed"]
    assert "expected a list of findings" in result["msg"]
