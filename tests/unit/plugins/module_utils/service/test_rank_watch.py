# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Ranks are programs that sleep; the nodes are ports of this machine."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import rank_watch

#: Ends by itself when its watch was killed.
PROGRAM = """
import os, time
parent = os.getppid()
print("up", flush=True)
while os.getppid() == parent:
    time.sleep(0.1)
"""
RANKS = [sys.executable, "-c", PROGRAM]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def start(listen: int, peers: list[int], command: list[str], *options: str) -> subprocess.Popen[str]:
    argv = [sys.executable, str(Path(rank_watch.__file__)), "--silent", "1", "--listen", f"127.0.0.1:{listen}"]
    argv += [word for peer in peers for word in ("--peer", f"127.0.0.1:{peer}")]
    return subprocess.Popen([*argv, *options, "--", *command], stdout=subprocess.PIPE, text=True)


def first_word_of_ranks(watched: subprocess.Popen[str]) -> str:
    assert watched.stdout is not None
    return next(line for line in watched.stdout if not line.startswith("rank watch"))


def peer(met: str = "") -> rank_watch.Peer:
    made = rank_watch.Peer(("192.168.100.11", 29502), "me", "192.168.100.10:29502")
    made.met = met
    return made


def test_a_peer_that_never_came_is_not_lost() -> None:
    assert not peer().lost(1e9)


def test_two_meet_when_each_offers_the_other() -> None:
    other = peer()
    other.hear({"id": "new", "offers": {"192.168.100.10:29502": ""}}, 1.0)
    assert (other.offer, other.met) == ("new", "")
    other.hear({"id": "new", "offers": {"192.168.100.10:29502": "me"}}, 2.0)
    assert other.met == "new"
    assert not other.lost(5.0)
    assert other.lost(12.5)


def test_one_that_has_met_another_is_not_met() -> None:
    other = peer()
    other.hear({"id": "old", "offers": {"192.168.100.10:29502": "my predecessor"}}, 1.0)
    assert not other.met


def test_one_that_comes_back_as_another_is_lost_at_once() -> None:
    other = peer(met="old")
    other.hear({"id": "new", "offers": {"192.168.100.10:29502": "me"}}, 1.0)
    assert other.lost(1.0)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []
    yield running
    for watched in running:
        watched.terminate()
        watched.wait(20)


def test_a_restart_anywhere_is_one_restart_everywhere(started: list[subprocess.Popen[str]]) -> None:
    head, worker = free_port(), free_port()
    started += [start(head, [worker], RANKS), start(worker, [head], RANKS)]
    assert [first_word_of_ranks(watched) for watched in started] == ["up\n", "up\n"]
    started[0].kill()
    # Back before anybody could take it for silent: it is another, and the old worker's ranks must go.
    started.append(start(head, [worker], RANKS))
    assert started[1].wait(20) == 1
    started.append(start(worker, [head], RANKS))
    assert [first_word_of_ranks(watched) for watched in started[2:]] == ["up\n", "up\n"]
    time.sleep(1.5)
    assert [watched.poll() for watched in started[2:]] == [None, None]


def test_the_ranks_own_exit_status_is_told() -> None:
    watched = start(free_port(), [], [sys.executable, "-c", "raise SystemExit(7)"])
    assert watched.wait(20) == 7


def test_a_stop_reaches_the_ranks_and_one_that_waits() -> None:
    ranks, waits = start(free_port(), [], RANKS), start(free_port(), [free_port()], RANKS)
    assert first_word_of_ranks(ranks) == "up\n"
    assert waits.stdout is not None
    assert "waiting for the ranks on 127.0.0.1" in waits.stdout.readline()
    for watched, status in ((ranks, 128 + 15), (waits, 0)):
        watched.terminate()
        assert watched.wait(20) == status


def test_a_stop_gives_the_ranks_the_time_that_was_asked_for() -> None:
    # As a server that drains: it ends a second and a half after it was asked to.
    drains = "import signal, time; signal.signal(15, lambda *_: (time.sleep(1.5), exit(7))); print('up', flush=True); time.sleep(60)"
    for patience, status in (("1", 128 + 9), ("9", 7)):
        watched = start(free_port(), [], [sys.executable, "-c", drains], "--patience", patience)
        assert first_word_of_ranks(watched) == "up\n"
        watched.terminate()
        assert watched.wait(20) == status


@pytest.mark.parametrize("text", ["192.168.100.10", ":29502", "host:port"])
def test_an_address_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected host:port"):
        rank_watch.split_address(text)
