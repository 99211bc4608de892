# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""How a Docker engine is come by."""

from __future__ import annotations

import pytest

from simulation.engine import Answer, Machine, Step, decide
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
