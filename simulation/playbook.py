# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Runs a playbook and shows it compactly: one line a task, a summary a play, everything in the log."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import ansible_runner

from simulation import settings
from simulation.progress import human
from simulation.settings import SimulationError

# Runs whose events are kept for whoever wants to look into one.
KEPT_RUNS = 3
# What Ansible adds in front of each role; it is news only when it fails.
ARGUMENT_CHECK = "Validating arguments against arg spec"
# ansible-runner always asks Ansible for colours.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Summary:
    """How a playbook ended."""

    status: str = "unknown"
    """`successful`, `failed` or `canceled`, as ansible-runner says it."""
    changed: dict[str, int] = field(default_factory=dict)
    """Host -> changed tasks; every host of the run is there."""
    failures: list[str] = field(default_factory=list)
    """One line for each failed or unreachable host: host, task, message."""
    tasks: int = 0
    seconds: float = 0.0

    @property
    def recap(self) -> str:
        """What changed, in one line."""
        counts = ", ".join(f"{name} changed={count}" for name, count in sorted(self.changed.items()))
        return counts or "no host was touched"


class View:
    """Turns ansible-runner's events into lines. `say` gets each line, `doing` the task at work."""

    def __init__(self, say: Callable[[str], None], doing: Callable[[str], None], log: TextIO | None = None) -> None:
        self.say = say
        self.doing = doing
        self.log = log
        self.summary = Summary()
        self._play: str | None = None
        self._play_started = 0.0
        self._task = ""
        self._results: dict[str, list[str]] = {}
        self._play_counts: dict[str, int] = {}
        self._last_wait = ""

    def handle(self, event: Mapping[str, Any]) -> None:
        """Take one event."""
        stdout = COLOURS.sub("", str(event.get("stdout") or ""))
        if self.log and stdout:
            print(stdout, file=self.log, flush=True)
        kind = str(event.get("event"))
        data: Mapping[str, Any] = event.get("event_data") or {}
        if kind == "playbook_on_play_start":
            self._end_play()
            self._play = str(data.get("name") or data.get("play") or "play")
            self._play_started = time.monotonic()
            self.say(f"-- {self._play}")
        elif kind in ("playbook_on_task_start", "playbook_on_handler_task_start"):
            self._end_task()
            self._task = str(data.get("name") or data.get("task") or data.get("task_action") or "task")
            self.summary.tasks += 1
            self.doing(self._task)
        elif kind == "runner_on_ok":
            self._result(data, "changed" if (data.get("res") or {}).get("changed") else "ok")
        elif kind == "runner_on_skipped":
            self._result(data, "skipped")
        elif kind == "runner_on_failed":
            self._failed(data, ignored=bool(data.get("ignore_errors")))
        elif kind == "runner_on_unreachable":
            self._failed(data, ignored=False)
        elif kind == "runner_retry":
            self._waiting(data)
        elif kind == "playbook_on_stats":
            self._end_play()
            hosts = set(data.get("processed") or {}) | set(data.get("dark") or {}) | set(data.get("failures") or {})
            changed = data.get("changed") or {}
            self.summary.changed = {str(host): int(changed.get(host, 0)) for host in hosts}
        elif kind in ("verbose", "warning", "error", "deprecated", "system_warning"):
            for line in stdout.splitlines():
                if line.strip() and not line.startswith(("PLAY", "TASK", "ok:", "changed:", "skipping:")):
                    self.say(f"   {line.rstrip()}")

    def _result(self, data: Mapping[str, Any], word: str) -> None:
        self._results.setdefault(word, []).append(str(data.get("host") or "?"))

    def _failed(self, data: Mapping[str, Any], ignored: bool) -> None:
        if ignored:
            self._result(data, "failed, ignored")
            return
        self._result(data, "FAILED")
        host, message = str(data.get("host") or "?"), message_of(data.get("res") or {})
        self.say(f"   {host}: {message}")
        line = f"{host}, task '{data.get('task') or self._task}': {message}"
        if line not in self.summary.failures:
            self.summary.failures.append(line)

    def _waiting(self, data: Mapping[str, Any]) -> None:
        """A task that waits asks again and again: its message is news only when it differs."""
        result = data.get("res") or {}
        said = str(result.get("msg") or "").strip().splitlines()
        # The sentence says what is waited for; the task's name is for those that say nothing.
        line = f"   waiting  {data.get('host')}: {said[0] if said else self._task}"
        if line != self._last_wait:
            self.say(line)
            self._last_wait = line

    def _end_task(self) -> None:
        if self._results:
            words = [f"{word} ({', '.join(sorted(hosts))})" for word, hosts in sorted(self._results.items())]
            if set(self._results) == {"skipped"} or (set(self._results) == {"ok"} and ARGUMENT_CHECK in self._task):
                words = []
            elif len(self._results) == 1:
                words = [next(iter(self._results))]
            for word, hosts in self._results.items():
                self._play_counts[word] = self._play_counts.get(word, 0) + len(hosts)
            if words:
                self.say(f"   {'; '.join(words):<8} {self._task}")
        self._results = {}

    def _end_play(self) -> None:
        self._end_task()
        if self._play is not None and self._play_counts:
            counts = ", ".join(f"{word} {count}" for word, count in sorted(self._play_counts.items()))
            self.say(f"   = {counts} in {human(time.monotonic() - self._play_started)}")
        self._play = None
        self._play_counts = {}


def message_of(result: Mapping[str, Any]) -> str:
    """The sentence in a failed task's result."""
    for name in ("msg", "message", "stderr", "stdout"):
        value = result.get(name)
        text = "; ".join(map(str, value)) if isinstance(value, list) else str(value or "")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if name in ("msg", "message") and lines:
            return " ".join(lines)
        if lines:
            return lines[-1]
    failed = [item for item in result.get("results") or [] if isinstance(item, Mapping) and item.get("failed")]
    return message_of(failed[0]) if failed else "no message"


def options(inventories: Sequence[str]) -> str:
    """The inventories as a person names them on the command line."""
    return " ".join(f"-i {folder}" for folder in inventories)


def run(
    playbook: str,
    inventories: Path | Sequence[Path],
    say: Callable[[str], None],
    doing: Callable[[str], None],
    *,
    extra_vars: Mapping[str, Any] | None = None,
    check: bool = False,
) -> Summary:
    """Run a playbook of this checkout by ansible-runner; its whole output goes to the run log. Of several inventories the last wins.

    Raises SimulationError when there is no ansible-playbook beside this Python.
    """
    folder = settings.state_folder() / "runner"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    programs = Path(sys.executable).parent
    path = f"{programs}:{os.environ.get('PATH', '')}"
    if not shutil.which("ansible-playbook", path=path):
        raise SimulationError(f"There is no ansible-playbook in {programs}: run bin/bootstrap and try again.")
    folders = [str(path) for path in ([inventories] if isinstance(inventories, Path) else inventories)]
    started = time.monotonic()
    with settings.run_log().open("a", encoding="utf-8") as log:
        print(f"\n=== {time.strftime('%Y-%m-%d %H:%M:%S')} ansible-playbook {options(folders)} {playbook}", file=log)
        view = View(say, doing, log)

        def handle(event: Mapping[str, Any]) -> bool:
            view.handle(event)
            return True

        done = ansible_runner.run(
            private_data_dir=str(folder),
            project_dir=str(settings.REPOSITORY),
            playbook=playbook,
            inventory=folders[0] if len(folders) == 1 else folders,
            event_handler=handle,
            extravars=dict(extra_vars) if extra_vars else None,
            cmdline="--check --diff" if check else None,
            # The configuration is named, because Ansible ignores the one in a folder that everybody may write to.
            envvars={"PATH": path, "ANSIBLE_CONFIG": str(settings.REPOSITORY / "ansible.cfg")},
            rotate_artifacts=KEPT_RUNS,
            quiet=True,
        )
    summary = view.summary
    summary.status = str(done.status)
    summary.seconds = time.monotonic() - started
    return summary
