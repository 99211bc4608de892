# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Keeps a machine with unified memory alive: earlyoom, the kernel's own reserve, the hardware watchdog, and a bound for the journal.

On such a machine full memory ends no process: the GPU's driver gets none, and the machine freezes. What CUDA took is in the resident memory of no process
and in no control group; only MemAvailable falls. So earlyoom acts, which looks at that alone (docs/decisions/0032-the-machine-stays-alive.md).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..report.finding import RED, YELLOW, Finding, fine
from ..system.files import Changes, read_text
from ..system.run import Runner, last_line
from ..system.systemd_unit import exec_line, render

PACKAGE, PROGRAM, SERVICE = "earlyoom", "/usr/bin/earlyoom", "earlyoom.service"
#: Beginnings of the names of a server's ranks, as the kernel has them (the first 15 characters): they hold the memory, and systemd starts them again.
VICTIMS = ("VLLM::", "ray::RayWorker")
#: Names of what must live so that a node can be reached and healed. Our own programs on the node run as python3.
SAFE = (
    *("systemd.*", "[(]sd-pam[)]", "init", "dbus-.*", "NetworkManager", "agetty", "login", "sudo", "bash"),
    *("sshd.*", "docker.*", "containerd.*", "python3", "earlyoom"),
)
#: Lowest oom_score_adj that is no promise never to be ended, and the best place at the processor.
_SCORE, _NICE = -900, -20
UNIT_FILE = Path("etc/systemd/system/earlyoom.service.d/50-dgx-spark.conf")
SYSCTL_FILE = Path("etc/sysctl.d/90-dgx-spark.conf")
WATCHDOG_FILE = Path("etc/systemd/system.conf.d/90-dgx-spark.conf")
JOURNAL_FILE = Path("etc/systemd/journald.conf.d/90-dgx-spark.conf")
MIN_FREE = Path("proc/sys/vm/min_free_kbytes")
#: systemd writes it where it runs in a container, whose kernel, watchdog and sysctls belong to somebody else.
_CONTAINER = Path("run/systemd/container")
_WRITTEN = "# Written by dgx_spark.vllm.node_guard; the next run of site.yml replaces what is changed here.\n"
_OWN = re.compile(r"the kernel's own value: (\d+)")
_KIB_PER_GIB = 1024**2
_UNGUARDED = "nothing acts when memory runs out (node_guard_earlyoom)"
#: systemd's time of what did not happen.
_NEVER = "18446744073709551615"
#: What earlyoom writes to its journal when it ends a process.
_ENDED = re.compile(r"sending SIG(?:TERM|KILL) to process \d+.*")


class GuardError(Exception):
    """One sentence for the user."""


@dataclass(frozen=True)
class Wanted:
    """What is wanted of the guard; 0 or False switches a part off.

    Attributes:
        earlyoom: whether earlyoom ends ranks.
        min_available_gib: available memory in GiB below which it does.
        min_free_mib: MiB that the kernel keeps free for itself (vm.min_free_kbytes).
        watchdog_seconds: seconds without a sign of systemd after which the hardware restarts the machine.
        journal_gib: GiB that the journal may take of the disk.
        journal_days: days for which it is kept; 0 for as long as there is room.
    """

    earlyoom: bool
    min_available_gib: float
    min_free_mib: int
    watchdog_seconds: int
    journal_gib: float = 0
    journal_days: int = 0

    def __post_init__(self) -> None:
        if self.earlyoom and not 0 < self.min_available_gib <= 64:
            raise GuardError(
                f"min_available_gib is {self.min_available_gib:g}, expected more than 0 and at most 64 GiB"
            )
        if not 0 <= self.min_free_mib <= 4096:
            raise GuardError(
                f"min_free_mib is {self.min_free_mib}, expected 0 to 4096: vLLM's start lacks what the kernel keeps"
            )
        if self.watchdog_seconds and not 60 <= self.watchdog_seconds <= 3600:
            raise GuardError(
                f"watchdog_seconds is {self.watchdog_seconds}, expected 0 or 60 to 3600: a busy machine must not be restarted"
            )
        if self.journal_gib and not 0.1 <= self.journal_gib <= 64:
            raise GuardError(
                f"journal_gib is {self.journal_gib:g}, expected 0 or 0.1 to 64: less loses what happened last"
            )
        if not 0 <= self.journal_days <= 3650:
            raise GuardError(f"journal_days is {self.journal_days}, expected 0 (no limit) to 3650")


def earlyoom_command(min_available_gib: float) -> list[str]:
    """Return earlyoom's command: ranks are ended by SIGKILL once less than this (GiB) is available, however much swap is free.

    Both limits are the same, which leaves out SIGTERM: a rank that waits for the driver never comes to handle it.
    """
    size = round(min_available_gib * _KIB_PER_GIB)
    return [
        *(PROGRAM, "-r", "3600", "-M", f"{size},{size}", "-s", "100,100"),
        *("--prefer", f"^({'|'.join(VICTIMS)})", "--avoid", f"^({'|'.join(SAFE)})$"),
    ]


def _unit_text(min_available_gib: float) -> str:
    # ExecStart and not the package's /etc/default/earlyoom: this file can lie there first, so that a fresh package never runs with its own limits.
    lines = [
        ("ExecStart", ""),
        ("ExecStart", exec_line(earlyoom_command(min_available_gib))),
        ("OOMScoreAdjust", str(_SCORE)),
        ("Nice", str(_NICE)),
    ]
    return _WRITTEN + render([("Service", lines)])


def watchdog_holders(root: Path = Path("/")) -> list[str]:
    """Return the names of programs other than systemd that have the hardware watchdog open: two cannot."""
    found = set()
    for link in root.glob("proc/[0-9]*/fd/*"):
        # A process or a file of it may be gone by the time that it is looked at.
        with contextlib.suppress(OSError):
            if link.parent.parent.name != "1" and re.fullmatch(r"/dev/watchdog\d*", str(link.readlink())):
                found.add(read_text(link.parent.parent / "comm").strip() or f"process {link.parent.parent.name}")
    return sorted(found)


def ended_by(journal: str) -> list[str]:
    """Return the lines of earlyoom's journal that say which process it ended, oldest first."""
    return [match[0] for match in map(_ENDED.search, journal.splitlines()) if match]


class Node:
    """What is of the guard's parts on this node now."""

    def __init__(self, run: Runner, root: Path = Path("/")) -> None:
        self.run = run
        self.root = root

    @property
    def is_container(self) -> bool:
        """Whether the node is a container, with the kernel of another machine."""
        return (self.root / _CONTAINER).exists()

    @property
    def has_package(self) -> bool:
        """Whether earlyoom is installed."""
        return (self.root / PROGRAM.lstrip("/")).exists()

    def service(self) -> dict[str, str]:
        """Return systemd's properties of earlyoom.

        Raises:
            GuardError: systemd does not answer.
        """
        return self._show(SERVICE, "ActiveState", "UnitFileState", "MainPID", "NeedDaemonReload")

    def manager(self) -> dict[str, str]:
        """Return systemd's properties of its watchdog.

        Raises:
            GuardError: systemd does not answer.
        """
        return self._show("", "RuntimeWatchdogUSec", "WatchdogLastPingTimestampMonotonic")

    def _show(self, unit: str, *properties: str) -> dict[str, str]:
        code, out, err = self.run(["systemctl", "show", *filter(None, [unit]), f"--property={','.join(properties)}"])
        if code != 0:
            raise GuardError(f"systemctl show failed: {last_line(out, err)}; is systemd running on this node?")
        return dict(line.partition("=")[::2] for line in out.splitlines())

    def command(self, pid: str) -> list[str]:
        """Return the command that a process runs; nothing where there is none."""
        return read_text(self.root / "proc" / pid / "cmdline").rstrip("\0").split("\0") if pid.isdigit() else []

    @property
    def min_free_kib(self) -> int | None:
        """What the kernel keeps free now, in KiB; None where it does not say."""
        text = read_text(self.root / MIN_FREE).strip()
        return int(text) if text.isdigit() else None

    @property
    def has_watchdog(self) -> bool:
        """Whether there is a watchdog that is this node's own."""
        return not self.is_container and any((self.root / "dev").glob("watchdog*"))

    @property
    def watchdog(self) -> str:
        """Time after which the watchdog restarts the machine, in systemd's words; empty where systemd holds none."""
        found = self.manager()
        # The time is what was asked for, also where the device could not be opened: only a ping tells that it was.
        held = found.get("WatchdogLastPingTimestampMonotonic", "0") not in ("0", "", _NEVER)
        return found.get("RuntimeWatchdogUSec", "") if held else ""


class Guard(Changes):
    """Brings the parts of the guard to what is wanted; ``actions`` says what was done, ``notes`` what was left out and why."""

    def __init__(self, wanted: Wanted, node: Node, check: bool) -> None:
        super().__init__(check)
        self.wanted = wanted
        self.node = node
        self.notes: list[str] = []
        self.missing: list[str] = []

    def apply(self) -> None:
        """Bring all parts to what is wanted.

        Raises:
            GuardError: systemd refuses; one sentence.
            OSError: a file cannot be written.
        """
        for part in (self._earlyoom, self._min_free, self._watchdog, self._journal):
            part()

    def _file(self, place: Path, text: str) -> bool:
        """Write a file, or remove it where its text is empty; return whether it differed."""
        path = self.node.root / place
        return self.write(path, text) if text else self.remove(path)

    def _systemctl(self, *arguments: str) -> None:
        if self.check:
            return
        code, out, err = self.node.run(["systemctl", *arguments])
        if code != 0:
            raise GuardError(f"systemctl {' '.join(arguments)} failed: {last_line(out, err)}")

    def _do(self, action: str, *arguments: str) -> None:
        self.actions.append(action)
        self._systemctl(*arguments)

    def _earlyoom(self) -> None:
        if not self.wanted.earlyoom:
            # Without our file it is somebody else's earlyoom, and stays as it is.
            if self._file(UNIT_FILE, ""):
                # Another drop-in may lie beside it.
                with contextlib.suppress(OSError):
                    (self.node.root / UNIT_FILE.parent).rmdir()
                self._systemctl("daemon-reload")
                if self.node.has_package:
                    self._do(f"stopped and disabled {SERVICE}", "disable", "--now", SERVICE)
            return
        written = self._file(UNIT_FILE, _unit_text(self.wanted.min_available_gib))
        if not self.node.has_package:
            self.missing = [PACKAGE]
            return
        state = self.node.service()
        if written or state.get("NeedDaemonReload") == "yes":
            self._systemctl("daemon-reload")
        if state.get("UnitFileState") != "enabled":
            self._do(f"enabled {SERVICE} at boot", "enable", SERVICE)
        running = state.get("ActiveState") == "active"
        # What counts is what runs: a restart that a broken run left out is caught up.
        wanted = earlyoom_command(self.wanted.min_available_gib)
        if written or not running or self.node.command(state.get("MainPID", "")) != wanted:
            self._do(f"{'restarted' if running else 'started'} {SERVICE}", "restart", SERVICE)

    def _min_free(self) -> None:
        file = read_text(self.node.root / SYSCTL_FILE)
        now = self.node.min_free_kib
        if self.node.is_container or now is None:
            if self.wanted.min_free_mib:
                self.notes.append(
                    "vm.min_free_kbytes is left alone: this node is a container, and its kernel belongs to another machine"
                    if self.node.is_container
                    else "vm.min_free_kbytes is left alone: the kernel does not show it"
                )
            return
        remembered = _OWN.search(file)
        own = int(remembered[1]) if remembered else now
        target = max(own, self.wanted.min_free_mib * 1024)
        ours = re.search(r"^vm\.min_free_kbytes = (\d+)$", file, re.MULTILINE)
        text = f"{_WRITTEN}# In KiB; the kernel's own value: {own}\nvm.min_free_kbytes = {target}\n"
        if target == own and self.wanted.min_free_mib:
            self.notes.append(f"vm.min_free_kbytes stays at the kernel's own {own}, which is not less than asked for")
        self._file(SYSCTL_FILE, text if target > own else "")
        # What somebody else raised beyond ours stays; what we raised goes down again when less is asked for.
        if now < target or (ours and now == int(ours[1]) and now != target):
            self.actions.append(f"set vm.min_free_kbytes from {now} to {target}")
            if not self.check:
                (self.node.root / MIN_FREE).write_text(f"{target}\n", encoding="ascii")

    def _watchdog(self) -> None:
        ours = (self.node.root / WATCHDOG_FILE).exists()
        reason = self._why_no_watchdog(ours) if self.wanted.watchdog_seconds else ""
        if reason:
            self.notes.append(f"the hardware watchdog is left alone: {reason}")
        wanted = self.wanted.watchdog_seconds if not reason else 0
        text = _WRITTEN + render([("Manager", [("RuntimeWatchdogSec", str(wanted))])]) if wanted else ""
        if not self._file(WATCHDOG_FILE, text):
            return
        self._systemctl("daemon-reload")
        if wanted and not self.check and not self.node.watchdog:
            self.notes.append(
                "systemd did not take the hardware watchdog: see `journalctl --boot _PID=1 --grep watchdog`"
            )

    def _journal(self) -> None:
        lines = [("SystemMaxUse", f"{round(self.wanted.journal_gib * 1024)}M")]
        if self.wanted.journal_days:
            # What is too old goes file by file: none may span much more than a day.
            lines += [("MaxRetentionSec", f"{self.wanted.journal_days}day"), ("MaxFileSec", "1day")]
        if self._file(JOURNAL_FILE, _WRITTEN + render([("Journal", lines)]) if self.wanted.journal_gib else ""):
            # Units keep their streams: systemd holds them meanwhile.
            self._do("restarted systemd-journald", "restart", "systemd-journald.service")

    def _why_no_watchdog(self, ours: bool) -> str:
        """Say why systemd must not take the hardware watchdog; nothing where it may."""
        if self.node.is_container:
            return "this node is a container"
        if not self.node.has_watchdog:
            return "the machine has none (no /dev/watchdog; on a Spark it is the kernel module sbsa_gwdt)"
        if holders := watchdog_holders(self.node.root):
            return f"{', '.join(holders)} holds it"
        if not ours and self.node.watchdog:
            return f"systemd holds it already, by another file, with {self.node.watchdog}"
        return ""


def guard_findings(node: Node, journal: str) -> Iterator[Finding]:
    """Yield how the guard's parts stand, and what earlyoom did.

    Args:
        node: the node.
        journal: earlyoom's journal of the span that is asked for.

    Raises:
        GuardError: systemd does not answer.
    """
    ended = ended_by(journal)
    if ended:
        yield Finding(
            "node.guard_acted",
            YELLOW,
            "guard",
            f"memory ran out and earlyoom ended {len(ended)} process{'es' * (len(ended) > 1)}, last: {ended[-1][:160]}",
            "lower vllm_serve_gpu_memory_utilization, or stop what else runs on the node",
        )
    unit = read_text(node.root / UNIT_FILE)
    limit = re.search(r" -M (\d+),", unit)
    active = node.service().get("ActiveState") == "active"
    if limit and not active:
        yield Finding(
            "node.guard_off",
            RED,
            "guard",
            "earlyoom does not run: memory that runs out freezes the node",
            f"see `journalctl --unit {PACKAGE}`, and run site.yml again",
        )
        return
    if not node.is_container and (node.root / WATCHDOG_FILE).exists() and not node.watchdog:
        yield Finding(
            "node.watchdog_off",
            YELLOW,
            "guard",
            "systemd did not take the hardware watchdog: a frozen node waits for a hand on its plug",
            "see `journalctl --boot _PID=1 --grep watchdog`; node_guard_watchdog_seconds: 0 does without",
        )
        return
    if ended:
        return
    parts = [
        f"earlyoom ends ranks below {int(limit[1]) / _KIB_PER_GIB:g} GiB of available memory" if limit else _UNGUARDED
    ]
    if not node.is_container:
        seconds = node.watchdog
        parts.append(
            f"the hardware watchdog restarts a frozen machine after {seconds}"
            if seconds
            else f"{'systemd holds no' if node.has_watchdog else 'the machine has no'} hardware watchdog"
        )
    yield fine("node", "guard", "; ".join(parts))


def facts(node: Node) -> dict[str, Any]:
    """Return the state of the guard's parts as plain data.

    Raises:
        GuardError: systemd does not answer.
    """
    return {
        "earlyoom": node.service().get("ActiveState") == "active",
        "min_free_kib": node.min_free_kib,
        "watchdog": "" if node.is_container else node.watchdog,
        "watchdog_device": node.has_watchdog,
    }
