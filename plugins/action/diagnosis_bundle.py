# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packs a diagnosis on the controller; documented in plugins/modules/diagnosis_bundle.py."""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..module_utils.node.diagnosis import Diagnosis, contents, result_text
from ..module_utils.system.redact import Redactor, leaks
from ..plugin_utils.controller import ControllerAction


def documents(
    nodes: Mapping[str, Mapping[str, Any]],
    results: Mapping[str, Mapping[str, Any]],
    secrets: Mapping[str, str],
    notes: list[str],
) -> dict[str, str]:
    """Return the files of a bundle by name, everything redacted once more with the secrets that the controller knows.

    Raises:
        ValueError: a secret would still leave; no file may be written then.
    """
    redactor = Redactor(secrets)
    files: dict[str, str] = {}
    found: dict[str, Diagnosis] = {}
    for node, answer in nodes.items():
        place = re.sub(r"[^A-Za-z0-9._-]", "_", node).lstrip(".") or "_"
        diagnosis = Diagnosis(dict(answer.get("documents") or {}), dict(answer.get("left_out") or {}))
        if not diagnosis.documents:
            diagnosis.left_out["everything"] = redactor.text(str(answer.get("msg") or "the node gave no answer"))
        found[node] = diagnosis
        files |= {f"{place}/{_inside(name)}": redactor.text(str(text)) for name, text in diagnosis.documents.items()}
        if not diagnosis.documents:
            for name, result in (results.get(node) or {}).items():
                files[f"{place}/results/{_inside(str(name))}.json"] = redactor.text(result_text(result))
    files["README.txt"] = redactor.text(contents(found, notes))
    bad = sorted(name for name, text in files.items() if leaks(text, secrets.values()) or leaks(name, secrets.values()))
    if bad:
        raise ValueError(f"a secret would leave in {', '.join(bad)}: nothing was written; please report this as a bug")
    return files


def _inside(name: str) -> str:
    """Return a document's name as a path below its node's folder, whatever the node called it."""
    parts = [re.sub(r"[^A-Za-z0-9._-]", "_", part) for part in name.split("/")]
    return "/".join(part for part in parts if part.strip(".")) or "_"


def packed(files: Mapping[str, str], folder: str, when: int) -> bytes:
    """Return the files as a tar.gz below one folder."""
    memory = io.BytesIO()
    with gzip.GzipFile(fileobj=memory, mode="wb", mtime=when) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name in sorted(files):
            raw = files[name].encode("utf-8", errors="replace")
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(raw), when, 0o600
            tar.addfile(entry, io.BytesIO(raw))
    return memory.getvalue()


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
                place.parent.mkdir(parents=True, exist_ok=True)
                with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                    file.write(raw)
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
