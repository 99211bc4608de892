# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Faults of a server on two hosts while clients stream, healed by the product: its verdict, the next right answer, GPU memory before the load."""

from __future__ import annotations

import http.client
import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.verdict import ALIVE
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.http_json import HttpClient, HttpError
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.units import RAY_HEAD, RAY_WORKER

from benchmarks.gpu import hosts
from benchmarks.gpu.client import FIRST_ID
from benchmarks.gpu.cluster import Cluster
from benchmarks.gpu.entries import MODEL
from benchmarks.gpu.server import gpu_memory
from benchmarks.gpu.units import Unit
from benchmarks.gpu.watch import Watch

#: MiB below which a GPU counts as free: a context that is going away.
FREE_MIB = 1500.0
#: Clients that stream, new tokens of each, and seconds without a token after which a stream stands.
STREAMS, TOKENS, STANDS_S = 8, 4000, 3.0
#: Seconds for an answer, and most seconds for which a fault is watched.
ANSWER_S, LIMIT_S = 8.0, 300.0


class Stream(threading.Thread):
    """One client that reads an answer token by token."""

    def __init__(self, url: str, vocabulary: int) -> None:
        super().__init__(daemon=True)
        where = urlsplit(url)
        self.connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=600)
        self.body = {
            "model": MODEL,
            "prompt": [random.randrange(FIRST_ID, vocabulary) for _ in range(64)],
            "max_tokens": TOKENS,
            "ignore_eos": True,
            "stream": True,
        }
        self.tokens = 0
        self.last = time.monotonic()
        self.end = ""

    def run(self) -> None:
        try:
            self.connection.request(
                "POST", "/v1/completions", json.dumps(self.body), {"Content-Type": "application/json"}
            )
            answer = self.connection.getresponse()
            while line := answer.readline():
                if b"[DONE]" in line:
                    # It also follows an error.
                    self.end = self.end or "done"
                elif b'"error"' in line:
                    self.end = "an error in the stream"
                elif line.startswith(b"data:"):
                    self.tokens += 1
                    self.last = time.monotonic()
            self.end = self.end or f"closed, status {answer.status}"
        except (OSError, http.client.HTTPException) as error:
            self.end = f"{type(error).__name__}"

    @property
    def state(self) -> str:
        """What the client sees."""
        return self.end or ("stands" if time.monotonic() - self.last > STANDS_S else "flows")


class Asker(threading.Thread):
    """Asks the same prompt over and over, and notes which answers are the known one.

    Args:
        url: of the server.
        vocabulary: the prompt is of its ids.
    """

    def __init__(self, url: str, vocabulary: int) -> None:
        super().__init__(daemon=True)
        self.client = HttpClient(url, timeout=ANSWER_S)
        ids = [FIRST_ID + 7 * number for number in range(32)] if vocabulary > 2 * FIRST_ID else list(range(3, 35))
        self.body = {"model": MODEL, "prompt": ids, "max_tokens": 4, "temperature": 0, "ignore_eos": True}
        #: What it answers before the fault, alone and beside the streams: another batch size may round another way.
        self.known: set[str] = set()
        #: Moments at which a question was sent and at which its end was seen, and that end: right, wrong, error or silent.
        self.answers: list[tuple[float, float, str]] = []
        self._over = threading.Event()

    def ask(self) -> str:
        """Return the text of one answer.

        Raises:
            HttpError: there is none.
        """
        answer = self.client.post_json("/v1/completions", self.body)
        return str(answer["choices"][0]["text"])

    def run(self) -> None:
        while not self._over.wait(0.5):
            sent = time.monotonic()
            try:
                end = "right" if self.ask() in self.known else "wrong"
            except HttpError as error:
                silent = error.status is None and time.monotonic() - sent >= ANSWER_S
                end = "silent" if silent else "error"
            self.answers.append((sent, time.monotonic(), end))

    def again(self, begun: float, *good: str) -> float | None:
        """Return the seconds from a moment to the end of the first good answer behind the last other one; 0.0 where none was missed."""
        since = [answer for answer in list(self.answers) if answer[1] >= begun]
        missed = [place for place, answer in enumerate(since) if answer[2] not in good]
        if not missed:
            return 0.0 if since else None
        after = since[missed[-1] + 1 :]
        return round(after[0][1] - begun, 1) if after else None

    def counts(self, begun: float) -> dict[str, int]:
        """Return how many answers ended how since a moment; one that was under way then counts."""
        return dict(Counter(end for _sent, seen, end in self.answers if seen >= begun))

    def slowest(self, begun: float) -> float:
        """Return the most seconds that an answer took since a moment."""
        return round(max((seen - sent for sent, seen, _end in list(self.answers) if seen >= begun), default=0.0), 1)

    def stop(self) -> None:
        """End asking."""
        self._over.set()
        if self.is_alive():
            self.join(ANSWER_S + 5)


class Memory(threading.Thread):
    """Notes when each GPU's memory is free for the first time since this began."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.begun = time.monotonic()
        self.free_after_s: dict[str, float] = {}
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.5):
            for gpu, used in enumerate(gpu_memory()):
                if used < FREE_MIB:
                    self.free_after_s.setdefault(f"gpu{gpu}", round(time.monotonic() - self.begun, 1))

    def stop(self) -> None:
        """End looking."""
        self._over.set()
        if self.is_alive():
            self.join(10)


@dataclass
class Stage:
    """What a fault is tried on.

    ``guard`` starts watchdog and follower with nothing counted yet.
    """

    cluster: Cluster
    server: Unit
    guard: Callable[[], Watch]
    url: str
    vocabulary: int
    left: Callable[[], float]

    def streams(self) -> list[Stream]:
        """Start the clients and wait until tokens flow to each."""
        found = [Stream(self.url, self.vocabulary) for _ in range(STREAMS)]
        for stream in found:
            stream.start()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not all(stream.tokens > 3 for stream in found):
            time.sleep(0.2)
        return found

    def pids(self, host: hosts.Host, *patterns: str) -> list[int]:
        """Return the processes of a host whose command line has one of these in it."""
        return [pid for pid, title in hosts.processes(host).items() if any(pattern in title for pattern in patterns)]


@dataclass(frozen=True)
class Fault:
    """One fault: what it is, how it is put, how it is taken away ``after_s`` seconds later, and how long it is watched at the least."""

    title: str
    put: Callable[[Stage], Sequence[int]]
    mend: Callable[[Stage, Sequence[int]], None] | None = None
    after_s: float = 0.0
    watched_s: float = 10.0


def _signalled(number: int, where: Callable[[Stage], list[int]]) -> Callable[[Stage], Sequence[int]]:
    def put(stage: Stage) -> Sequence[int]:
        found = where(stage)
        if not found:
            raise hosts.HostError("the process to hit is not there")
        hosts.signal_all(found, number)
        return found

    return put


def _cut(stage: Stage) -> Sequence[int]:
    stage.cluster.pair.cut()
    return ()


def _mend(stage: Stage, _pids: Sequence[int]) -> None:
    stage.cluster.pair.mend()


def _go_on(_stage: Stage, pids: Sequence[int]) -> None:
    hosts.signal_all(pids, signal.SIGCONT)


def _far_rank(stage: Stage) -> list[int]:
    return hosts.ranks(stage.cluster.pair.second)


FAULTS: dict[str, Fault] = {
    "stop_rank": Fault("SIGSTOP of the far rank", _signalled(signal.SIGSTOP, _far_rank)),
    "pause_rank": Fault(
        "SIGSTOP of the far rank for 8 s", _signalled(signal.SIGSTOP, _far_rank), _go_on, after_s=8.0, watched_s=20.0
    ),
    "kill_rank": Fault("kill -9 of the far rank", _signalled(signal.SIGKILL, _far_rank)),
    "kill_engine": Fault(
        "kill -9 of the engine core",
        _signalled(signal.SIGKILL, lambda stage: stage.pids(stage.cluster.pair.first, "VLLM::EngineCore")),
    ),
    "kill_raylet": Fault(
        "kill -9 of the far raylet",
        _signalled(signal.SIGKILL, lambda stage: stage.pids(stage.cluster.pair.second, "raylet/raylet ")),
    ),
    "kill_agent": Fault(
        "kill -9 of Ray's agent on the far host",
        _signalled(
            signal.SIGKILL,
            # By its title alone: the path of its program is also among the raylet's arguments.
            lambda stage: stage.pids(stage.cluster.pair.second, "ray::DashboardAgent"),
        ),
        watched_s=40.0,
    ),
    "cut_45": Fault("link down for 45 s", _cut, _mend, after_s=45.0, watched_s=60.0),
    "cut_for_good": Fault("link down for 75 s: Ray gives the node up", _cut, _mend, after_s=75.0, watched_s=80.0),
}


def play(name: str, stage: Stage, save: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Put a fault while clients stream, let the product heal, and return what was seen.

    Args:
        save: takes what is known so far, so that a run that is cut short leaves it.

    Raises:
        hosts.HostError: the fault cannot be put, or the pair does not serve before it.
    """
    fault = FAULTS[name]
    watch = stage.guard()
    asker = Asker(stage.url, stage.vocabulary)
    result: dict[str, Any] = {"name": name, "fault": fault.title}
    memory = Memory()
    timer: threading.Timer | None = None
    try:
        try:
            asker.known = {asker.ask() for _ in range(3)}
        except HttpError as error:
            raise hosts.HostError(f"no answer before the fault: {error}") from None
        if watch.wait_for(lambda: watch.alive, 30) is None:
            raise hosts.HostError(f"the watchdog does not call it serving: {watch.state}")
        streams = stage.streams()
        asker.known |= {asker.ask() for _ in range(10)}
        asker.start()
        time.sleep(3.0)
        with watch.fault(name):
            memory.begun = begun = time.monotonic()
            pids = fault.put(stage)
            memory.start()
            result["processes"] = len(pids)
            if fault.mend:
                timer = threading.Timer(fault.after_s, fault.mend, (stage, pids))
                timer.start()

            def over() -> bool:
                quiet = time.monotonic() - begun >= fault.watched_s and stage.server.active
                return quiet and watch.alive and asker.again(begun, "right", "wrong") is not None

            deadline = begun + min(LIMIT_S, stage.left() - 5)
            while time.monotonic() < deadline and not over():
                time.sleep(0.5)
                result |= _seen(stage, watch, asker, memory, streams, begun)
                save(result)
            result |= _seen(stage, watch, asker, memory, streams, begun)
            result["healed"] = over()
    finally:
        if timer is not None:
            timer.cancel()
            if fault.mend and not result.get("healed"):
                fault.mend(stage, pids)
        asker.stop()
        memory.stop()
        watch.stop()
    result["watchdog_said"], result["follower_said"] = watch.said("watchdog"), watch.said("follower")
    return result


def _seen(
    stage: Stage, watch: Watch, asker: Asker, memory: Memory, streams: Sequence[Stream], begun: float
) -> dict[str, Any]:
    """Return what is to be seen at this moment, all times counted from the fault."""
    unit = stage.server.since(begun)
    verdicts = watch.since(begun)
    sick = next((event for event in verdicts if event["state"] not in ALIVE), None)
    loads = [event for event in unit if event["what"] == "loads"]
    proven = [event for event in unit if event["what"] == "proven"]
    right = asker.again(begun, "right")
    load_s = round(proven[-1]["after_s"] - loads[-1]["after_s"], 1) if loads and proven else None
    return {
        "verdict": {key: sick[key] for key in ("state", "reason", "after_s") if key in sick} if sick else None,
        "verdicts": verdicts,
        "ended_after_s": next((event["after_s"] for event in unit if event["what"] == "ended"), None),
        "loads": loads,
        "start_s": load_s,
        "right_after_s": right,
        "answered_after_s": asker.again(begun, "right", "wrong"),
        "over_a_start_s": round(right - load_s, 1) if right and load_s else None,
        "gpu_free_after_s": dict(memory.free_after_s),
        "unit": unit,
        "answers": asker.counts(begun),
        "slowest_answer_s": asker.slowest(begun),
        "streams": dict(Counter(stream.state for stream in streams)),
        "ray": {
            name: stage.cluster.units[name].since(begun)
            for name in (RAY_HEAD, RAY_WORKER)
            if name in stage.cluster.units
        },
    }
