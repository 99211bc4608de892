# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""playbooks/status.yml on a pair of which one node is off and the other takes the connection and says nothing."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from tests.unit.playbooks.test_alone import ROOT, ansible, book, group, inventory

SHAPE = json.loads((ROOT / "docs/status.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def mute() -> Iterator[int]:
    """A port that takes connections and never says a word, as a machine that hangs does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_one_node_is_off_and_the_other_hangs(tmp_path: Path, mute: int) -> None:
    hanging = {"hosts": {"spark-2": {**group("spark-2")["hosts"]["spark-2"], "ansible_port": mute}}}
    pair = {"children": {"head": group("spark-1"), "workers": hanging}}
    hosts = inventory(tmp_path / "inventory", {"sparks": pair})
    (empty := tmp_path / "empty").mkdir()
    files = ["-e", f"status_json={tmp_path}/status.json", "-e", f"status_page={tmp_path}/status.html"]
    begun = time.monotonic()
    code, text = ansible(empty, "-i", str(hosts), book("status"), *files)
    took = time.monotonic() - begun
    assert code == 0, text
    # The looks end after 5 s at most; the rest is Ansible itself and a machine that has other work.
    assert took < 60
    assert "UNKNOWN: the head did not answer" in text
    assert not list(empty.iterdir())
    status = json.loads((tmp_path / "status.json").read_text())
    jsonschema.validate(status, SHAPE)
    assert [(node["name"], node["answers"]) for node in status["nodes"]] == [("spark-1", False), ("spark-2", False)]
    assert "Connection refused" in status["nodes"][0]["reason"]
    assert "timed out" in status["nodes"][1]["reason"].lower()
    assert "<h1>Status</h1>" in (tmp_path / "status.html").read_text()
    assert "changed=1" not in text


def test_a_node_that_takes_the_task_and_never_ends_it(tmp_path: Path) -> None:
    """A connection that stands says nothing of a machine that hangs: only the limit of the task ends it."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 20\n")
    python.chmod(0o755)
    stuck = {
        "ansible_connection": "local",
        "ansible_python_interpreter": str(python),
        "ansible_become": False,
        "spark_fabric_address": "192.168.100.11",
    }
    pair = {"children": {"head": group("spark-1"), "workers": {"hosts": {"spark-2": stuck}}}}
    hosts = inventory(tmp_path / "inventory", {"sparks": pair})
    begun = time.monotonic()
    code, text = ansible(tmp_path, "-i", str(hosts), book("status"), "-e", f"status_json={tmp_path}/status.json")
    assert code == 0, text
    assert time.monotonic() - begun < 60
    status = json.loads((tmp_path / "status.json").read_text())
    jsonschema.validate(status, SHAPE)
    assert "Timed out after 5" in status["nodes"][1]["reason"]
    assert "DEPRECATION" not in text
