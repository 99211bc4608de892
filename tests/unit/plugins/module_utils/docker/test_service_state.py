# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""systemctl and docker are stand-ins that answer as systemd 252 and Docker 20.10 do."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.service import DIGEST_LABEL, ContainerSpec, record
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.service_state import (
    ContainerServiceError,
    read_record,
    secret_hashes,
    service_status,
    unit_state,
)

IMAGE = "sha256:" + "a" * 64
SPEC = ContainerSpec(name="spark-vllm", image="serving:1", command=("vllm", "serve"))


class Node:
    """A node with one unit and at most one container."""

    def __init__(
        self, active: str = "active", sub: str = "running", container: dict[str, Any] | None = None, begun: int = 0
    ) -> None:
        self.active, self.sub, self.container, self.begun = active, sub, container, begun

    def __call__(self, argv: Sequence[str]) -> tuple[int, str, str]:
        if argv[0] == "systemctl":
            lines = ["LoadState=loaded", f"ActiveState={self.active}", f"SubState={self.sub}", "UnitFileState=enabled"]
            lines += [
                "NRestarts=2",
                "Result=success",
                "NeedDaemonReload=no",
                f"InactiveExitTimestampMonotonic={self.begun}",
            ]
            return 0, "\n".join(lines), ""
        if self.container is None:
            return 1, "[]", "Error: No such container: spark-vllm"
        return 0, json.dumps([self.container]), ""


def running(digest: str = "d1") -> dict[str, Any]:
    return {
        "Image": IMAGE,
        "State": {"Running": True},
        "Config": {"Entrypoint": ["vllm"], "Cmd": ["serve"], "Env": [], "Labels": {DIGEST_LABEL: digest}},
        "HostConfig": {"Binds": None},
    }


@pytest.fixture
def records(tmp_path: Path) -> Path:
    (tmp_path / "spark-vllm.json").write_text(json.dumps(record(SPEC, IMAGE, "d1")))
    return tmp_path


def test_the_wanted_container_runs(records: Path) -> None:
    status = service_status(Node(container=running()), "spark-vllm", records)
    assert (status["settled"], status["running"], status["differs"], status["restarts"]) == (True, True, [], 2)


def test_another_container_runs(records: Path) -> None:
    status = service_status(Node(container=running("old")), "spark-vllm", records)
    assert status["differs"] == ["a secret or a limit changed since it was started"]


@pytest.mark.parametrize("active", ["inactive", "failed"])
def test_nothing_runs(records: Path, active: str) -> None:
    status = service_status(Node(active, "dead"), "spark-vllm", records)
    assert status["differs"] == [f"it is not running (systemd says {active}, last result success)"]


@pytest.mark.parametrize(
    ("active", "shown", "differs"),
    [
        ("inactive", "failed", "it is not running (systemd says failed, last result held after 3 failures)"),
        # It waits at its gate since the boot: a start has to take the hold away.
        ("activating", "activating", "spark-watchdog holds it (held after 3 failures)"),
        ("active", "active", None),
    ],
)
def test_a_unit_that_the_watchdog_holds_differs(
    records: Path, tmp_path: Path, active: str, shown: str, differs: str | None
) -> None:
    holds = tmp_path / "holds"
    holds.mkdir()
    (holds / "spark-vllm").write_text("held after 3 failures\n", encoding="utf-8")
    node = Node(active, container=running() if active == "active" else None)
    status = service_status(node, "spark-vllm", records, holds=holds)
    assert (status["active"], status["differs"]) == (shown, [differs] if differs else [])


def test_a_gate_that_waits_is_no_difference(records: Path) -> None:
    status = service_status(Node("activating", "start-pre"), "spark-vllm", records)
    assert (status["settled"], status["differs"]) == (False, [])


@pytest.mark.parametrize(
    ("written", "differs"), [(-60, []), (60, ["it waits at the gates that it had before its unit was changed"])]
)
def test_a_unit_that_waits_where_it_was_before_its_file_changed(
    records: Path, written: int, differs: list[str]
) -> None:
    unit = records / "spark-vllm.service"
    unit.write_text("[Service]\n")
    began = time.monotonic() - 600
    moment = time.time() - 600 + written
    os.utime(unit, (moment, moment))
    node = Node("activating", "start-pre", begun=int(began * 1e6))
    assert service_status(node, "spark-vllm", records, units=records)["differs"] == differs


def test_a_container_outside_of_its_unit_is_named(records: Path) -> None:
    status = service_status(Node("inactive", "dead", running()), "spark-vllm", records)
    assert "runs outside of its unit" in status["differs"][0]


def test_a_unit_that_nobody_wrote_is_no_concern(tmp_path: Path) -> None:
    assert service_status(Node(), "spark-vllm", tmp_path)["present"] is False


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "x"}'])
def test_a_damaged_record_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    assert read_record("x", tmp_path) is None


def test_without_systemd_there_is_a_sentence() -> None:
    with pytest.raises(ContainerServiceError, match="is systemd running"):
        unit_state(lambda _argv: (1, "", "System has not been booted with systemd"), "x")


def test_secrets_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "good").write_text("secret")
    assert set(secret_hashes({"good": str(tmp_path / "good")})) == {"good"}
    with pytest.raises(ContainerServiceError, match="'gone' cannot be read"):
        secret_hashes({"gone": str(tmp_path / "gone")})
    with pytest.raises(ContainerServiceError, match=r"'empty' in .* is empty"):
        secret_hashes({"empty": str(tmp_path / "empty")})


def test_while_a_trial_is_prepared_its_container_is_the_wanted_one(tmp_path: Path) -> None:
    disk, trials = tmp_path / "disk", tmp_path / "trials"
    for folder, digest in ((disk, "d1"), (trials, "d2")):
        folder.mkdir()
        (folder / "spark-vllm.json").write_text(json.dumps(record(SPEC, IMAGE, digest)))
    assert service_status(Node(container=running("d2")), "spark-vllm", disk, trials)["differs"] == []
    assert service_status(Node(container=running("d1")), "spark-vllm", disk, trials)["differs"]
    (trials / "spark-vllm.json").unlink()
    assert service_status(Node(container=running("d1")), "spark-vllm", disk, trials)["differs"] == []
