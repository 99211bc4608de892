# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows and writes the logs of all nodes on the controller; documented in plugins/modules/unit_logs_report.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ..module_utils.report.finding import RED, YELLOW
from ..module_utils.service.unit_logs import as_lines, in_time_order
from ..module_utils.system.files import write_atomic

_COLOURS = {RED: "red", YELLOW: "yellow"}


class ActionModule(ActionBase):
    """Runs without a connection."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        _validation, arguments = self.validate_argument_spec(
            argument_spec={"nodes": {"type": "dict", "required": True}, "file": {"type": "path"}}
        )
        logs: dict[str, Any] = {}
        missing = []
        for node, answer in arguments["nodes"].items():
            if "logs" in answer:
                logs[node] = answer["logs"]
                missing += [f"{node}: {why}" for why in (answer.get("left_out") or {}).values()]
            else:
                missing.append(f"{node} is missing: {answer.get('msg') or 'it does not answer'}")
        lines = as_lines(in_time_order(logs))
        for level, line in lines:
            self._display.display(line, color=_COLOURS.get(level))
        for said in missing:
            self._display.display(said, color="red")
        counted = f"{len(lines)} lines of {', '.join(logs) or 'no node'}"
        if arguments["file"] and not self._task.check_mode:
            place = Path(arguments["file"]).expanduser()
            try:
                # For its owner alone: prompts of clients may stand in it.
                write_atomic(
                    place, "".join(f"{line}\n" for line in [*(line for _level, line in lines), *missing]), 0o600
                )
            except OSError as error:
                return result | {
                    "failed": True,
                    "msg": f"the logs cannot be written to {place} on the controller: {error.strerror}; name another file",
                }
            counted += f"; written: {place}"
        return result | {"changed": False, "missing": missing, "msg": "; ".join([counted, *missing])}
