# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""`spark start`, `stop` and `restart`: the order of the plan, the stop flag, the lock, and what the other nodes are told to do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command import order
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command.cluster import Cluster, CommandError
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command.order import Order, alone
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker import service_unit
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.service_state import UnitState
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node.run_lock import read, take

from tests.unit.plugins.module_utils.command.world import PAIR, WORKER, paper, report

HEAD_UNITS = ("spark-ray-head", "spark-vllm")


class World:
    """A head whose units do what systemctl says."""

    def __init__(self, folder: Path) -> None:
        self.flag, self.lock, self.state = folder / "stopped", folder / "lock.json", folder / "watchdog.json"
        self.active = dict.fromkeys(HEAD_UNITS, "active")
        self.did: list[str] = []
        self.slept = 0.0
        self.ranks: list[int] = []
        self.fails = ""
        self.slow = 0
        self.terminal, self.out = paper()

    def order(self, cluster: Cluster = PAIR) -> Order:
        self.state.write_text(json.dumps({"nodes": {WORKER: report(WORKER, ranks=self.ranks)}}))
        where = {"flag": self.flag, "lock": self.lock, "state": self.state}
        return Order(cluster, self.terminal, self, sleep=self.sleep, clock=lambda: self.slept, **where)

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def __call__(self, argv: Any, *_rest: Any, **_more: Any) -> tuple[int, str, str]:
        verb, unit = argv[1], argv[-1].removesuffix(".service")
        if argv[0] == "systemctl" and verb in ("start", "stop"):
            assert not (verb == "start" and self.flag.exists()), "the flag is away before a unit starts"
            self.did.append(f"{verb} {unit}")
            self.active[unit] = "active" if verb == "start" else "inactive"
        return 0, "", ""

    def look(self, _params: Any, _run: Any) -> dict[str, Any]:
        self.slow -= 1
        late = self.slow > 0
        units = [
            {"name": name, "active": active, "differs": [] if active == "active" else ["it is not running"]}
            for name, active in self.active.items()
        ]
        failed = [self.fails] if self.fails and self.slept > 5 else []
        settled = all(active == "active" for active in self.active.values()) and not late and not self.fails
        return {
            "units": units,
            "settled": settled,
            "failed_units": failed,
            "startup": [],
            "msg": "\x1b[36mwaits\x1b[0m" if not settled else "in the desired state",
        }

    @property
    def text(self) -> str:
        return self.out.getvalue()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)

    def state(_run: Any, name: str) -> UnitState:
        active = made.active.get(name, "inactive")
        return UnitState(name in made.active, active, "", True, 0, "success", False)

    monkeypatch.setattr(service_unit, "unit_state", state)
    monkeypatch.setattr(service_unit, "HOLDS", str(tmp_path / "holds"))
    monkeypatch.setattr(order, "answer", made.look)
    return made


def test_a_stop_is_known_to_the_watchdog_before_anything_ends_and_goes_backwards(world: World) -> None:
    seen: list[bool] = []
    before: Callable[..., tuple[int, str, str]] = world.__call__

    def run(argv: Any, *rest: Any, **more: Any) -> tuple[int, str, str]:
        seen.append(world.flag.exists())
        return before(argv, *rest, **more)

    made = world.order()
    made.program = run
    assert made.stop() == 0
    assert world.did == ["stop spark-vllm", "stop spark-ray-head"]
    assert all(seen)
    assert world.flag.read_text() == order.STOPPED
    assert "requests that run get up to 30 s" in world.text
    assert "spark-2: no rank of the model is left" in world.text
    assert "playbooks/stop.yml` stops them as well" in world.text
    world.did.clear()
    assert world.order().stop() == 0
    assert world.did == []


def test_ranks_that_stay_elsewhere_are_said(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.ranks = [41, 42]
    assert world.order().stop() == 0
    assert world.slept >= order.LEAVE_S
    assert "spark-2 still has ranks of the model (processes 41, 42)" in capsys.readouterr().err
    assert "no rank of the model is left" not in world.text


def test_a_start_takes_the_flag_away_and_goes_forwards(world: World) -> None:
    world.order().stop()
    world.did.clear()
    world.slow = 30
    assert world.order().start() == 0
    assert world.did == ["start spark-ray-head", "start spark-vllm"]
    assert "the stop flag is taken away" in world.text
    assert "s  waits\n" in world.text
    assert "a node that playbooks/stop.yml stopped has a stop flag of its own" in world.text
    assert not world.lock.exists()
    world.did.clear()
    assert world.order().start() == 0
    assert world.did == []


def test_a_start_that_fails_or_takes_too_long(world: World) -> None:
    world.fails = "spark-vllm"
    with pytest.raises(CommandError, match=r"waits. `spark logs` has its log"):
        world.order().start()
    assert not world.lock.exists()
    world.fails, world.slow = "", 10_000
    with pytest.raises(CommandError, match="not up after 60 s: waits; the units go on trying"):
        world.order(dataclasses.replace(PAIR, start_s=60)).start()


def test_nobody_waits_who_does_not_want_to(world: World) -> None:
    world.active["spark-vllm"] = "inactive"
    world.slow = 10_000
    assert world.order().start(wait=False) == 0
    assert (world.did, world.slept) == (["start spark-vllm"], 0.0)


def test_a_restart_goes_down_and_up_and_is_refused_while_the_flag_is_set(world: World) -> None:
    assert world.order().restart() == 0
    assert world.did == ["stop spark-vllm", "stop spark-ray-head", "start spark-ray-head", "start spark-vllm"]
    assert not world.flag.exists()
    world.flag.touch()
    with pytest.raises(CommandError, match="so nothing was restarted"):
        world.order().restart()


def test_a_further_node_starts_its_own_units_and_stops_nothing(world: World) -> None:
    there = dataclasses.replace(PAIR, node="spark-2")
    world.active = {"spark-ray-worker": "inactive"}
    world.flag.touch()
    assert world.order(there).start() == 0
    assert world.did == ["start spark-ray-worker"]
    for word in ("stop", "restart"):
        with pytest.raises(CommandError, match=f"run `sudo spark {word}` on spark-1"):
            getattr(world.order(there), word)()


def test_a_node_without_units(world: World) -> None:
    world.active = {}
    with pytest.raises(CommandError, match=r"run site\.yml first"):
        world.order().start()


def test_a_playbook_that_works_on_the_nodes_keeps_a_start_from_going_on(world: World) -> None:
    other = dataclasses.replace(order.this_run("x"), pid=1, began=order.process_began(1), playbook="site.yml")
    take(other, path=world.lock)
    with pytest.raises(CommandError, match="another run works on these nodes"):
        world.order().start()
    assert world.order().stop() == 0
    held = read(world.lock)
    assert held is not None and held.playbook == "site.yml"


def test_one_that_is_gone_holds_nobody_up(tmp_path: Path) -> None:
    lock = tmp_path / "lock.json"
    take(dataclasses.replace(order.this_run("x"), pid=1, began="long ago"), path=lock)
    with alone("start", lock):
        held = read(lock)
        assert held is not None and held.playbook == "spark start"
    assert not lock.exists()


def test_who_called_sudo_is_named() -> None:
    assert order.this_run("start", {"SUDO_USER": "anna"}).user == "anna"
