# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans on the controller; documented in plugins/modules/vllm_plan_report.py."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..module_utils.model.shape import odd_keys
from ..module_utils.plan.inputs import account_of, config_of, input_of, record_in
from ..module_utils.plan.page import Planned
from ..module_utils.plan.plan import HOST_GIB, MIN_HEADROOM_GIB, context_table, plan, risk_from
from ..module_utils.plan.pool import settings_of
from ..module_utils.plan.report import GOOD, LOOK, PLAIN, STOP, gate_problems, lines, memory_problem, sentence
from ..plugin_utils.controller import ControllerAction, write_for_owner
from ..plugin_utils.pages import plan_page

_COLOURS = {GOOD: "green", LOOK: "yellow", STOP: "red"}


class ActionModule(ControllerAction):
    """Runs without a connection."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result, arguments = self.begin(
            tmp,
            task_vars,
            {
                "name": {"type": "str", "required": True},
                "config": {"type": "dict", "default": {}},
                "config_path": {"type": "path"},
                "memory": {"type": "dict", "default": {}},
                "memory_gib": {"type": "float", "default": 0},
                "plan": {"type": "dict", "default": {}},
                "looks": {"type": "dict", "default": {}},
                "host_gib": {"type": "float", "default": HOST_GIB},
                "min_headroom_gib": {"type": "float", "default": MIN_HEADROOM_GIB},
                "remarks": {"type": "list", "elements": "str", "default": []},
                "contexts": {"type": "list", "elements": "int", "default": []},
                "show": {"type": "bool", "default": True},
                "gate": {"type": "bool", "default": False},
                "page": {"type": "path"},
            },
        )
        result.update(changed=False)
        try:
            config = self._config(arguments)
            if not config:
                text = (
                    f"models/{arguments['name']}.yml has no config, so nothing is planned: copy the keys of the model's config.json there, "
                    "as docs/models.md says"
                )
                if arguments["gate"]:
                    raise ValueError(
                        f"models/{arguments['name']}.yml has no config, so it cannot be planned: add config: to it as docs/models.md "
                        "says, or set vllm_plan_gate: false"
                    )
                self._display.warning(text)
                return result | {
                    "plan": {},
                    "settings": {},
                    "context_table": [],
                    "safe_length": None,
                    "lines": [],
                    "msg": text,
                }
            return result | self._plan(config, arguments)
        except ValueError as error:
            return result | {"failed": True, "msg": str(error)}

    def _config(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if not arguments["config_path"]:
            return dict(arguments["config"])
        return config_of(Path(arguments["config_path"]).expanduser(), "the controller")

    def _plan(self, config: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        memory = {str(node): float(value or 0) for node, value in arguments["memory"].items()}
        stated = arguments["memory_gib"]
        problem = memory_problem(memory, stated)
        if problem:
            raise ValueError(problem)
        read = {node: value for node, value in memory.items() if value > 0}
        smallest = min(read, key=lambda node: read[node]) if read else ""
        host = account_of(arguments["looks"])
        # A stated size is of a machine that was not looked at.
        settings = {**arguments["plan"], "available_gib": host.get("available") if stated <= 0 else None}
        given = input_of(
            config,
            stated if stated > 0 else read[smallest],
            settings,
            model=arguments["name"],
            measured=record_in(arguments["looks"]),
        )
        bounds = {"host_gib": arguments["host_gib"], "min_headroom_gib": arguments["min_headroom_gib"]}
        with odd_keys():
            found = plan(given, **bounds)
            table = context_table(given, arguments["contexts"], **bounds) if arguments["contexts"] else []
            safe = risk_from(given, **bounds)
        missing = [node for node in memory if memory[node] <= 0]
        origin = "stated" if stated > 0 else f"read from {', '.join(read)}"
        if missing and stated <= 0:
            origin += f"; {', '.join(missing)} not reached"
        report = lines(
            arguments["name"],
            given,
            found,
            table,
            safe,
            memory_from=origin,
            min_headroom_gib=arguments["min_headroom_gib"],
            remarks=arguments["remarks"],
            account=host if stated <= 0 else {},
            width=shutil.get_terminal_size((120, 24)).columns,
        )
        if arguments["show"]:
            for level, line in report:
                self._display.display(line, color=None if level == PLAIN else _COLOURS[level])
        written = ""
        if arguments["page"] and not self._task.check_mode:
            page = plan_page(
                Planned(
                    name=arguments["name"],
                    given=given,
                    plan=found,
                    table=table,
                    nodes=read if stated <= 0 else {},
                    memory_from=origin,
                    host_gib=arguments["host_gib"],
                    min_headroom_gib=arguments["min_headroom_gib"],
                    remarks=arguments["remarks"],
                    account=host if stated <= 0 else {},
                )
            )
            written = f"; page: {write_for_owner('page', arguments['page'], page)}"
        problems = gate_problems(found, arguments["min_headroom_gib"])
        if arguments["gate"] and problems:
            # The plan itself would bury the sentence: a failed task prints all that it returns.
            more = "" if arguments["show"] else ". See the whole of it with: ansible-playbook playbooks/plan.yml"
            raise ValueError(
                f"the plan for model {arguments['name']} must not be started: {'. '.join(f'{text[:1].upper()}{text[1:]}' for text in problems)}{more}"
            )
        return {
            "plan": found.as_dict(),
            "settings": {**settings_of(given), "memory_gib": given.memory_gib},
            "context_table": [asdict(row) for row in table],
            "safe_length": safe,
            "lines": [line for _level, line in report],
            "msg": f"model {arguments['name']}: {sentence(found)}{written}",
        }
