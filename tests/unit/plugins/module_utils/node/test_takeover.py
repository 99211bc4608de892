# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Others are stopped so that they stay stopped and can come back; we and the system are not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.cli import DOCKER
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node.takeover import Step, TakeoverError, plan


class Machine:
    """docker inspect and systemctl show of a few things; Docker's form is recorded from 20.10, systemd's invented."""

    containers: ClassVar[dict[str, tuple[bool, dict[str, Any]]]] = {
        "node-20817": (True, {"Name": "no", "MaximumRetryCount": 0}),
        "ollama": (True, {"Name": "unless-stopped", "MaximumRetryCount": 0}),
        "comfy": (False, {"Name": "on-failure", "MaximumRetryCount": 3}),
        "old": (False, {"Name": ""}),
    }
    units: ClassVar[dict[str, tuple[str, str]]] = {
        "ollama.service": ("active", "enabled"),
        "jupyter.service": ("active", "static"),
        "idle.service": ("inactive", "disabled"),
    }

    def run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        if argv[0].endswith("/docker"):
            if argv[-1] not in self.containers:
                return 1, "[]", f"Error: No such container: {argv[-1]}"
            running, policy = self.containers[argv[-1]]
            return 0, json.dumps([{"State": {"Running": running}, "HostConfig": {"RestartPolicy": policy}}]), ""
        active, enabled = self.units.get(argv[2], ("inactive", ""))
        loaded = "loaded" if argv[2] in self.units else "not-found"
        return 0, f"LoadState={loaded}\nActiveState={active}\nUnitFileState={enabled}\n", ""


@pytest.mark.parametrize(
    ("container", "commands", "undo"),
    [
        ("node-20817", [(DOCKER, "stop", "node-20817")], ["docker start node-20817"]),
        (
            "ollama",
            [(DOCKER, "update", "--restart=no", "ollama"), (DOCKER, "stop", "ollama")],
            ["docker update --restart=unless-stopped ollama", "docker start ollama"],
        ),
        ("comfy", [(DOCKER, "update", "--restart=no", "comfy")], ["docker update --restart=on-failure:3 comfy"]),
    ],
)
def test_containers(container: str, commands: list[tuple[str, ...]], undo: list[str]) -> None:
    assert plan(Machine().run, [container], []) == [Step(f"container {container}", tuple(commands), tuple(undo))]


def test_units() -> None:
    first, second = plan(Machine().run, [], ["ollama.service", "jupyter.service"])
    assert first.commands == (("systemctl", "disable", "ollama.service"), ("systemctl", "stop", "ollama.service"))
    assert first.undo == ("sudo systemctl enable ollama.service", "sudo systemctl start ollama.service")
    assert second.commands == (("systemctl", "stop", "jupyter.service"),)


def test_what_does_not_run_is_no_change() -> None:
    assert plan(Machine().run, ["old", "gone"], ["idle.service", "gone.service"]) == []
    assert len(plan(Machine().run, ["node-20817", "node-20817"], [])) == 1


@pytest.mark.parametrize(
    ("containers", "units", "words"),
    [
        (["spark-vllm"], [], "playbooks/stop.yml"),
        ([], ["spark-vllm.service"], "playbooks/stop.yml"),
        ([], ["docker.service"], "part of the system"),
        ([], ["ssh.service"], "part of the system"),
        ([], ["systemd-journald.service"], "part of the system"),
        ([], ["ollama"], "write it as ollama.service"),
        (["--all"], [], "is no name"),
        ([""], [], "is no name"),
    ],
)
def test_we_and_the_system_are_not_stopped(containers: list[str], units: list[str], words: str) -> None:
    with pytest.raises(TakeoverError, match=words):
        plan(Machine().run, containers, units)


def test_docker_that_does_not_answer_stops_before_anything_is_done() -> None:
    with pytest.raises(TakeoverError, match=r"Cannot connect.*systemctl status docker"):
        plan(lambda _argv: (1, "", "Cannot connect to the Docker daemon"), ["ollama"], [])
    with pytest.raises(TakeoverError, match="is systemd running"):
        plan(lambda _argv: (1, "", "System has not been booted with systemd"), [], ["ollama.service"])


def test_a_container_with_our_label_is_ours_whatever_its_name() -> None:
    labelled = json.dumps(
        [{"State": {"Running": True}, "Config": {"Labels": {"dgx-spark.digest": "1"}}, "HostConfig": {}}]
    )
    with pytest.raises(TakeoverError, match=r"playbooks/stop\.yml"):
        plan(lambda _argv: (0, labelled, ""), ["later-name"], [])


def test_a_name_that_starts_like_ours_is_nobodys() -> None:
    others = json.dumps([{"State": {"Running": True}, "HostConfig": {}}])
    assert [step.name for step in plan(lambda _argv: (0, others, ""), ["spark-master"], [])] == [
        "container spark-master"
    ]
