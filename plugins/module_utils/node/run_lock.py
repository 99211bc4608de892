# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""One run at a time: who works on the nodes is written on the head, and whether that run still lives is looked at, not guessed.

A run of the controller that asks, or of this very node, lives as long as its process does. One from elsewhere that came by SSH lives as
long as there is an SSH session without a terminal beside the one that asks: Ansible keeps a connection for a whole run, which ends soon
after its controller is gone. Where it came by another kind of connection, an hour counts. A run that ends well gives the lock back.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from ..system.files import make_folder, read_json, read_text, write_atomic
from ..system.run import Runner, run

LOCK = Path("/run/dgx-spark/playbook-run.json")
#: Seconds after which a run counts as gone of which nothing can be seen.
UNSEEN_S = 3600.0


@dataclass(frozen=True)
class Run:
    """A run of a playbook: where it runs (controller, process and when that began), who and what it is, since when (seconds of the epoch)."""

    controller: str
    pid: int
    began: str
    user: str
    playbook: str
    at: float = 0.0
    #: Whether it came by SSH.
    ssh: bool = False

    def same_as(self, other: Run) -> bool:
        """Say whether this is the same run."""
        return (self.controller, self.pid, self.began) == (other.controller, other.pid, other.began)

    def sentence(self) -> str:
        """Return who this is."""
        since = datetime.fromtimestamp(self.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"{self.playbook} of {self.user}@{self.controller.partition('/')[0]} (process {self.pid}), since {since}"


def read(path: Path = LOCK) -> Run | None:
    """Return the run that holds the lock; None where there is none, or none that can be understood."""
    found = read_json(path)
    if found is None:
        return None
    try:
        run = Run(**{field.name: found[field.name] for field in fields(Run)})
        return run if float(run.at) >= 0 and int(run.pid) > 0 else None
    except (KeyError, TypeError, ValueError):
        return None


def identity() -> str:
    """Return which machine this is."""
    return f"{socket.gethostname()}/{uuid.getnode():x}"


def process_began(pid: int, ask: Runner = run, proc: Path = Path("/proc")) -> str:
    """Return when a process of this machine began: the kernel's clock ticks, or where it shows none (macOS) what ``ps`` says; empty for no process.

    The date that ps works out of the ticks differs by a second from one call to the next, and counts only where there is nothing better.
    """
    if proc.is_dir():
        # The name in brackets may hold blanks and brackets itself; the begin is the 22nd field.
        after = read_text(proc / str(pid) / "stat").rpartition(")")[2].split()
        return after[19] if len(after) > 19 else ""
    return " ".join(ask(["ps", "-o", "lstart=", "-p", str(pid)], 10)[1].split())


def session_of(pid: int, proc: Path = Path("/proc")) -> int:
    """Return the SSH session that a process belongs to (``sshd`` or ``sshd-session``), 0 where it belongs to none."""
    while pid > 1:
        stat = read_text(proc / str(pid) / "stat")
        # The name in brackets may hold blanks and brackets itself.
        name, rest = stat.partition("(")[2].rpartition(")")[0], stat.rpartition(")")[2].split()
        if name.startswith("sshd"):
            return pid
        pid = int(rest[1]) if len(rest) > 1 else 0
    return 0


def sessions(proc: Path = Path("/proc")) -> set[int]:
    """Return the SSH sessions without a terminal (``sshd: spark@notty``), as Ansible's are."""
    found = set()
    for path in proc.glob("[0-9]*/cmdline"):
        title = read_text(path)
        if title.startswith("sshd") and "@notty" in title:
            found.add(int(path.parent.name))
    return found


def lives(holder: Run, now: float, own: int, proc: Path = Path("/proc")) -> bool:
    """Say whether a run of another controller still goes on, as far as the head can see.

    Args:
        holder: that run.
        now: seconds of the epoch.
        own: the SSH session of who asks; 0 for none.
        proc: where the kernel shows processes.
    """
    if holder.controller == identity():
        return process_began(holder.pid) == holder.began
    return bool(sessions(proc) - {own}) if holder.ssh else 0 <= now - holder.at < UNSEEN_S


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    make_folder(path.parent)
    handle = os.open(path.with_suffix(".guard"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def take(wanted: Run, instead_of: Mapping[str, object] | None = None, force: bool = False, path: Path = LOCK) -> Run:
    """Let a run hold the lock, and return who holds it now: that run, or another one that still lives.

    Args:
        wanted: the run that asks.
        instead_of: a run that its own controller saw to be gone.
        force: whoever holds it.

    Raises:
        OSError: the file cannot be written.
    """
    with _alone(path):
        holder, now, session = read(path), time.time(), session_of(os.getpid())
        if holder is not None and not holder.same_as(wanted) and not force:
            gone = dict(instead_of or {}) == asdict(holder)
            # Runs of one controller share one SSH session: only the controller can tell them apart.
            if not gone and (holder.controller == wanted.controller or lives(holder, now, session)):
                return holder
        taken = Run(**{**asdict(wanted), "at": now, "ssh": session > 0})
        write_atomic(path, json.dumps(asdict(taken), indent=1) + "\n")
        return taken


def release(wanted: Run, path: Path = LOCK) -> None:
    """Give the lock back where this run holds it.

    Raises:
        OSError: the file cannot be removed.
    """
    with _alone(path):
        holder = read(path)
        if holder is not None and holder.same_as(wanted):
            path.unlink(missing_ok=True)
