# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Whose the simulated Sparks are. The containers are stand-ins: that Docker lists and removes real ones is shown by each scenario."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from simulation import nodes, settings
from simulation.settings import SimulationError


class Container:
    def __init__(self, client: Client, name: str, status: str) -> None:
        self.client, self.name, self.status = client, name, status

    def remove(self, **_: Any) -> None:
        self.client.there.remove(self)


class Client:
    """As much of Docker's client as taking away needs."""

    def __init__(self, **status: str) -> None:
        self.there = [Container(self, name, state) for name, state in status.items()]
        nothing = SimpleNamespace(list=lambda **_: [])
        self.containers = SimpleNamespace(list=lambda **_: list(self.there))
        self.volumes = self.networks = self.images = nothing


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("status", nodes.ALIVE)
def test_nodes_of_another_are_left_alone_while_one_of_them_runs(status: str) -> None:
    said: list[str] = []
    client: Any = Client(spark_1="exited", spark_hub=status)
    settings.state_folder().mkdir(parents=True)
    settings.remember(owner="demo")
    with pytest.raises(SimulationError, match=r"in use by .demo.: take them away first .`make demo-down`.\."):
        nodes.claim(client, said.append, "molecule")
    assert (len(client.there), settings.state()["owner"], said) == (2, "demo", [])


def test_what_a_machine_that_went_down_left_behind_is_taken_away() -> None:
    said: list[str] = []
    client: Any = Client(spark_1="exited", spark_hub="exited")
    settings.state_folder().mkdir(parents=True)
    settings.remember(owner="demo", served=True)
    nodes.claim(client, said.append, "molecule")
    assert (client.there, settings.state()) == ([], {"owner": "molecule"})
    assert said[0] == "Nodes that 'demo' left behind are here, and none of them runs: they are taken away"


def test_the_same_owner_finds_its_nodes_again() -> None:
    client: Any = Client(spark_1="exited", spark_hub="exited")
    settings.state_folder().mkdir(parents=True)
    settings.remember(owner="demo", served=True)
    nodes.claim(client, pytest.fail, "demo")
    assert (len(client.there), settings.state()["served"]) == (2, True)
