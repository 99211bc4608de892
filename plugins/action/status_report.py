# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows and writes the status on the controller; documented in plugins/modules/status_report.py."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from typing import Any

from ..module_utils.node.reach import judge_reach
from ..module_utils.report.finding import as_dicts
from ..module_utils.report.status import document, screen
from ..plugin_utils.controller import ControllerAction, write_for_owner
from ..plugin_utils.pages import status_page

_CONNECTION = ("ansible_host", "ansible_user", "ansible_python_interpreter")


def reached(nodes: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results, those of nodes that did not answer with the finding that says why.

    Args:
        nodes: results by node.
        variables: the nodes' variables by node, of which those of the connection are read.
    """
    found = {}
    for name, result in nodes.items():
        if not isinstance(result, Mapping):
            raise ValueError(f"nodes has {name!r}: {result!r}, expected the registered result of node_status_info")
        found[name] = dict(result)
        if "looks" in result:
            continue
        host = variables.get(name) or {}
        why = judge_reach(result, name, {key: host[key] for key in _CONNECTION if key in host})
        if why:
            found[name] |= {"findings": as_dicts([why]), "msg": why.found}
    return found


class ActionModule(ControllerAction):
    """Runs without a connection."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result, arguments = self.begin(
            tmp,
            task_vars,
            {
                "nodes": {"type": "dict", "required": True},
                "head": {"type": "str", "required": True},
                "about": {"type": "dict", "default": {}},
                "json_file": {"type": "path"},
                "page": {"type": "path"},
            },
        )
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            nodes = reached(arguments["nodes"], (task_vars or {}).get("hostvars") or {})
            status = document(nodes, arguments["head"], arguments["about"], made)
        except ValueError as error:
            return result | {"failed": True, "msg": str(error)}
        # The width of the terminal, or of the lines that a log is read in.
        self.show(screen(status, shutil.get_terminal_size((120, 24)).columns))
        written = []
        for name, text in (
            ("json_file", f"{json.dumps(status, indent=2, sort_keys=True)}\n"),
            ("page", status_page(status)),
        ):
            if not arguments[name] or self._task.check_mode:
                continue
            try:
                written.append(write_for_owner(name, arguments[name], text))
            except ValueError as error:
                return result | {"failed": True, "msg": str(error)}
        said = f"{status['state']['name']}: {status['state']['reason']}"
        return result | {
            "changed": False,
            "status": status,
            "msg": "; ".join([said, *(f"written: {place}" for place in written)]),
        }
