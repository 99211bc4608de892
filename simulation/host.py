# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""What the simulation does to this machine itself: run commands as root, install Debian packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from simulation import settings
from simulation.settings import SimulationError

Progress = Callable[[str], None]
"""Receives one plain line of progress at a time, without a newline."""


@dataclass
class Report:
    """What a call changed, one phrase each; empty where everything was as it should be."""

    changes: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything was changed."""
        return bool(self.changes)


def may_become_root() -> bool:
    """Whether commands can be run as root: by being root, or by sudo (which may ask for a password at a terminal)."""
    if os.geteuid() == 0:
        return True
    if not shutil.which("sudo"):
        return False
    if subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0:
        return True
    return sys.stdin.isatty()


def as_root(argv: Sequence[str]) -> list[str]:
    """The command with sudo in front where this process is not root."""
    return list(argv) if os.geteuid() == 0 else ["sudo", *argv]


def run_logged(argv: Sequence[str], log: str, failure: str) -> None:
    """Run a command with its output in the log `<state folder>/<log>.log`.

    Raises SimulationError: `failure`, the last line of output and the place of the log.
    """
    path = settings.state_folder() / f"{log}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as out:
        out.write(f"\n$ {' '.join(argv)}\n".encode())
        out.flush()
        code = subprocess.run(argv, stdout=out, stderr=subprocess.STDOUT, check=False).returncode
    if code != 0:
        raise SimulationError(f"{failure}: {last_line(path.read_text(errors='replace'))} (the whole output: {path})")


def run_quietly(argv: Sequence[str], failure: str) -> None:
    """Run a command without keeping its output. Raises SimulationError: `failure` and the last line of output."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise SimulationError(f"{failure}: {last_line(done.stdout)}")


def last_line(text: str) -> str:
    """The last line of some output that says anything."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def install_packages(packages: Sequence[str], why: str, progress: Progress, *, recommended: bool = True) -> None:
    """Install Debian or Ubuntu packages with apt-get; recommended: with what they recommend.

    Raises SimulationError with what to install by hand where apt-get or root's rights are missing, or apt-get fails.
    """
    names = " ".join(packages)
    by_hand = f"install {names} by hand and run this again"
    if not shutil.which("apt-get"):
        raise SimulationError(f"{why} needs {names}, and this machine has no apt-get: {by_hand}.")
    if not may_become_root():
        raise SimulationError(f"{why} needs {names}, and this user may not become root: {by_hand}.")
    progress(f"Installing {names} with apt-get: {why} needs it")
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qy"]
    failure = f"apt-get could not install {names}; {by_hand}"
    run_logged(as_root([*quiet, "update"]), "apt", failure)
    bare = [] if recommended else ["--no-install-recommends"]
    run_logged(as_root([*quiet, "install", *bare, *packages]), "apt", failure)
