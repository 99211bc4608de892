# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The status as one HTML page in the look of the report: it needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .finding import GREEN, Finding
from .report import finding_row, html_text, sheet
from .status import HEADS, NOTHING, duration, errors, facts, node_rows

_STYLE = """
dl { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1.25rem; margin: 1rem 0; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
.wide table { min-width: 44rem; display: table; }
.wide tbody { display: table-row-group; } .wide thead { display: table-header-group; }
.wide tr { display: table-row; } .wide td { display: table-cell; width: auto; padding: .55rem .75rem; white-space: nowrap; border-top: 1px solid var(--line); }
.wide td[colspan] { white-space: normal; }
ol { margin: .4rem 0; padding-left: 1.4rem; }
"""


def status_page(status: Mapping[str, Any]) -> str:
    """Return the page of a status (report/status.py)."""
    state = status["state"]
    since = f" for {duration(state['for_s'])}" if state["for_s"] is not None else ""
    rows = "".join(f"<dt>{html_text(name)}</dt><dd>{html_text(said)}</dd>\n" for name, said in facts(status))
    todo = status["next"]
    steps = (
        f"<p>{NOTHING}</p>"
        if todo == [NOTHING]
        else f"<ol>{''.join(f'<li>{html_text(one)}</li>' for one in todo)}</ol>"
    )
    body = (
        f"<h1>Status</h1>\n<p class='faint'>{html_text(status['made'])}</p>\n"
        f"<p class='verdict {state['level']}'>{html_text(state['name'])}{since}: {html_text(state['reason'])}</p>\n"
        f"<h2>What to do next</h2>\n{steps}\n"
        f"<h2>Cluster</h2>\n<dl>\n{rows}</dl>\n"
        f"<h2>Nodes</h2>\n<div class='wide'>{_nodes(status)}</div>\n"
        f"{_findings(status)}"
    )
    return sheet(f"Status: {state['name']}", body, _STYLE)


def _nodes(status: Mapping[str, Any]) -> str:
    heads = "".join(f"<th scope='col'>{html_text(name)}</th>" for name in HEADS)
    lines = []
    for level, cells in node_rows(status):
        name, *rest = (html_text(cell) for cell in cells)
        pill = f"<span class='pill {level}'>{level}</span>"
        told = "".join(f"<td>{cell}</td>" for cell in rest)
        if len(cells) < len(HEADS):
            told = f"<td colspan='{len(HEADS) - 1}'>{rest[0]}</td>"
        lines.append(f"<tr><td>{name} {pill}</td>{told}</tr>")
    return f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody>\n</table>"


def _findings(status: Mapping[str, Any]) -> str:
    parts = []
    fine = [row for row in status["findings"] if row["level"] == GREEN]
    for title, rows in (("Errors and warnings", errors(status)), ("In order", fine)):
        if rows:
            told = [{**row, "check": f"{row['node']}: {row['check']}"} for row in rows]
            lines = "\n".join(finding_row(Finding.from_dict(row)) for row in told)
            parts.append(
                f"<h2>{title}</h2>\n<table>\n<thead><tr><th scope='col'>State</th><th scope='col'>What</th><th scope='col'>Found</th>"
                f"<th scope='col'>What to do</th></tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>\n"
            )
    return "".join(parts)
