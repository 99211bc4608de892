# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Two machines made of one: network, host name, IPC, processes and mounts of their own, joined by a cable of Ethernet (veth).

NCCL and Ray take them for two hosts: their names, addresses and ``/dev/shm`` differ. A second cable leads from outside to the first
host, so that clients and watchers are not on the one that is measured and cut. Needs Linux, root, util-linux and iproute2. Nothing is
left behind: the namespaces end with their first processes.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import node_state

#: The cable between the hosts, and the one from outside to the first host; the interface outside is CONTROL_OUTSIDE.
FABRIC, CONTROL, CONTROL_OUTSIDE = "fab0", "ctl0", "twohosts0"
CONTROL_NET = ("192.168.101.1", "192.168.101.2")
#: A host ends with the program that made it, however that ends.
_BOOT = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    "unshare",
    "--net",
    "--mount",
    "--uts",
    "--ipc",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)
#: What a host is: its first process. Where SIGCHLD is ignored the kernel buries orphans by itself (wait(2)).
_INIT = (
    'echo "$0" > /proc/sys/kernel/hostname && mkdir -p /tmp/ray && mount -t tmpfs -o size=8g tmpfs /tmp/ray'
    " && mount -t tmpfs -o size=24g tmpfs /dev/shm && ip link set lo up && trap '' CHLD && echo up && exec sleep infinity"
)


class HostError(Exception):
    """The hosts cannot be made; one sentence."""


@dataclass(frozen=True)
class Host:
    """One of the two: name, address on the fabric, GPU, and the process id of its first process, as seen from outside."""

    name: str
    address: str
    gpu: int
    pid: int

    def enter(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs a program on this host."""
        return ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--", *argv]


@dataclass(frozen=True)
class Limit:
    """What holds the fabric up: microseconds on the way out of each host, and megabits a second; 0 for nothing."""

    name: str
    delay_us: float = 0.0
    rate_mbit: float = 0.0


def missing() -> str:
    """Return what is missing to make hosts here, or an empty text."""
    if os.geteuid() != 0:
        return "two hosts need root: namespaces and interfaces are made"
    for program in ("setpriv", "unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            return f"two hosts need {program}: install util-linux and iproute2"
    return ""


def taken(net: Path = Path("/sys/class/net")) -> str:
    """Say that other hosts are there already, or return an empty text: their names and containers are the same."""
    if (net / CONTROL_OUTSIDE).exists():
        return f"two hosts are on this machine already: wait for that run, or delete interface {CONTROL_OUTSIDE}"
    return ""


def cable_commands(first: int, second: int, addresses: Sequence[str], mtu: int = 9000) -> list[list[str]]:
    """Return the commands that lay both cables between the hosts whose first processes these are."""
    inside = [["nsenter", f"--target={pid}", "--net", "--", "ip"] for pid in (first, second)]
    ends = ["type", "veth", "peer", "name"]
    near, far = ([FABRIC, "mtu", str(mtu), "netns", str(pid)] for pid in (first, second))
    commands = [
        ["ip", "link", "add", "name", *near, *ends, *far],
        ["ip", "link", "add", "name", CONTROL_OUTSIDE, *ends, CONTROL, "netns", str(first)],
        ["ip", "address", "add", f"{CONTROL_NET[0]}/30", "dev", CONTROL_OUTSIDE],
        ["ip", "link", "set", CONTROL_OUTSIDE, "up"],
        [*inside[0], "address", "add", f"{CONTROL_NET[1]}/30", "dev", CONTROL],
        [*inside[0], "link", "set", CONTROL, "up"],
    ]
    for ip, address in zip(inside, addresses, strict=True):
        commands += [
            [*ip, "address", "add", f"{address}/24", "dev", FABRIC],
            [*ip, "link", "set", FABRIC, "up"],
        ]
    return commands


def limit_command(limit: Limit) -> list[str]:
    """Return the arguments of ``tc`` that put a limit on one end of the fabric; one of nothing takes it off."""
    if not limit.delay_us and not limit.rate_mbit:
        return ["tc", "qdisc", "del", "dev", FABRIC, "root"]
    command = ["tc", "qdisc", "replace", "dev", FABRIC, "root"]
    rate = ["rate", f"{limit.rate_mbit:g}mbit"] if limit.rate_mbit else []
    if not limit.delay_us:
        # Two of the greatest packets at once; the queue holds what TCP has on its way.
        return [*command, "tbf", *rate, "burst", "128kb", "latency", "100ms"]
    # More packets than TCP ever has on its way: they wait, none is lost.
    return [*command, "netem", "limit", "200000", "delay", f"{limit.delay_us:g}us", *rate]


class Pair:
    """Two hosts; ``with`` ends them with everything on them.

    Raises:
        HostError: they cannot be made here.
    """

    ADDRESSES = ("192.168.100.10", "192.168.100.11")

    def __init__(self, names: Sequence[str] = ("spark-1", "spark-2")) -> None:
        if reason := missing() or taken():
            raise HostError(reason)
        self._children: list[subprocess.Popen[str]] = []
        hosts = []
        try:
            for number, name in enumerate(names):
                hosts.append(Host(name, self.ADDRESSES[number], number, self._boot(name)))
            for command in cable_commands(hosts[0].pid, hosts[1].pid, self.ADDRESSES):
                _must(command)
        except BaseException:
            self.close()
            raise
        self.first, self.second = hosts

    def _boot(self, name: str) -> int:
        child = subprocess.Popen(
            [*_BOOT, "sh", "-c", _INIT, name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._children.append(child)
        assert child.stdout is not None
        said = child.stdout.readline().strip()
        if said != "up":
            raise HostError(f"{name} does not come up: {said or 'no reason given'}")
        return int(Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text(encoding="ascii").split()[0])

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End both hosts; the cables go with them."""
        # The kernel takes namespaces down later; the name outside is wanted again at once.
        _run(["ip", "link", "delete", CONTROL_OUTSIDE])
        for child in self._children:
            child.kill()
            child.wait()

    def cut(self) -> None:
        """Take the fabric down at the second host."""
        _must(self.second.enter(["ip", "link", "set", FABRIC, "down"]))

    def mend(self) -> None:
        """Bring the fabric up again."""
        _must(self.second.enter(["ip", "link", "set", FABRIC, "up"]))

    def limit(self, limit: Limit) -> None:
        """Put a limit on both ends of the fabric.

        Raises:
            HostError: this kernel cannot.
        """
        nothing = not limit.delay_us and not limit.rate_mbit
        for host in (self.first, self.second):
            done = _run(host.enter(limit_command(limit)))
            # Taking off what is not there is no failure.
            if done.returncode and not nothing:
                raise HostError(f"this kernel limits no link: {done.stderr.strip() or done.stdout.strip()}")


def processes(host: Host) -> dict[int, str]:
    """Return the processes of a host but its first, by the process id outside; their command lines. The dead are left out."""
    home = _namespace(host.pid)
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == host.pid:
            continue
        pid = int(entry.name)
        with contextlib.suppress(OSError):
            if _namespace(pid) != home:
                continue
            title = (entry / "cmdline").read_bytes().decode("utf-8", "replace").replace("\0", " ").strip()
            if title:
                found[pid] = title
    return found


def ranks(host: Host) -> list[int]:
    """Return the process ids, outside, of the model's ranks on a host."""
    found = []
    for pid in node_state.ranks():
        with contextlib.suppress(OSError):
            if _namespace(pid) == _namespace(host.pid):
                found.append(pid)
    return found


def end_all(host: Host) -> None:
    """End everything on a host but its first process, as the end of its containers would."""
    signal_all(processes(host), signal.SIGKILL)


def signal_all(pids: Sequence[int] | dict[int, str], number: int) -> None:
    """Send a signal to each; those that are gone are passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def wait_until_gone(host: Host, seconds: float = 20.0) -> bool:
    """Say whether nothing but the first process is left on a host within so many seconds."""
    deadline = time.monotonic() + seconds
    while processes(host):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _namespace(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/pid").readlink())


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(list(command), capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError as error:
        raise HostError(f"{error.filename} is missing: install util-linux and iproute2") from None


def _must(command: Sequence[str]) -> None:
    done = _run(command)
    if done.returncode:
        raise HostError(f"`{shlex.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}")
