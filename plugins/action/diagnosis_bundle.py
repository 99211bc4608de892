# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packs a diagnosis on the controller; documented in plugins/modules/diagnosis_bundle.py."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ..module_utils.node.bundle import documents, packed, write_archive
from ..plugin_utils.controller import ControllerAction


class ActionModule(ControllerAction):
    """Runs without a connection."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result, arguments = self.begin(
            tmp,
            task_vars,
            {
                "path": {"type": "path", "required": True},
                "nodes": {"type": "dict", "required": True},
                "results": {"type": "dict", "default": {}},
                "secrets": {"type": "dict", "default": {}, "no_log": True},
                "notes": {"type": "list", "elements": "str", "default": []},
            },
        )
        place = Path(arguments["path"]).expanduser()
        if not place.name.endswith(".tar.gz"):
            return result | {"failed": True, "msg": f"path is {str(place)!r}, expected a file that ends in .tar.gz"}
        secrets = {str(name): str(value) for name, value in arguments["secrets"].items() if value}
        try:
            files = documents(arguments["nodes"], arguments["results"], secrets, arguments["notes"])
        except ValueError as error:
            return result | {"failed": True, "msg": str(error)}
        raw = packed(files, place.name.removesuffix(".tar.gz"), int(time.time()))
        if not self._task.check_mode:
            try:
                write_archive(place, raw)
            except OSError as error:
                return result | {
                    "failed": True,
                    "msg": f"the bundle cannot be written to {place} on the controller: {error.strerror}; set path to another file",
                }
        return result | {
            "changed": True,
            "path": str(place),
            "files": sorted(files),
            "bytes": len(raw),
            "msg": f"{place}: {len(files)} files, {len(raw) / 1024:.0f} KiB; look through it before you hand it on",
        }
