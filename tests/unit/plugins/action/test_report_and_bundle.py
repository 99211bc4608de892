# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the controller makes of what the nodes said: the report, and the archive without secrets. Every key here is invented."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.action import diagnosis_bundle, preflight_report
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node import bundle
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system import redact
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.redact import leaks

FINE = {"code": "node.ok", "check": "disk", "level": "green", "found": "room"}
STOP = {"code": "node.memory_taken", "check": "memory", "level": "red", "found": "taken", "remedy": "free it"}
NODES = {
    "spark-1": {"survey": {"findings": [FINE], "identity": {"kernel": "6.17.0-1014-nvidia"}}},
    "spark-2": {"survey": {"findings": [FINE, STOP], "identity": {"kernel": "6.17.0-1021-nvidia"}}},
}
KEY = "k3y-of-the-endpoint"


class Screen:
    """Takes the place of Ansible's display."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str | None]] = []

    def display(self, text: str, color: str | None = None) -> None:
        self.lines.append((text, color))


def run(plugin: Any, check: bool = False, **arguments: Any) -> tuple[dict[str, Any], Screen]:
    """Run an action as a task would; return its result and what it showed."""
    task = SimpleNamespace(
        args=arguments,
        check_mode=check,
        diff=False,
        async_val=0,
        action="x",
        environment=None,
        no_log=False,
        delegate_to=None,
    )
    action = plugin.ActionModule(
        task,
        SimpleNamespace(_shell=SimpleNamespace(tmpdir="x")),
        SimpleNamespace(check_mode=check, diff=False),
        None,
        None,
        None,
    )
    action._display = screen = Screen()
    return action.run(task_vars={}), screen


# --- preflight_report ---------------------------------------------------------------------------------------------


def test_the_report_is_shown_in_colours_and_written(tmp_path: Path) -> None:
    page = tmp_path / "new folder" / "report.html"
    result, screen = run(preflight_report, nodes=NODES, page=str(page), subject="qwen3")
    assert (result["level"], result["changed"]) == ("red", True)
    assert result["counts"] == {"red": 1, "yellow": 1, "green": 2}
    assert [row["check"] for row in result["findings"]["all nodes"]] == ["kernel"]
    assert ("spark-2: 1 red, 1 green", "red") in screen.lines
    assert any("-> free it" in line for line, _color in screen.lines)
    assert "qwen3" in page.read_text()
    assert page.stat().st_mode & 0o777 == 0o600
    assert list(page.parent.iterdir()) == [page], "no draft is left"


def test_the_same_findings_are_no_change(tmp_path: Path) -> None:
    page = str(tmp_path / "report.html")
    assert run(preflight_report, nodes=NODES, page=page)[0]["changed"] is True
    assert run(preflight_report, nodes=NODES, page=page)[0]["changed"] is False
    assert run(preflight_report, nodes={"spark-1": NODES["spark-1"]}, page=page)[0]["changed"] is True


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    result, screen = run(preflight_report, check=True, nodes=NODES, page=str(tmp_path / "r.html"))
    assert result["changed"] is True
    assert list(tmp_path.iterdir()) == []
    assert screen.lines


def test_red_fails_only_when_asked() -> None:
    assert "failed" not in run(preflight_report, nodes=NODES)[0]
    result, _screen = run(preflight_report, nodes=NODES, fail_on_red=True, show=False)
    assert (result["failed"], result["msg"], _screen.lines) == (
        True,
        "spark-2: taken: free it [node.memory_taken]",
        [],
    )
    assert "failed" not in run(preflight_report, nodes={"spark-1": NODES["spark-1"]}, fail_on_red=True)[0]


def test_a_failure_does_not_say_the_table_again() -> None:
    result, screen = run(preflight_report, nodes=NODES, fail_on_red=True)
    assert result["failed"] is True
    assert "taken" in " ".join(line for line, _colour in screen.lines)
    assert result["msg"].startswith("1 red and 1 yellow of 4 findings; red on spark-2; do what the table above says")
    assert "taken" not in result["msg"]
    # What the table leaves out has to be in the message.
    result, screen = run(preflight_report, nodes=NODES, fail_on_red=True, show_only=["other"])
    assert result["msg"] == "spark-2: taken: free it [node.memory_taken]"


def test_the_table_may_be_limited_and_the_page_has_all(tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    nodes = {
        "spark-1": {
            "survey": {"findings": [FINE]},
            "image": {"findings": [FINE | {"check": "image", "found": "vLLM 0.31"}]},
        },
        "spark-2": {"survey": {"findings": [FINE]}},
    }
    result, screen = run(preflight_report, nodes=nodes, page=str(page), show_only=["image"])
    shown = " ".join(str(line) for line in screen.lines)
    assert ("vLLM 0.31" in shown, "room" in shown, "spark-2" in shown) == (True, False, False)
    assert ("vLLM 0.31" in page.read_text(), "room" in page.read_text()) == (True, True)
    assert len(result["findings"]["spark-1"]) == 2
    _result, screen = run(preflight_report, nodes=nodes, show_only=["kernels"])
    assert screen.lines == []


def test_what_two_looks_tell_is_in_the_report_once_and_the_takeover_is_offered() -> None:
    memory = FINE | {"check": "memory", "found": "100 of 120 GiB"}
    nodes = {
        "spark-1": {
            "survey": {"findings": [memory], "takeover": {"containers": ["node-1"], "units": []}},
            "runtime": {"findings": [memory | {"code": "gpu.ok"}]},
        }
    }
    result, screen = run(preflight_report, nodes=nodes)
    assert len(result["findings"]["spark-1"]) == 1
    assert "takeover.yml" in " ".join(str(line) for line in screen.lines)


def test_a_node_out_of_reach_is_a_finding() -> None:
    result, _screen = run(
        preflight_report, nodes=NODES | {"spark-3": {"node": {"unreachable": True, "msg": "no route: look"}}}
    )
    (found,) = result["findings"]["spark-3"]
    assert (found["code"], found["level"], found["found"]) == ("node.unreachable", "red", "no route: look")


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ({"spark-1": "x"}, "expected results by what they checked"),
        ({"spark-1": {"survey": "x"}}, "expected the registered result of a module"),
        ({"spark-1": {"survey": {"findings": [{"check": "x"}]}}}, "expected code, level, check and found"),
        (
            {"spark-1": {"survey": {"findings": [{"code": "node.x", "check": "x", "level": "red", "found": "y"}]}}},
            "red and has no remedy",
        ),
    ],
)
def test_unusable_results_fail_in_one_sentence(nodes: Any, words: str) -> None:
    result, _screen = run(preflight_report, nodes=nodes)
    assert result["failed"] is True
    assert words in result["msg"]


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result, _screen = run(preflight_report, nodes=NODES, page=str(tmp_path / "file" / "r.html"))
    assert result["failed"] is True
    assert "set page to another file" in result["msg"]


# --- diagnosis_bundle ---------------------------------------------------------------------------------------------

SAID = {"spark-1": {"documents": {"gpu/query.csv": f"GB10 {KEY}"}, "left_out": {"gpu/x": "not installed"}}}


def unpacked(path: Path) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes()), mode="r:gz") as tar:
        members = tar.getmembers()
        assert all(
            member.isfile() and member.mode == 0o600 and ".." not in member.name.split("/") for member in members
        )
        return {member.name: tar.extractfile(member).read().decode() for member in members}  # type: ignore[union-attr]


def test_the_archive_holds_documents_and_results_without_secrets(tmp_path: Path) -> None:
    path = tmp_path / "d.tar.gz"
    results = {
        "spark-2": {"survey": {"msg": f"{KEY} fine", "findings": [FINE], "invocation": {"x": 1}, "survey": {"y": 1}}}
    }
    result, _screen = run(
        diagnosis_bundle,
        path=str(path),
        nodes=SAID | {"spark-2": {}},
        results=results,
        secrets={"api_key": KEY, "none": ""},
        notes=["it hangs"],
    )
    assert result["changed"] is True
    assert path.stat().st_mode & 0o777 == 0o600
    files = unpacked(path)
    assert sorted(files) == ["d/README.txt", "d/spark-1/gpu/query.csv", "d/spark-2/results/survey.json"]
    assert files["d/spark-1/gpu/query.csv"] == "GB10 <redacted api_key>"
    assert json.loads(files["d/spark-2/results/survey.json"]) == {"msg": "<redacted api_key> fine", "findings": [FINE]}
    assert "it hangs" in files["d/README.txt"]
    assert not leaks("".join(files.values()), [KEY])
    assert KEY not in json.dumps(result)


def test_a_node_that_said_nothing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d.tar.gz"
    run(
        diagnosis_bundle,
        path=str(path),
        nodes=SAID | {"spark-2": {"unreachable": True, "msg": f"gone {KEY}"}},
        secrets={"k": KEY},
    )
    assert "spark-2: 0 documents\n  not there: everything (gone <redacted k>)" in unpacked(path)["d/README.txt"]


def test_names_from_a_node_stay_below_its_folder() -> None:
    nodes = {"../../etc": {"documents": {"../../../root/.bashrc": "x", "..": "y"}}, "/b": {}}
    files = bundle.documents(nodes, {"/b": {"../../z": {}}}, {}, [])
    assert sorted(files) == ["README.txt", "_.._etc/_", "_.._etc/root/.bashrc", "_b/results/z.json"]


def test_a_secret_that_would_leave_stops_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact.Redactor, "text", lambda _self, text: text)
    path = tmp_path / "d.tar.gz"
    result, _screen = run(diagnosis_bundle, path=str(path), nodes=SAID, secrets={"api_key": KEY})
    assert result["failed"] is True
    assert "a secret would leave in spark-1/gpu/query.csv: nothing was written" in result["msg"]
    assert not path.exists()


def test_check_mode_packs_nothing(tmp_path: Path) -> None:
    result, _screen = run(diagnosis_bundle, check=True, path=str(tmp_path / "d.tar.gz"), nodes=SAID)
    assert result["changed"] is True
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "words"), [("d.zip", "ends in .tar.gz"), ("file/d.tar.gz", "set path to another file")]
)
def test_a_path_that_is_unusable(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").write_text("")
    result, _screen = run(diagnosis_bundle, path=str(tmp_path / name), nodes=SAID)
    assert result["failed"] is True
    assert words in result["msg"]
