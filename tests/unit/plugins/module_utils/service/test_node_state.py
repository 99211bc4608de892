# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a node is, read from trees that look like /proc."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import node_state

TICKS = os.sysconf("SC_CLK_TCK")
CONTAINER = "0::/system.slice/docker-0123.scope\n"


def process(
    proc: Path, pid: int, cmdline: str, comm: str = "python3", cgroup: str = CONTAINER, started_s: float = 100.0
) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_bytes(cmdline.encode())
    (folder / "comm").write_text(f"{comm}\n")
    (folder / "cgroup").write_text(cgroup)
    rest = ["S", *["0"] * 18, str(int(started_s * TICKS)), "0"]
    (folder / "stat").write_text(f"{pid} ({comm}) {' '.join(rest)}\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "uptime").write_text("1000.50 3000.00\n")
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\n")
    return tmp_path


def test_ranks_are_processes_of_the_model_in_containers(proc: Path) -> None:
    process(proc, 30, "ray::RayWorkerProc.execute_method\0")
    process(proc, 20, "ray::RayWorkerWrapper\0")
    process(proc, 10, "VLLM::EngineCore\0")
    process(proc, 40, "VLLM::Worker_TP1\0")
    process(proc, 50, "python3\0-m\0ray::RayWorkerWrapper\0")
    process(proc, 60, "VLLM::Worker\0", cgroup="0::/user.slice/session-2.scope\n")
    process(proc, 70, "ray::IDLE\0")
    # The engine core waits for its ranks before there are any: it is none of them.
    assert node_state.ranks(proc) == (20, 30, 40)


def test_a_process_that_goes_meanwhile_is_passed_over(proc: Path) -> None:
    process(proc, 10, "VLLM::Worker_TP0\0")
    process(proc, 11, "VLLM::Worker_TP0\0")
    (proc / "11" / "cgroup").unlink()
    (proc / "12").mkdir()
    assert node_state.ranks(proc) == (10,)
    assert node_state.compiling(proc) is False


@pytest.mark.parametrize(
    ("comm", "compiles"), [("ptxas", True), ("nvcc", True), ("python3", False), ("ptxas-old", False)]
)
def test_a_compiler_is_known_by_its_name(proc: Path, comm: str, compiles: bool) -> None:
    process(proc, 10, "x\0", comm=comm)
    assert node_state.compiling(proc) is compiles


def test_the_age_of_a_process_comes_from_the_kernel(proc: Path) -> None:
    process(proc, 10, "x\0", comm="a (strange) name", started_s=400.5)
    assert node_state.process_age(10, proc) == pytest.approx(600.0)
    assert node_state.process_age(11, proc) is None
    (proc / "10" / "stat").write_text("10 (cut")
    assert node_state.process_age(10, proc) is None


class Docker:
    """A docker that answers as told, and notes for how long it was asked."""

    def __init__(self, answer: tuple[int, str, str]) -> None:
        self.answer = answer
        self.asked: list[tuple[list[str], float | None]] = []

    def __call__(self, argv: Sequence[str], seconds: float | None = None, /, **_more: Any) -> tuple[int, str, str]:
        self.asked.append((list(argv), seconds))
        return self.answer


def inspected(**state: Any) -> tuple[int, str, str]:
    return 0, json.dumps([{"State": state}]), ""


def test_the_age_of_a_container_is_that_of_its_first_process(proc: Path) -> None:
    process(proc, 77, "ray\0", started_s=900.5)
    docker = Docker(inspected(Running=True, Pid=77))
    assert node_state.container_age(docker, "spark-ray-head", proc) == pytest.approx(100.0)
    assert docker.asked[0][1] == node_state.ANSWER_S


@pytest.mark.parametrize(
    "answer",
    [
        inspected(Running=False, Pid=0),
        # A number that another process has by now.
        inspected(Running=False, Pid=77),
        inspected(Running=True, Pid=99),
        (0, "[{}]", ""),
        (0, "no JSON", ""),
        (1, "[]", "Error: No such object: x"),
        (1, "", "Cannot connect to the Docker daemon"),
        (124, "", "given up"),
        (127, "", "not found"),
    ],
)
def test_a_container_without_an_age(proc: Path, answer: tuple[int, str, str]) -> None:
    process(proc, 77, "x\0")
    assert node_state.container_age(Docker(answer), "spark-ray-head", proc) is None


def test_memory_in_gib(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(
        "MemTotal:       125829120 kB\nMemAvailable:   104857600 kB\nHugePages_Total:       0\n"
        "SwapTotal:       16777216 kB\nSwapFree:        15728640 kB\nodd line\nEmpty:\n"
    )
    assert node_state.memory(meminfo) == (100.0, 120.0, 1.0)
    meminfo.write_text("")
    assert node_state.memory(meminfo) == (0.0, 0.0, 0.0)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    "answer",
    [(0, "x", ""), (1, "", "Error response from daemon: No such container: x"), (1, "", "container x is not running")],
)
def test_an_end_that_is_one_says_nothing(
    answer: tuple[int, str, str], sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_state, "ranks", lambda: (sleeper.pid,))
    assert node_state.end_container(Docker(answer), "x") == ""
    assert sleeper.poll() is None


def test_where_docker_gives_no_answer_the_ranks_are_ended_directly(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    # One that is gone already, and one that lives.
    monkeypatch.setattr(node_state, "ranks", lambda: (2**22 + 1, sleeper.pid))
    said = node_state.end_container(Docker((124, "", "docker was given up after 20 s")), "spark-vllm")
    assert said == "docker kill spark-vllm failed (docker was given up after 20 s); its ranks were ended directly"
    assert sleeper.wait(5) == -signal.SIGKILL
