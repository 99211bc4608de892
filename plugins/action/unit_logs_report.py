# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows and writes the logs of all nodes on the controller; documented in plugins/modules/unit_logs_report.py."""

from __future__ import annotations

from typing import Any

from ..module_utils.report.finding import GREEN
from ..module_utils.service.unit_logs import as_lines, in_time_order
from ..plugin_utils.controller import ControllerAction, write_for_owner


class ActionModule(ControllerAction):
    """Runs without a connection."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result, arguments = self.begin(
            tmp, task_vars, {"nodes": {"type": "dict", "required": True}, "file": {"type": "path"}}
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
        self.show(lines, plain=GREEN)
        for said in missing:
            self._display.display(said, color="red")
        counted = f"{len(lines)} lines of {', '.join(logs) or 'no node'}"
        if arguments["file"] and not self._task.check_mode:
            text = "".join(f"{line}\n" for line in [*(line for _level, line in lines), *missing])
            try:
                counted += f"; written: {write_for_owner('the logs', arguments['file'], text)}"
            except ValueError as error:
                return result | {"failed": True, "msg": str(error)}
        return result | {"changed": False, "missing": missing, "msg": "; ".join([counted, *missing])}
