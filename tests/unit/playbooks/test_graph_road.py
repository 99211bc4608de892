# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The road of a trial through the plays: restarts in the cluster's order, falling back, remembering, healing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.playbooks.graph_world import World
from tests.unit.plugins.vllm_stand_in import stand_in


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with stand_in() as server:
        made = World.make(tmp_path, server.url)
        server.look = made.behaviour
        yield made


def changed(output: str) -> int:
    """Return how many tasks changed something, over all hosts."""
    return sum(int(part.partition("=")[2]) for part in output.split() if part.startswith("changed="))


def test_the_first_mode_passes_and_a_second_run_changes_nothing(world: World) -> None:
    code, output = world.run()
    assert code == 0, output
    assert "decode passed: 8 of 8 answers are equal" in output
    assert "start-up of spark-vllm" in output
    assert (world.mode(), world.of("disk"), world.of("trial")) == ("decode", "decode", "")
    assert world.record()["decode"]["state"] == "passed"
    starts = [entry for entry in world.log() if entry[1] in ("started", "restarted")]
    assert [name for name, _state, _mode in starts] == [
        "spark-ray-head",
        "spark-ray-worker",
        "spark-vllm",
        "spark-vllm",
    ]
    world.behave()
    code, output = world.run(vllm_graphs_verdict={"verdict": "unknown", "reason": "nobody looked"})
    assert (code, changed(output), world.log(), world.mode()) == (0, 0, [], "decode"), output
    assert "start-up of" not in output
    # A new model is tried again, from an eager server.
    code, output = world.run(vllm_graphs_model_commit="other", vllm_graphs_order=["piecewise"])
    assert (code, world.mode()) == (0, "piecewise"), output


def test_a_mode_that_writes_other_text_gives_way_to_the_next(world: World) -> None:
    world.behave(decode="text")
    code, output = world.run()
    assert code == 0, output
    assert (world.mode(), world.of("disk"), world.of("trial")) == ("piecewise", "piecewise", "")
    assert world.record()["decode"]["kind"] == "text"
    stopped = [name for name, state, _mode in world.log() if state == "stopped"]
    # What may hold a hung rank was stopped between the modes, on both nodes.
    assert {"spark-vllm", "spark-ray-head", "spark-ray-worker"} <= set(stopped)
    world.behave(decode="text")
    code, output = world.run()
    assert (code, changed(output), world.log()) == (0, 0, []), output


def test_a_hang_and_a_crash_at_the_start_end_in_a_serving_eager_cluster(world: World) -> None:
    world.behave(decode="hang in stream", piecewise="start")
    code, output = world.run()
    assert code == 0, output
    assert (world.mode(), world.of("disk"), world.of("trial")) == ("eager", "eager", "")
    assert all(unit["active"] == "active" for unit in world.read()["units"].values())
    record = world.record()
    assert (record["decode"]["kind"], record["piecewise"]["kind"]) == ("hang", "start")
    assert "an illegal memory access" in record["piecewise"]["reason"]
    world.behave(decode="hang in stream", piecewise="start")
    code, output = world.run()
    assert (code, changed(output), world.log()) == (0, 0, []), output


def test_a_run_that_is_killed_in_mid_trial_is_healed_by_the_next(world: World) -> None:
    world.behave(decode="hang")
    process = world.start(vllm_graphs_stall_seconds=600)
    # As long as it takes on a busy machine: a run that never tries the mode ends by itself.
    while world.mode() != "decode" and process.poll() is None:
        time.sleep(0.1)
    process.kill()
    process.communicate()
    assert (world.mode(), world.of("disk"), world.of("trial")) == ("decode", "eager", "decode")
    assert world.record()["decode"]["state"] == "trying"
    world.behave()
    code, output = world.run()
    assert code == 0, output
    assert next(mode for name, _state, mode in world.log() if name == "spark-vllm") == "eager"
    assert (world.mode(), world.of("disk"), world.of("trial")) == ("decode", "decode", "")


@pytest.mark.parametrize(
    ("extra", "mode", "said"),
    [
        ({"vllm_graphs_gpu": False}, "eager", ""),
        # YAML reads a bare `on` as true.
        ({"vllm_serve_cuda_graphs": True}, "decode", "graphs are on without a trial"),
        ({"vllm_serve_cuda_graphs_mode": "full"}, "full", ""),
    ],
)
def test_without_a_trial(world: World, extra: dict[str, object], mode: str, said: str) -> None:
    code, output = world.run(**extra)
    assert (code, world.mode()) == (0, mode), output
    assert said in output
    assert "trial" not in [state for _name, state, _mode in world.log()]


STOP = """---
- hosts: sparks
  gather_facts: false
  any_errors_fatal: true
  tasks:
    - include_role: {name: dgx_spark.vllm.cluster_restart, tasks_from: stop}
"""


def test_a_stop_goes_from_vllm_to_the_head_and_the_next_run_starts_without_a_stop(world: World) -> None:
    code, output = world.run(vllm_graphs_gpu=False)
    assert code == 0, output
    made = (world.place / "play.yml").read_text()
    world.behave()
    (world.place / "play.yml").write_text(STOP)
    code, output = world.run()
    assert code == 0, output
    names = ["spark-vllm", "spark-ray-worker", "spark-ray-head"]
    assert [entry[:2] for entry in world.log()] == [[name, "stopped"] for name in names]
    world.behave()
    (world.place / "play.yml").write_text(made)
    code, output = world.run(vllm_graphs_gpu=False)
    assert code == 0, output
    assert [entry[:2] for entry in world.log()] == [[name, "started"] for name in reversed(names)]
