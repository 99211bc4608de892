# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The faults: what is done to the pair, what takes it back, and whether it is among the quick ones."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import docker

from simulation import nodes
from simulation.faults.traffic import SILENT_S, Client
from simulation.settings import FABRIC, NODES, Node, SimulationError

HEAD, WORKER = NODES[0], NODES[1]
API, ENGINE, RANK, RAYLET, GCS = (
    "^/opt/serving/bin/python /opt/serving/bin/vllm serve",
    "^VLLM::EngineCore",
    # Under Ray and under mp.
    "^(ray::RayWorkerProc|VLLM::Worker)",
    "raylet/raylet ",
    "gcs_server ",
)


@dataclass
class Pair:
    """The pair that faults are put on."""

    docker: docker.DockerClient
    client: Client
    say: Callable[[str], None]
    #: What runs after the fault was observed, the last first.
    undo: list[Callable[[], object]] = field(default_factory=list)

    def run(self, node: Node, *argv: str) -> str:
        """Run a command in a node as root; a failure is raised."""
        return nodes.execute(self.docker, node, list(argv), argv[0])

    def signal(self, node: Node, pattern: str, name: str) -> None:
        """Send a signal to the processes of a pattern."""
        self.run(node, "pkill", f"-{name}", "-f", pattern)

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Do something after a while; at the end of the fault at the latest."""
        done = threading.Event()

        def act() -> None:
            if not done.is_set():
                done.set()
                action()

        timer = threading.Timer(seconds, act)
        timer.daemon = True
        timer.start()
        self.undo.append(act)

    def quietly(self, action: Callable[[], object]) -> None:
        """Do what may have become unneeded, such as to continue a process that was ended meanwhile."""
        try:
            action()
        except SimulationError as error:
            self.say(f"  ({error})")


@dataclass(frozen=True)
class Fault:
    """One fault. ``restarts``: how often at most the server starts again because of it. ``ray``: whether there is such a fault under Ray alone."""

    name: str
    put: Callable[[Pair], object]
    quick: bool = True
    restarts: int = 1
    #: Seconds to wait for the first failure before it is said that clients noticed nothing.
    notice_s: float = 40.0
    #: Seconds after which it is said that the endpoint did not come back: longer than any recovery takes.
    given_up_s: float = 420.0
    ray: bool = False


def _signal(node: Node, pattern: str, name: str) -> Callable[[Pair], object]:
    return lambda pair: pair.signal(node, pattern, name)


def _stopped(node: Node, pattern: str, seconds: float | None) -> Callable[[Pair], object]:
    def put(pair: Pair) -> None:
        pair.signal(node, pattern, "STOP")
        if seconds is not None:
            pair.later(seconds, lambda: pair.quietly(lambda: pair.signal(node, pattern, "CONT")))

    return put


def _cut(seconds: float, node: Node = WORKER) -> Callable[[Pair], object]:
    def put(pair: Pair) -> None:
        nodes.cut(pair.docker, pair.say, [node], [FABRIC])
        pair.later(seconds, lambda: nodes.heal(pair.docker, pair.say, [node], [FABRIC]))

    return put


def _unplug(node: Node, seconds: float) -> Callable[[Pair], object]:
    def put(pair: Pair) -> None:
        nodes.unplug(pair.docker, pair.say, [node], hard=True)
        pair.later(seconds, lambda: nodes.plug(pair.docker, pair.say, [node], wait=False))

    return put


def _lossy(seconds: float, *chains: str, share: float = 1.0) -> Callable[[Pair], object]:
    """Let packets of the link vanish at the worker while its carrier stays: all, or a share; INPUT, OUTPUT or both."""
    address = WORKER.address(FABRIC)
    matches = {"INPUT": ["!", "-i", "lo", "-d", address], "OUTPUT": ["!", "-o", "lo", "-s", address]}
    some = [] if share >= 1 else ["-m", "statistic", "--mode", "random", "--probability", str(share)]

    def put(pair: Pair) -> None:
        for chain in chains:
            rule = [chain, *matches[chain], *some, "-j", "DROP"]
            pair.run(WORKER, "iptables", "-I", *rule)
            pair.later(
                seconds,
                lambda rule=rule: pair.quietly(lambda: pair.run(WORKER, "iptables", "-D", *rule)),  # type: ignore[misc]
            )

    return put


def _cut_in_a_start(after: float, seconds: float) -> Callable[[Pair], object]:
    def put(pair: Pair) -> None:
        pair.signal(HEAD, API, "KILL")
        pair.later(after, lambda: _cut(seconds)(pair))

    return put


def _stopped_in_a_start(after: float, stopped: float) -> Callable[[Pair], object]:
    """Stop the server by hand while it starts, and start it again."""

    def put(pair: Pair) -> None:
        pair.signal(HEAD, API, "KILL")
        pair.later(after, lambda: pair.run(HEAD, "systemctl", "stop", "spark-vllm"))
        pair.later(after + stopped, lambda: pair.run(HEAD, "systemctl", "start", "--no-block", "spark-vllm"))

    return put


def _unplug_both(first: Node, second: Node) -> Callable[[Pair], object]:
    """Pull both plugs; the first is back after 20 s, the second 40 s later."""

    def put(pair: Pair) -> None:
        nodes.unplug(pair.docker, pair.say, [first, second], hard=True)
        pair.later(20, lambda: nodes.plug(pair.docker, pair.say, [first], wait=False))
        pair.later(60, lambda: nodes.plug(pair.docker, pair.say, [second], wait=False))

    return put


def _units(node: Node, *argv: str) -> Callable[[Pair], object]:
    return lambda pair: pair.run(node, *argv)


def _many(count: int, action: Callable[[Client], object]) -> Callable[[Pair], object]:
    def put(pair: Pair) -> None:
        threads = [threading.Thread(target=_swallowed, args=(action, pair.client), daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SILENT_S)

    return put


def _swallowed(action: Callable[[Client], object], client: Client) -> None:
    try:
        action(client)
    except (RuntimeError, TimeoutError):
        return


def _leave(client: Client) -> None:
    """Ask for a long answer and hang up after its first bytes."""
    parts = urlsplit(client.url)
    line = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=SILENT_S)
    body = {"model": client.model, "prompt": "one two three", "max_tokens": 200, "stream": True, "ignore_eos": True}
    headers = {"Authorization": f"Bearer {client.key}", "Content-Type": "application/json"}
    try:
        line.request("POST", f"{parts.path}/completions", json.dumps(body), headers)
        line.getresponse().read(40)
    except (OSError, http.client.HTTPException) as error:
        raise RuntimeError(str(error)) from error
    finally:
        line.close()


#: The containers are Docker's children no more when it is back, and go on; systemd starts it again.
_DOCKER_KILLED = ("systemctl", "kill", "--kill-whom", "main", "-s", "KILL", "docker")

FAULTS: tuple[Fault, ...] = (
    Fault("kill -9 of the API server", _signal(HEAD, API, "KILL")),
    Fault("kill -9 of the engine core", _signal(HEAD, ENGINE, "KILL")),
    Fault("kill -9 of the rank on spark-2", _signal(WORKER, RANK, "KILL")),
    Fault("kill -9 of the rank on spark-1", _signal(HEAD, RANK, "KILL"), quick=False),
    Fault("SIGSTOP of the rank on spark-2", _stopped(WORKER, RANK, None)),
    Fault("SIGSTOP of the rank on spark-2 for 8 s", _stopped(WORKER, RANK, 8), restarts=0, notice_s=20.0),
    Fault("SIGSTOP of the engine core", _stopped(HEAD, ENGINE, None)),
    Fault("SIGSTOP of the API server", _stopped(HEAD, API, None), quick=False),
    Fault("kill -9 of the raylet on spark-2", _signal(WORKER, RAYLET, "KILL"), ray=True),
    Fault("kill -9 of the raylet on spark-1", _signal(HEAD, RAYLET, "KILL"), quick=False, ray=True),
    Fault("kill -9 of Ray's control store", _signal(HEAD, GCS, "KILL"), ray=True),
    Fault("restart of Docker on spark-2", _units(WORKER, "systemctl", "restart", "docker"), quick=False),
    Fault("restart of Docker on spark-1", _units(HEAD, "systemctl", "restart", "docker"), quick=False),
    Fault("kill -9 of Docker on spark-2", _units(WORKER, *_DOCKER_KILLED), quick=False),
    Fault("kill -9 of Docker on spark-1", _units(HEAD, *_DOCKER_KILLED), quick=False),
    Fault("docker stop of the server", _units(HEAD, "docker", "stop", "spark-vllm"), quick=False),
    Fault("docker kill of the server", _units(HEAD, "docker", "kill", "spark-vllm"), quick=False),
    Fault("docker stop of the Ray worker", _units(WORKER, "docker", "stop", "spark-ray-worker"), quick=False, ray=True),
    Fault("docker kill of the Ray worker", _units(WORKER, "docker", "kill", "spark-ray-worker"), quick=False, ray=True),
    Fault("docker stop of the Ray head", _units(HEAD, "docker", "stop", "spark-ray-head"), quick=False, ray=True),
    Fault("plug pulled on spark-2 for 60 s", _unplug(WORKER, 60), quick=False, restarts=2),
    Fault("plug pulled on spark-2 for 10 min", _unplug(WORKER, 600), quick=False, restarts=2, given_up_s=1000.0),
    Fault("plug pulled on spark-1 for 45 s", _unplug(HEAD, 45), quick=False, restarts=2),
    Fault("both plugs pulled, spark-1 back first", _unplug_both(HEAD, WORKER), quick=False, restarts=2),
    Fault("both plugs pulled, spark-2 back first", _unplug_both(WORKER, HEAD), quick=False, restarts=2),
    Fault("link cut for 5 s", _cut(5), restarts=0, notice_s=20.0),
    Fault("link cut for 30 s", _cut(30), quick=False),
    Fault("link cut for 55 s", _cut(55), quick=False, restarts=2),
    Fault("link cut for 60 s", _cut(60), quick=False, restarts=2),
    Fault("link cut for 63 s", _cut(63), quick=False, restarts=2),
    Fault("link cut for 66 s", _cut(66), quick=False, restarts=2),
    Fault("link cut for 75 s", _cut(75), restarts=2),
    Fault("link cut for 120 s", _cut(120), quick=False, restarts=2),
    Fault("link cut for 300 s", _cut(300), quick=False, restarts=3, given_up_s=700.0),
    Fault("server stopped by hand in the middle of a start", _stopped_in_a_start(15, 10), quick=False, restarts=2),
    Fault("link cut for 30 s in the middle of a start", _cut_in_a_start(20, 30), quick=False, restarts=3),
    Fault("link silent for 75 s, carrier up", _lossy(75, "INPUT", "OUTPUT"), quick=False, restarts=2),
    Fault("link silent in one direction for 75 s", _lossy(75, "INPUT"), quick=False, restarts=2),
    Fault("20 % of the link's packets lost for 60 s", _lossy(60, "INPUT", share=0.2), quick=False, notice_s=60.0),
    Fault(
        "kill -9 of the watchdog",
        _units(HEAD, "systemctl", "kill", "-s", "KILL", "spark-watchdog"),
        restarts=0,
        notice_s=15.0,
    ),
    Fault(
        "SIGSTOP of the watchdog",
        _units(HEAD, "systemctl", "kill", "-s", "STOP", "spark-watchdog"),
        restarts=0,
        notice_s=15.0,
    ),
    Fault(
        "kill -9 of the follower",
        _units(WORKER, "systemctl", "kill", "-s", "KILL", "spark-follower"),
        restarts=0,
        notice_s=15.0,
    ),
    Fault(
        "storm of 500 requests",
        _many(500, lambda client: client.ask("What is the capital of France?", True)),
        restarts=0,
        notice_s=10.0,
    ),
    Fault("1,000 clients that leave in mid-stream", _many(1000, _leave), restarts=0, notice_s=10.0),
    Fault(
        "50 prompts longer than the context",
        _many(50, lambda client: client.ask("word " * 20_000, False)),
        restarts=0,
        notice_s=10.0,
    ),
)


def find(names: list[str], quick: bool) -> list[Fault]:
    """Return the faults whose names hold one of the texts; without texts all, or the quick ones.

    Raises:
        SimulationError: a text that no fault's name holds.
    """
    for name in names:
        if not any(name in fault.name for fault in FAULTS):
            raise SimulationError(f"No fault is called {name!r}: `python -m simulation faults --list` names them.")
    return [
        fault for fault in FAULTS if (any(name in fault.name for name in names) if names else fault.quick or not quick)
    ]
