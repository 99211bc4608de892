# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the watchdog does about a verdict. Docker, systemd and the server are stand-ins here; the pair proves the rest (tests/integration)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.ray.cluster import RayCluster, RayNode
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import budget
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import verdict as v
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import watchdog as module
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.pulse import Report
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.verdict import Sample
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.watchdog import Watchdog

HEAD, WORKER = "192.168.100.10", "192.168.100.11"
CONFIG = {
    "address": HEAD,
    "nodes": [HEAD, WORKER],
    "url": "http://127.0.0.1:8235",
    "model": "m",
    "key_file": "/nowhere",
    "ray": True,
    "dashboard": "http://127.0.0.1:8265",
    "act": True,
    "hung_after_s": 15,
    "probe_every_s": 30,
    "memory_share": 0.5,
}
FIGURES = {
    "num_requests_running": 2,
    "num_requests_waiting": 0,
    "generation_tokens_total": 10,
    "kv_cache_usage_perc": 0.1,
}


class World:
    """A head whose clock, server and Docker are ours."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.ended: list[str] = []
        self.commands: list[list[str]] = []
        self.ranks: tuple[int, ...] = ()
        self.held = folder / "holds"
        self.pending: list[str] = []
        self.log = ""
        self.nodes: list[RayNode] = []
        self.seen = Sample(0.0, "active", "running", metrics={**FIGURES, "num_requests_running": 0})
        for name, value in {
            "ranks": lambda: self.ranks,
            "memory": lambda: (100.0, 120.0, 0.0),
            "compiling": lambda: False,
            "kernel_log": lambda _run: "",
            "container_age": lambda _run, _name: 500.0,
            "end_container": lambda _run, name: self.ended.append(name) or "",
            "collect": lambda folder, *_rest: folder,
            "read_cluster": lambda _client: RayCluster(True, nodes=self.nodes),
            "pending_groups": lambda _client: self.pending,
            "read_secret_file": lambda _path: "token",
            "HOLDS": str(self.held),
            "TRIALS": str(folder / "trials"),
        }.items():
            monkeypatch.setattr(module, name, value)
        self.folder = folder
        self.dog = self.watchdog()
        self.dog.cache.drop = lambda: None  # type: ignore[method-assign]

    def watchdog(self, **config: Any) -> Watchdog:
        dog = Watchdog(
            {**CONFIG, **config},
            self.run,
            lambda: self.now,
            self.folder / "dog",
            self.folder / "state.json",
            self.wait,
        )
        dog.observer.look = self.look  # type: ignore[method-assign]
        dog.observer.hold = self.hold  # type: ignore[method-assign]
        return dog

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def run(self, argv: Any, _seconds: float | None = None, **_more: Any) -> tuple[int, str, str]:
        self.commands.append(list(argv))
        return 0, self.log, ""

    def look(self, _compiling: bool) -> Sample:
        return replace(self.seen, at=self.now, up_s=self.now, held=self.hold())

    def hold(self) -> str:
        path = self.held / "spark-vllm"
        return path.read_text().strip() if path.exists() else ""

    def report(self, **more: Any) -> None:
        given = {"address": WORKER, "ray_age_s": 400.0, "available_gib": 100.0, "total_gib": 120.0, **more}
        self.dog.answer("/report", json.loads(json.dumps(given)))

    def pass_time(self, seconds: float, step: float = 2.0, **report: Any) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += step
            self.report(**report)
            self.dog.round()

    def serve(self) -> None:
        self.seen = Sample(0.0, "active", "running", metrics={**FIGURES, "num_requests_running": 0}, prefill=1700.0)
        self.pass_time(400)

    def hang(self) -> None:
        self.seen = Sample(0.0, "active", "running", metrics=dict(FIGURES), prefill=1700.0, step_tokens=2048)

    def restart(self, result: str = "exit-code") -> None:
        """Let the unit end and come to its gates again."""
        self.seen = Sample(0.0, "activating", "auto-restart", result=result)
        self.pass_time(10)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def start(world: World, name: str = "one") -> str:
    """Ask as the gate of the unit does, which is then at its gates."""
    if world.seen.active == "active":
        world.seen = Sample(0.0, "activating", "start-pre", waits_for="a start")
    return str((world.dog.answer("/start", {"start": name}) or {})["waits_for"])


def test_a_hung_server_is_ended_once_and_counted(world: World) -> None:
    world.serve()
    world.hang()
    world.pass_time(30)
    assert world.ended == ["spark-vllm"]
    assert [failure.cause for failure in world.dog.budget.failures] == [v.HUNG]


def test_evidence_is_asked_of_every_node_before_the_server_is_ended(world: World) -> None:
    world.serve()
    world.hang()
    orders: list[dict[str, Any]] = []

    def other(seconds: float) -> None:
        # What the follower of the worker does meanwhile: it asks, collects, and says so.
        assert world.ended == []
        order = dict(world.dog.answer("/report", {"address": WORKER, "ray_age_s": 400.0}) or {})
        orders.append(order)
        world.now += seconds
        if len(orders) > 3:
            world.report(collected=order["collect"])

    world.dog.pause = other
    world.pass_time(30)
    assert world.ended == ["spark-vllm"]
    assert len(orders) == 4
    assert {order["collect"].partition("-")[2] for order in orders} == {v.HUNG}
    # Once healed, nobody is asked any more.
    assert (world.dog.answer("/report", {"address": WORKER}) or {})["collect"] == ""


def test_a_node_that_keeps_no_evidence_is_waited_for_within_bounds(world: World) -> None:
    world.serve()
    world.hang()
    world.pass_time(18)
    begun = world.now
    while not world.ended:
        world.pass_time(2)
    assert world.now - begun <= module.EVIDENCE_S + 8


def test_it_only_says_what_it_sees_when_told_so(world: World) -> None:
    world.dog = world.watchdog(act=False)
    world.serve()
    world.hang()
    world.pass_time(60)
    assert world.ended == []
    assert json.loads((world.folder / "state.json").read_text())["state"] == v.HUNG


def test_a_trial_is_left_alone(world: World) -> None:
    world.serve()
    (world.folder / "trials").mkdir()
    (world.folder / "trials" / "spark-vllm.json").write_text("{}")
    world.hang()
    world.pass_time(60)
    world.restart()
    assert world.ended == [] and world.dog.budget.failures == []


def test_the_end_that_it_caused_is_no_failure_of_its_own(world: World) -> None:
    world.serve()
    world.hang()
    world.pass_time(20)
    world.restart("signal")
    assert len(world.dog.budget.failures) == 1


def test_a_server_that_ends_by_itself_is_counted_by_its_cause(world: World) -> None:
    world.serve()
    world.restart()
    assert [failure.cause for failure in world.dog.budget.failures] == ["ended: no error in its log"]


def test_a_server_that_ends_without_an_error_is_not_counted(world: World) -> None:
    world.serve()
    world.restart("success")
    assert world.dog.budget.failures == []


@pytest.mark.parametrize(
    ("result", "counted"),
    # systemd 252 of a unit that was stopped at a gate, and of one whose stop took too long.
    [("signal", 0), ("timeout", 0), ("start-limit-hit", 1)],
)
def test_a_start_that_the_operator_stopped_is_no_failure(world: World, result: str, counted: int) -> None:
    world.seen = Sample(0.0, "activating", "start-pre", waits_for="a peer")
    world.pass_time(10)
    world.seen = Sample(0.0, "failed", "failed", result=result)
    world.pass_time(10)
    assert len(world.dog.budget.failures) == counted


def test_the_third_of_one_cause_holds_until_the_operator_starts_it(world: World) -> None:
    for _time in range(3):
        world.serve()
        world.hang()
        world.pass_time(30)
        world.restart("signal")
    assert "3 failures of the same cause" in world.hold()
    assert ["systemctl", "stop", "--no-block", "spark-vllm.service"] in world.commands
    assert start(world).startswith("held after 3 failures")
    (world.held / "spark-vllm").unlink()
    world.seen = Sample(0.0, "activating", "start-pre", start="by systemd", restarts=3)
    world.pass_time(4)
    assert world.dog.budget.failures, "systemd's own starts forgive nothing"
    world.seen = Sample(0.0, "activating", "start-pre", start="by the operator")
    world.pass_time(4)
    assert world.dog.budget.failures == []


def test_a_start_by_hand_or_by_a_playbook_counts_from_the_beginning(world: World) -> None:
    world.serve()
    world.hang()
    world.pass_time(30)
    for start_id, restarts, left in (("a", 0, 1), ("b", 1, 1), ("b", 0, 1), ("c", 0, 0)):
        # The first that is seen may be the boot's; a start by systemd itself has a count; the same start is no new one.
        world.seen = Sample(0.0, "activating", "start-post", start=start_id, restarts=restarts)
        world.pass_time(4)
        assert len(world.dog.budget.failures) == left, start_id
        # A watchdog that is started again meanwhile knows which start it saw last.
        world.dog = world.watchdog()


def test_a_disk_without_room_hinders_neither_healing_nor_holding(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_asked: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_atomic", full)
    monkeypatch.setattr(budget, "write_atomic", full)
    for _time in range(3):
        world.serve()
        world.hang()
        world.pass_time(30)
        world.restart("signal")
    assert world.ended[:2] == ["spark-vllm"] * 2
    assert ["systemctl", "stop", "--no-block", "spark-vllm.service"] in world.commands
    assert "the hold cannot be written down" in capsys.readouterr().out


def test_a_start_waits_for_every_node(world: World) -> None:
    assert "has not reported yet" in start(world)
    world.pass_time(2)
    assert f"{WORKER} makes itself ready" in start(world)
    world.pass_time(2, prepared="one")
    assert start(world) == ""
    world.now += 11
    world.dog.board.take(world.dog.here())
    assert f"{WORKER} has not reported for" in start(world)


def test_a_start_waits_for_memory_on_the_further_node(world: World) -> None:
    start(world)
    world.pass_time(4, prepared="one", available_gib=40.0)
    assert "40 GiB of memory available, 60 GiB are needed" in start(world)


def test_ranks_that_are_left_end_ray_on_all_nodes(world: World) -> None:
    world.pass_time(4)
    for _look in range(12):
        said = start(world)
        world.pass_time(2, prepared="one", ranks=[4711])
    assert f"left on {WORKER} (processes 4711)" in said
    assert world.ended.count("spark-ray-head") == 1


def test_ranks_that_go_by_themselves_leave_ray_alone(world: World) -> None:
    world.pass_time(4)
    for _look in range(5):
        start(world)
        world.pass_time(2, prepared="one", ranks=[4711])
    world.pass_time(2, prepared="one")
    assert start(world) == ""
    assert world.ended == []


def test_a_pending_group_while_no_rank_runs_makes_ray_new(world: World) -> None:
    world.seen = Sample(0.0, "activating", "start-post")
    world.pending = ["group"]
    world.pass_time(30)
    assert world.ended == ["spark-vllm", "spark-ray-head"]
    assert [failure.cause for failure in world.dog.budget.failures] == ["placement group pending"]


def test_a_pending_group_of_a_start_that_goes_on_is_nothing(world: World) -> None:
    world.seen = Sample(0.0, "activating", "start-post")
    for _time in range(5):
        world.pending = ["group"]
        world.pass_time(10)
        world.pending = []
        world.pass_time(4)
    assert world.ended == []


def test_a_start_that_fails_twice_by_the_same_error_is_held(world: World) -> None:
    entry = {
        "_SYSTEMD_INVOCATION_ID": "a",
        "MESSAGE": "ValueError: No available memory for the cache blocks",
        "__REALTIME_TIMESTAMP": "1",
    }
    world.log = json.dumps(entry)
    for _time in range(2):
        world.seen = Sample(0.0, "activating", "start-post")
        world.pass_time(60)
        world.restart()
    assert "2 failures of the same cause" in world.hold()
    assert "KV cache" in world.hold()


def test_two_starts_in_a_row_that_fail_make_ray_new(world: World) -> None:
    for _time in range(2):
        world.seen = Sample(0.0, "activating", "start-post")
        world.pass_time(60)
        world.restart()
    world.pass_time(120)
    start(world)
    assert "spark-ray-head" in world.ended


def test_ray_that_stays_incomplete_although_it_runs_everywhere_is_made_new(world: World) -> None:
    world.seen = Sample(
        0.0, "activating", "start-pre", waits_for="Ray is not complete: 1 GPUs are alive where 2 are expected"
    )
    world.pass_time(100)
    assert world.ended == []
    world.pass_time(40)
    assert "spark-ray-head" in world.ended


@pytest.mark.parametrize(
    ("message", "new"),
    [
        ("Unexpected termination: health check failed due to missing too many heartbeats", True),
        ("Expected termination: received SIGTERM", False),
    ],
)
def test_a_node_that_ray_gave_up_for_its_silence_makes_ray_new(world: World, message: str, new: bool) -> None:
    world.nodes = [
        RayNode("a", WORKER, "DEAD", False, 1, 2, 0, message),
        RayNode("b", WORKER, "ALIVE", False, 1, 2, 0, ""),
    ]
    start(world)
    world.pass_time(4, prepared="one")
    assert bool(start(world)) is new
    assert ("spark-ray-head" in world.ended) is new


def test_ray_is_new_before_a_node_that_it_gave_up_is_back(world: World) -> None:
    world.nodes = [
        RayNode("a", WORKER, "DEAD", False, 1, 2, 0, "health check failed due to missing too many heartbeats")
    ]
    # Nothing was heard of the node yet.
    assert "gave" in start(world)
    assert "spark-ray-head" in world.ended
    world.nodes = []
    assert "has not reported yet" in start(world)


def test_one_that_does_not_act_keeps_no_start_waiting_for_a_new_ray(world: World) -> None:
    world.dog = world.watchdog(act=False)
    world.dog.cache.drop = lambda: None  # type: ignore[method-assign]
    world.nodes = [
        RayNode("a", WORKER, "DEAD", False, 1, 2, 0, "health check failed due to missing too many heartbeats")
    ]
    start(world)
    world.pass_time(4, prepared="one")
    assert start(world) == ""
    assert world.ended == []


def test_serving_again_is_told_with_its_seconds(world: World) -> None:
    world.serve()
    world.hang()
    world.pass_time(20)
    world.restart("signal")
    world.serve()
    recovery = json.loads((world.folder / "dog" / "recovery.json").read_text())
    assert recovery["cause"] == v.HUNG and recovery["seconds"] > 0


def test_the_rate_of_the_last_hour_is_in_the_state(world: World) -> None:
    world.serve()
    tokens = FIGURES["generation_tokens_total"]
    world.seen = replace(world.seen, metrics={**FIGURES, "generation_tokens_total": tokens + 4000})
    world.pass_time(2)
    told = json.loads((world.folder / "state.json").read_text())["tokens_per_s"]
    assert told == {"hour": round(4000 / told["span_s"], 2), "span_s": pytest.approx(400, abs=10)}


@pytest.mark.parametrize(
    "body", [None, [], {}, {"address": 3}, {"address": HEAD, "ranks": ["x"]}, {"address": HEAD, "total_gib": "x"}]
)
def test_a_report_that_is_none_is_refused_in_a_sentence(world: World, body: Any) -> None:
    with pytest.raises(ValueError, match="report"):
        world.dog.answer("/report", body)


def test_an_unknown_path_is_none(world: World) -> None:
    assert world.dog.answer("/", None) is None


def test_an_unknown_field_of_a_newer_follower_is_passed_over() -> None:
    assert Report.from_json({"address": WORKER, "new": 1}).address == WORKER
