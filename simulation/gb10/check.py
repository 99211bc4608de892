# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Shows every variant to the playbooks on two simulated nodes, and writes down the verdict that each got.

    python -m simulation up && python -m simulation gb10-check [--docs docs/preflight-variants.md] [VARIANT...]

Several variants share a run: one set on each node, each of another aspect (GPU, Docker, link, memory ...), where the verdict is about one
node alone. Each verdict is looked for in its own row.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import docker

from simulation import settings
from simulation.gb10 import stage
from simulation.gb10.variants import REPORTS, VARIANTS, Variant
from simulation.gb10.world import FOLDER
from simulation.host import Progress
from simulation.settings import SimulationError

PLAYBOOKS = {
    "report": settings.REPOSITORY / "playbooks/report.yml",
    "fabric": settings.REPOSITORY / "playbooks/fabric.yml",
    "runtime": FOLDER / "playbooks/runtime.yml",
    "settings": settings.REPOSITORY / "playbooks/report.yml",
    "proof": FOLDER / "playbooks/proof.yml",
}
LOOKS = ["runtime", "docker", "fabric", "services", "image", "kernels"]
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "report": {
        "node_report_looks": LOOKS,
        "node_report_min_available_gib": 90,
        "runtime_check_fresh": True,
        "node_report_page": "",
    },
    "fabric": {"fabric_benchmark": True, "fabric_manage": False},
    "runtime": {"runtime_check_fresh": True},
    "settings": {},
    "proof": {},
}
#: What a sick node is asked for on top, so that what it cannot do is red.
REQUIRED: Mapping[str, Any] = {"runtime_check_required": ["awq", "nvfp4"]}
#: Seconds for one run of a playbook; it takes about ten.
PATIENCE = 240
#: Marks of the table in the documentation.
START, END = "<!-- variants: begin -->", "<!-- variants: end -->"
ALL_NODES = "all nodes"


@dataclass
class Run:
    """One run of a playbook: the variants on each node, none for a healthy one."""

    part: str
    shown: tuple[list[Variant], list[Variant]] = field(default_factory=lambda: ([], []))
    settings: Mapping[str, Any] = field(default_factory=dict)
    differ: bool = False
    """Whether the verdict is about how the nodes differ, so that the first one's GPU must be well."""


@dataclass
class Verdict:
    """What the product said of a variant. `fits`: whether it is what was expected, `why`: what was said instead."""

    variant: str
    part: str
    node: str
    level: str = ""
    check: str = ""
    found: str = ""
    remedy: str = ""
    source: str = ""
    seconds: float = 0.0
    fits: bool = False
    why: str = ""


def plan(variants: Sequence[Variant]) -> list[Run]:
    """Put variants into runs: those that want the same part and settings share one, on two nodes, and on one node if of different aspects."""
    runs: list[Run] = []
    for entry in sorted(variants, key=lambda one: not (one.between or one.blind)):
        part = "report" if entry.part in REPORTS else entry.part
        if entry.both:
            runs.append(Run(part, ([entry], [entry]), entry.settings))
            continue
        settings = REQUIRED if part == "report" else entry.settings
        for run in runs:
            place = next(
                (at for at in (0, 1) if run.part == part and run.settings == settings and _room(run, at, entry)), None
            )
            if place is not None:
                break
        else:
            run, place = Run(part, settings=settings), 1 if entry.between else 0
            runs.append(run)
        run.shown[place].append(entry)
        run.differ = run.differ or entry.between
    return runs


def _room(run: Run, place: int, entry: Variant) -> bool:
    """Say whether a variant may join those on a node of a run."""
    if (
        entry.between
        or any(one.both for one in run.shown[place])
        or (run.differ and place == 0 and entry.aspect == "gpu")
    ):
        return False
    behind = ("docker", "kernels", "memory")
    return not any(
        one.aspect == entry.aspect or (one.blind and entry.aspect in behind) or (entry.blind and one.aspect in behind)
        for one in run.shown[place]
    )


def play(run: Run, log: Path) -> list[dict[str, Any]]:
    """Run a playbook and return what the callback kept. Raises SimulationError where it said nothing."""
    kept = log.with_suffix(".jsonl")
    kept.unlink(missing_ok=True)
    root = settings.REPOSITORY
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(root / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(root / "collections"),
        "ANSIBLE_CALLBACK_PLUGINS": str(FOLDER / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "gb10_results",
        "ANSIBLE_FORCE_COLOR": "0",
        "GB10_RESULTS": str(kept),
    }
    extra = json.dumps({**SETTINGS[run.part], **run.settings})
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), str(PLAYBOOKS[run.part])]
    argv += ["-i", str(root / "inventory/simulation"), "-i", str(FOLDER / "inventory"), "-e", extra]
    with log.open("a", encoding="utf-8") as out:
        try:
            subprocess.run(argv, cwd=root, env=environment, stdout=out, stderr=out, check=False, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise SimulationError(f"{PLAYBOOKS[run.part].name} was not done within {PATIENCE} s: see {log}.") from None
    if not kept.exists():
        return []
    return [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]


def rows_of(said: Sequence[Mapping[str, Any]], part: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield node and row of everything that was said; a sentence that a run stopped with is a red row."""
    for line in said:
        for node, rows in (line.get("findings") or {}).items():
            for row in rows:
                yield node, dict(row)
        if "failed" in line and (part not in REPORTS or "findings" not in line):
            yield (
                line["host"],
                {"check": line["task"], "level": "red", "found": line["failed"], "remedy": line["failed"]},
            )


def judge(entry: Variant, node: str, said: Sequence[Mapping[str, Any]]) -> Verdict:
    """Return what was said of a variant."""
    verdict = Verdict(entry.name, entry.part, node, source=entry.source)
    stopped = entry.part not in REPORTS
    nearest: list[str] = []
    for where, row in rows_of(said, entry.part):
        about = where in (node, ALL_NODES) if entry.between else where == node or (entry.both and stopped)
        if not about or row["level"] == "green":
            continue
        nearest.append(f"{row['level']} {row['check']}: {row['found']} | {row['remedy']}")
        named = stopped or entry.between or row["check"].lower() == entry.check.lower()
        if entry.found in row["found"] and entry.remedy in row["remedy"] and row["level"] == entry.level and named:
            verdict.level, verdict.check = row["level"], entry.check if stopped else row["check"]
            verdict.found, verdict.remedy = row["found"], "" if stopped else row["remedy"]
            verdict.fits = True
            return verdict
    verdict.why = "; ".join(nearest) or "nothing was said"
    return verdict


def check(
    client: docker.DockerClient, progress: Progress, wanted: Sequence[Variant] = VARIANTS, log: Path | None = None
) -> tuple[list[Verdict], list[dict[str, Any]]]:
    """Show the variants; return their verdicts, and what is not green where both nodes are well. The stand-ins are gone afterwards."""
    log = log or Path(tempfile.gettempdir()) / f"gb10-check-{os.getpid()}.log"
    verdicts = []
    try:
        for node in settings.NODES:
            stage.show(client, lambda _line: None, node, [])
        began = time.monotonic()
        said = play(Run("report"), log)
        well = [{"node": node, **row} for node, row in rows_of(said, "report") if row["level"] != "green"]
        if not said:
            raise SimulationError(f"{PLAYBOOKS['report'].name} said nothing of the healthy pair: see {log}.")
        progress(f"healthy pair: {len(well)} rows that are not green ({time.monotonic() - began:.0f} s)")
        for row in well:
            progress(f"    {row['node']}: {row['level']} {row['check']}: {row['found']} | {row['remedy']}")
        for run in plan(wanted):
            began = time.monotonic()
            for node, shown in zip(settings.NODES, run.shown, strict=True):
                stage.show(client, lambda _line: None, node, shown)
            said = play(run, log)
            took = time.monotonic() - began
            for node, shown in zip(settings.NODES, run.shown, strict=True):
                for entry in shown:
                    if entry.both and node is settings.NODES[1]:
                        continue
                    verdict = judge(entry, node.name, said)
                    verdict.seconds = round(took, 1)
                    verdicts.append(verdict)
                    progress(f"{'ok ' if verdict.fits else 'NOT'} {entry.part:8} {entry.name}")
                    if not verdict.fits:
                        progress(f"    {verdict.why}")
            progress(f"    ({took:.0f} s)")
    finally:
        stage.off(client, lambda _line: None, settings.NODES)
    return verdicts, well


def table(verdicts: Sequence[Verdict]) -> str:
    """The table of the documentation."""
    order = {entry.name: place for place, entry in enumerate(VARIANTS)}
    lines = [
        "| variant | checked by | verdict | what is reported, and the remedy | source of the stand-in |",
        "|---|---|---|---|---|",
    ]
    for verdict in sorted(verdicts, key=lambda entry: order[entry.variant]):
        text = f"{verdict.found}: {verdict.remedy}" if verdict.remedy else verdict.found
        text = text.removeprefix(f"node {verdict.node}: ").replace("|", "\\|")
        lines.append(
            f"| {verdict.variant} | {verdict.part} | {verdict.level}, {verdict.check} | {text} | {verdict.source} |"
        )
    return "\n".join(lines) + "\n"


def write_table(page: Path, verdicts: Sequence[Verdict]) -> None:
    """Put the table between the marks of a page. Raises SimulationError where it has none."""
    text = page.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _old, end, after = rest.partition(END)
    if not (start and end):
        raise SimulationError(f"{page} has no lines '{START}' and '{END}' to put the table between.")
    page.write_text(f"{before}{start}\n{table(verdicts)}{end}{after}", encoding="utf-8")


def as_json(verdicts: Sequence[Verdict], well: Sequence[Mapping[str, Any]]) -> str:
    """Everything for programs."""
    return json.dumps({"healthy": list(well), "variants": [asdict(entry) for entry in verdicts]}, indent=1) + "\n"
