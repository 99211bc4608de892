# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs a playbook on the simulated pair and tells how long it, and each of its tasks, took."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass
class Play:
    """How a run went: seconds of all of it, and of each task by its name (of the slowest host)."""

    seconds: float
    changed: int
    tasks: dict[str, float] = field(default_factory=dict)


def play(playbook: str, extra: dict[str, Any] | None = None) -> Play:
    """Run a playbook, by its path in the checkout.

    Raises:
        RuntimeError: it failed; names the task.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        outcome = ansible_runner.run(
            private_data_dir=folder,
            project_dir=str(REPOSITORY),
            playbook=str(REPOSITORY / playbook),
            inventory=str(REPOSITORY / "inventory" / "simulation"),
            extravars=extra or {},
            envvars={
                "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            quiet=True,
        )
        seconds = time.monotonic() - started
        tasks: dict[str, float] = {}
        failed = ""
        for event in outcome.events:
            data = event["event_data"]
            if event["event"] == "runner_on_ok":
                tasks[data["task"]] = max(tasks.get(data["task"], 0.0), float(data.get("duration") or 0.0))
            elif event["event"] in ("runner_on_failed", "runner_on_unreachable") and not data.get("ignore_errors"):
                failed = f"{data['task']} on {data['host']}: {str((data.get('res') or {}).get('msg', ''))[:300]}"
        if outcome.status != "successful":
            raise RuntimeError(f"{playbook} failed at {failed or 'its start'}")
        return Play(seconds, sum((outcome.stats or {}).get("changed", {}).values()), tasks)
