# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Two runs at once: the second is told who works on the nodes; what a killed run left holds nobody up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
#: Playbooks that change what runs on the nodes, and so may not run beside one another; stop.yml has to work at all times.
CHANGING = ("site", "upgrade", "restart", "start", "fabric", "nodes", "weights", "units", "cluster")
BOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - dgx_spark.vllm.run_lock:
        path: "{{ lock }}"
        force: "{{ take_lock | default(false) }}"
    - ansible.builtin.wait_for:
        path: "{{ until }}"
        sleep: 1
    - dgx_spark.vllm.run_lock:
        path: "{{ lock }}"
        state: released
"""


@pytest.mark.parametrize("name", CHANGING)
def test_a_playbook_that_changes_nodes_takes_the_lock_and_gives_it_back(name: str) -> None:
    plays = yaml.safe_load((ROOT / "playbooks" / f"{name}.yml").read_text(encoding="utf-8"))
    imported = [play.get("ansible.builtin.import_playbook", "") for play in plays]
    assert imported[-1] == "steps/unlock.yml"
    before = imported[: imported.index("steps/lock.yml")]
    assert all(
        place.endswith(("settings", "facts", "steps/preflight.yml", "steps/fit.yml")) or not place for place in before
    )


def begin(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a run on this machine whose lock lies in a folder."""
    (folder / "book.yml").write_text(BOOK, encoding="utf-8")
    variables = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    variables |= {
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "NO_COLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "false",
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local", "book.yml"]
    command += ["-e", f"lock={folder / 'lock.json'}", "-e", f"ansible_python_interpreter={sys.executable}", *arguments]
    return subprocess.Popen(
        command, env=variables, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def holder(folder: Path) -> dict[str, Any]:
    """Return who holds the lock once somebody does."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (folder / "lock.json").exists():
            found: dict[str, Any] = json.loads((folder / "lock.json").read_text(encoding="utf-8"))
            return found
        time.sleep(0.1)
    raise AssertionError("nobody takes the lock")


def test_two_runs_at_once_and_one_that_is_killed(tmp_path: Path) -> None:
    first = begin(tmp_path, "-e", f"until={tmp_path / 'never'}")
    try:
        held = holder(tmp_path)
        assert held["pid"] == first.pid

        second = begin(tmp_path, "-e", f"until={tmp_path}")
        said = " ".join((second.communicate(timeout=120)[0] or "").split())
        assert second.returncode == 2
        assert (
            f"Another run works on these nodes: book.yml of {held['user']}@" in said
            and f"(process {first.pid}), since" in said
        )
        assert "Nothing was changed." in said and "-e take_lock=yes" in said
        assert holder(tmp_path) == held

        forced = begin(tmp_path, "-e", f"until={tmp_path}", "-e", "take_lock=yes")
        said = forced.communicate(timeout=120)[0]
        assert forced.returncode == 0, said
        assert not (tmp_path / "lock.json").exists(), "a run that ends well gives the nodes back"
    finally:
        first.kill()
        first.wait()

    killed = begin(tmp_path, "-e", f"until={tmp_path / 'never'}")
    assert holder(tmp_path)["pid"] == killed.pid
    killed.kill()
    killed.wait()
    after = begin(tmp_path, "-e", f"until={tmp_path}")
    said = after.communicate(timeout=120)[0]
    assert after.returncode == 0, said
    assert "Another run" not in said
