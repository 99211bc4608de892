# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Containers as far as watchdog and follower know them, without Docker: a control group each, whose name says docker.

A program joins its group before it starts, all that it starts is in it, and ending the group ends them at once. Needs cgroup v2.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.node_state import process_age

from benchmarks.gpu.hosts import HostError

#: The group above all of them; ranks are those of a server whose group says docker (service/node_state.py).
FAMILY = "docker-two-hosts"


class Containers:
    """The containers of both hosts.

    Args:
        root: where cgroup v2 is mounted.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, name: str) -> Path:
        """Return the folder of a container."""
        return self.root / FAMILY / name

    def wrap(self, name: str, argv: Sequence[str]) -> list[str]:
        """Return the command that runs a program as a container."""
        folder = self.folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        return ["sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(folder), *argv]

    def pids(self, name: str) -> list[int]:
        """Return the processes of a container that are on the caller's host; the others read as 0."""
        try:
            return [pid for pid in map(int, (self.folder(name) / "cgroup.procs").read_text("ascii").split()) if pid]
        except OSError:
            return []

    def kill(self, name: str) -> bool:
        """End a container; False where there is none."""
        if not self.pids(name):
            return False
        (self.folder(name) / "cgroup.kill").write_text("1", encoding="ascii")
        return True

    def inspect(self, name: str, proc: Path = Path("/proc")) -> dict[str, Any] | None:
        """Return what ``docker inspect`` says of a container as far as it is asked for; None where there is none."""
        pids = self.pids(name)
        if not pids:
            return None
        oldest = max(pids, key=lambda pid: process_age(pid, proc) or 0.0)
        return {"Name": f"/{name}", "State": {"Running": True, "Pid": oldest}}

    def docker(self, arguments: Sequence[str]) -> tuple[int, str, str]:
        """Answer a command of Docker's: inspect and kill are known."""
        name = arguments[-1]
        absent = 1, "", f"Error: No such container: {name}"
        if arguments[0] == "inspect":
            found = self.inspect(name)
            return absent if found is None else (0, json.dumps([found]), "")
        if arguments[0] == "kill":
            return (0, f"{name}\n", "") if self.kill(name) else absent
        return 1, "", f"docker {arguments[0]} is not known here"

    def close(self) -> None:
        """Take the groups away."""
        for folder in sorted((self.root / FAMILY).glob("*/")):
            self.kill(folder.name)
            with contextlib.suppress(OSError):
                folder.rmdir()
        with contextlib.suppress(OSError):
            (self.root / FAMILY).rmdir()


def mounted(work: Path, mounts: Path = Path("/proc/mounts")) -> Path:
    """Return where cgroup v2 is mounted; it is mounted in ``work`` where it is not.

    Raises:
        HostError: this kernel has none.
    """
    for line in mounts.read_text(encoding="utf-8").splitlines():
        _device, target, kind, options = line.split()[:4]
        if kind == "cgroup2" and "rw" in options.split(","):
            return Path(target)
    target_here = work / "cgroup"
    target_here.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "cgroup2", "none", str(target_here)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise HostError(f"two hosts need cgroup v2: {done.stderr.strip()}")
    return target_here
