# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The node's programs as they are installed: they start, people find the command by its name, and nobody else's program is touched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.dgx_spark.vllm.plugins.modules import node_tools

from tests.unit.plugins.wheels import no_index, wheel


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(node_tools, "LINK", tmp_path / "usr/local/bin/spark")
    monkeypatch.setattr(node_tools, "COMPLETION", tmp_path / "etc/bash_completion.d/spark")
    monkeypatch.setattr(node_tools, "RECORD", tmp_path / "etc/dgx-spark/cluster.json")
    monkeypatch.setattr(node_tools, "CONFIG", tmp_path / "etc/dgx-spark")
    return tmp_path


def said(place: Path, capsys: pytest.CaptureFixture[str], check: bool = False, **arguments: Any) -> dict[str, Any]:
    given = {
        "path": str(place / "opt"),
        "_ansible_check_mode": check,
        "_ansible_remote_tmp": str(place / "tmp"),
        **arguments,
    }
    with patch_module_args(given), pytest.raises(SystemExit):
        node_tools.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def install(place: Path, capsys: pytest.CaptureFixture[str], check: bool = False, **arguments: Any) -> dict[str, Any]:
    result = said(place, capsys, check, **arguments)
    assert not result.get("failed"), result
    return result


def test_the_command_is_there_under_its_name_and_a_second_run_changes_nothing(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(place, capsys, check=True, cluster={"node": "a"})
    assert not list(place.iterdir())
    assert install(place, capsys, cluster={"node": "a", "head": "b"})["changed"]
    again = install(place, capsys, cluster={"node": "a", "head": "b"})
    assert (again["changed"], again["notes"]) == (False, [])
    assert json.loads((place / "etc/dgx-spark/cluster.json").read_text()) == {"node": "a", "head": "b"}
    assert (place / "etc/dgx-spark/cluster.json").stat().st_mode & 0o777 == 0o644
    assert "complete -o default -F _spark spark" in (place / "etc/bash_completion.d/spark").read_text()
    assert node_tools.LINK.resolve() == place / "opt/bin/spark"
    install(place, capsys)
    assert (place / "etc/dgx-spark/cluster.json").exists()


@pytest.mark.parametrize("program", sorted(set(node_tools.PROGRAMS) - {"spark-model-download"}))
def test_a_program_starts_with_what_is_installed_alone(
    place: Path, capsys: pytest.CaptureFixture[str], program: str
) -> None:
    """From a folder with a file that Python would take for one of its own: whoever runs it as root stands in somebody's folder."""
    install(place, capsys)
    (place / "json.py").write_text("raise SystemExit('taken from the folder')\n")
    done = subprocess.run(
        [place / "opt/bin" / program, "--help"], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")


def test_another_program_of_this_name_stays_and_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node_tools.LINK.parent.mkdir(parents=True)
    node_tools.LINK.write_text("theirs")
    result = install(place, capsys)
    assert result["notes"] == [f"{node_tools.LINK} is another program and stays: the command is {place}/opt/bin/spark"]
    assert node_tools.LINK.read_text() == "theirs"
    assert not node_tools.COMPLETION.exists()
    assert not install(place, capsys)["changed"]


def test_real_pip_installs_what_has_its_hash_in_the_list_and_nothing_else(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invented packages in a folder of wheels, with the pip of a new virtual environment; no index is asked."""
    no_index(monkeypatch)
    wheels = place / "wheels"
    lock = wheel(wheels, "hub_of_test", "1.0", "part-of-test") + wheel(wheels, "part_of_test", "2.0")
    wheel(wheels, "part_of_test", "3.0")
    wanted: dict[str, Any] = {"packages": ["hub_of_test==1.0"], "lock": lock, "wheelhouse": str(wheels)}
    library = place / f"opt/venv/lib/python{sys.version_info.major}.{sys.version_info.minor}"

    assert install(place, capsys, check=True, **wanted)["changed"]
    assert install(place, capsys, **wanted)["actions"][-1] == f"installed hub_of_test==1.0 into {place}/opt/venv"
    assert node_tools.installed(library).items() >= {("hub-of-test", "1.0"), ("part-of-test", "2.0")}
    again = install(place, capsys, **wanted)
    assert (again["changed"], again["notes"]) == (False, [])

    # A list that names a newer version of what is needed reaches the node, and another file under its name does not.
    newer = wheel(wheels, "hub_of_test", "1.0", "part-of-test") + wheel(wheels, "part_of_test", "3.0")
    wheel(wheels, "part_of_test", "3.0", content="print('tampered with')")
    result = said(place, capsys, **{**wanted, "lock": newer})
    assert result["failed"]
    assert result["msg"].startswith("installing hub_of_test==1.0 failed: part-of-test==3.0 from file:///")
    assert "which is not in the list of this collection: look into" in result["msg"]
    assert "\n" not in result["msg"]
    assert node_tools.installed(library)["part-of-test"] == "2.0"
    wheel(wheels, "part_of_test", "3.0")
    assert install(place, capsys, **{**wanted, "lock": newer})["changed"]
    assert node_tools.installed(library)["part-of-test"] == "3.0"

    # A folder without a version that the list names, and one's own packages, which go without the list.
    result = said(place, capsys, **{**wanted, "lock": newer.replace("3.0", "4.0")})
    assert result["msg"].endswith(
        "needs the wheels that the collection lists in roles/node_tools/files/requirements.txt"
    )
    wheel(wheels, "hub_of_test", "1.1", "part-of-test")
    result = install(place, capsys, **{**wanted, "packages": ["hub_of_test==1.1"]})
    assert result["notes"] == ["hub_of_test==1.1: not in the collection's list of hashes, so pip compares none"]
    assert node_tools.installed(library)["hub-of-test"] == "1.1"
