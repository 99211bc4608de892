# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What is kept of a failure: bounded, for root alone, without a secret."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import evidence
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.evidence import KEPT, LARGEST, collect, folder_name

from tests.unit.plugins.fake_server import Reply, closed_port, fake_server

STATE = {"state": "hung", "figures": {"frozen_s": 21.0}}


class Node:
    """Commands that answer at once, or take their time on a clock of ours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, takes: float = 0.0) -> None:
        self.now, self.takes = 0.0, takes
        self.asked: list[Sequence[str]] = []
        self.output = "some output"
        monkeypatch.setattr(evidence.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(evidence, "ranks", lambda: tuple(range(100, 140)))
        monkeypatch.setattr(evidence, "engines", lambda: (99,))

    def run(self, argv: Sequence[str], seconds: float | None = None, /, **_more: Any) -> tuple[int, str, str]:
        assert seconds is not None and seconds <= 4.0
        self.asked.append(argv)
        self.now += min(self.takes, seconds)
        return (124, "", "given up") if self.takes > seconds else (0, self.output, "")


def keep(folder: Path, node: Node, cause: str, url: str = "") -> Path:
    """Keep what a head under Ray keeps."""
    return collect(
        folder,
        folder_name(cause),
        ("spark-vllm", "spark-ray-head", "spark-watchdog"),
        ("spark-ray-head", "spark-vllm"),
        node.run,
        {"verdict.json": json.dumps({"cause": cause, "reason": "why", "state": STATE})},
        url or f"http://127.0.0.1:{closed_port()}",
    )


def test_it_keeps_verdict_figures_journals_kernel_memory_and_stacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(monkeypatch)
    with fake_server({"GET /metrics": Reply("vllm:num_requests_running 2\n")}) as server:
        found = keep(tmp_path / "evidence", node, "hung", server.url)
    names = {path.name for path in found.iterdir()}
    assert {
        "verdict.json",
        "metrics.txt",
        "journal-spark-vllm.txt",
        "journal-spark-ray-head.txt",
        "journal-spark-watchdog.txt",
        "kernel.txt",
        "nvidia-smi.txt",
        "memory.txt",
        "processes.txt",
        "stack-100.txt",
    } <= names
    assert found.name.endswith("Z-hung")
    assert json.loads((found / "verdict.json").read_text()) == {"cause": "hung", "reason": "why", "state": STATE}
    assert "num_requests_running 2" in (found / "metrics.txt").read_text()
    # A node with many ranks is not asked for all of their stacks.
    assert sum(name.startswith("stack-") for name in names) == 8
    # Ray's logs are in its own container, the ranks under Ray as well.
    assert "ray-logs-spark-ray-head.txt" in names and "ray-logs-spark-vllm.txt" not in names


@pytest.mark.parametrize(("scope", "more"), [("0", False), ("1", True), ("2", True), ("3", False), ("", False)])
def test_a_stack_is_read_with_one_more_right_where_the_kernel_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: str, more: bool
) -> None:
    """Nobody may with 3, whatever its rights."""
    if scope:
        (tmp_path / "scope").write_text(f"{scope}\n")
    monkeypatch.setattr(evidence, "PTRACE_SCOPE", tmp_path / "scope")
    node = Node(monkeypatch)
    node.output = "vllm:of-here\n"
    keep(tmp_path / "evidence", node, "hung")
    command = next(argv for argv in node.asked if "py-spy" in argv)
    dump = ["py-spy", "dump", "--pid", "100"]
    if not more:
        assert list(command[1:]) == ["exec", "spark-ray-head", *dump]
        return
    assert [command[place + 1] for place, word in enumerate(command) if word == "--cap-add"] == ["SYS_PTRACE"]
    assert {"--cap-drop", "--read-only", "--rm"} <= set(command) and "--privileged" not in command
    assert list(command[-5:]) == ["py-spy", "vllm:of-here", *dump[1:]]


def test_the_only_gpu_of_a_node_without_ranks_is_the_engine_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch)
    monkeypatch.setattr(evidence, "ranks", tuple)
    found = collect(tmp_path / "evidence", "one", ("spark-vllm",), ("spark-vllm",), node.run)
    assert (found / "stack-99.txt").exists()
    assert not (found / "metrics.txt").exists()


def test_root_alone_reads_it_and_no_secret_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch)
    found = keep(tmp_path / "evidence", node, "mute")
    assert found.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in found.iterdir()} == {0o600}
    assert "the-secret" not in "".join(path.read_text() for path in found.iterdir())
    # Nothing that shows environments, where a key may stand, is asked for.
    said = " ".join(" ".join(argv) for argv in node.asked)
    assert "inspect" not in said
    assert "environ" not in said


def test_no_file_is_larger_than_its_bound_and_the_end_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch)
    node.output = "x" * (2 * LARGEST) + "the end"
    with fake_server({"GET /metrics": Reply("y" * (2 * LARGEST))}) as server:
        found = keep(tmp_path / "evidence", node, "hung", server.url)
    assert max(path.stat().st_size for path in found.iterdir()) == LARGEST
    assert (found / "kernel.txt").read_text().endswith("the end")


def test_it_ends_in_time_where_every_command_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch, takes=60.0)
    found = keep(tmp_path / "evidence", node, "hung")
    assert node.now <= evidence.SECONDS
    assert len(node.asked) <= 4
    assert (found / "verdict.json").exists()


def test_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch)
    folder = tmp_path / "evidence"
    old = [folder / f"20260101T0000{number:02}Z-hung" for number in range(KEPT + 3)]
    for path in old:
        path.mkdir(parents=True)
        (path / "kernel.txt").write_text("x")
    found = keep(folder, node, "ended: a cause: of many words")
    assert found.name.endswith("Z-ended")
    left = sorted(folder.iterdir())
    assert left == [*old[-(KEPT - 1) :], found]


def test_a_disk_without_room_hinders_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch)
    (tmp_path / "evidence").write_text("a file where the folder belongs")
    keep(tmp_path / "evidence", node, "hung")

    def full(*_asked: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(evidence, "write_atomic", full)
    keep(tmp_path / "other", node, "hung")
