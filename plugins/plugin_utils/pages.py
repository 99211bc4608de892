# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages that are written beside the controller: one look, one file each, which needs nothing beside itself.

``templates/`` lays them out; what they show comes from module_utils. Whatever stands in figures and findings is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ..module_utils.benchmark import page as benchmark
from ..module_utils.plan import page as planning
from ..module_utils.report import status as screen
from ..module_utils.report.finding import GREEN, LEVELS, worst
from ..module_utils.report.report import Report, counts, sentence


def code(value: object) -> Markup:
    """Return text for HTML; what stands between backquotes becomes code."""
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(str(value)))))


def render(name: str, values: Mapping[str, Any], *folders: Path) -> str:
    """Return a page from the template ``name``.html.j2 of ours, or of one of the folders."""
    pages = Environment(
        loader=FileSystemLoader([Path(__file__).with_name("templates"), *folders]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Drawings are made by module_utils/report/charts.py, which escapes the words in them.
    pages.filters.update(code=code, drawing=Markup)
    return f"{pages.get_template(f'{name}.html.j2').render(values)}\n"


def report_page(report: Report) -> str:
    """Return the page of a report."""
    sections = [
        (name, rows, [(level, counts(rows)[level]) for level in LEVELS if counts(rows)[level]])
        for name, rows in report.sections()
    ]
    return render(
        "report",
        {
            "report": report,
            "level": worst(report.findings()),
            "about": " · ".join(part for part in (report.subject, report.made) if part),
            "sentence": sentence(report),
            "sections": sections,
        },
    )


def status_page(status: Mapping[str, Any]) -> str:
    """Return the page of a status (module_utils/report/status.py)."""
    state = status["state"]

    def named(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, "check": f"{row['node']}: {row['check']}"} for row in rows]

    fine = [row for row in status["findings"] if row["level"] == GREEN]
    return render(
        "status",
        {
            "status": status,
            "since": f" for {screen.duration(state['for_s'])}" if state["for_s"] is not None else "",
            "todo": [] if status["next"] == [screen.NOTHING] else status["next"],
            "nothing": screen.NOTHING,
            "facts": screen.facts(status),
            "heads": screen.HEADS,
            "nodes": screen.node_rows(status),
            "findings": [("Errors and warnings", named(screen.errors(status))), ("In order", named(fine))],
        },
    )


def benchmark_page(document: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> str:
    """Return the page of a result with its verdict; ``earlier`` are results of the same key, the oldest first."""
    return render("benchmark", benchmark.view(document, earlier))


def plan_page(plan: planning.Planned) -> str:
    """Return the page of a plan."""
    return render("plan", planning.view(plan))
