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

    def __init__(self, wish: NfsMount, changes: Changes, v4_only: bool) -> None:
        self.wish = wish
        self.changes = changes
        self.v4_only = v4_only
        self.hidden: list[str] = []

    def mounted(self) -> list[str]:
        """Mount, or see that it is mounted; return the packages that are missing for it."""
        wish, changes = self.wish, self.changes
        seen = mounted_at(mounts_here(), wish.path)
        # Something of somebody else: a disk, or another server's folder.
        if seen is not None and wish.path not in own_paths(UNITS) and seen.source != wish.source:
            raise NfsError(
                f"{wish.path} is a mount point already ({seen.kind} from {seen.source}): set spark_store_path to another "
                "folder, or model_share_method: copy."
            )
        v4_only = self.v4_only and not other_exports() and not old_mounts(mounts_here())
        if v4_only:
            # Before the package comes: installing it starts what is not masked.
            changes.mask_legacy(unit_states(LEGACY))
        if not Path(CLIENT_PROGRAM).exists():
            return [CLIENT_PACKAGE]
        for path in own_paths(UNITS):
            if path != wish.path:
                take_away(path, changes)
        if seen is None:
            self.look_below()
        changes.write(CLIENT_CONF, wish.conf(v4_only))
        rewritten = changes.write(UNITS / wish.mount_unit, wish.mount_text())
        rewritten = changes.write(UNITS / wish.automount_unit, wish.automount_text()) or rewritten
        states = unit_states([wish.automount_unit, wish.mount_unit])
        if rewritten or any(unit.need_reload for unit in states.values()):
            changes.command(["systemctl", "daemon-reload"])
        if states[wish.automount_unit].enabled != "enabled":
            changes.command(["systemctl", "enable", wish.automount_unit], f"enabled {wish.automount_unit} at boot")
        wrong = mount_differences(wish, seen)
        if is_nfs(seen) and (rewritten or wrong):
            changes.actions.append(f"unmounted {wish.path}: {'; '.join(wrong) or 'its units changed'}")
            if not changes.check:
                detach(wish)
            seen = None
        if states[wish.automount_unit].active != "active":
            self.automount(is_nfs(seen))
            seen = None if not changes.check else seen
        self.mount_now()
        return []

    def look_below(self) -> None:
        """Note what the mount is going to hide; nothing is mounted there, so that looking is safe."""
        folder = Path(self.wish.path)
        if folder.is_dir():
            self.hidden = sorted(path.name for path in folder.iterdir())

    def automount(self, covered: bool) -> None:
        """Start the automount unit; it cannot start over a mount that is in force."""
        wish, changes = self.wish, self.changes
        if covered and not changes.check:
            detach(wish)
        if not changes.check:
            changes.run(["systemctl", "reset-failed", wish.automount_unit], 10)
        changes.command(["systemctl", "start", wish.automount_unit], f"started {wish.automount_unit}")

    def mount_now(self) -> None:
        """Mount where nothing is mounted, ask the server for a sign, set the read-ahead."""
        wish, changes = self.wish, self.changes
        seen = mounted_at(mounts_here(), wish.path)
        mounted = is_nfs(seen)
        answers = probe(wish.path) if mounted else ""
        if answers == "stale" and not changes.check:
            detach(wish)
        if not mounted or answers == "stale":
            # An automount that waits for its first reader is what was wanted: mounting then is no change.
            if mounted or seen is None or changes.actions:
                changes.actions.append(f"mounted {wish.source} on {wish.path}")
            if changes.check:
                return
            self.reach_server()
            reason = start_mount(wish)
            if reason:
                raise NfsError(f"{wish.source} cannot be mounted on this node: {reason}.")
            seen = mounted_at(mounts_here(), wish.path)
            answers = probe(wish.path) if is_nfs(seen) else "it is not in the table of mounts"
        if answers:
            self.reach_server()
            raise NfsError(f"{wish.source} is mounted on {wish.path} but does not answer: {answers}.")
        wrong = mount_differences(wish, seen)
        if wrong and not changes.check:
            raise NfsError(
                f"{wish.path} is mounted, but not as desired: {'; '.join(wrong)}; see `nfsstat -m` on this node."
            )
        if seen is not None and set_read_ahead(seen, wish.read_ahead_kib, check=changes.check):
            changes.actions.append(f"set the read-ahead of {wish.path} to {wish.read_ahead_kib} KiB")

    def reach_server(self) -> None:
        """Raise NfsError where the server's port does not answer: the one thing that says why a mount hangs."""
        try:
            with socket.create_connection((self.wish.server, PORT), timeout=5):
                return
        except OSError as error:
            raise NfsError(
                f"{self.wish.server}:{PORT} does not answer from this node ({error.strerror or error}): see that the link is up on "
                "both nodes, that nfs-server runs on the other one, and that no firewall closes the port."
            ) from None

    def options(self) -> list[str]:
        """Return the options in force."""
        seen = mounted_at(mounts_here(), self.wish.path)
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
