# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Seconds and tasks of a run of site.yml that changes nothing."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ansible_runner

REPOSITORY = Path(__file__).resolve().parent.parent
#: Action plugins that run on the controller and cost milliseconds.
_LOCAL = {
    "ansible.builtin.assert",
    "ansible.builtin.debug",
    "ansible.builtin.fail",
    "ansible.builtin.include_role",
    "ansible.builtin.include_tasks",
    "ansible.builtin.meta",
    "ansible.builtin.set_fact",
    "ansible.builtin.validate_argument_spec",
    "dgx_spark.vllm.preflight_report",
    "dgx_spark.vllm.settings_check",
    "dgx_spark.vllm.vllm_plan_report",
}


def once() -> tuple[float, int]:
    """Run site.yml; return seconds and the number of tasks that ran on at least one node.

    Raises:
        RuntimeError: the run failed or changed something, so that it measures something else.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        outcome = ansible_runner.run(
            private_data_dir=folder,
            project_dir=str(REPOSITORY),
            playbook=str(REPOSITORY / "site.yml"),
            inventory=str(REPOSITORY / "inventory" / "simulation"),
            envvars={
                "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            quiet=True,
        )
        seconds = time.monotonic() - started
        changed = sum((outcome.stats or {}).get("changed", {}).values())
        if outcome.status != "successful" or changed:
            raise RuntimeError(
                f"site.yml ended {outcome.status} with changed={changed}, expected a run that changes nothing: run `make demo` first"
            )
        tasks = {
            event["event_data"]["task_uuid"]
            for event in outcome.events
            if event["event"] == "runner_on_ok"
            and event["event_data"].get("resolved_action", event["event_data"]["task_action"]) not in _LOCAL
        }
        return seconds, len(tasks)


def measure(runs: int) -> dict[str, Any]:
    """Return seconds of each run, and the number of remote tasks."""
    measured = []
    for number in range(runs):
        measured.append(once())
        print(
            f"no-op run {number + 1} of {runs}: {measured[-1][0]:.1f} s, {measured[-1][1]} remote tasks",
            file=sys.stderr,
        )
    return {
        "series": {
            "seconds": [seconds for seconds, _ in measured],
            "remote tasks": [float(tasks) for _, tasks in measured],
        },
        "units": {"seconds": "s", "remote tasks": "tasks"},
    }
