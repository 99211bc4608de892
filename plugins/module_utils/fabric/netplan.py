# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""netplan for the fabric: what is there, what has to be added, and a way back that needs nobody.

What others configured is respected. A file of our own adds what is missing and never names an address twice: netplan merges lists over files, so
that an interface would end up with both. A change is armed before it is applied: unless it is confirmed over a connection made after it, a timer
puts the old files back, and so does a boot in between.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..system import timer
from ..system.files import read_json, write_atomic
from ..system.run import Runner, said
from .link import FabricError, Rail

#: Ours. It sorts after NVIDIA Sync's 99-nvidia-sync-cluster.yaml: of a scalar the last file's counts.
OWN_FILE = Path("/etc/netplan/99-zz-dgx-spark-fabric.yaml")
FOLDERS = (Path("/lib/netplan"), Path("/etc/netplan"), Path("/run/netplan"))
#: What netplan does not read, for files put aside.
ASIDE = ".dgx-spark-aside"
STATE = Path("/var/lib/dgx-spark/fabric")
UNITS = Path("/etc/systemd/system")
ROLLBACK = "dgx-spark-fabric-rollback"
GUARD = f"{ROLLBACK}-boot.service"
HEADER = "# Written by dgx_spark.vllm, role fabric: the QSFP link between the nodes. It only adds to what the other files here say.\n"
_NM_FILE = re.compile(r"90-NM-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_STACKED = {"bonds": "bond", "bridges": "bridge", "vrfs": "VRF"}

Run = Callable[[Sequence[str], float], tuple[int, str]]


# --- what is there ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Definition:
    """What one file says of one entry of ``ethernets``; ``renderer`` is the one that the file gives to all of its ``ethernets``."""

    path: str
    name: str
    body: Mapping[str, Any]
    renderer: str = ""

    def covers(self, interface: str, mac: str) -> bool:
        """Say whether the entry is about the interface: by its name, or by what it matches."""
        match = self.body.get("match")
        if not isinstance(match, Mapping):
            return self.name == interface
        # NetworkManager stores a profile that is bound to no interface as an entry that matches all of them; it configures none of itself.
        if not match:
            return False
        if "name" in match and not fnmatch.fnmatchcase(interface, str(match["name"])):
            return False
        if "macaddress" in match and str(match["macaddress"]).lower() != mac.lower():
            return False
        if "driver" in match:
            drivers = match["driver"] if isinstance(match["driver"], list) else [match["driver"]]
            return any(fnmatch.fnmatchcase("mlx5_core", str(driver)) for driver in drivers)
        return True

    def profile(self) -> str:
        """Return the UUID of the NetworkManager profile that the entry is the copy of; empty for none.

        NetworkManager writes such a file from the profile, so that it is the profile that has to be changed.
        """
        kept = self.body.get("networkmanager")
        if isinstance(kept, Mapping) and kept.get("uuid"):
            return str(kept["uuid"])
        found = _NM_FILE.match(Path(self.path).name)
        return found[1] if found else ""


def effective_files(files: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return (path, content of ``network``) in netplan's order: by file name, of one name /run before /etc before /lib."""
    by_name: dict[str, str] = {}
    for path in sorted(
        files, key=lambda path: next((place for place, folder in enumerate(FOLDERS) if Path(path).parent == folder), 1)
    ):
        by_name[Path(path).name] = path
    found = []
    for name in sorted(by_name):
        content = files[by_name[name]]
        network = content.get("network") if isinstance(content, Mapping) else None
        if isinstance(network, Mapping):
            found.append((by_name[name], network))
    return found


def definitions(files: Mapping[str, Any]) -> list[Definition]:
    """Return what each file says of each entry of ``ethernets``, in netplan's order."""
    found = []
    for path, network in effective_files(files):
        ethernets = network.get("ethernets")
        entries = ethernets if isinstance(ethernets, Mapping) else {}
        renderer = str(entries.get("renderer") or "")
        for name, body in entries.items():
            if name != "renderer":
                found.append(Definition(path, str(name), body if isinstance(body, Mapping) else {}, renderer))
    return found


def renderer_of(files: Mapping[str, Any], interface: str) -> str:
    """Return who configures the interface.

    The entry's own counts before that of ``ethernets`` in the file that brings the entry up first, and that before the global one, which is that
    of the last file that has one, whichever file the entry is in (netplan, parse.c).
    """
    own = [found for found in definitions(files) if found.name == interface]
    said = [str(found.body["renderer"]) for found in own if found.body.get("renderer")]
    for_all = [str(network["renderer"]) for _path, network in effective_files(files) if network.get("renderer")]
    return (said or [found.renderer for found in own[:1] if found.renderer] or for_all or ["networkd"])[-1]


def stacked_on(files: Mapping[str, Any], interface: str) -> str:
    """Return what uses the interface as a part of itself, in words; empty for nothing."""
    for path, network in effective_files(files):
        for kind, word in _STACKED.items():
            group = network.get(kind)
            for name, body in group.items() if isinstance(group, Mapping) else ():
                if isinstance(body, Mapping) and interface in (body.get("interfaces") or []):
                    return f"{word} {name} in {path}"
    return ""


def addresses_of(body: Mapping[str, Any]) -> list[str]:
    """Return the IPv4 addresses of an entry; one with options is a mapping whose key is the address."""
    found = []
    for entry in body.get("addresses") or []:
        text = next(iter(entry), "") if isinstance(entry, Mapping) else entry
        if ":" not in str(text):
            found.append(str(text))
    return found


# --- what is to be added ----------------------------------------------------------------------------------------


@dataclass
class Plan:
    """What to write: ``text`` of our own file (None: none is needed), ``aside`` files to put aside, ``problems`` that forbid it.

    ``notes`` say what was left as found, in words.
    """

    text: str | None = None
    aside: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan_netplan(
    files: Mapping[str, Any],
    rails: Sequence[Rail],
    macs: Mapping[str, str],
    mtu: int,
    replace: bool = False,
    ports: Sequence[str] = (),
) -> Plan:
    """Return what has to be written so that each rail has its address and nothing else.

    Args:
        files: every YAML file of netplan's folders, parsed, by its path; our own among them is not counted.
        rails: interfaces with their addresses.
        macs: hardware address of each interface.
        mtu: bytes.
        replace: put files aside that configure the rails otherwise, where they hold nothing but QSFP ports.
        ports: interfaces of all QSFP ports, less those by which the node is reached; what a file says of them may go with it.
    """
    plan = Plan()
    others = {path: content for path, content in files.items() if Path(path) != OWN_FILE}
    conflicts: dict[str, list[str]] = {}
    profiles: dict[str, str] = {}
    for rail in rails:
        if user := stacked_on(others, rail.interface):
            plan.problems.append(
                f"{rail.interface} is a part of {user}: NCCL needs the bare interface with an address of its own; take it out there"
            )
        for found in definitions(others):
            if found.covers(rail.interface, macs.get(rail.interface, "")):
                if found.name != rail.interface:
                    plan.problems.append(
                        f"entry {found.name!r} in {found.path} matches {rail.interface} too: {_remedy(found)}"
                    )
                elif reason := _conflict(found, rail):
                    conflicts.setdefault(found.path, []).append(reason)
                    profiles.setdefault(found.path, found.profile())
    names = {rail.interface for rail in rails}
    for path, reasons in conflicts.items():
        strangers = _strangers(others[path], names | set(ports))
        if not replace:
            away = (
                f"take NetworkManager's profile away with `nmcli connection delete {profiles[path]}`"
                if profiles[path]
                else "fabric_replace_netplan: true to put that file aside"
            )
            plan.problems.append(
                f"{path} {'; '.join(reasons)}: set spark_fabric_address or fabric_addresses to what is there, or {away}"
            )
        elif strangers or Path(path).parent != FOLDERS[1]:
            where = f"it also configures {', '.join(strangers)}" if strangers else "it is not in /etc/netplan"
            plan.problems.append(
                f"{path} {'; '.join(reasons)} and cannot be put aside, since {where}: take the fabric's entries out of it by hand"
            )
        else:
            plan.aside.append(path)
            plan.notes += _gone(others, path, names)
    kept = {path: content for path, content in others.items() if path not in plan.aside}
    entries = {rail.interface: _missing(kept, rail, mtu, plan) for rail in rails}
    entries = {name: entry for name, entry in entries.items() if entry}
    plan.notes += [
        f"{rail.interface} was left without an address by {found.path} and gets {rail.address}: name the interfaces in fabric_interfaces and set "
        "fabric_accept_one_twin: true to leave it unused"
        for rail in rails
        for found in definitions(kept)
        if found.name == rail.interface
        and "addresses" in entries.get(rail.interface, {})
        and not addresses_of(found.body)
    ]
    plan.text = render(entries) if entries else None
    return plan


def _remedy(found: Definition) -> str:
    match = found.body.get("match")
    # A pattern may stand for the management network as well: such a profile is not to be deleted.
    single = isinstance(match, Mapping) and ("macaddress" in match or not set("*?[") & set(str(match.get("name", "*"))))
    if found.profile() and single:
        return f"take NetworkManager's profile away with `nmcli connection delete {found.profile()}`"
    if found.profile():
        return f"bind NetworkManager's profile to its own interface with `nmcli connection modify {found.profile()} connection.interface-name NAME`"
    return "narrow its match, so that it leaves the fabric's interfaces alone"


def _gone(files: Mapping[str, Any], path: str, names: set[str]) -> list[str]:
    """Say what was put aside with a file, of ports that are no part of the link."""
    return [
        f"{', '.join(addresses_of(found.body)) or 'what was set'} of {found.name} went with {path}, since that port is no part of the link"
        for found in definitions(files)
        if found.path == path and found.name not in names
    ]


def _conflict(found: Definition, rail: Rail) -> str:
    strange = [address for address in addresses_of(found.body) if address != rail.address]
    if strange:
        return f"gives {rail.interface} the address {', '.join(strange)}, not {rail.address}"
    if found.body.get("dhcp4") is True:
        return f"asks for an address of {rail.interface} by DHCP instead of {rail.address}"
    if "ipv4" in (found.body.get("link-local") or []):
        return f"gives {rail.interface} a made-up link-local address instead of {rail.address}"
    return ""


def _strangers(content: Any, names: set[str]) -> list[str]:
    """Return what a file configures besides the rails."""
    network = content.get("network") or {}
    found = []
    for key, value in network.items():
        if key in ("version", "renderer"):
            continue
        if key == "ethernets" and isinstance(value, Mapping):
            found += [str(name) for name in value if name not in names and name != "renderer"]
        else:
            found.append(str(key))
    return found


def _missing(files: Mapping[str, Any], rail: Rail, mtu: int, plan: Plan) -> dict[str, Any]:
    """Return the entry that adds to the others what the rail still lacks."""
    merged: dict[str, Any] = {}
    renderer = renderer_of(files, rail.interface)
    held: list[str] = []
    configured = False
    for found in definitions(files):
        if found.name == rail.interface:
            configured = True
            merged.update(found.body)
            held += addresses_of(found.body)
    entry: dict[str, Any] = {}
    if rail.address not in held:
        entry["addresses"] = [rail.address]
    if not configured:
        # Only networkd can hold an address without a carrier, that is while the other node is off (netplan: "networkd back end only").
        entry["renderer"] = "networkd"
    elif renderer == "NetworkManager":
        plan.notes.append(
            f"{rail.interface} stays with NetworkManager, as it was found; its address comes only while the other node is on"
        )
    wanted: dict[str, Any] = {"dhcp4": False, "dhcp6": False, "link-local": [], "mtu": mtu}
    if not configured or renderer == "networkd":
        wanted |= {"optional": True, "ignore-carrier": True}
    # What netplan does where a key is missing: no DHCP, but an IPv6 link-local address, and the boot waits.
    silent: dict[str, Any] = {"dhcp4": False, "dhcp6": False}
    for key, value in wanted.items():
        if merged.get(key, silent.get(key) if configured else None) != value:
            entry[key] = value
    return entry


def render(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Return our file: YAML as netplan wants it."""
    lines = [HEADER + "network:", "  version: 2", "  ethernets:"]
    for name in sorted(entries):
        lines.append(f"    {name}:")
        lines += [f"      {key}: {_scalar(entries[name][key])}" for key in sorted(entries[name])]
    return "\n".join(lines) + "\n"


def _scalar(value: Any) -> str:
    # Of everything that stands here JSON is YAML as well: numbers, true, false, lists and quoted texts.
    return value if isinstance(value, str) and value.isalnum() else json.dumps(value)


# --- the change, and the way back -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A file as it shall be: its content, or None for none."""

    path: Path
    content: str | None
    moved_to: Path | None = None


def steps_of(plan: Plan, own: Path = OWN_FILE) -> list[Step]:
    """Return the files to change, those only that differ."""
    steps = [Step(Path(path), None, Path(path + ASIDE)) for path in plan.aside]
    before = own.read_text(encoding="utf-8") if own.exists() else None
    if before != plan.text or (before is not None and own.stat().st_mode & 0o777 != 0o600):
        steps.append(Step(own, plan.text))
    return steps


class Rollback:
    """The state of a change that waits for its confirmation.

    ``pending.json`` is there while it waits. Whoever moves it away first, the confirmation or the way back, has won; the other one does nothing.
    The way back moves it to ``restoring.json``, which stays until all is back, so that one that was cut off starts over with the next boot.
    """

    def __init__(self, run: Runner, state: Path = STATE, units: Path = UNITS) -> None:
        self.run = run
        self.state = state
        self.units = units
        self.pending_file = state / "pending.json"
        self.restoring_file = state / "restoring.json"
        self.undone_file = state / "rolled-back.json"
        self.script = state / "restore.sh"

    def pending(self) -> dict[str, Any] | None:
        """Return what waits: ``since``, ``seconds`` and ``files``."""
        return read_json(self.pending_file)

    def undone(self) -> dict[str, Any] | None:
        """Return the last change that was taken back, or is on its way back, until the next one is made."""
        return read_json(self.restoring_file) or read_json(self.undone_file)

    def arm(self, steps: Sequence[Step], seconds: int) -> None:
        """Save what the steps will change and start the timer.

        Raises:
            FabricError: systemd does not take the timer, or an earlier way back was cut off; nothing is changed then.
        """
        if self.restoring_file.exists():
            # What it still has to bring back is in the folder that the next lines would empty.
            self.restore()
            raise FabricError("an earlier change was being rolled back, which was finished first: run again")
        shutil.rmtree(self.state / "backup", ignore_errors=True)
        (self.state / "backup").mkdir(mode=0o700, parents=True)
        self.undone_file.unlink(missing_ok=True)
        lines = [
            "#!/bin/sh",
            "# Puts netplan back as it was before a change that nobody confirmed.",
            f"cd {shlex.quote(str(self.state))} || exit 1",
        ]
        # Timer, guard and module one after the other. The lock is not handed to what `netplan apply` starts.
        lines += ["exec 9>restore.lock", "flock 9"]
        lines.append("[ -e restoring.json ] || mv pending.json restoring.json 2>/dev/null || exit 0")
        for place, step in enumerate(steps):
            target = shlex.quote(str(step.path))
            if step.path.exists():
                shutil.copy2(step.path, self.state / "backup" / str(place))
                lines.append(f"cp -p backup/{place} {target}.new && mv {target}.new {target}")
            else:
                lines.append(f"rm -f {target}")
            if step.moved_to is not None:
                lines.append(f"rm -f {shlex.quote(str(step.moved_to))}")
        lines += [
            "netplan apply 9>&-",
            "mv restoring.json rolled-back.json",
            f"rm -f {self._guard_link()} {self._guard()}",
            "",
        ]
        write_atomic(self.script, "\n".join(lines), 0o700)
        # A unit that systemd finds at the next boot without a daemon-reload now: that would take the GPU from containers with the legacy hook.
        write_atomic(
            self._guard(),
            "[Unit]\nDescription=Takes back a change of the fabric's netplan that was not confirmed before the reboot\n"
            f"ConditionPathExists=|{self.pending_file}\nConditionPathExists=|{self.restoring_file}\nAfter=network.target\n\n"
            f"[Service]\nType=oneshot\nExecStart=/bin/sh {self.script}\n",
        )
        self._guard_link().parent.mkdir(parents=True, exist_ok=True)
        self._guard_link().unlink(missing_ok=True)
        self._guard_link().symlink_to(self._guard())
        waiting = {"since": int(time.time()), "seconds": seconds, "files": [str(step.path) for step in steps]}
        write_atomic(self.pending_file, json.dumps(waiting))
        description = "Takes back a change of the fabric's netplan that nobody confirmed"
        if why := timer.arm(self.run, ROLLBACK, seconds, description, self.script):
            self.disarm()
            raise FabricError(f"the rollback could not be scheduled ({why}), so netplan was left as it is")

    def apply(self, steps: Sequence[Step]) -> None:
        """Write the files, let netplan check them, and apply them; whatever fails is taken back at once.

        Raises:
            FabricError: netplan refuses the files, or applying them failed.
        """
        for step in steps:
            if step.moved_to is not None:
                step.path.replace(step.moved_to)
            elif step.content is None:
                step.path.unlink(missing_ok=True)
            else:
                write_atomic(step.path, step.content, 0o600)
        for argv in (["netplan", "generate"], ["netplan", "apply"]):
            status, out, err = self.run(argv, 120)
            if status:
                self.restore()
                reason = " ".join(said(out, err).split())[:300] or f"exit status {status}"
                raise FabricError(f"`{' '.join(argv)}` failed, and the old files are back: {reason}")

    def restore(self) -> None:
        """Take the change back now."""
        self.run(["/bin/sh", str(self.script)], 180)
        timer.disarm(self.run, ROLLBACK)

    def disarm(self) -> bool:
        """Confirm the change; return whether one waited."""
        try:
            self.pending_file.replace(self.state / "confirmed.json")
        except FileNotFoundError:
            return False
        timer.disarm(self.run, ROLLBACK)
        self._guard_link().unlink(missing_ok=True)
        self._guard().unlink(missing_ok=True)
        return True

    def _guard(self) -> Path:
        return self.units / GUARD

    def _guard_link(self) -> Path:
        return self.units / "multi-user.target.wants" / GUARD
