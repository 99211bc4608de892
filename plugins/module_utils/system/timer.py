# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A transient timer of systemd that runs a script unless it is stopped before: how a change that nobody confirms is taken back."""

from __future__ import annotations

from pathlib import Path

from .run import Runner, last_line


def arm(run: Runner, unit: str, seconds: int, description: str, script: Path) -> str:
    """Start the timer anew; return why it could not be started, empty where it runs.

    Args:
        run: runs a program.
        unit: name of the timer, without its suffix.
        seconds: after which the script runs.
        description: of the unit.
        script: for ``/bin/sh``.
    """
    disarm(run, unit)
    argv = [
        *("systemd-run", "--quiet", "--collect", f"--unit={unit}", f"--on-active={seconds}"),
        *("--timer-property=AccuracySec=1s", f"--description={description}", "/bin/sh", str(script)),
    ]
    status, out, err = run(argv, 20)
    return last_line(out, err, "no reason given") if status else ""


def disarm(run: Runner, unit: str) -> None:
    """Stop the timer, where it runs."""
    run(["systemctl", "stop", f"{unit}.timer"], 20)
