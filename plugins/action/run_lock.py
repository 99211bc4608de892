# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says which run this is, and whether another one of this controller still lives; documented in plugins/modules/run_lock.py."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase

from ..module_utils.node.run_lock import identity, process_began


def user() -> str:
    """Return the name of the user of this controller, its number where it has no name (a container)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def this_run() -> dict[str, Any]:
    """Return which run this is: the process of ansible-playbook, whose worker this is."""
    pid = os.getppid()
    playbooks = [Path(str(name)).name for name in context.CLIARGS.get("args") or []]
    return {
        "controller": identity(),
        "pid": pid,
        "began": process_began(pid),
        "user": user(),
        "playbook": ", ".join(playbooks) or "a run of the API",
    }


class ActionModule(ActionBase):
    """One call of the module; a second one where a run of this controller is gone that still holds the lock."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        arguments = {**self._task.args, "run": this_run()}
        result.update(self._execute_module(module_args=arguments, task_vars=task_vars))
        holder = result.get("held_by") or {}
        if (
            holder.get("controller") == arguments["run"]["controller"]
            and process_began(int(holder["pid"])) != holder["began"]
        ):
            return dict(self._execute_module(module_args={**arguments, "instead_of": holder}, task_vars=task_vars))
        return result
