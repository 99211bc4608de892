# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Puts faults on the pair under traffic, one after the other, and says what clients saw and how long it took."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import docker

from simulation import demo, nodes
from simulation.faults.catalog import HEAD, RANK, WORKER, Fault, Pair
from simulation.faults.traffic import ERROR, RIGHT, SILENT, WRONG, Client, Outcome, Traffic, counted
from simulation.settings import Node, SimulationError

#: Right answers without a failure for this many seconds are a service.
STEADY_S = 12.0
#: Longer than a plain start takes here.
START_S = 420.0
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
#: Seconds from one fault of a soak to the next.
SOAK_EVERY_S = 120.0
SOAK_BEGIN, SOAK_END = "<!-- soak: begin -->", "<!-- soak: end -->"
#: Units in the order in which they start, each with its container, by whether the ranks run under Ray.
UNITS: dict[bool, tuple[tuple[Node, str], ...]] = {
    True: ((HEAD, "spark-ray-head"), (WORKER, "spark-ray-worker"), (HEAD, "spark-vllm")),
    False: ((WORKER, "spark-vllm-worker"), (HEAD, "spark-vllm")),
}


@dataclass
class Result:
    """What a fault did. Seconds; ``recovered_s`` is None where no right answer came any more, 0 where none was missed."""

    fault: str
    recovered_s: float | None
    clients: dict[str, int]
    longest_s: float
    restarts: int
    allowed_restarts: int
    verdict: str = ""
    verdict_s: float | None = None
    evidence: str = ""
    problems: list[str] = field(default_factory=list)


@dataclass
class Soak:
    """Random faults under one traffic: what clients saw from the first to the last minute, and each fault's own result."""

    minutes: float
    every_s: float
    seed: int
    results: list[Result] = field(default_factory=list)
    clients: dict[str, int] = field(default_factory=dict)
    took_s: float = 0.0

    def sentence(self) -> str:
        """Return everything in one sentence."""
        kinds = ", ".join(f"{self.clients.get(kind, 0)} {kind}" for kind in (RIGHT, ERROR, WRONG, SILENT))
        away = sum(result.recovered_s or 0.0 for result in self.results)
        return (
            f"{self.took_s / 60:.0f} minutes, {len(self.results)} faults (at random, seed {self.seed}, one every {self.every_s:.0f} s or when the pair served "
            f"again): {kinds}; without an answer for {away / 60:.1f} minutes of them; {sum(result.restarts for result in self.results)} starts"
        )


def steady(outcomes: Sequence[Outcome], now: float) -> bool:
    """Say whether clients got right answers alone for STEADY_S."""
    late = [outcome for outcome in outcomes if outcome.ended >= now - STEADY_S]
    return len(late) >= 3 and all(outcome.kind == RIGHT for outcome in late)


def recovery(outcomes: Sequence[Outcome], begun: float) -> float | None:
    """Return the seconds from the fault to the first right answer behind the last failure or gap; 0 where nothing was missed.

    A gap is a time of 5 s in which no request ended right, although clients asked: a hang that ended well counts as well.
    """
    right = sorted(outcome.ended for outcome in outcomes if outcome.kind == RIGHT)
    failed = [outcome.ended for outcome in outcomes if outcome.kind != RIGHT]
    ends = [after for before, after in zip([begun, *right], right, strict=False) if after - before > 5.0]
    if failed:
        behind = next((moment for moment in right if moment > max(failed)), None)
        if behind is None:
            return None
        ends.append(behind)
    return max((end - begun for end in ends), default=0.0)


class Suite:
    """Runs faults on the pair that runs."""

    def __init__(self, client: docker.DockerClient, say: Callable[[str], None]) -> None:
        self.docker = client
        self.say = say
        self.asked = self._client()
        self.cold_s: float | None = None
        record = nodes.execute(client, HEAD, ["cat", "/etc/dgx-spark/cluster.json"], "read the record of the cluster")
        self.ray = bool(json.loads(record)["ray"])
        self.units = UNITS[self.ray]

    @staticmethod
    def _client() -> Client:
        endpoint = demo.endpoint_of_head()
        return Client(endpoint.url, endpoint.key, endpoint.model())

    def possible(self, faults: Sequence[Fault]) -> list[Fault]:
        """Return the faults that there are with the executor that runs, and say which are left out.

        Raises:
            SimulationError: none is left.
        """
        left_out = [fault.name for fault in faults if fault.ray and not self.ray]
        if left_out:
            self.say(f"Left out, since they are Ray's and the ranks run without it: {', '.join(left_out)}")
        if len(left_out) == len(faults):
            raise SimulationError("None of these faults is possible with the executor mp.")
        return [fault for fault in faults if fault.name not in left_out]

    def cold_start(self) -> float:
        """Return the seconds from the start of the stopped units to the first right answer: what all else is compared with."""
        self.say("Yardstick: all units stopped, started, and the first right answer")
        traffic = Traffic(self.asked)
        traffic.learn()
        for node, unit in reversed(self.units):
            nodes.execute(self.docker, node, ["systemctl", "stop", unit], f"stop {unit}")
        begun = time.monotonic()
        for node, unit in self.units:
            nodes.execute(self.docker, node, ["systemctl", "start", "--no-block", unit], f"start {unit}")
        while traffic.once("What is the capital of France?", False).kind != RIGHT:
            if time.monotonic() - begun > START_S:
                raise SimulationError(f"The endpoint did not come back within {START_S:.0f} s of a plain start.")
            time.sleep(0.5)
        self.cold_s = time.monotonic() - begun
        self.say(f"  {self.cold_s:.1f} s")
        return self.cold_s

    def run(self, fault: Fault, traffic: Traffic | None = None) -> Result:
        """Put one fault on the pair under traffic, wait until it serves again, and say what happened.

        traffic: that runs already and goes on afterwards; without it the fault has its own.
        """
        pair = Pair(self.docker, self.asked, self.say)
        asking = traffic or self._traffic()
        self._ready(asking, fault.name)
        since = self._now_in_node()
        starts = self._starts()
        self.say(f"{fault.name}")
        begun = time.monotonic()
        try:
            fault.put(pair)
            self._observe(asking, begun, fault)
        finally:
            for action in reversed(pair.undo):
                action()
            if traffic is None:
                asking.stop()
        outcomes = asking.since(begun)
        result = Result(
            fault.name,
            recovery(outcomes, begun),
            counted(outcomes),
            max((outcome.ended - outcome.sent for outcome in outcomes), default=0.0),
            self._starts() - starts,
            fault.restarts,
        )
        self._told(result, since)
        self._judge(result, outcomes, fault.given_up_s)
        self.say(f"  {line(result, self.cold_s)}")
        return result

    def _traffic(self) -> Traffic:
        """Return clients that ask, with answers that are known."""
        traffic = Traffic(self.asked)
        traffic.learn()
        traffic.start()
        return traffic

    def _ready(self, traffic: Traffic, what: str) -> None:
        """Wait until clients get right answers and the watchdog knows how fast this machine reads prompts; nothing counts from before."""
        self._wait(lambda: steady(traffic.outcomes, time.monotonic()), 90, f"before {what}: no steady answers")
        self._forget()
        self._wait(
            self._prefill_seen, 150, f"before {what}: the watchdog did not measure prefill on a pair that serves"
        )

    def soak(self, faults: Sequence[Fault], minutes: float, every_s: float, seed: int) -> Soak:
        """Put a random fault on the pair every so many seconds for so many minutes, under one traffic that never pauses."""
        chance = random.Random(seed)
        traffic = self._traffic()
        found = Soak(minutes, every_s, seed)
        began = time.monotonic()
        try:
            while (begun := time.monotonic()) - began < minutes * 60:
                self.say(f"Minute {(begun - began) / 60:.0f} of {minutes:g}")
                found.results.append(self.run(chance.choice(faults), traffic))
                time.sleep(max(0.0, begun + every_s - time.monotonic()))
        finally:
            traffic.stop()
        found.clients = counted(traffic.outcomes)
        found.took_s = time.monotonic() - began
        return found

    def _observe(self, traffic: Traffic, begun: float, fault: Fault) -> None:
        """Wait until clients notice and are served again; the fault that nobody notices ends after its time."""
        while True:
            time.sleep(1.0)
            now = time.monotonic()
            seen = traffic.since(begun)
            noticed = any(outcome.kind != RIGHT for outcome in seen) or traffic.open_since() > 5.0
            if now - begun < fault.notice_s and not noticed:
                continue
            # A fault that clients notice late still has its time.
            if steady(seen, now) and now - begun >= min(fault.notice_s, 20.0):
                return
            if now - begun > fault.given_up_s:
                return

    def _judge(self, result: Result, outcomes: Sequence[Outcome], given_up_s: float) -> None:
        wrong = [outcome for outcome in outcomes if outcome.kind == WRONG]
        if wrong:
            result.problems.append(f"{len(wrong)} wrong answers, for example {wrong[0].detail!r}")
        if silent := [outcome for outcome in outcomes if outcome.kind == SILENT]:
            result.problems.append(
                f"{len(silent)} requests without a byte for {silent[0].ended - silent[0].sent:.0f} s"
            )
        if result.recovered_s is None:
            result.problems.append(f"no right answer within {given_up_s:.0f} s")
        if result.restarts > result.allowed_restarts:
            result.problems.append(
                f"{result.restarts} starts of the server, at most {result.allowed_restarts} are needed"
            )
        result.problems += self._leftovers()

    def _leftovers(self) -> list[str]:
        """Say what a fault left behind: containers of no unit, or more ranks than one a node."""
        found = []
        for node in (HEAD, WORKER):
            wanted = {unit for place, unit in self.units if place == node}
            names = set(
                nodes.execute(
                    self.docker, node, ["docker", "ps", "--all", "--format", "{{.Names}}"], "list containers"
                ).split()
            )
            if names != wanted:
                found.append(f"{node.name} has containers {', '.join(sorted(names)) or 'none'}")
            ranks = ""
            # A busy engine was seen to hand over nothing of what a command printed.
            for _again in range(3):
                ranks = (
                    ranks
                    or nodes.execute(
                        self.docker, node, ["sh", "-c", f"pgrep -fc '{RANK}' || true"], "count ranks"
                    ).strip()
                )
            if ranks != "1":
                found.append(f"{node.name} has {ranks} ranks")
        return found

    def _told(self, result: Result, since: str) -> None:
        """Read what the watchdog said."""
        journal = nodes.execute(
            self.docker,
            HEAD,
            ["journalctl", "-u", "spark-watchdog", "--since", f"@{since}", "-o", "short-unix", "--no-pager"],
            "read the watchdog's journal",
        )
        for row in journal.splitlines():
            stamp, _host, rest = [*row.split(" ", 2), "", "", ""][:3]
            said = rest.partition(": ")[2]
            if said.startswith(("hung", "mute", "failure ", "Ray is started anew", "held")) and not result.verdict:
                result.verdict = said.partition(" [")[0]
                result.verdict_s = float(stamp) - float(since)
            if "evidence is in " in said:
                result.evidence = said.partition("evidence is in ")[2]

    def _forget(self) -> None:
        """Let failures count from the beginning: each fault is judged by itself, and three of a kind would hold the service."""
        argv = ["sh", "-c", "rm -f /var/lib/dgx-spark/watchdog/budget.json && systemctl restart spark-watchdog"]
        nodes.execute(self.docker, HEAD, argv, "let the watchdog forget")

    def _prefill_seen(self) -> bool:
        """Say whether the watchdog has seen how fast this machine reads prompts; before, it is patient with a slow one."""
        state = nodes.execute(self.docker, HEAD, ["cat", "/run/dgx-spark/watchdog.json"], "read the watchdog's state")
        return bool(json.loads(state).get("prefill_tok_s"))

    def _now_in_node(self) -> str:
        return nodes.execute(self.docker, HEAD, ["date", "+%s.%N"], "tell the time").strip()

    def _starts(self) -> int:
        """Return how often the server's container was started: each start has its line in the journal."""
        journal = nodes.execute(
            self.docker,
            HEAD,
            ["sh", "-c", "journalctl -u spark-vllm -o cat --no-pager | grep -c '^Starting spark-vllm' || true"],
            "count the starts",
        )
        return int(journal.strip() or 0)

    @staticmethod
    def _wait(done: Callable[[], bool], seconds: float, failure: str) -> None:
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise SimulationError(failure)
            time.sleep(0.5)


def line(result: Result, cold_s: float | None) -> str:
    """Return a result in one line."""
    seconds = "never" if result.recovered_s is None else f"{result.recovered_s:.0f} s"
    ratio = f" ({result.recovered_s / cold_s:.1f}x cold)" if result.recovered_s and cold_s else ""
    clients = ", ".join(
        f"{count} {kind}" for kind, count in sorted(result.clients.items()) if not kind.startswith(f"{ERROR}: ")
    )
    verdict = f"; watchdog after {result.verdict_s:.0f} s: {result.verdict}" if result.verdict_s is not None else ""
    problems = f"; NOT RIGHT: {'; '.join(result.problems)}" if result.problems else ""
    return f"{seconds}{ratio}; clients: {clients}; {result.restarts} starts{verdict}{problems}"


def as_json(results: Sequence[Result], cold_s: float | None) -> str:
    """Return everything as JSON."""
    return json.dumps({"cold_start_s": cold_s, "results": [asdict(result) for result in results]}, indent=1) + "\n"


def table(results: Sequence[Result], cold_s: float | None) -> str:
    """Return the table of docs/faults.md; several runs of one fault are one row with the medians of their seconds."""
    rows = [
        f"A cold start in the same run: {cold_s:.0f} s.\n" if cold_s else "",
        "| fault | clients saw | s to the next right answer | x cold | starts | the watchdog said |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in merged(results):
        # What clients and watchdog said may hold the mark of a column.
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells(name, runs, cold_s))} |")
    return "\n".join(row for row in rows if row) + "\n"


def soak_table(soak: Soak, cold_s: float | None) -> str:
    """Return what a soak came to, for docs/faults.md: the sentence, and a row for each kind of fault that was put."""
    return f"{soak.sentence()}.\n\n{table(soak.results, cold_s)}"


def merged(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    """Return the runs of each fault, in the order of the first ones."""
    names = dict.fromkeys(result.fault for result in results)
    return [(name, [result for result in results if result.fault == name]) for name in names]


def cells(name: str, runs: Sequence[Result], cold_s: float | None) -> list[str]:
    """Return a fault as a row of the table; seconds are the median of its runs."""
    clients: dict[str, int] = {}
    for run in runs:
        for kind, count in run.clients.items():
            clients[kind] = clients.get(kind, 0) + count
    saw = ", ".join(f"{count} {kind}" for kind, count in sorted(clients.items()) if kind != ERROR)
    seconds: list[float] = [run.recovered_s for run in runs if run.recovered_s is not None]
    shown = f"{median(seconds):.0f}" if len(seconds) == len(runs) else "**never**"
    ratio = f"{median(seconds) / cold_s:.1f}" if seconds and cold_s and median(seconds) else "-"
    first = next((run for run in runs if run.verdict_s is not None), None)
    said = f"after {first.verdict_s:.0f} s: {first.verdict}" if first else "-"
    wrong = (
        f" **{'; '.join(dict.fromkeys(text for run in runs for text in run.problems))}**"
        if any(run.problems for run in runs)
        else ""
    )
    told = f"{name} (median of {len(runs)})" if len(runs) > 1 else name
    return [told, saw, shown, ratio, str(max(run.restarts for run in runs)), f"{said}{wrong}"]


def write_docs(path: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Write a text between marks of a page.

    Raises:
        SimulationError: the page has no marks.
    """
    head, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _old, closed, tail = rest.partition(end)
    if not found or not closed:
        raise SimulationError(f"{path} has no marks {begin} and {end}: the table has no place.")
    path.write_text(f"{head}{begin}\n{text}{end}{tail}", encoding="utf-8")


def run(
    client: docker.DockerClient, say: Callable[[str], None], faults: Sequence[Fault], times: int
) -> tuple[list[Result], Any]:
    """Run faults, each so many times; returns results and the seconds of a cold start."""
    suite = Suite(client, say)
    wanted = suite.possible(faults)
    suite.cold_start()
    results = [suite.run(fault) for fault in wanted for _time in range(times)]
    return results, suite.cold_s


def soak(
    client: docker.DockerClient, say: Callable[[str], None], faults: Sequence[Fault], minutes: float, seed: int
) -> tuple[Soak, Any]:
    """Run random faults of these for so many minutes; returns what came of it and the seconds of a cold start."""
    suite = Suite(client, say)
    wanted = suite.possible(faults)
    suite.cold_start()
    return suite.soak(wanted, minutes, SOAK_EVERY_S, seed), suite.cold_s
