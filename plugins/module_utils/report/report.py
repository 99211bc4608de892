# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""One report of all checks of the nodes: findings in green, yellow and red, as a table for the terminal and as a page.

Each finding that is not green names its code, which docs/troubleshooting.md explains.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .finding import GREEN, LEVELS, RED, YELLOW, Finding, fine, from_dicts, worst

#: The word beside the colour: neither a colour-blind reader nor a log file sees colours.
WORDS = {RED: "STOP", YELLOW: "LOOK", GREEN: "fine"}


@dataclass(frozen=True)
class Report:
    """Findings of each node by its inventory name, findings of all nodes together, and a line on what the report is about."""

    nodes: Mapping[str, Sequence[Finding]]
    cluster: Sequence[Finding] = ()
    subject: str = ""
    made: str = ""
    title: str = "Preflight"
    notes: Sequence[str] = field(default_factory=tuple)

    def findings(self) -> list[Finding]:
        """Return all findings."""
        return [*self.cluster, *(finding for found in self.nodes.values() for finding in found)]

    def sections(self) -> list[tuple[str, list[Finding]]]:
        """Return a name and its findings, the gravest first, for each part of the report."""
        parts = [*self.nodes.items(), *([("all nodes", self.cluster)] if self.cluster else [])]
        return [(name, sorted(found, key=lambda finding: LEVELS.index(finding.level))) for name, found in parts]


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """Return how many findings each level has."""
    found = dict.fromkeys(LEVELS, 0)
    for finding in findings:
        found[finding.level] += 1
    return found


def sentence(report: Report) -> str:
    """Return the report in one sentence."""
    found = counts(report.findings())
    names = ", ".join(report.nodes) or "no node"
    if found[RED]:
        where = [name for name, rows in report.sections() if worst(rows) == RED]
        return (
            f"{found[RED]} red and {found[YELLOW]} yellow of {sum(found.values())} findings; red on {', '.join(where)}"
        )
    if found[YELLOW]:
        return f"{names}: nothing is red; {found[YELLOW]} of {sum(found.values())} findings are yellow"
    total = sum(found.values())
    return f"{names}: all {total} findings are green" if total != 1 else f"{names}: its one finding is green"


# --- from what modules return -------------------------------------------------------------------------------------


def findings_of(name: str, result: Mapping[str, Any]) -> list[Finding]:
    """Return the findings of one look.

    Args:
        name: what was looked at, for a look that failed.
        result: the registered result of a module: its ``findings``; without them a failure, a node out of reach, or a task that was skipped.

    Raises:
        ValueError: its findings are none; one sentence.
    """
    if result.get("skipped"):
        return []
    if "findings" in result:
        return from_dicts(result["findings"])
    message = str(result.get("msg") or "").strip()
    if result.get("unreachable"):
        return [
            Finding(
                "node.unreachable",
                RED,
                name,
                message or "the node does not answer",
                "see that the node runs and answers over SSH, and run it again",
            )
        ]
    # `failed_when: false` hides a failure; what a module says when it works has findings.
    if result.get("failed") or "failed_when_result" in result:
        return [
            Finding(
                "node.look_failed",
                RED,
                name,
                message or "the check could not run",
                "fix what it says; where it says nothing, run again with -vvv",
            )
        ]
    return []


#: What follows from another finding and is not told beside it.
FOLLOWS = {"gpu.driver_missing": "gpu.no_gpu"}


def once(said: Mapping[str, Sequence[Finding]]) -> list[Finding]:
    """Return the findings of a node's looks, by what they looked at, each once.

    What several looks find is told by the first of them; a green one is told only where no other check says more of the same.
    """
    told: list[Finding] = []
    codes = {finding.code for found in said.values() for finding in found}
    for look, found in said.items():
        others = [finding for name, rest in said.items() if name != look for finding in rest]
        more = {finding.check for finding in others if finding.level != GREEN}
        before = {(finding.code, finding.subject) for finding in told}
        green = {finding.check for finding in told}
        for finding in found:
            if finding.level == GREEN:
                if finding.check not in more | green:
                    told.append(finding)
            elif (finding.code, finding.subject) not in before and FOLLOWS.get(finding.code) not in codes:
                told.append(finding)
    return told


def takeover_note(takeovers: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """Return the offer to stop what others run, by node; empty where there is nothing to stop."""
    named = {node: [*found.get("containers", ()), *found.get("units", ())] for node, found in takeovers.items()}
    told = "; ".join(f"{', '.join(names)} on {node}" for node, names in named.items() if names)
    if not told:
        return ""
    return f"`ansible-playbook playbooks/takeover.yml -e takeover=yes` stops {told} and removes nothing; with --check in place of -e it only lists them"


def red_sentences(report: Report) -> list[str]:
    """Return each red finding with where it is, its remedy and its code, one sentence each."""
    return [
        f"{name}: {finding.sentence()} [{finding.code}]"
        for name, found in report.sections()
        for finding in found
        if finding.level == RED
    ]


# --- nodes beside each other --------------------------------------------------------------------------------------

#: What two nodes should have alike: key of ``identity``, its code and name, how grave a difference is, what to do.
#: NVIDIA's guides for several Sparks ask for the same system and firmware on all of them; what really breaks is another architecture (the
#: image does not run) or another branch of the driver (the image's CUDA may need the newer one).
ALIKE = (
    (
        "architecture",
        "cluster.architecture",
        "architecture",
        RED,
        "use machines of one kind: one serving image runs on all of them",
    ),
    (
        "os",
        "cluster.operating_system",
        "operating system",
        YELLOW,
        "bring all nodes to the same release with `sudo apt update && sudo apt full-upgrade`",
    ),
    (
        "dgx_os",
        "cluster.dgx_os",
        "DGX OS",
        YELLOW,
        "bring all nodes to the same release with the DGX Dashboard or `sudo apt full-upgrade`",
    ),
    ("kernel", "cluster.kernel", "kernel", YELLOW, "bring all nodes to the same kernel and reboot them"),
    (
        "firmware",
        "cluster.firmware",
        "firmware",
        YELLOW,
        "update the firmware of the older one: `sudo fwupdmgr refresh && sudo fwupdmgr upgrade`",
    ),
    (
        "nic_firmware",
        "cluster.nic_firmware",
        "ConnectX firmware",
        YELLOW,
        "update the older one: `sudo fwupdmgr refresh && sudo fwupdmgr upgrade`",
    ),
    ("driver", "cluster.driver", "NVIDIA driver", YELLOW, "bring all nodes to the same driver and reboot them"),
    (
        "toolkit",
        "cluster.toolkit",
        "NVIDIA container toolkit",
        YELLOW,
        "bring all nodes to the same version with `sudo apt full-upgrade`",
    ),
    (
        "docker",
        "cluster.docker",
        "Docker",
        YELLOW,
        "bring all nodes to the same version: image ids and defaults changed in Docker 29",
    ),
)


def compare(identities: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Return a finding for each thing that nodes should have alike and that at least two of them know."""
    if len(identities) < 2:
        return []
    found = []
    for key, code, name, level, remedy in ALIKE:
        held = {node: str(identity.get(key) or "") for node, identity in identities.items()}
        known = {node: value for node, value in held.items() if value}
        if not known:
            continue
        values = sorted(set(known.values()))
        lacking = sorted(set(held) - set(known))
        if lacking:
            said = f"{', '.join(lacking)} has none that could be read, {', '.join(known)} has {' and '.join(values)}"
            found.append(Finding(code, YELLOW, name, said, remedy))
        elif len(values) == 1:
            found.append(fine("cluster", name, f"the same on all nodes: {values[0]}"))
        else:
            grave = RED if key == "driver" and len({value.partition(".")[0] for value in values}) > 1 else level
            told = ", ".join(f"{node} has {value}" for node, value in held.items())
            found.append(Finding(code, grave, name, f"the nodes differ: {told}", remedy))
    return [*found, *_clocks(identities)]


#: Seconds by which clocks may differ that were read by one task on all nodes; the task itself takes some.
CLOCK_SECONDS = 30


def _clocks(identities: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Return what is wrong with the nodes' clocks beside each other; nothing where fewer than two are known."""
    times = {
        node: int(told) for node, identity in identities.items() if (told := str(identity.get("time", ""))).isdecimal()
    }
    if len(times) < 2:
        return []
    early, late = min(times, key=lambda node: times[node]), max(times, key=lambda node: times[node])
    apart = times[late] - times[early]
    if apart <= CLOCK_SECONDS:
        return [fine("cluster", "clocks", f"within {CLOCK_SECONDS} s of each other")]
    return [
        Finding(
            "cluster.clocks",
            YELLOW,
            "clocks",
            f"the clock of {early} is about {apart} s behind that of {late}: times in logs and of starts cannot be compared",
            "let a time server set them: `sudo timedatectl set-ntp true` on all nodes",
        )
    ]


# --- the terminal -------------------------------------------------------------------------------------------------


def table(report: Report, width: int = 120) -> list[tuple[str, str]]:
    """Return the report as lines for a terminal of ``width`` columns, each with the level that colours it ('' for none)."""
    width = max(60, min(width, 160))
    checks = min(max((len(finding.check) for finding in report.findings()), default=0), 26)
    lines: list[tuple[str, str]] = []
    for name, findings in report.sections():
        found = counts(findings)
        head = ", ".join(f"{found[level]} {level}" for level in LEVELS if found[level]) or "nothing was checked"
        lines += [("", ""), (worst(findings), f"{name}: {head}")]
        for finding in findings:
            lines += _entry(finding, checks, width)
    notes = [*report.notes]
    if worst(report.findings()) != GREEN:
        notes.append("what a code in brackets means, and what to do: docs/troubleshooting.md")
    lines += [("", ""), (worst(report.findings()), sentence(report)), *(("", note) for note in notes)]
    return lines[1:] if lines and lines[0] == ("", "") else lines


def _entry(finding: Finding, checks: int, width: int) -> list[tuple[str, str]]:
    """Return the lines of one finding: what was found with its code, what to do, and the commands."""
    left = 2 + 6 + checks + 2
    start = f"  {WORDS[finding.level]:<6}{finding.check:<{checks}}  "
    if finding.level == GREEN:
        said = _wrap(finding.found, width - left)
    else:
        said = _wrap(f"{finding.found} [{finding.code}]", width - left)
    lines = [(finding.level, start + said[0]), *((finding.level, " " * left + line) for line in said[1:])]
    if finding.level == GREEN:
        return lines
    if finding.remedy:
        told = _wrap(f"-> {finding.remedy}", width - left)
        lines += [("", " " * left + line) for line in (told[0], *(f"   {rest}" for rest in told[1:]))]
    return lines + [("", f"{' ' * left}   {command}") for command in finding.commands]


def _wrap(text: str, width: int) -> list[str]:
    lines = textwrap.wrap(" ".join(text.split()), max(24, width - 3), break_long_words=False, break_on_hyphens=False)
    return lines or [""]
