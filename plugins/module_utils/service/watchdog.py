# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The watchdog of the head: ``spark-watchdog``. It says what the server does, and heals it by one action for the whole cluster.

A server that is hung or mute is ended, after evidence was kept; its unit starts again by itself. That start asks here first (gate
``start``): a rank that is left, a node that does not report, a pause or a hold are said there. Where a rank stays, a start failed
before, or Ray gives no GPUs that are free, Ray is ended too; the followers end theirs, because theirs is older. All else is systemd's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..docker.service import HOLDS, TRIALS
from ..ray.cluster import pending_groups, read_cluster
from ..system.files import read_json, write_atomic
from ..system.http_json import HttpClient, HttpError, read_secret_file
from ..system.kernel_log import kernel_log
from ..system.notify import notify
from ..system.run import Runner, run
from ..system.units import RAY_HEAD, VLLM
from ..vllm.start_causes import first_cause, starts, starts_command
from .budget import Budget
from .evidence import SECONDS as EVIDENCE_S
from .evidence import collect, folder_name
from .follower import CONFIG, EVIDENCE, KERNEL_S, TOKEN_FILE, CacheKeeper, load_config, say
from .freeze import freeze_warnings
from .node_state import compiling, container_age, end_container, memory, ranks
from .observer import Observer, Probe
from .pulse import PORT, REPORT, START, STATE, Board, Order, PulseServer, Report
from .token_rate import TokenRate
from .verdict import ALIVE, DEAD, DRAINING, LOADING, SERVING, SICK, WAITING, Judge, Sample, Verdict

STATE_FILE = Path("/run/dgx-spark/watchdog.json")
FOLDER = EVIDENCE.parent
POLL_S = 2.0
#: A node that has not reported for this long is not there.
ABSENT_S = 10.0
#: Seconds that ranks of a server which ended may take to go before Ray has to end them.
RANKS_GO_S = 15.0
#: A placement group that waits this long while no rank runs anywhere waits for GPUs that Ray holds for nobody.
PENDING_S = 20.0
#: What Ray says of a node that it gave up although nothing ended there (seen with 2.60: "health check failed due to missing too many heartbeats").
SILENCE = "missing too many heartbeats"
#: Seconds for which Ray may be incomplete although Ray runs on every node: a node that came back under a dead one's address.
INCOMPLETE_S = 120.0
#: Ray is not ended again before this many seconds have passed.
RENEWAL_S = 60.0
#: An end of the server within this many seconds after it was ended from here is no failure of its own.
KILLED_S = 45.0


class Watchdog:
    """Judges, heals, answers followers and gates.

    Args:
        config: what role vllm_watchdog wrote: ``address`` of this node, ``nodes`` (addresses of all), ``gpus``, ``url``, ``model``,
            ``ray`` (whether ranks run under Ray), ``dashboard``, ``hung_after_s``, ``probe_every_s``, ``step_tokens``, ``context`` (tokens), ``drop_cache``,
            ``act`` (whether it heals, or only says what it sees), ``memory_share`` or ``memory_gib`` that a start needs.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        run: Runner = run,
        clock: Callable[[], float] = time.monotonic,
        folder: Path = FOLDER,
        state_file: Path = STATE_FILE,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.config = config
        self.run = run
        self.clock = clock
        self.pause = pause
        self.folder = folder
        self.state_file = state_file
        self.address = str(config["address"])
        self.others = [str(node) for node in config["nodes"] if node != self.address]
        self.with_ray = bool(config.get("ray", True))
        self.act = bool(config.get("act", True))
        probe = Probe(
            str(config["url"]),
            str(config["model"]),
            str(config["key_file"]),
            float(config["probe_every_s"]),
            int(config.get("context") or 0),
            clock,
        )
        # What an earlier run of this program saw since the boot.
        earlier = read_json(state_file) or {}
        probe.prefill = earlier.get("prefill_tok_s")
        self.observer = Observer(VLLM, str(config["url"]), probe, run, int(config.get("step_tokens") or 0), clock)
        self.judge = Judge(float(config["hung_after_s"]))
        self.budget = Budget.load(folder / "budget.json")
        self.board = Board(clock)
        self.cache = CacheKeeper(clock)
        self.rate = TokenRate()
        self.verdict = Verdict(DEAD, "not looked at yet")
        self.since = clock()
        self.recovery: dict[str, Any] = read_json(folder / "recovery.json") or {}
        self._lock = threading.Lock()
        self._healing_since: float | None = None
        self._looked_at = clock()
        self._phase = ""
        self._start = str(earlier.get("start") or "")
        self._ended = False
        self._killed_at = float("-inf")
        self._failed_starts = 0
        self._prepare = ""
        self._collect = ""
        self._ranks_since: float | None = None
        self._pending_since: float | None = None
        self._renewed_at = float("-inf")
        self._renew_reason = ""
        self._kernel_at = float("-inf")
        self._warnings: tuple[str, ...] = ()
        self._last_line = ""

    # --- what it sees

    def here(self) -> Report:
        """Return the report of the head itself."""
        if self.clock() - self._kernel_at >= KERNEL_S:
            self._kernel_at = self.clock()
            found = freeze_warnings(kernel_log(self.run).splitlines())
            self._warnings = tuple(finding.found[:300] for finding in found)[:5]
        available, total, swap = memory()
        age = container_age(self.run, RAY_HEAD) if self.with_ray else None
        return Report(self.address, age, ranks(), available, total, swap, self._prepare, compiling(), self._warnings)

    def round(self) -> None:
        """Look once, judge, and act."""
        # Not under the lock: followers are answered while Docker is slow.
        here = self.here()
        with self._lock:
            self.board.take(here)
            busy = any(report.compiling for _at, report in self.board.reports.values())
        sample = self.observer.look(busy)
        with self._lock:
            verdict = self.judge.judge(sample)
            passed, self._looked_at = sample.at - self._looked_at, sample.at
            self.budget.tick(passed, verdict.state in ALIVE)
            self.rate.take(sample.at, (sample.metrics or {}).get("generation_tokens_total"))
            self.notice_start(sample)
            self.tell(verdict)
            self.notice_end(sample, verdict)
            if verdict.state in ALIVE:
                self.healed()
            elif verdict.state == LOADING:
                self.loading()
            elif verdict.state == WAITING:
                self.waiting(verdict)
            self.write_state()
        if verdict.sick and self.act and not self.trial():
            # Not under the lock: followers are answered meanwhile, and keep evidence of their own.
            evidence = self.keep_evidence(verdict)
            with self._lock:
                self.heal(verdict.state, verdict.line(), evidence)
                self.write_state()

    def tell(self, verdict: Verdict) -> None:
        """Write a change of state to the journal, with the figures that it rests on."""
        if verdict.state != self.verdict.state:
            self.since = self.clock()
        # Idle and busy follow each other all day; the figures of a saturated server are in the state.
        line = SERVING if verdict.state in ALIVE else verdict.line()
        if line.partition(" [")[0] != self._last_line.partition(" [")[0]:
            say(line)
        self._last_line = line
        self.verdict = verdict

    def write_state(self) -> None:
        """Write what is known where `status` reads it."""
        document = json.dumps(self.state()) + "\n"
        with contextlib.suppress(OSError):
            write_atomic(self.state_file, document, 0o644)

    def state(self) -> dict[str, Any]:
        """Return the state as plain data: no secret is in it."""
        return {
            **self.verdict.as_dict(),
            "for_s": round(self.clock() - self.since, 1),
            "start": self._start,
            "prefill_tok_s": self.observer.probe.prefill,
            "tokens_per_s": self.rate.facts(self.clock()),
            "failures": [asdict(failure) for failure in self.budget.failures],
            "pause_s": round(self.budget.pause(), 1),
            "recovery": self.recovery,
            "nodes": self.board.as_facts(),
            "expected": [self.address, *self.others],
        }

    # --- what it does

    def notice_start(self, sample: Sample) -> None:
        """Forget failures when somebody else than systemd starts the server: a playbook or a hand, perhaps with other settings."""
        if not sample.start or sample.start == self._start:
            return
        # The first start after a boot is nobody's: a machine that freezes and boots again and again keeps its failures.
        asked, self._start = bool(self._start) and sample.restarts == 0, sample.start
        if asked:
            if self.budget.failures:
                say("somebody started the server: failures count from the beginning")
            self.budget.forget()
            self._failed_starts, self._renew_reason, self._healing_since = 0, "", None

    def notice_end(self, sample: Sample, verdict: Verdict) -> None:
        """Count a server that ended by itself; systemd waits before it starts it again, so that no end is missed."""
        # With Restart=always a unit stays failed only where systemd gave it up, or was told to stop it while it started.
        given_up = sample.active == "failed" and sample.result == "start-limit-hit"
        ended = sample.sub.startswith("auto-restart") or given_up
        entered, self._ended = ended and not self._ended, ended
        phase = self._phase
        if not ended and sample.active != "unknown":
            self._phase = verdict.state
        if not entered or not phase or self.trial() or self.clock() - self._killed_at < KILLED_S:
            return
        cause = self.cause()
        if sample.result == "success" and not cause:
            # vLLM ends with 0 also when its engine died, but then its log has an error.
            say("the server ended without an error: its unit starts it again")
            return
        failed_start = phase not in ALIVE | SICK | {DRAINING}
        self._failed_starts = self._failed_starts + 1 if failed_start else 0
        kind = "failed start" if failed_start else "ended"
        self.count(
            f"{kind}: {cause or 'no error in its log'}",
            f"{sample.active} ({sample.result})",
            start=failed_start and bool(cause),
        )
        if self._failed_starts >= 2:
            self._renew_reason = f"{self._failed_starts} starts in a row failed"

    @staticmethod
    def trial() -> bool:
        """Say whether a trial of CUDA graphs is prepared: it judges its one start itself, and a failure is an answer."""
        return Path(TRIALS, f"{VLLM}.json").exists()

    def cause(self) -> str:
        """Return the first error of the last start in a few words; an empty text where its log has none."""
        _status, out, _err = self.run(starts_command(VLLM, 2000), 15)
        found = starts(out)
        cause = first_cause(found[-1].text) if found else None
        if cause is None:
            return ""
        # Ports, addresses and process ids differ each time; the cause is the same.
        return cause.cause or re.sub(r"\[?\b\d[\d.:]*\]?", "#", cause.line)[:120]

    def count(self, cause: str, reason: str, start: bool = False) -> None:
        """Count a failure, and hold the service when it was one too many."""
        if self._healing_since is None:
            self._healing_since = self.clock()
        hold = self.budget.fail(cause, start)
        self.recovery = {"cause": cause, "reason": reason, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        say(f"failure {len(self.budget.failures)}: {cause}")
        if hold and self.act:
            self.hold(f"{hold}: see {self.folder}/evidence, then run playbooks/start.yml")
        self.keep_recovery()

    def hold(self, reason: str) -> None:
        """Stop the service until somebody starts it."""
        say(reason)
        try:
            write_atomic(Path(HOLDS, VLLM), f"{reason}\n", 0o644)
        except OSError as error:
            say(f"the hold cannot be written down ({error}): a boot starts the service again")
        self.end_server()
        self.run(["systemctl", "stop", "--no-block", f"{VLLM}.service"], 20)

    def keep_evidence(self, verdict: Verdict) -> Path:
        """Keep evidence on every node that reports, within EVIDENCE_S seconds; return the folder here, which has the same name elsewhere."""
        began = self.clock()
        name = folder_name(verdict.state)
        with self._lock:
            self._healing_since, self._collect = began, name
            told = {"cause": verdict.state, "reason": verdict.line(), "state": self.state()}
        containers = (VLLM, RAY_HEAD) if self.with_ray else (VLLM,)
        folder = collect(
            self.folder / EVIDENCE.name,
            name,
            (*containers, "spark-watchdog"),
            # Under Ray the ranks are in the container of Ray.
            containers[::-1],
            self.run,
            {"verdict.json": json.dumps(told, indent=2)},
            str(self.config["url"]),
        )
        while self.clock() - began < EVIDENCE_S and self._collecting():
            self.pause(0.5)
        return folder

    def _collecting(self) -> list[str]:
        """Return the nodes that report and do not have their evidence yet."""
        with self._lock:
            return [
                node
                for node in self.others
                if (age := self.board.age(node)) is not None
                and age < ABSENT_S
                and (report := self.board.of(node)) is not None
                and report.collected != self._collect
            ]

    def heal(self, cause: str, reason: str, evidence: Path) -> None:
        """End a server that serves nobody."""
        self._collect = ""
        self.count(cause, reason)
        self.recovery["evidence"] = str(evidence)
        self.keep_recovery()
        if not self.observer.hold():
            say(f"ending {VLLM}: its unit starts it again; evidence is in {evidence}")
            self.end_server()
        self.observer.probe.reset()
        self.judge = Judge(self.judge.floor_s)

    def end_server(self) -> None:
        """End the server's container; its unit starts it again."""
        self._killed_at = self.clock()
        if trouble := end_container(self.run, VLLM):
            say(trouble)

    def healed(self) -> None:
        """Note that the server serves again."""
        self._failed_starts, self._pending_since, self._prepare = 0, None, ""
        if self._healing_since is None:
            return
        seconds = self.clock() - self._healing_since
        self._healing_since = None
        self.recovery["seconds"] = round(seconds, 1)
        self.keep_recovery()
        say(f"serves again after {seconds:.0f} s ({self.recovery.get('cause', '')})")

    def keep_recovery(self) -> None:
        """Write the last recovery down; `status` shows it after a boot too."""
        with contextlib.suppress(OSError):
            write_atomic(self.folder / "recovery.json", json.dumps(self.recovery) + "\n", 0o644)

    def renew_ray(self, reason: str) -> None:
        """End Ray on the head; the followers end theirs, which is then older, and all units start again by themselves."""
        if not self.with_ray or not self.act or self.clock() - self._renewed_at < RENEWAL_S:
            return
        self._renewed_at, self._renew_reason, self._ranks_since = self.clock(), "", None
        say(f"Ray is started anew on all nodes: {reason}")
        self.recovery["ray"] = reason
        self.keep_recovery()
        self.end_server()
        end_container(self.run, RAY_HEAD)

    def loading(self) -> None:
        """While the model is loaded: keep the page cache small, and end a start that waits for GPUs which Ray gives to nobody."""
        if self.config.get("drop_cache", True):
            self.cache.keep_small()
        self._pending_since = self._pending_since if self.pending() else None
        if self._pending_since is not None and self.clock() - self._pending_since >= PENDING_S:
            waited = self.clock() - self._pending_since
            self._pending_since = None
            self.count(
                "placement group pending", f"Ray gives the ranks no GPU for {waited:.0f} s although none is in use"
            )
            self.renew_ray("a placement group is pending although no rank uses a GPU")

    def pending(self) -> bool:
        """Say whether the start waits for GPUs that are free, and since when."""
        if not self.with_ray or any(report.ranks for _at, report in self.board.reports.values()):
            return False
        try:
            waits = bool(pending_groups(self._ray()))
        except (HttpError, OSError, ValueError):
            return False
        if waits and self._pending_since is None:
            self._pending_since = self.clock()
        return waits

    def waiting(self, verdict: Verdict) -> None:
        """While a gate waits: Ray that stays incomplete although it runs on every node has to be new."""
        if not verdict.reason.startswith("Ray is not complete") or self.clock() - self.since < INCOMPLETE_S:
            return
        ages = [self.board.of(node) for node in (self.address, *self.others) if (self.board.age(node) or 0) < ABSENT_S]
        if len(ages) == 1 + len(self.others) and all(
            report is not None and (report.ray_age_s or 0) > INCOMPLETE_S for report in ages
        ):
            self.renew_ray(f"it stays incomplete although it runs on every node ({verdict.reason})")

    # --- what it answers

    def answer(self, path: str, body: Any) -> Mapping[str, Any] | None:
        """Answer a follower, the gate of a start, or a question for the state."""
        with self._lock:
            if path == REPORT:
                self.board.take(Report.from_json(body))
                own = self.board.of(self.address)
                return asdict(
                    Order(own.ray_age_s if own else None, self._prepare, self.verdict.state == LOADING, self._collect)
                )
            if path == START:
                if not isinstance(body, Mapping) or not body.get("start"):
                    raise ValueError('a start names itself: {"start": "..."}')
                return {"waits_for": self.obstacle(str(body["start"]))}
            return self.state() if path == STATE else None

    def obstacle(self, start: str) -> str:
        """Return what keeps a start from going on, or an empty text."""
        if hold := self.observer.hold():
            return hold
        if self.budget.pause():
            return f"a pause before the next start, after {len(self.budget.failures)} failures"
        if self._prepare != start:
            self._prepare, self._ranks_since = start, None
            if self.config.get("drop_cache", True):
                self.cache.drop()
        if self._renew_reason:
            self.renew_ray(self._renew_reason)
        # Ray is new before a node that it gave up is back: the node then joins at once.
        return self._left() or self._given_up() or self._absent()

    def _left(self) -> str:
        """Say which ranks of an earlier server are left; Ray is ended where they stay."""
        left = [
            f"{address} (processes {', '.join(map(str, report.ranks))})"
            for address, (_at, report) in sorted(self.board.reports.items())
            if report.ranks and (self.board.age(address) or 0) < ABSENT_S
        ]
        if not left:
            self._ranks_since = None
            return ""
        if self._ranks_since is None:
            self._ranks_since = self.clock()
        elif self.clock() - self._ranks_since >= RANKS_GO_S:
            self.renew_ray(f"ranks of the earlier server are left on {'; '.join(left)}")
        return f"ranks of the earlier server are left on {'; '.join(left)}"

    def _given_up(self) -> str:
        """Say that Ray gave a node up for its silence: GPUs of one that comes back under its address stay unused for ever, so Ray is ended."""
        if not self.with_ray or not self.act:
            # One that only says what it sees keeps no start waiting for what nobody does.
            return ""
        cluster = read_cluster(self._ray(3))
        silent = sorted({node.ip for node in cluster.nodes if not node.alive and SILENCE in node.message})
        if not silent:
            return ""
        self.renew_ray(f"it gave {', '.join(silent)} up for its silence")
        return f"Ray gave {', '.join(silent)} up for its silence and has to be new"

    def _ray(self, timeout: float = 5) -> HttpClient:
        return HttpClient(str(self.config["dashboard"]), token=read_secret_file(TOKEN_FILE), timeout=timeout)

    def _absent(self) -> str:
        """Say which node does not report, is not ready, or has too little memory."""
        for address in (*self.others, self.address):
            age, report = self.board.age(address), self.board.of(address)
            if age is None or report is None:
                return f"{address} has not reported yet: is spark-follower running there?"
            if age > ABSENT_S:
                return f"{address} has not reported for more than {ABSENT_S:.0f} s"
            if report.prepared != self._prepare:
                return f"{address} makes itself ready"
            share, gib = float(self.config.get("memory_share") or 0), float(self.config.get("memory_gib") or 0)
            need = gib or share * report.total_gib
            if report.available_gib < need:
                return f"{address} has {report.available_gib:.0f} GiB of memory available, {need:.0f} GiB are needed"
        return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch until stopped; returns the exit status."""
    parser = argparse.ArgumentParser(prog="spark-watchdog", description="Says what the server does, and heals it.")
    parser.add_argument("--config", type=Path, default=CONFIG)
    options = parser.parse_args(arguments)
    try:
        watchdog = Watchdog(load_config(options.config))
        port = int(watchdog.config.get("port", PORT))
        server = PulseServer((watchdog.address, port), read_secret_file(TOKEN_FILE), watchdog.answer)
    except (KeyError, TypeError, ValueError, OSError) as error:
        say(f"failed: {error}")
        return 1
    server.start()
    say(f"watching {VLLM} on {watchdog.config['url']}" + ("" if watchdog.act else "; it only says what it sees"))
    notify("READY=1")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            begun = time.monotonic()
            watchdog.round()
            notify("WATCHDOG=1")
            time.sleep(max(0.1, POLL_S - (time.monotonic() - begun)))
    server.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
