# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the units of a node do, and why the last start of one failed: the answer of modules container_service_info and node_info."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..docker.cli import GONE, inspect_container, inspect_image
from ..docker.image_digest import origin_text
from ..docker.service import ASIDE, STOP_FLAG
from ..docker.service_snapshot import snapshot
from ..docker.service_state import (
    RECORDS,
    UNITS,
    clustered,
    judge_remote_code,
    judge_units,
    read_record,
    service_status,
)
from ..hub.store import weights_bytes
from ..report.finding import Finding, as_dicts, fine
from ..system.run import Runner
from ..vllm.load_strategy import load_facts
from ..vllm.serving import ServingError, serving
from ..vllm.start_causes import Cause, first_cause, kernel_command, starts, starts_command
from ..vllm.startup_phases import journal_command, phases_line, start_report
from .restart_plan import OTHERS

#: Parameters of module container_service_info.
ARGUMENTS: dict[str, Any] = {
    "names": {"type": "list", "elements": "str"},
    "startup_of": {"type": "str"},
    "snapshot": {"type": "bool", "default": False},
}
JOURNAL_LINES = 25


def journal(run: Runner, name: str) -> list[str]:
    """Return the last lines of a unit's own processes, oldest first: neither systemd's nor what cleaning up complains of."""
    # Matching the field leaves out what systemd itself says of the unit, which --unit would bring along.
    argv = [
        "journalctl",
        f"_SYSTEMD_UNIT={name}.service",
        "--lines",
        str(JOURNAL_LINES),
        "--no-pager",
        "--output",
        "cat",
    ]
    code, out, _err = run(argv)
    return [line for line in out.splitlines() if line.strip() and GONE not in line] if code == 0 else []


def cause_of(run: Runner, name: str) -> Cause | None:
    """Return why the last start of a unit failed; None where its journal does not say. The start that is on the way may be the newest."""
    code, out, _err = run(starts_command(name))
    for start in reversed(starts(out)[-2:] if code == 0 else []):
        code, kernel, _err = run(kernel_command(start.begun))
        found = first_cause(start.text, kernel if code == 0 else "")
        if found:
            return found
    return None


def startup(run: Runner, name: str) -> tuple[list[str], dict[str, Any]]:
    """Return what the journal says of the last start of a serving container, as lines and as figures; empty for another one, or where it says nothing."""
    try:
        found = serving(inspect_container(run, name), name)
    except ServingError:
        return [], {}
    code, out, _err = run(journal_command(name, found.started))
    report = start_report(out, weights_bytes(Path(found.model_path))) if code == 0 else {"phases": {}}
    phases = phases_line(report["phases"])
    figures = {key: value for key, value in report.items() if key != "phases"}
    return ([phases, load_facts(report)["text"]] if phases else []), {
        **figures,
        "started": found.started,
    } if figures else {}


def images(run: Runner, names: Sequence[str]) -> list[Finding]:
    """Return one finding for each image that the containers run: where it came from, so that it can be pinned."""
    found = []
    for image in sorted({str((read_record(name, RECORDS) or {}).get("image") or "") for name in names} - {""}):
        inspected = inspect_image(run, image)
        if inspected is not None:
            found.append(fine("image", "image", f"{image}, from {origin_text(inspected)}", subject=image))
    return found


def summary(units: list[dict[str, Any]], journals: dict[str, list[str]], causes: dict[str, Cause]) -> str:
    """Return one sentence on the units, with the last lines of those that are on the way."""
    if not units:
        return "no container is managed on this node"
    words = []
    for unit in units:
        cause = causes.get(unit["name"])
        if cause:
            words.append(
                f"{unit['name']} is {unit['active']} ({unit['sub']}), its last start failed: {cause.sentence()}"
            )
        elif unit["differs"]:
            words.append(f"{unit['name']}: {'; '.join(unit['differs'])}")
        elif not unit["settled"]:
            last = next(
                (line.strip() for line in reversed(journals.get(unit["name"], [])) if line.strip()), "nothing said yet"
            )
            words.append(f"{unit['name']} is {unit['active']} ({unit['sub']}): {last[:140]}")
    return ". ".join(words) or f"in the desired state and active: {', '.join(unit['name'] for unit in units)}"


def aside(run: Runner) -> list[dict[str, Any]]:
    """Return the containers that stand beside the cluster and are on this node: ``name``, ``active``, ``differs`` and ``port``."""
    found = []
    for name in sorted(ASIDE):
        record = read_record(name, RECORDS)
        if record is not None:
            status, argv = service_status(run, name), [str(word) for word in record.get("argv", [])]
            port = dict(itertools.pairwise(argv)).get("--port", "")
            found.append(
                {
                    **{key: status[key] for key in ("name", "active", "differs")},
                    "port": int(port) if port.isdecimal() else None,
                }
            )
    return found


def _starts_again(unit: dict[str, Any]) -> bool:
    return unit["restarts"] > 0 and not unit["settled"]


def answer(params: Mapping[str, Any], run: Runner) -> dict[str, Any]:
    """Return what module container_service_info documents.

    Raises:
        DockerError: Docker does not answer.
    """
    names = params["names"]
    if names is None:
        names = clustered(RECORDS)
    units = [service_status(run, name) for name in names]
    started = [unit["name"] for unit in units if unit["settled"] and unit["name"] == params["startup_of"]]
    said, figures = startup(run, started[0]) if started else ([], {})
    failing = [
        unit["name"] for unit in units if unit["present"] and (unit["active"] == "failed" or _starts_again(unit))
    ]
    causes = {name: cause for name in failing if (cause := cause_of(run, name))}
    journals = {unit["name"]: journal(run, unit["name"]) for unit in units if unit["present"] and not unit["settled"]}
    stopped, message = Path(STOP_FLAG).exists(), summary(units, journals, causes)
    return {
        "units": units,
        "settled": all(unit["settled"] for unit in units),
        "failed_units": [unit["name"] for unit in units if unit["active"] == "failed"],
        "aside": aside(run),
        "stop_flag": stopped,
        "causes": {name: cause.as_dict() for name, cause in causes.items()},
        "journal": journals,
        "startup": said,
        "start": figures,
        "findings": as_dicts(
            [
                judge_units(units, stopped=stopped, message=message),
                *judge_remote_code(names, RECORDS),
                *images(run, names),
            ]
        ),
        "others": [name for name in OTHERS if (UNITS / f"{name}.service").exists()],
        **({"snapshot": snapshot(run)} if params["snapshot"] else {}),
        "msg": message,
    }
