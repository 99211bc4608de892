# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows and writes the report on the controller; documented in plugins/modules/preflight_report.py."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..module_utils.report.finding import RED, Finding, as_dicts, worst
from ..module_utils.report.report import (
    Report,
    compare,
    counts,
    findings_of,
    once,
    red_sentences,
    sentence,
    table,
    takeover_note,
)
from ..module_utils.system.files import write_atomic
from ..plugin_utils.controller import ControllerAction
from ..plugin_utils.pages import report_page

#: What to do where the table shows all that is red.
_NEXT = (
    "do what the table above says of each red one and run again, or go on at your own risk with node_report_go_on=true"
)
_DIGEST = re.compile(r"<!-- findings ([0-9a-f]{64}) -->")


def build(nodes: Mapping[str, Mapping[str, Any]], title: str, subject: str, made: str) -> Report:
    """Return the report on the results of each node, by what they looked at.

    Raises:
        ValueError: a result is not usable; one sentence.
    """
    findings: dict[str, list[Finding]] = {}
    identities = {}
    takeovers = {}
    for node, sources in nodes.items():
        if not isinstance(sources, Mapping):
            raise ValueError(f"nodes has {node!r}: {sources!r}, expected results by what they checked")
        said = {}
        for name, result in sources.items():
            if not isinstance(result, Mapping):
                raise ValueError(
                    f"nodes has {node!r}: {name!r}: {result!r}, expected the registered result of a module"
                )
            said[str(name)] = findings_of(str(name), result)
            if isinstance(result.get("identity"), Mapping):
                identities[node] = result["identity"]
            if isinstance(result.get("takeover"), Mapping):
                takeovers[node] = result["takeover"]
        findings[node] = once(said)
    offer = takeover_note(takeovers)
    return Report(findings, compare(identities), subject, made, title, [offer] if offer else [])


def part(nodes: Mapping[str, Mapping[str, Any]], looks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the results of some looks only."""
    return {node: {name: result for name, result in said.items() if name in looks} for node, said in nodes.items()}


def findings_digest(report: Report) -> str:
    """Return what tells two reports' findings apart, whenever they were made."""
    said = [(name, as_dicts(found)) for name, found in report.sections()]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


class ActionModule(ControllerAction):
    """Runs without a connection."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result, arguments = self.begin(
            tmp,
            task_vars,
            {
                "nodes": {"type": "dict", "required": True},
                "page": {"type": "path"},
                "title": {"type": "str", "default": "Preflight"},
                "subject": {"type": "str", "default": ""},
                "show": {"type": "bool", "default": True},
                "show_only": {"type": "list", "elements": "str", "default": []},
                "fail_on_red": {"type": "bool", "default": False},
            },
        )
        made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        try:
            report = build(arguments["nodes"], arguments["title"], arguments["subject"], made)
        except ValueError as error:
            return result | {"failed": True, "msg": str(error)}
        shown = None
        if arguments["show"]:
            shown = report
            if arguments["show_only"]:
                shown = build(part(arguments["nodes"], arguments["show_only"]), arguments["title"], "", made)
                shown = replace(shown, nodes={node: found for node, found in shown.nodes.items() if found})
            # The width of the terminal, or of the lines that a log is read in.
            self.show(table(shown, shutil.get_terminal_size((120, 24)).columns) if shown.findings() else ())
        findings = report.findings()
        result.update(
            changed=False,
            level=worst(findings),
            counts=counts(findings),
            findings={name: as_dicts(found) for name, found in report.sections()},
            msg=sentence(report),
        )
        if arguments["page"]:
            place = Path(arguments["page"]).expanduser()
            try:
                result["changed"] = self._write(place, report)
            except OSError as error:
                return result | {
                    "failed": True,
                    "msg": f"the page cannot be written to {place} on the controller: {error.strerror}; set page to another file",
                }
            result.update(page=str(place), msg=f"{result['msg']}; page: {place}")
        if arguments["fail_on_red"] and result["level"] == RED:
            del result["findings"], result["counts"]
            told = shown is not None and red_sentences(shown) == red_sentences(report)
            # What the table above has said is not said again.
            result.update(failed=True, msg=f"{result['msg']}; {_NEXT}" if told else ". ".join(red_sentences(report)))
        return result

    def _write(self, place: Path, report: Report) -> bool:
        """Write the page, readable to its owner alone, and say whether its findings are others than before."""
        digest = findings_digest(report)
        try:
            before = _DIGEST.search(place.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            before = None
        changed = before is None or before[1] != digest
        if not self._task.check_mode:
            write_atomic(place, f"{report_page(report)}<!-- findings {digest} -->\n", 0o600)
        return changed
