# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""How a Docker engine is come by."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation.engine import Answer, Machine, Step, decide, is_stale
from simulation.settings import SimulationError


@pytest.mark.parametrize(
    ("machine", "steps"),
    [
        (Machine(Answer.YES), []),
        (Machine(Answer.YES, client=False), [Step.INSTALL_CLIENT]),
        (Machine(Answer.NO), [Step.START_UNIT]),
        (Machine(Answer.NO, systemd=False), [Step.START_BY_HAND]),
        (Machine(Answer.NO, installed=False), [Step.INSTALL, Step.START_UNIT]),
        (Machine(Answer.NO, installed=False, systemd=False), [Step.INSTALL, Step.START_BY_HAND]),
        (Machine(Answer.FORBIDDEN, socket_group="docker"), [Step.USE_GROUP]),
    ],
)
def test_decide(machine: Machine, steps: list[Step]) -> None:
    assert decide(machine) == steps


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (Machine(Answer.NO, docker_host="tcp://10.0.0.1:2375"), "DOCKER_HOST is 'tcp://10.0.0.1:2375'"),
        (Machine(Answer.NO, installed=False, apt=False), "not a Debian or Ubuntu"),
        (Machine(Answer.NO, installed=False, root=False), "sudo apt-get install docker.io"),
        (Machine(Answer.NO, root=False), "sudo systemctl start docker"),
        (Machine(Answer.FORBIDDEN), "usermod -aG docker"),
        (Machine(Answer.FORBIDDEN, socket_group="docker", root=False), "usermod -aG docker"),
    ],
)
def test_refusals_say_what_to_do(machine: Machine, words: str) -> None:
    with pytest.raises(SimulationError, match=words.replace(".", r"\.")):
        decide(machine)


@pytest.mark.parametrize(("comm", "stale"), [("dockerd", False), ("bash", True), (None, True)])
def test_a_pid_file_of_a_killed_engine_is_stale(tmp_path: Path, comm: str | None, stale: bool) -> None:
    file = tmp_path / "docker.pid"
    file.write_text("4711")
    if comm:
        (tmp_path / "4711").mkdir()
        (tmp_path / "4711" / "comm").write_text(f"{comm}\n")
    assert is_stale(file, "dockerd", tmp_path) is stale


def test_without_a_pid_file_nothing_is_stale(tmp_path: Path) -> None:
    assert not is_stale(tmp_path / "docker.pid", "dockerd", tmp_path)
