# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What systemd does for a unit of this collection, on one of two hosts: gates, the container, the proof, and a start again when it ends.

What it would say of the unit is in ``NAME.state``, its journal in ``NAME.journal``; ``NAME.stop`` asks it to stop.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.service import UnitSpec
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.files import write_atomic

from benchmarks.gpu import hosts
from benchmarks.gpu.containers import Containers

#: The product's gates, run as the units run them.
GATES = "ansible_collections.dgx_spark.vllm.plugins.module_utils.service.gates"
RESTART_S = float(UnitSpec.restart_sec)


class Unit(threading.Thread):
    """One unit.

    Args:
        name: of the unit and of its container.
        host: where it runs.
        containers: of both hosts.
        command, environment: of the container.
        work: folder of state and journal.
        gates, ready: arguments of ``spark-gate`` before the start and of the proof behind it.
        clear: folder on the host that is emptied before a start.
        look: what is noted of the GPUs right before the container starts.
    """

    def __init__(
        self,
        name: str,
        host: hosts.Host,
        containers: Containers,
        command: Sequence[str],
        environment: Mapping[str, str],
        work: Path,
        *,
        gates: Sequence[Sequence[str]] = (),
        ready: Sequence[str] = (),
        clear: str = "",
        look: Callable[[], Any] = lambda: None,
    ) -> None:
        super().__init__(daemon=True)
        # The thread's own attribute `name` is set, too: it is the unit's.
        self.name = name
        self.host, self.containers = host, containers
        self.command, self.environment, self.work = list(command), dict(environment), work
        self.gates, self.ready, self.clear, self.look = gates, ready, clear, look
        self.journal = work / f"{name}.journal"
        self.events: list[dict[str, Any]] = []
        self.active = False
        self._invocation, self._restarts = "", 0
        self._over = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        (work / f"{name}.stop").unlink(missing_ok=True)
        self.journal.unlink(missing_ok=True)

    # --- for whoever watches

    def wait_active(self, seconds: float, starts: int | None = None) -> bool:
        """Say whether it becomes active within so many seconds; False at once after so many starts that failed."""
        deadline = time.monotonic() + seconds
        while not self.active:
            failed = [event for event in self.events if event["what"] == "ended"]
            if time.monotonic() > deadline or (starts is not None and len(failed) >= starts):
                return False
            time.sleep(0.2)
        return True

    def since(self, moment: float) -> list[dict[str, Any]]:
        """Return what happened since a moment of the monotonic clock, ``after_s`` counted from it."""
        return [
            {**{key: value for key, value in event.items() if key != "at"}, "after_s": round(event["at"] - moment, 1)}
            for event in list(self.events)
            if event["at"] >= moment
        ]

    def stop(self) -> None:
        """End it for good, with its container."""
        self._over.set()
        self.containers.kill(self.name)
        self._end_child()
        self.join(30)

    # --- what systemd does

    def run(self) -> None:
        while not self._asked_to_stop():
            try:
                result = self._start()
            except OSError as error:
                self._say(f"{error}")
                result = "resources"
            self.active = False
            self._note("ended", result=result)
            if self._asked_to_stop():
                break
            self._restarts += 1
            self._state("activating", "auto-restart", result)
            self._over.wait(RESTART_S)
        self._state("inactive", "dead", "success")

    def _start(self) -> str:
        self._invocation = uuid.uuid4().hex
        self._say(f"Starting {self.name}.service...")
        self._note("starts")
        self._state("activating", "start-pre", "success")
        for gate in self.gates:
            status = self._run_gate(gate, {"INVOCATION_ID": self._invocation})
            if status:
                return "exit-code"
        if self.clear:
            subprocess.run(
                self.host.enter(["find", self.clear, "-mindepth", "1", "-delete"]), check=False, capture_output=True
            )
        self._note("loads", gpu_mib=self.look())
        with self.journal.open("ab") as stream:
            child = self._child = subprocess.Popen(
                self.containers.wrap(self.name, self.host.enter(self.command)),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **self.environment},
            )
        self._state("activating", "start-post", "success")
        if self.ready:
            time.sleep(0.5)
            # Nothing, not 0, where the program is already gone: the gate looks for this process.
            status = self._run_gate(self.ready, {"MAINPID": str(inner_pid(child.pid) or "")}, child)
            if status:
                self.containers.kill(self.name)
                child.wait()
                return "exit-code"
        self._note("proven")
        self.active = True
        self._state("active", "running", "success")
        status = child.wait()
        # What a container's first process leaves behind ends with it.
        self.containers.kill(self.name)
        return "success" if status == 0 else "exit-code"

    def _run_gate(
        self, arguments: Sequence[str], environment: Mapping[str, str], beside: subprocess.Popen[bytes] | None = None
    ) -> int:
        with self.journal.open("ab") as stream:
            gate = subprocess.Popen(
                self.host.enter([sys.executable, "-m", GATES, *arguments]),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **environment},
            )
        while gate.poll() is None:
            # systemd does not wait for the proof of a process that has ended.
            if self._asked_to_stop() or (beside is not None and beside.poll() is not None):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(gate.pid, signal.SIGKILL)
                gate.wait()
                return 1
            time.sleep(0.1)
        return gate.returncode

    def _asked_to_stop(self) -> bool:
        return self._over.is_set() or (self.work / f"{self.name}.stop").exists()

    def _end_child(self) -> None:
        if self._child is not None and self._child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _say(self, text: str) -> None:
        with self.journal.open("a", encoding="utf-8") as stream:
            stream.write(f"{text}\n")

    def _note(self, what: str, **more: Any) -> None:
        self.events.append({"at": time.monotonic(), "what": what, **more})

    def _state(self, active: str, sub: str, result: str) -> None:
        entered = int(time.monotonic() * 1e6) if active == "active" else 0
        document = {"ActiveState": active, "SubState": sub, "Result": result, "ActiveEnterTimestampMonotonic": entered}
        document |= {"InvocationID": self._invocation, "NRestarts": self._restarts}
        write_atomic(self.work / f"{self.name}.state", json.dumps(document), 0o644)


def inner_pid(outer: int, proc: Path = Path("/proc")) -> int:
    """Return the process id that the program behind an ``nsenter`` has on its host; 0 while it is not there."""
    try:
        child = (proc / str(outer) / "task" / str(outer) / "children").read_text(encoding="ascii").split()[0]
        status = dict(
            line.partition(":")[::2] for line in (proc / child / "status").read_text(encoding="utf-8").splitlines()
        )
        return int(status["NSpid"].split()[-1])
    except (OSError, IndexError, KeyError, ValueError):
        return 0
