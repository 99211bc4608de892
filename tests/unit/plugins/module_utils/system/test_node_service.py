# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""One of our own programs as a service: files are real, systemd is a stand-in that keeps a state."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system import node_service as module
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.node_service import (
    NodeService,
    NodeServiceError,
    library_digest,
)

NAME = "spark-watchdog"


class Systemd:
    """systemctl of one unit."""

    def __init__(self) -> None:
        self.active, self.enabled, self.refuses = "inactive", "", ""
        self.asked: list[str] = []

    def run(self, argv: Sequence[str], _seconds: float | None = None, /, **_more: Any) -> tuple[int, str, str]:
        verb = argv[1]
        if verb == "show":
            return 0, f"ActiveState={self.active}\nUnitFileState={self.enabled}\n", ""
        self.asked.append(verb)
        if verb == self.refuses:
            return 1, "", "Job failed.\n"
        if verb in ("start", "restart", "stop"):
            self.active = "inactive" if verb == "stop" else "active"
        if verb in ("enable", "disable"):
            self.enabled = f"{verb}d"
        return 0, "", ""


class Node:
    """A node with the program installed."""

    def __init__(self, folder: Path) -> None:
        self.systemd = Systemd()
        self.units, self.library = folder / "units", folder / "library"
        self.config = folder / "etc" / "watchdog.json"
        self.units.mkdir()
        (self.library / "service").mkdir(parents=True)
        (self.library / "service" / "watchdog.py").write_text("pass\n")

    def service(self, check: bool = False) -> NodeService:
        return NodeService(NAME, self.systemd.run, check, self.units, self.library)

    def present(self, check: bool = False, **config: Any) -> list[str]:
        service = self.service(check)
        service.present("Watches", self.config, {"address": "192.168.100.10", **config})
        return service.actions

    def absent(self, check: bool = False) -> list[str]:
        service = self.service(check)
        service.absent(self.config)
        return service.actions


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_check_mode_says_what_the_run_does_and_touches_nothing(node: Node) -> None:
    said = node.present(check=True)
    assert list(node.units.iterdir()) == []
    assert not node.config.parent.exists()
    assert node.systemd.asked == []
    assert node.present() == said
    assert said[-2:] == [f"enabled {NAME}.service at boot", f"started {NAME}.service"]
    assert node.systemd.asked == ["daemon-reload", "enable", "start"]


def test_a_second_run_changes_nothing(node: Node) -> None:
    node.present()
    node.systemd.asked.clear()
    assert node.present() == []
    assert node.systemd.asked == []


def test_the_unit_is_watched_starts_again_and_is_the_last_to_be_killed(node: Node) -> None:
    node.present()
    text = (node.units / f"{NAME}.service").read_text()
    for line in (
        "Type=notify",
        "WatchdogSec=90",
        "Restart=always",
        "OOMScoreAdjust=-900",
        "WantedBy=multi-user.target",
        f"ExecStart=/opt/dgx-spark/bin/{NAME} --config {node.config}",
    ):
        assert line in text
    assert json.loads(node.config.read_text()) == {"address": "192.168.100.10"}
    assert node.config.stat().st_mode & 0o777 == 0o644


def test_another_configuration_restarts_it(node: Node) -> None:
    node.present()
    node.systemd.asked.clear()
    assert node.present(port=9000, check=True) == node.present(port=9000)
    assert node.systemd.asked == ["restart"]


@pytest.mark.parametrize("change", ["changed", "new", "gone", "renamed"])
def test_other_programs_restart_it(node: Node, change: str) -> None:
    node.present()
    file = node.library / "service" / "watchdog.py"
    if change == "gone":
        file.unlink()
    elif change == "renamed":
        file.rename(file.with_name("observer.py"))
    else:
        (file if change == "changed" else file.with_name("new.py")).write_text("1\n")
    assert f"restarted {NAME}.service" in node.present()
    assert node.present() == []


def test_one_that_was_stopped_or_disabled_by_hand_comes_back(node: Node) -> None:
    node.present()
    node.systemd.active = "failed"
    assert node.present() == [f"started {NAME}.service"]
    node.systemd.enabled = "disabled"
    assert node.present() == [f"enabled {NAME}.service at boot"]


@pytest.mark.parametrize("verb", ["daemon-reload", "enable", "start"])
def test_a_systemd_that_refuses_is_told_in_one_sentence(node: Node, verb: str) -> None:
    node.systemd.refuses = verb
    with pytest.raises(NodeServiceError, match=rf"systemctl {verb}.* failed: Job failed\.; see `journalctl -u {NAME}`"):
        node.present()


def test_absent_takes_it_away_once(node: Node) -> None:
    assert node.absent() == []
    node.present()
    said = node.absent(check=True)
    assert node.config.exists()
    node.systemd.asked.clear()
    assert node.absent() == said
    assert node.systemd.asked == ["stop", "disable", "daemon-reload"]
    assert not node.config.exists()
    assert list(node.units.iterdir()) == []
    node.systemd.asked.clear()
    assert node.absent() == []
    assert node.systemd.asked == []


def test_the_difference_is_shown(node: Node) -> None:
    node.present()
    service = node.service(check=True)
    service.present("Watches", node.config, {"address": "192.168.100.12"})
    (difference,) = service.diff
    assert "192.168.100.10" in difference["before"]
    assert "192.168.100.12" in difference["after"]


def test_a_library_that_is_not_there_yet_has_a_digest(tmp_path: Path) -> None:
    assert library_digest(tmp_path / "nothing") == library_digest(tmp_path / "nothing")
    assert len(library_digest(module.LIBRARY)) == 16
