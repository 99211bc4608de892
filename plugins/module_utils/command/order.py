# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""``spark start``, ``stop`` and ``restart``: this node's part of the playbooks of these names, in the order of the plan.

Nothing is ordered from node to node. A further node's Ray leaves with its head, ranks without Ray leave when one of them is gone, and their units
then wait at their gates until the head is back: so the head's own units are enough to stop and to start the cluster. What a boot, or the stop flag of
another node, makes of that is said.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..docker.cli import DockerError
from ..docker.service import STOP_FLAG
from ..docker.service_unit import ContainerService
from ..node.run_lock import LOCK, Run, identity, process_began, read, release, take
from ..service.restart_plan import restart_plan, units_of
from ..service.unit_states import answer
from ..system.files import read_json, write_atomic
from ..system.run import COLOUR, Runner
from ..system.run import run as run_program
from ..system.units import VLLM
from .cluster import Cluster, CommandError
from .looks import WATCHDOG
from .status import ABSENT_S
from .terminal import Terminal

#: Seconds between two looks at units that start, and after which it is said once more what they wait for.
POLL_S, REMIND_S = 3.0, 60.0
#: Seconds that the ranks of other nodes may take to end after a stop: rank_watch.SILENT_S, or Ray that leaves with its head.
LEAVE_S = 30.0
STOPPED = "Set by `spark stop`; `spark start` and playbooks/start.yml remove it.\n"


def this_run(word: str, told: Mapping[str, str] | None = None) -> Run:
    """Return which run this is, as the lock of the playbooks has it."""
    told = os.environ if told is None else told
    user = told.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    return Run(identity(), os.getpid(), process_began(os.getpid()), user, f"spark {word}")


@contextlib.contextmanager
def alone(word: str, path: Path = LOCK) -> Iterator[None]:
    """Let no playbook work on the nodes meanwhile.

    Raises:
        CommandError: one does; one sentence.
    """
    wanted, holder = this_run(word), read(path)
    # A run of this very node that is gone.
    gone = holder is not None and holder.controller == wanted.controller and process_began(holder.pid) != holder.began
    held = take(wanted, asdict(holder) if holder is not None and gone else None, path=path)
    if not held.same_as(wanted):
        raise CommandError(
            f"another run works on these nodes: {held.sentence()}; wait for its end. `spark stop` works at all times"
        )
    try:
        yield
    finally:
        release(wanted, path)


class Order:
    """Stops and starts the units of this node."""

    def __init__(
        self,
        cluster: Cluster,
        terminal: Terminal,
        run: Runner = run_program,
        *,
        flag: Path = Path(STOP_FLAG),
        lock: Path = LOCK,
        state: Path = WATCHDOG,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cluster = cluster
        self.terminal = terminal
        self.program = run
        self.flag = flag
        self.lock = lock
        self.state = state
        self.sleep = sleep
        self.clock = clock

    def stop(self) -> int:
        """Stop all units here and let none start, also after a boot."""
        self._head_only("stop")
        write_atomic(self.flag, STOPPED)
        self._stop_units()
        self._others_leave()
        names = ", ".join(self.cluster.others)
        if names:
            self.terminal.say(
                f"stopped, also after a boot of this node. The units on {names} wait for the head; "
                "`ansible-playbook playbooks/stop.yml` stops them as well"
            )
        else:
            self.terminal.say("stopped, also after a boot of this node")
        return 0

    def start(self, wait: bool = True) -> int:
        """Take the stop flag away and start what is not as it should be; on a further node, the units of that node."""
        with alone("start", self.lock):
            if self.flag.exists():
                self.flag.unlink()
                self.terminal.say("the stop flag is taken away")
            return self._start_units(wait)

    def restart(self, wait: bool = True) -> int:
        """Stop and start all units here; refused while the stop flag is set."""
        self._head_only("restart")
        if self.flag.exists():
            raise CommandError(
                f"the stop flag is set ({self.flag}), so nothing was restarted: `sudo spark start` serves again"
            )
        with alone("restart", self.lock):
            self._stop_units()
            self._others_leave()
            return self._start_units(wait)

    def _head_only(self, word: str) -> None:
        if not self.cluster.on_head:
            raise CommandError(
                f"this is {self.cluster.node}, and the cluster is stopped and restarted from its head: run `sudo spark {word}` on "
                f"{self.cluster.head}. A rank that ends by itself counts as a failure there"
            )

    def _stop_units(self) -> None:
        if self.cluster.drain_s:
            self.terminal.say(f"requests that run get up to {self.cluster.drain_s} s to end, new ones are refused")
        units = units_of([self.cluster.node], self.cluster.head)
        self._steps(restart_plan(units, "stop")["steps"])

    def _steps(self, steps: Sequence[Mapping[str, Any]]) -> None:
        for step in steps:
            service = ContainerService({"name": step["unit"]}, self.program, False)
            service.stopped() if step["state"] == "stopped" else service.started()
            for action in service.actions:
                self.terminal.say(action)

    def _start_units(self, wait: bool) -> int:
        found = self._look()
        plan = restart_plan({self.cluster.node: found["units"]})
        for reason in plan["reasons"]:
            self.terminal.say(reason)
        self._steps(plan["steps"])
        if not found["units"]:
            raise CommandError("no unit of the cluster is on this node: run site.yml first")
        if not wait:
            self.terminal.say("`spark status` and `spark logs --follow` show how it comes up")
            return 0
        return self._wait()

    def _look(self) -> dict[str, Any]:
        found = answer({"names": None, "startup_of": VLLM, "snapshot": False}, self.program)
        # What is quoted of a log may have colours of its own.
        return {**found, "msg": COLOUR.sub("", found["msg"])}

    def _wait(self) -> int:
        begun, told, told_at, hinted = self.clock(), "", self.clock(), False
        while True:
            found = self._look()
            if found["settled"]:
                for line in [*found["startup"], found["msg"]]:
                    self.terminal.say(line)
                return 0
            if found["failed_units"]:
                raise CommandError(f"{found['msg']}. `spark logs` has its log")
            now = self.clock()
            if now - begun > self.cluster.start_s:
                raise CommandError(f"not up after {self.cluster.start_s} s: {found['msg']}; the units go on trying")
            if found["msg"] != told or now - told_at >= REMIND_S:
                self.terminal.say(f"{now - begun:4.0f} s  {found['msg']}")
                told, told_at = found["msg"], now
            if now - begun >= REMIND_S and not hinted and self.cluster.others:
                hinted = True
                self.terminal.say(
                    "       a node that playbooks/stop.yml stopped has a stop flag of its own: `sudo spark start` there, or playbooks/start.yml, takes it away"
                )
            self.sleep(POLL_S)

    def _others_leave(self) -> None:
        """Wait until the followers report that no rank is left, and say what they report."""
        if not self.cluster.watchdog or not self.cluster.others:
            return
        begun, left = self.clock(), self._left()
        while left and self.clock() - begun < LEAVE_S:
            self.sleep(POLL_S)
            left = self._left()
        for line in left:
            sys.stderr.write(f"{line}\n")
        if not left:
            self.terminal.say(f"{', '.join(self.cluster.others)}: no rank of the model is left")

    def _left(self) -> list[str]:
        nodes = (read_json(self.state) or {}).get("nodes") or {}
        found = []
        for name in self.cluster.others:
            report = nodes.get(self.cluster.addresses[name])
            if report is None or float(report.get("age_s", 0.0)) > ABSENT_S:
                found.append(f"{name} does not report: whether ranks are left there is not known")
            elif report.get("ranks"):
                found.append(f"{name} still has ranks of the model (processes {', '.join(map(str, report['ranks']))})")
        return found


#: What the modules that this calls raise, each one sentence.
EXPECTED = (DockerError, ValueError)
