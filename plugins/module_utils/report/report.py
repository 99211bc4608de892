# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""One report of what looked at the nodes: rows in green, yellow and red, as a table for the terminal and as a page.

Green: nothing to do. Yellow: it works, and here is what may spoil it. Red: it will not work, with what to do about it. A red row
without a remedy is a mistake of whoever made it, and refused.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

GREEN, YELLOW, RED = "green", "yellow", "red"
#: The gravest first.
LEVELS = (RED, YELLOW, GREEN)
#: The word beside the colour: neither a colour-blind reader nor a log file sees colours.
WORDS = {RED: "STOP", YELLOW: "LOOK", GREEN: "fine"}


@dataclass(frozen=True)
class Row:
    """One thing that was looked at.

    Attributes:
        check: what was looked at, in a word or two.
        level: GREEN, YELLOW or RED.
        found: what was found, one sentence.
        remedy: what to do; required where the level is RED.
        commands: the remedy as commands, to be run by hand on the node; never run by this collection unless asked.
    """

    check: str
    level: str
    found: str
    remedy: str = ""
    commands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"row {self.check!r} has level {self.level!r}: expected {', '.join(LEVELS)}")
        if self.level == RED and not (self.remedy or self.commands):
            raise ValueError(f"row {self.check!r} is red and has no remedy ({self.found})")

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        return {**asdict(self), "commands": list(self.commands)}


@dataclass(frozen=True)
class Report:
    """Rows of each node by its inventory name, rows of all nodes together, and a line on what the report is about."""

    nodes: Mapping[str, Sequence[Row]]
    cluster: Sequence[Row] = ()
    subject: str = ""
    made: str = ""
    title: str = "Preflight"
    notes: Sequence[str] = field(default_factory=tuple)

    def rows(self) -> list[Row]:
        """Return all rows."""
        return [*self.cluster, *(row for rows in self.nodes.values() for row in rows)]

    def sections(self) -> list[tuple[str, list[Row]]]:
        """Return a name and its rows, the gravest first, for each part of the report; parts without rows are left out."""
        parts = [*self.nodes.items(), *([("all nodes", self.cluster)] if self.cluster else [])]
        return [(name, sorted(rows, key=lambda row: LEVELS.index(row.level))) for name, rows in parts]


def worst(rows: Iterable[Row]) -> str:
    """Return the gravest level among the rows; green for none."""
    levels = {row.level for row in rows}
    return next((level for level in LEVELS if level in levels), GREEN)


def counts(rows: Iterable[Row]) -> dict[str, int]:
    """Return how many rows each level has."""
    found = dict.fromkeys(LEVELS, 0)
    for row in rows:
        found[row.level] += 1
    return found


def sentence(report: Report) -> str:
    """Return the report in one sentence."""
    found = counts(report.rows())
    names = ", ".join(report.nodes) or "no node"
    if found[RED]:
        where = [name for name, rows in report.sections() if worst(rows) == RED]
        return (
            f"{found[RED]} red and {found[YELLOW]} yellow of {sum(found.values())} findings; red on {', '.join(where)}"
        )
    if found[YELLOW]:
        return f"{names}: nothing stands in the way; {found[YELLOW]} of {sum(found.values())} findings deserve a look"
    total = sum(found.values())
    return f"{names}: all {total} findings are green" if total != 1 else f"{names}: its one finding is green"


# --- from what modules return -------------------------------------------------------------------------------------


def split_sentence(text: str) -> tuple[str, str]:
    """Split a sentence of this collection, ``what is wrong: what to do``, into its two parts; the second may be empty.

    The last colon counts, unless a setting or an entry of one stands before it (``model_share_method: copy``).
    """
    best = -1
    for found in re.finditer(r": ", text):
        before = text[: found.start()].rpartition(" ")[2].strip("`'\"(")
        if (
            "_" not in before
            and before not in {"become", "true", "false"}
            and text.count("(", 0, found.start()) == text.count(")", 0, found.start())
        ):
            best = found.start()
    return (text, "") if best < 0 else (text[:best], text[best + 2 :])


def rows_from(raw: Any) -> list[Row]:
    """Return rows from plain data.

    Raises:
        ValueError: the data is no list of rows; one sentence.
    """
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        raise ValueError(f"rows are {type(raw).__name__}, expected a list of rows")
    found = []
    for entry in raw:
        if not isinstance(entry, Mapping) or not {"check", "level", "found"} <= set(entry):
            raise ValueError(f"row {entry!r} is not usable: expected check, level and found")
        commands = entry.get("commands") or ()
        found.append(
            Row(
                check=str(entry["check"]),
                level=str(entry["level"]),
                found=str(entry["found"]),
                remedy=str(entry.get("remedy") or ""),
                commands=tuple(str(command) for command in commands),
            )
        )
    return found


def rows_of(name: str, result: Mapping[str, Any]) -> list[Row]:
    """Return the rows of one module's result, whatever road it took.

    Args:
        name: what the module looked at, for results that name nothing themselves.
        result: the registered result. Understood are ``rows`` (as they are), ``findings`` with our levels, ``problems`` (red, one
            each), ``warnings_found`` and ``notes`` (yellow), the units of container_service_info, a failure, a node out of reach, a
            skipped task (no row) and, failing all of these, ``msg`` as one green row.
    """
    if result.get("skipped"):
        return []
    message = str(result.get("msg") or "").strip()
    if result.get("unreachable"):
        found, remedy = split_sentence(message)
        return [
            Row(name, RED, found or "the node does not answer", remedy or "see that the node runs and answers over SSH")
        ]
    # `failed_when: false` hides a failure; what a module says when it works has one of these.
    hidden = "failed_when_result" in result and not {"rows", "findings", "problems", "units"} & set(result)
    if result.get("failed") or hidden:
        found, remedy = split_sentence(message)
        return [Row(name, RED, found or "it could not be looked at", remedy or "run with -vvv to see why it failed")]
    if "rows" in result:
        return rows_from(result["rows"])
    if "units" in result and "settled" in result:
        return [_units_row(name, result, message)]
    if "capabilities" in result and not result.get("ran"):
        why = message.partition(", so ")[0]
        return [
            Row(
                name,
                GREEN,
                f"not run: the cluster serves ({why})" if result.get("gpu_present") and why != message else message,
            )
        ]
    return _findings(name, result) or ([Row(name, GREEN, message)] if message else [])


def _findings(name: str, result: Mapping[str, Any]) -> list[Row]:
    """Return rows of ``findings`` that carry our levels, or of the sentences in ``problems``, ``warnings_found`` and ``notes``."""
    findings = [entry for entry in result.get("findings") or [] if isinstance(entry, Mapping)]
    if findings and all(entry.get("level") in LEVELS and entry.get("text") for entry in findings):
        return [
            Row(
                str(entry.get("check") or name),
                str(entry["level"]),
                str(entry["text"]),
                str(entry.get("remedy") or ("see docs/troubleshooting.md" if entry["level"] == RED else "")),
            )
            for entry in findings
        ]
    rows = []
    for key, level in (("problems", RED), ("warnings_found", YELLOW), ("notes", YELLOW)):
        for text in result.get(key) or []:
            found, remedy = split_sentence(str(text))
            rows.append(Row(name, level, found, remedy or ("see docs/troubleshooting.md" if level == RED else "")))
    return rows


def _units_row(name: str, result: Mapping[str, Any], message: str) -> Row:
    """Return the row of what container_service_info says of our units."""
    failed = [str(unit) for unit in result.get("failed_units") or []]
    if failed:
        commands = tuple(f"journalctl --unit {unit} --lines 50 --no-pager" for unit in failed)
        # Not red: site.yml, which stops at red, is what starts it again.
        return Row(name, YELLOW, message, "read why; site.yml starts it again", commands)
    if result.get("stop_flag"):
        return Row(name, YELLOW, "the cluster is stopped on purpose", "run playbooks/start.yml to serve again")
    if not result["settled"]:
        return Row(name, YELLOW, message, "wait for it, or read `systemctl status` of what waits")
    return Row(name, GREEN, message)


#: What two looks tell alike, as look, check, and the looks and checks that tell it better. ``graver``: only where they say so at least as gravely.
_TOLD_TWICE = (
    # The survey knows what is ours, the runtime's look does not.
    ("runtime", "memory", ("survey",), ("memory",), False),
    # Docker's look judges every device's specification, and knows what the run is about to install.
    ("runtime", "toolkit", ("docker",), ("Docker", "driver"), False),
    ("docker", "driver", ("runtime",), ("gpu", "driver"), True),
    ("survey", "driver", ("runtime", "docker"), ("gpu", "driver"), True),
)


def once(said: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Return the rows of a node's looks, by what they looked at, without those that another look tells as well."""
    rows = []
    for look, found in said.items():
        for row in found:
            if not any(
                look == mine and row.check == check and _tells(said, looks, checks, row if graver else None)
                for mine, check, looks, checks, graver in _TOLD_TWICE
            ):
                rows.append(row)
    return rows


def _tells(said: Mapping[str, Sequence[Row]], looks: Sequence[str], checks: Sequence[str], row: Row | None) -> bool:
    """Say whether one of the looks has a row of one of the checks, and where ``row`` is given, one at least as grave."""
    others = [other for look in looks for other in said.get(look, ()) if other.check in checks]
    return any(row is None or LEVELS.index(other.level) <= LEVELS.index(row.level) for other in others)


def takeover_note(takeovers: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """Return the offer to stop what others run, by node; empty where there is nothing to stop."""
    named = {node: [*found.get("containers", ()), *found.get("units", ())] for node, found in takeovers.items()}
    told = "; ".join(f"{', '.join(names)} on {node}" for node, names in named.items() if names)
    if not told:
        return ""
    return f"`ansible-playbook playbooks/takeover.yml -e takeover=yes` stops {told} and removes nothing; with --check in place of -e it only says so"


def red_sentences(report: Report) -> list[str]:
    """Return each red finding with where it is and its remedy, one sentence each."""
    return [
        f"{name}: {row.found}: {row.remedy or '; '.join(row.commands)}"
        for name, rows in report.sections()
        for row in rows
        if row.level == RED
    ]


# --- nodes beside each other --------------------------------------------------------------------------------------

#: What two nodes should have alike: key of ``identity``, its name, how grave a difference is, what to do.
#: NVIDIA's guides for several Sparks ask for the same system and firmware on all of them; what really breaks is another architecture (the
#: image does not run) or another branch of the driver (the image's CUDA may need the newer one).
ALIKE = (
    ("architecture", "architecture", RED, "use machines of one kind: one serving image runs on all of them"),
    (
        "os",
        "operating system",
        YELLOW,
        "bring all nodes to the same release with `sudo apt update && sudo apt full-upgrade`",
    ),
    (
        "dgx_os",
        "DGX OS",
        YELLOW,
        "bring all nodes to the same release with the DGX Dashboard or `sudo apt full-upgrade`",
    ),
    ("kernel", "kernel", YELLOW, "bring all nodes to the same kernel and reboot them"),
    (
        "firmware",
        "firmware",
        YELLOW,
        "update the firmware of the older one: `sudo fwupdmgr refresh && sudo fwupdmgr upgrade`",
    ),
    (
        "nic_firmware",
        "ConnectX firmware",
        YELLOW,
        "update the older one: `sudo fwupdmgr refresh && sudo fwupdmgr upgrade`",
    ),
    ("driver", "NVIDIA driver", YELLOW, "bring all nodes to the same driver and reboot them"),
    ("toolkit", "NVIDIA container toolkit", YELLOW, "bring all nodes to the same version with `sudo apt full-upgrade`"),
    ("docker", "Docker", YELLOW, "bring all nodes to the same version: image ids and defaults changed in Docker 29"),
)


def compare(identities: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Return a row for each thing that nodes should have alike and that at least two of them know."""
    if len(identities) < 2:
        return []
    rows = []
    for key, name, level, remedy in ALIKE:
        held = {node: str(identity.get(key) or "") for node, identity in identities.items()}
        known = {node: value for node, value in held.items() if value}
        if not known:
            continue
        values = sorted(set(known.values()))
        lacking = sorted(set(held) - set(known))
        if lacking:
            rows.append(
                Row(
                    name,
                    YELLOW,
                    f"{', '.join(lacking)} has none that could be read, {', '.join(known)} has {' and '.join(values)}",
                    remedy,
                )
            )
        elif len(values) == 1:
            rows.append(Row(name, GREEN, f"the same on all nodes: {values[0]}"))
        else:
            grave = RED if key == "driver" and len({value.partition(".")[0] for value in values}) > 1 else level
            told = ", ".join(f"{node} has {value}" for node, value in held.items())
            rows.append(Row(name, grave, f"the nodes differ: {told}", remedy))
    return rows


# --- the terminal -------------------------------------------------------------------------------------------------


def table(report: Report, width: int = 120) -> list[tuple[str, str]]:
    """Return the report as lines for a terminal of ``width`` columns, each with the level that colours it ('' for none)."""
    width = max(60, min(width, 160))
    checks = max((len(row.check) for row in report.rows()), default=0)
    checks = min(checks, 26)
    left = 2 + 6 + checks + 2
    lines: list[tuple[str, str]] = []
    for name, rows in report.sections():
        found = counts(rows)
        head = ", ".join(f"{found[level]} {level}" for level in LEVELS if found[level]) or "nothing was looked at"
        lines += [("", ""), (worst(rows), f"{name}: {head}")]
        for row in rows:
            start = f"  {WORDS[row.level]:<6}{row.check:<{checks}}  "
            said = _wrap(row.found, width - left)
            lines.append((row.level, start + said[0]))
            lines += [(row.level, " " * left + line) for line in said[1:]]
            if row.level != GREEN and row.remedy:
                told = _wrap(f"-> {row.remedy}", width - left)
                lines += [("", " " * left + line) for line in (told[0], *(f"   {rest}" for rest in told[1:]))]
            if row.level != GREEN:
                lines += [("", f"{' ' * left}   {command}") for command in row.commands]
    lines += [("", ""), (worst(report.rows()), sentence(report)), *(("", note) for note in report.notes)]
    return lines[1:] if lines and lines[0] == ("", "") else lines


def _wrap(text: str, width: int) -> list[str]:
    lines = textwrap.wrap(" ".join(text.split()), max(24, width - 3), break_long_words=False, break_on_hyphens=False)
    return lines or [""]


# --- the page -----------------------------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --faint: #60646c; --paper: #fcfcfd; --card: #fff; --line: #d9dce1;
  --red: #b3261e; --red-back: #fdeceb; --yellow: #7a5200; --yellow-back: #fff4d6; --green: #1b6b3a; --green-back: #e7f6ec; }
@media (prefers-color-scheme: dark) { :root { --ink: #edeef0; --faint: #b0b4ba; --paper: #111113; --card: #18191b; --line: #363a3f;
  --red: #ff9592; --red-back: #3b1219; --yellow: #ffca16; --yellow-back: #302008; --green: #71d083; --green-back: #132d21; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { margin: 0; font-size: 1.6rem; line-height: 1.2; }
h2 { margin: 2.25rem 0 .6rem; font-size: 1.15rem; }
p { margin: .4rem 0; }
.faint { color: var(--faint); }
.verdict { margin: 1.25rem 0; padding: .8rem 1rem; border-left: .35rem solid; border-radius: .35rem; font-weight: 600; }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line); border-radius: .4rem; }
th, td { padding: .55rem .75rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; font-size: .8rem; color: var(--faint); font-weight: 600; }
td.state { width: 6.5rem; white-space: nowrap; }
td.check { width: 13rem; font-weight: 600; }
td.remedy { width: 40%; }
td { overflow-wrap: anywhere; }
.pill { display: inline-block; min-width: 4.6rem; padding: .1rem .5rem; border-radius: 1rem; text-align: center; font-size: .82rem; font-weight: 700; }
.red { color: var(--red); background: var(--red-back); border-color: var(--red); }
.yellow { color: var(--yellow); background: var(--yellow-back); border-color: var(--yellow); }
.green { color: var(--green); background: var(--green-back); border-color: var(--green); }
pre { margin: .4rem 0 0; padding: .45rem .6rem; border: 1px solid var(--line); border-radius: .3rem; background: var(--paper);
  font: .85rem/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
code { font: .88em ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
nav a { display: inline-block; margin: .2rem 1rem .2rem 0; color: inherit; }
@media (max-width: 44rem) { table, tbody, tr, td { display: block; width: auto !important; } thead { display: none; }
  td { border: 0; padding: .15rem .75rem; } tr { border-top: 1px solid var(--line); padding: .5rem 0; } td.check { font-size: 1.05rem; }
  td:empty { display: none; } }
@media print { body { max-width: none; padding: 0; } tr { break-inside: avoid; } }
""".strip()


def page(report: Report) -> str:
    """Return the report as one HTML page that needs nothing beside itself: no script, no font, no picture, no address."""
    parts = [_contents(report)]
    for number, (name, rows) in enumerate(report.sections()):
        body = "\n".join(_row(row) for row in rows) or "<tr><td colspan='4'>nothing was looked at</td></tr>"
        parts.append(
            f"<section id='part-{number}' aria-labelledby='head-{number}'>\n<h2 id='head-{number}'>{_text(name)}</h2>\n"
            "<table>\n<thead><tr><th scope='col'>State</th><th scope='col'>What</th><th scope='col'>Found</th>"
            f"<th scope='col'>What to do</th></tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</section>"
        )
    about = " · ".join(_text(part) for part in (report.subject, report.made) if part)
    notes = "".join(f"<p class='faint'>{_text(note)}</p>\n" for note in report.notes)
    return (
        "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        # Nothing is fetched from anywhere, whatever stands in the rows.
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{_text(report.title)}: {_text(worst(report.rows()))}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n"
        f"<h1>{_text(report.title)}</h1>\n<p class='faint'>{about}</p>\n"
        f"<p class='verdict {worst(report.rows())}'>{_text(sentence(report))}</p>\n"
        + "\n".join(parts)
        + f"\n{notes}</body>\n</html>\n"
    )


def _contents(report: Report) -> str:
    links = []
    for number, (name, rows) in enumerate(report.sections()):
        found = counts(rows)
        told = " ".join(f"<span class='pill {level}'>{found[level]} {level}</span>" for level in LEVELS if found[level])
        links.append(f"<a href='#part-{number}'>{_text(name)}</a> {told}")
    return "<nav aria-label='Parts'>" + "".join(f"<p>{link}</p>" for link in links) + "</nav>"


def _row(row: Row) -> str:
    remedy = f"{_text(row.remedy)}" if row.level != GREEN else ""
    if row.commands and row.level != GREEN:
        remedy += "<pre>" + "\n".join(_text(command) for command in row.commands) + "</pre>"
    return (
        f"<tr><td class='state'><span class='pill {row.level}'>{row.level}</span></td><td class='check'>{_text(row.check)}</td>"
        f"<td>{_text(row.found)}</td><td class='remedy'>{remedy}</td></tr>"
    )


def _text(text: str) -> str:
    """Return text for HTML; what stands between backquotes becomes code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", html.escape(text, quote=True))
