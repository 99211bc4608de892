# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""One run at a time: who holds the nodes, and when a run counts as gone."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node import run_lock
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node.run_lock import Run, lives, read, release, take

ANNA = Run("laptop/2c3b", 4711, "Thu Nov 26 10:00:00 2026", "anna", "site.yml")
BEN = Run("desk/77", 99, "Thu Nov 26 10:05:00 2026", "ben", "restart.yml")


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "run" / "playbook-run.json"


def process(proc: Path, pid: int, name: str, parent: int, began: int) -> None:
    """Write a process as the kernel shows it: its parent is the fourth field, its begin the 22nd."""
    (proc / str(pid)).mkdir(parents=True)
    rest = ["S", str(parent), *["0"] * 17, str(began), "0"]
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(rest)}\n")


def test_the_first_run_holds_it_and_may_take_it_again(lock: Path) -> None:
    assert take(ANNA, path=lock).same_as(ANNA)
    assert take(ANNA, path=lock).same_as(ANNA)
    held = read(lock)
    assert held is not None and held.user == "anna" and abs(held.at - time.time()) < 60
    assert lock.stat().st_mode & 0o777 == 0o644


def test_a_second_run_is_told_who_holds_it(lock: Path) -> None:
    take(ANNA, path=lock)
    holder = take(BEN, path=lock)
    assert holder.same_as(ANNA)
    assert "site.yml of anna@laptop (process 4711), since 20" in holder.sentence()
    held = read(lock)
    assert held is not None and held.same_as(ANNA)


def test_only_its_holder_gives_it_back(lock: Path) -> None:
    take(ANNA, path=lock)
    release(BEN, lock)
    assert read(lock) is not None
    release(ANNA, lock)
    assert read(lock) is None
    release(ANNA, lock)
    assert take(BEN, path=lock).same_as(BEN)


def test_a_run_of_this_very_node_lives_as_long_as_its_process(lock: Path) -> None:
    mine = replace(ANNA, controller=run_lock.identity(), pid=os.getpid(), began=run_lock.process_began(os.getpid()))
    take(mine, path=lock)
    assert take(BEN, path=lock).same_as(mine)
    take(replace(mine, began="Thu Jan  1 00:00:00 1970"), force=True, path=lock)
    assert take(BEN, path=lock).same_as(BEN), "another process got the number"


def test_when_a_process_began(tmp_path: Path) -> None:
    process(tmp_path, 30, "sh (a b) c", 20, 3)
    assert run_lock.process_began(30, proc=tmp_path) == "3"
    assert run_lock.process_began(31, proc=tmp_path) == ""
    assert run_lock.process_began(os.getpid()) == run_lock.process_began(os.getpid()) != ""
    said = (0, "Thu Nov 26  10:00:00 2026\n", "")
    assert run_lock.process_began(30, lambda *_words: said, tmp_path / "none") == "Thu Nov 26 10:00:00 2026"  # type: ignore[arg-type, misc]


def test_a_run_that_its_controller_saw_gone_gives_way(lock: Path) -> None:
    gone = take(ANNA, path=lock)
    again = replace(ANNA, pid=4712)
    assert take(again, instead_of=asdict(replace(gone, pid=1)), path=lock).same_as(ANNA), (
        "another run than was looked at"
    )
    assert take(again, instead_of=asdict(gone), path=lock).same_as(again)


def test_runs_of_one_controller_are_told_apart_by_it_alone(lock: Path) -> None:
    take(ANNA, path=lock)
    # Older than an hour, and without a session of its own: both runs go through one connection.
    lock.write_text(json.dumps({**asdict(ANNA), "at": 1.0, "ssh": True}))
    assert take(replace(ANNA, pid=4712), path=lock).same_as(ANNA)


def test_force(lock: Path) -> None:
    take(ANNA, path=lock)
    assert take(BEN, force=True, path=lock).same_as(BEN)


def session(proc: Path, pid: int, title: str) -> None:
    """Write an SSH session with its title."""
    process(proc, pid, title.partition(":")[0], 1, 777)
    (proc / str(pid) / "cmdline").write_text(f"{title}\0")


def test_a_run_from_elsewhere_lives_as_long_as_an_ssh_session_that_is_not_ours(tmp_path: Path) -> None:
    held = replace(ANNA, at=1000.0, ssh=True)
    session(tmp_path, 50, "sshd: spark@notty")
    session(tmp_path, 60, "sshd-session: ben@notty")
    session(tmp_path, 70, "sshd: spark@pts/0")
    session(tmp_path, 71, "sshd: spark [priv]")
    assert run_lock.sessions(tmp_path) == {50, 60}
    assert lives(held, 1e9, 60, tmp_path), "age says nothing where a session is there"
    (tmp_path / "50" / "cmdline").unlink()
    assert not lives(held, 1000.0, 60, tmp_path), "what is left is who asks, and who has a terminal"
    assert lives(held, 1000.0, 0, tmp_path)


def test_without_a_session_an_hour_counts(tmp_path: Path) -> None:
    held = replace(ANNA, at=10_000.0)
    assert lives(held, 10_000.0 + 3599, 0, tmp_path)
    assert not lives(held, 10_000.0 + 3601, 0, tmp_path)
    assert not lives(held, 9_000.0, 0, tmp_path), "the clock was set back: nothing can be said, and nobody waits for it"


def test_the_session_is_the_nearest_sshd(tmp_path: Path) -> None:
    process(tmp_path, 10, "sshd", 1, 1)
    process(tmp_path, 20, "sshd", 10, 2)
    process(tmp_path, 30, "sh (a b) c", 20, 3)
    process(tmp_path, 40, "sudo", 30, 4)
    assert run_lock.session_of(40, tmp_path) == 20
    process(tmp_path, 60, "systemd", 1, 5)
    assert run_lock.session_of(60, tmp_path) == 0
    assert run_lock.session_of(4242, tmp_path) == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"controller": "a"}',
        '{"controller": "a", "pid": "x", "began": "", "user": "", "playbook": "", "at": 0, "ssh": false}',
    ],
)
def test_a_file_that_says_nothing_holds_nobody_up(lock: Path, text: str) -> None:
    lock.parent.mkdir()
    lock.write_text(text)
    assert take(BEN, path=lock).same_as(BEN)
