# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's default output, except that waiting reads as waiting, a refusal is printed once, and check mode says what it could not see."""

from __future__ import annotations

DOCUMENTATION = r"""
name: console
type: stdout
author: dgx_spark.vllm contributors (@dgx-spark)
version_added: 1.0.0
short_description: Ansible's default output, with what a task waits for instead of retries
description:
  - The default output prints C(FAILED - RETRYING) at each try of a task that waits. This one prints what is waited for, when it changes and
    every half minute; in a terminal it is one line that moves.
  - What M(dgx_spark.vllm.settings_check) refuses is printed once, a line for each sentence. A failed C(assert) or C(fail), or a failed module of
    this collection, is printed without the place in the source; with C(-v) it is shown.
  - A play under a condition is named once something of it runs.
  - In check mode, the tasks that could not be foreseen are named at the end.
  - At the end of a run of several plays, what changed on which host, and the seconds of each play.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - set as stdout in configuration
"""

import re
import sys
import time
from collections.abc import Callable
from typing import Any

from ansible import context
from ansible.plugins.callback.default import CallbackModule as Default

_REMIND_S = 30.0
# A number with its unit: 95.0 MiB that become 0.1 GiB are the same line of progress.
_FIGURES = re.compile(r"\d+(\.\d+)?( (bytes|MiB|GiB|s|min|h)\b)?")
# Whose message says all there is to say: the place in the playbook adds nothing for the one who reads it.
_SPOKEN = ("dgx_spark.vllm.", "ansible.builtin.assert", "ansible.builtin.fail")
_CHECK = "dgx_spark.vllm.settings_check"
#: Plays that ran, from which on a summary is worth its lines.
_PLAYS = 4
#: Changed tasks that the summary names.
_NAMED = 8


class _Lines:
    """Ansible's display, and below what it printed one line that moves."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._moving = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._display, name)
        if name in ("display", "banner"):
            return self._after(found)
        return found

    def _after(self, prints: Callable[..., None]) -> Callable[..., None]:
        def print_below(*arguments: Any, **named: Any) -> None:
            if self._moving:
                self._moving = False
                self._display.display("", screen_only=True)
            prints(*arguments, **named)

        return print_below

    def move(self, text: str, color: str) -> None:
        """Show a line in place of the one before."""
        columns = max(20, int(self._display.columns))
        text = text if len(text) < columns else f"{text[: columns - 2]}…"
        if self._moving:
            self._display.display("\r\x1b[2K", screen_only=True, newline=False)
        self._display.display(text, color=color, screen_only=True, newline=False)
        self._moving = True
        sys.stdout.flush()


class CallbackModule(Default):
    """See DOCUMENTATION; the recap stays the default's, because tools read it."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "dgx_spark.vllm.console"

    def __init__(self) -> None:
        super().__init__()
        self._display: Any = _Lines(self._display)
        self._told: dict[str, str] = {}
        self._shown: dict[str, tuple[str, float]] = {}
        self._since: dict[str, float] = {}
        self._unnamed: Any = None
        self._unforeseen: dict[str, list[str]] = {}
        self._began: list[tuple[str, float]] = []
        self._changed: dict[str, list[str]] = {}

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._began.append((play.get_name().strip(), time.monotonic()))
        self._play = play
        self._unnamed = play

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._shown.clear()
        self._since.clear()
        self._told.clear()
        if not task.when:
            self._name_play()
        super().v2_playbook_on_task_start(task, is_conditional)

    def v2_playbook_on_no_hosts_matched(self) -> None:
        self._name_play()
        super().v2_playbook_on_no_hosts_matched()

    def v2_playbook_on_include(self, included_file: Any) -> None:
        self._name_play()
        super().v2_playbook_on_include(included_file)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        said, action = result.result, str(result.task.resolved_action or result.task.action)
        if self._display.verbosity == 0 and action.startswith(_SPOKEN):
            said.pop("exception", None)
        if self._display.verbosity == 0 and action == _CHECK and said.get("problems"):
            self._print_task_banner(result.task)
            self._display.display("refused, before a node was touched:", color="red")
            for problem in said["problems"]:
                self._display.display(f"  - {problem}", color="red")
            return
        super().v2_runner_on_failed(result, ignore_errors)

    def v2_runner_on_ok(self, result: Any) -> None:
        if result.result.get("changed"):
            hosts = self._changed.setdefault(result.task.get_name().rpartition(" : ")[2].strip(), [])
            hosts.append(result.host.get_name())
        super().v2_runner_on_ok(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        if self._display.verbosity == 0:
            result.result.pop("exception", None)
        super().v2_runner_on_unreachable(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        if context.CLIARGS.get("check") and "ansible_check_mode" in str(result.result.get("false_condition")):
            hosts = self._unforeseen.setdefault(result.task.get_name().rpartition(" : ")[2].strip(), [])
            hosts.append(result.host.get_name())
        super().v2_runner_on_skipped(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        if self._unforeseen:
            self._display.banner("NOT FORESEEN")
            self._display.display(
                f"check mode left out {_counted(len(self._unforeseen), 'task')}, which need what a run would only make, or would load the nodes:"
            )
            for name, hosts in self._unforeseen.items():
                self._display.display(f"  - {name} ({', '.join(dict.fromkeys(hosts))})")
        self._summarize()
        super().v2_playbook_on_stats(stats)

    def _summarize(self) -> None:
        ends = [at for _name, at in self._began[1:]] + [time.monotonic()]
        seconds: dict[str, float] = {}
        for (name, began), ended in zip(self._began, ends, strict=True):
            seconds[name] = seconds.get(name, 0.0) + ended - began
        told = [f"{name} {took:.0f}" for name, took in seconds.items() if took >= 0.5]
        if len(told) < _PLAYS:
            return
        self._display.banner("SUMMARY")
        self._display.display(f"{sum(seconds.values()):.0f} s: {', '.join(told)}")
        if not self._changed:
            self._display.display("nothing changed")
        for name, hosts in list(self._changed.items())[:_NAMED]:
            self._display.display(f"changed: {name} ({', '.join(dict.fromkeys(hosts))})")
        if len(self._changed) > _NAMED:
            self._display.display(f"changed: {_counted(len(self._changed) - _NAMED, 'more task')}, named above")

    def v2_runner_retry(self, result: Any) -> None:
        host = result._host.get_name()
        text = str(result._result.get("msg") or "not there yet").splitlines()[0]
        now = time.monotonic()
        since = self._since.setdefault(host, now)
        if sys.stdout.isatty():
            self._told[host] = f"[{host}] {text} ({now - since:.0f} s)"
            self._display.move(f"waiting: {'  '.join(self._told.values())}", "bright gray")
            return
        # Figures that move are no news: a progress line comes every half minute, a new reason at once.
        kind = _FIGURES.sub("0", text)
        shown, at = self._shown.get(host, ("", -_REMIND_S))
        if kind == shown and now - at < _REMIND_S:
            return
        self._shown[host] = (kind, now)
        self._display.display(f"waiting: [{host}] {text} ({now - since:.0f} s)", color="bright gray")

    def _name_play(self) -> None:
        if self._unnamed is not None:
            play, self._unnamed = self._unnamed, None
            super().v2_playbook_on_play_start(play)

    def _print_task_banner(self, task: Any) -> None:
        self._name_play()
        super()._print_task_banner(task)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
