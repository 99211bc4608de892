#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""How the running containers compare with their desired state."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_service_info
short_description: Compare the running containers with their desired state
version_added: 0.1.0
description:
  - Compares each container that M(dgx_spark.vllm.container_service) wrote with what runs, by what C(docker inspect) shows of it.
  - Only reads.
options:
  names:
    description: Names of the containers. Left out, all that M(dgx_spark.vllm.container_service) wrote on this node.
    type: list
    elements: str
  startup_of:
    description: Container that runs C(vllm serve), to say how long its last start took once its unit is active. Left out, no journal is read for it.
    type: str
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Read what runs
  dgx_spark.vllm.container_service_info:
  register: services
"""

RETURN = r"""
units:
  description: One entry for each unit.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the container and its unit.
      type: str
    present:
      description: Whether M(dgx_spark.vllm.container_service) wrote it.
      type: bool
    active:
      description: systemd's ActiveState.
      type: str
    sub:
      description: systemd's SubState; C(start-pre) while a gate waits, C(start-post) while readiness is being proven.
      type: str
    enabled:
      description: Whether it starts at boot.
      type: bool
    restarts:
      description: How often systemd restarted it by itself.
      type: int
    result:
      description: systemd's result of the last run.
      type: str
    running:
      description: Whether the container runs.
      type: bool
    settled:
      description: Whether the unit is active, so that its gates passed and its readiness was proven.
      type: bool
    differs:
      description: How what runs differs from the desired state; empty when it does not.
      type: list
      elements: str
settled:
  description: Whether every unit is active.
  returned: success
  type: bool
failed_units:
  description: Units that systemd has given up on.
  returned: success
  type: list
  elements: str
stop_flag:
  description: Whether the operator stopped the cluster with playbooks/stop.yml, so that no unit starts.
  returned: success
  type: bool
causes:
  description: >-
    Why the last start of each unit failed that systemd has given up on or starts again, by name: the line that says it, and for one that is known its
    code, cause and remedy (docs/start-failures.md), with all of it as one sentence.
  returned: success
  type: dict
journal:
  description: The last lines that each unit that is not active wrote to the journal, by name.
  returned: success
  type: dict
startup:
  description: >-
    Lines on the last start of O(startup_of), its seconds by phase and the rate at which it read the weights; empty where its unit is not active on this
    node, or its journal does not say.
  returned: success
  type: list
  elements: str
start:
  description: >-
    Figures of that start as its journal has them, C(kv_cache_gib), C(kv_cache_tokens), C(model_gib), C(graph_gib) among them, and when it was (C(started)).
  returned: success
  type: dict
findings:
  description: One on all units together.
  type: list
  elements: dict
  returned: success
  contains:
    source: {description: Who found it., type: str}
    code: {description: "What it is, stable over releases; docs/troubleshooting.md has an entry for each.", type: str}
    level: {description: "C(green), C(yellow) or C(red).", type: str}
    check: {description: What was checked., type: str}
    found: {description: What was found., type: str}
    remedy: {description: What to do., type: str}
    commands: {description: The remedy as commands to be run by hand on the node., type: list, elements: str}
    subject: {description: Which one of several it is about., type: str}
msg:
  description: One sentence.
  returned: always
  type: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.docker.cli import GONE, DockerError, inspect_container
from ..module_utils.docker.service import STOP_FLAG
from ..module_utils.docker.service_state import RECORDS, judge_units, service_status
from ..module_utils.hub.store import weights_bytes
from ..module_utils.report.finding import as_dicts
from ..module_utils.system.run import Runner, run
from ..module_utils.vllm.load_strategy import load_facts
from ..module_utils.vllm.serving import ServingError, serving
from ..module_utils.vllm.start_causes import Cause, first_cause, kernel_command, starts, starts_command
from ..module_utils.vllm.startup_phases import journal_command, phases_line, start_report

JOURNAL_LINES = 25


def journal(name: str) -> list[str]:
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


def _starts_again(unit: dict[str, Any]) -> bool:
    return unit["restarts"] > 0 and not unit["settled"]


def main() -> None:
    module = AnsibleModule(
        argument_spec={"names": {"type": "list", "elements": "str"}, "startup_of": {"type": "str"}},
        supports_check_mode=True,
    )

    names = module.params["names"]
    if names is None:
        names = sorted(path.stem for path in RECORDS.glob("*.json"))
    try:
        units = [service_status(run, name) for name in names]
        started = [unit["name"] for unit in units if unit["settled"] and unit["name"] == module.params["startup_of"]]
        said, figures = startup(run, started[0]) if started else ([], {})
    except DockerError as error:
        module.fail_json(msg=str(error))
    failing = [
        unit["name"] for unit in units if unit["present"] and (unit["active"] == "failed" or _starts_again(unit))
    ]
    causes = {name: cause for name in failing if (cause := cause_of(run, name))}
    journals = {unit["name"]: journal(unit["name"]) for unit in units if unit["present"] and not unit["settled"]}
    stopped, message = Path(STOP_FLAG).exists(), summary(units, journals, causes)
    module.exit_json(
        changed=False,
        units=units,
        settled=all(unit["settled"] for unit in units),
        failed_units=[unit["name"] for unit in units if unit["active"] == "failed"],
        stop_flag=stopped,
        causes={name: cause.as_dict() for name, cause in causes.items()},
        journal=journals,
        startup=said,
        start=figures,
        findings=as_dicts([judge_units(units, stopped=stopped, message=message)]),
        msg=message,
    )


if __name__ == "__main__":
    main()
