# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that may work for minutes: the action says meanwhile how far they are."""

from __future__ import annotations

import shlex
import time
import uuid
from typing import Any

from ansible.plugins.action import ActionBase

#: Seconds between two looks, and between two lines.
_LOOK_S = 3.0
_TELL_S = 30.0
#: Seconds that the work may take: days, since a slow line is no failure.
_LIMIT_S = 7 * 24 * 3600
#: Looks in a row that may fail, since a network breaks off for moments.
_MISSED = 20


class LongWork(ActionBase):
    """Runs the module of its name; where that has something to do, in the background, with its notes shown as lines.

    The module has an option ``progress_file``, and in check mode it says whether there is something to do.
    """

    TRANSFERS_FILES = False
    _supports_check_mode = True
    #: Folder of the notes on the node: memory, of which nothing is left after a reboot.
    FOLDER = "/run"

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        asked = self._task.check_mode
        self._task.check_mode = True
        try:
            result.update(self._execute_module(task_vars=task_vars))
        finally:
            self._task.check_mode = asked
        if asked or self._task.async_val or result.get("failed") or not result.get("changed"):
            return result
        return self.with_lines(task_vars or {})

    def with_lines(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Start the module in the background and show its notes until it ends; return its result."""
        note = f"{self.FOLDER}/dgx-spark-{uuid.uuid4().hex}.progress"
        self._task.async_val = _LIMIT_S
        try:
            job = self._execute_module(
                module_args={**self._task.args, "progress_file": note}, task_vars=task_vars, wrap_async=True
            )
        finally:
            self._task.async_val = 0
        if "ansible_job_id" not in job:
            return dict(job)
        try:
            return self.watch(str(job["ansible_job_id"]), note, task_vars)
        finally:
            self.status(str(job["ansible_job_id"]), task_vars, mode="cleanup")
            self._low_level_execute_command(f"rm -f {shlex.quote(note)}")

    def watch(self, job: str, note: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the result of the job; a line every half minute tells how far it is."""
        began = told = time.monotonic()
        missed = 0
        while True:
            time.sleep(_LOOK_S)
            found = self.status(job, task_vars)
            missed = 0 if "finished" in found else missed + 1
            if found.get("finished") or missed > _MISSED:
                # What async_status says of the job itself is not of the module's result.
                own = ("started", "finished", "ansible_job_id", "results_file", "stdout", "stderr", "stdout_lines")
                return {name: value for name, value in found.items() if name not in (*own, "stderr_lines")}
            now = time.monotonic()
            if now - told >= _TELL_S:
                told = now
                said = self._low_level_execute_command(f"cat {shlex.quote(note)}").get("stdout") or "works"
                host = task_vars.get("inventory_hostname", "")
                self._display.display(f"waiting: [{host}] {said.strip()} ({now - began:.0f} s)", color="bright gray")

    def status(self, job: str, task_vars: dict[str, Any], mode: str = "status") -> dict[str, Any]:
        """Return what is known of the job."""
        asked = {
            "jid": job,
            "mode": mode,
            "_async_dir": self.get_shell_option("async_dir", default="~/.ansible_async"),
        }
        return dict(self._execute_module("ansible.builtin.async_status", module_args=asked, task_vars=task_vars))
