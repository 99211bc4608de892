# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The last lines of every unit of the cluster, from the nodes' journals, in one order of time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..docker.service_state import UNITS
from ..report.finding import GREEN, RED, YELLOW
from ..system.run import COLOUR, Runner, last_line
from ..system.units import ORDER
from .restart_plan import OTHERS

#: Seconds for one journal.
_JOURNAL_S = 10.0
#: syslog(3): 0 to 3 are errors, 4 is a warning.
_ERROR, _WARNING = 3, 4


def own_units(folder: Path = UNITS) -> list[str]:
    """Return the units of ours that are on this node, in the cluster's order."""
    return [name for name in (*ORDER, *OTHERS) if (folder / f"{name}.service").exists()]


def journal_command(*arguments: str) -> list[str]:
    """Return the journalctl that gives entries as rows of JSON, whole."""
    # Without --all the journal gives nothing of a line that is longer than 4096 bytes.
    return ["journalctl", *arguments, "--no-pager", "--quiet", "--all", "--output", "json"]


def read_unit(run: Runner, name: str, lines: int, since: str, redact: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return the last lines of a unit, with what systemd says of it: ``at`` (seconds since 1970), ``unit``, ``level``, ``text``.

    Raises:
        ValueError: the journal cannot be read; one sentence.
    """
    asked = ["--unit", f"{name}.service", "--lines", str(lines)]
    code, out, err = run([*journal_command(*asked), *(["--since", since] if since else [])], _JOURNAL_S)
    if code != 0:
        raise ValueError(f"the journal of {name} cannot be read: {last_line('', err)}")
    return [line for row in out.splitlines() for line in entry_lines(row, redact, name)]


def entry_lines(row: str, redact: Callable[[str], str], name: str = "") -> list[dict[str, Any]]:
    """Return the lines of an entry of the journal, in the form of ``read_unit``; none where it is no entry.

    Args:
        row: the entry as JSON.
        redact: takes secrets out.
        name: of the unit; left out, the entry says it itself.
    """
    try:
        entry = json.loads(row)
        at = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        priority = int(entry.get("PRIORITY") or 6)
    except (ValueError, KeyError, TypeError):
        return []
    # What systemd says of a unit is systemd's own entry, with the unit's name beside it.
    unit = name or str(entry.get("UNIT") or entry.get("_SYSTEMD_UNIT") or "").removesuffix(".service")
    level = RED if priority <= _ERROR else YELLOW if priority == _WARNING else GREEN
    # Redacted before it is split: a key may go over several lines.
    told = redact(_text(entry.get("MESSAGE"))).splitlines()
    return [{"at": at, "unit": unit, "level": level, "text": line.rstrip()} for line in told if line.strip()]


def _text(message: Any) -> str:
    """Return a message; the journal gives what is no UTF-8, or has control characters, as a list of bytes."""
    if isinstance(message, list):
        try:
            return bytes(message).decode("utf-8", "replace")
        except (ValueError, TypeError):
            return ""
    return str(message or "")


def in_time_order(nodes: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the lines of all nodes by time, each with its ``node``; lines of one moment stay in their unit's order."""
    rows = [{"node": node, **line} for node, lines in nodes.items() for line in lines]
    return sorted(rows, key=lambda row: float(row["at"]))


def as_lines(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return rows as lines of text, each with its level: time in UTC, node, unit, text."""
    nodes = max((len(str(row["node"])) for row in rows), default=0)
    units = max((len(_short(row)) for row in rows), default=0)
    lines = []
    for row in rows:
        at = datetime.fromtimestamp(float(row["at"]), UTC)
        moment = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}Z"
        plain = COLOUR.sub("", str(row["text"]))
        text = "".join(character if character.isprintable() or character == "\t" else "?" for character in plain)
        lines.append((str(row["level"]), f"{moment} {row['node']:<{nodes}} {_short(row):<{units}} {text}"))
    return lines


def _short(row: Mapping[str, Any]) -> str:
    return str(row["unit"]).removeprefix("spark-")
