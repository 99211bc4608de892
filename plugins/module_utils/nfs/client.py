# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Brings a node to the wanted mount, or takes all of it away; nothing here ever hangs on a server that is gone."""

from __future__ import annotations

import socket
from pathlib import Path

from .share import (
    CLIENT_CONF,
    CLIENT_PACKAGE,
    CLIENT_PROGRAM,
    LEGACY,
    PORT,
    SERVER_CONF,
    UNITS,
    Changes,
    NfsError,
    NfsMount,
    detach,
    escape_path,
    is_nfs,
    mount_differences,
    mounted_at,
    mounts_here,
    old_mounts,
    other_exports,
    own_paths,
    probe,
    set_read_ahead,
    start_mount,
    unit_states,
)


class Client:
    """Brings this node to the wanted mount."""

    def __init__(self, desired: NfsMount, changes: Changes, v4_only: bool) -> None:
        self.desired = desired
        self.changes = changes
        self.v4_only = v4_only
        self.hidden: list[str] = []

    def mounted(self) -> list[str]:
        """Mount, or see that it is mounted; return the packages that are missing for it."""
        desired, changes = self.desired, self.changes
        seen = mounted_at(mounts_here(), desired.path)
        # Something of somebody else: a disk, or another server's folder.
        if seen is not None and desired.path not in own_paths(UNITS) and seen.source != desired.source:
            raise NfsError(
                f"{desired.path} is a mount point already ({seen.kind} from {seen.source}): set spark_store_path to another "
                "folder, or model_share_method: copy."
            )
        v4_only = self.v4_only and not other_exports() and not old_mounts(mounts_here())
        if v4_only:
            # Before the package comes: installing it starts what is not masked.
            changes.mask_legacy(unit_states(LEGACY))
        if not Path(CLIENT_PROGRAM).exists():
            return [CLIENT_PACKAGE]
        for path in own_paths(UNITS):
            if path != desired.path:
                take_away(path, changes)
        if seen is None:
            self.look_below()
        changes.write(CLIENT_CONF, desired.conf(v4_only))
        rewritten = changes.write(UNITS / desired.mount_unit, desired.mount_text())
        rewritten = changes.write(UNITS / desired.automount_unit, desired.automount_text()) or rewritten
        states = unit_states([desired.automount_unit, desired.mount_unit])
        if rewritten or any(unit.need_reload for unit in states.values()):
            changes.command(["systemctl", "daemon-reload"])
        if states[desired.automount_unit].enabled != "enabled":
            changes.command(
                ["systemctl", "enable", desired.automount_unit], f"enabled {desired.automount_unit} at boot"
            )
        wrong = mount_differences(desired, seen)
        if is_nfs(seen) and (rewritten or wrong):
            changes.actions.append(f"unmounted {desired.path}: {'; '.join(wrong) or 'its units changed'}")
            if not changes.check:
                detach(desired)
            seen = None
        if states[desired.automount_unit].active != "active":
            self.automount(is_nfs(seen))
            seen = None if not changes.check else seen
        self.mount_now()
        return []

    def look_below(self) -> None:
        """Note what the mount is going to hide; nothing is mounted there, so that looking is safe."""
        folder = Path(self.desired.path)
        if folder.is_dir():
            self.hidden = sorted(path.name for path in folder.iterdir())

    def automount(self, covered: bool) -> None:
        """Start the automount unit; it cannot start over a mount that is in force."""
        desired, changes = self.desired, self.changes
        if covered and not changes.check:
            detach(desired)
        if not changes.check:
            changes.run(["systemctl", "reset-failed", desired.automount_unit], 10)
        changes.command(["systemctl", "start", desired.automount_unit], f"started {desired.automount_unit}")

    def mount_now(self) -> None:
        """Mount where nothing is mounted, ask the server for a sign, set the read-ahead."""
        desired, changes = self.desired, self.changes
        seen = mounted_at(mounts_here(), desired.path)
        mounted = is_nfs(seen)
        answers = probe(desired.path) if mounted else ""
        if answers == "stale" and not changes.check:
            detach(desired)
        if not mounted or answers == "stale":
            # An automount that waits for its first reader is what was wanted: mounting then is no change.
            if mounted or seen is None or changes.actions:
                changes.actions.append(f"mounted {desired.source} on {desired.path}")
            if changes.check:
                return
            self.reach_server()
            reason = start_mount(desired)
            if reason:
                raise NfsError(f"{desired.source} cannot be mounted on this node: {reason}.")
            seen = mounted_at(mounts_here(), desired.path)
            answers = probe(desired.path) if is_nfs(seen) else "it is not in the table of mounts"
        if answers:
            self.reach_server()
            raise NfsError(f"{desired.source} is mounted on {desired.path} but does not answer: {answers}.")
        wrong = mount_differences(desired, seen)
        if wrong and not changes.check:
            raise NfsError(
                f"{desired.path} is mounted, but not as desired: {'; '.join(wrong)}; see `nfsstat -m` on this node."
            )
        if seen is not None and set_read_ahead(seen, desired.read_ahead_kib, check=changes.check):
            changes.actions.append(f"set the read-ahead of {desired.path} to {desired.read_ahead_kib} KiB")

    def reach_server(self) -> None:
        """Raise NfsError where the server's port does not answer: the one thing that says why a mount hangs."""
        try:
            with socket.create_connection((self.desired.server, PORT), timeout=5):
                return
        except OSError as error:
            raise NfsError(
                f"{self.desired.server}:{PORT} does not answer from this node ({error.strerror or error}): see that the link is up on "
                "both nodes, that nfs-server runs on the other one, and that no firewall closes the port."
            ) from None

    def options(self) -> list[str]:
        """Return the options in force."""
        seen = mounted_at(mounts_here(), self.desired.path)
        return sorted(seen.options) if seen is not None and is_nfs(seen) else []


def take_away(path: str, changes: Changes) -> None:
    """Unmount a folder that this module mounted, and remove its units."""
    name = escape_path(path)
    units = [f"{name}.automount", f"{name}.mount"]
    states = unit_states(units)
    if is_nfs(mounted_at(mounts_here(), path)):
        changes.actions.append(f"unmounted {path}")
    if not changes.check:
        # The automount first: whoever touches the folder meanwhile would mount it again.
        for unit in units:
            changes.run(["systemctl", "stop", unit], 60)
        if is_nfs(mounted_at(mounts_here(), path)):
            changes.command(["umount", "--lazy", "--force", "--no-canonicalize", path])
    if states[units[0]].enabled == "enabled":
        changes.command(["systemctl", "disable", units[0]], f"disabled {units[0]}")
    for unit in units:
        changes.remove(UNITS / unit)
    if not changes.check:
        changes.command(["systemctl", "daemon-reload"])
        changes.run(["systemctl", "reset-failed", *units], 10)


def absent(changes: Changes) -> None:
    """Unmount what this module mounted and remove all that it wrote; nothing there is no change."""
    for path in own_paths(UNITS):
        take_away(path, changes)
    if changes.remove(CLIENT_CONF) and not SERVER_CONF.exists():
        changes.unmask_legacy(unit_states(LEGACY))
