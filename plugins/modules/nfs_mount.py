#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""This node has a folder of another node mounted read-only over NFS 4.2."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nfs_mount
short_description: This node has a folder of another node mounted read-only over NFS 4.2
version_added: 0.1.0
description:
  - Writes and enables an automount unit and its mount unit, mounts now, and sees that what is mounted is what is wanted and that the server answers.
  - A boot never waits for the server, and a start that failed is never given up. Services that need the folder wait at C(spark-gate mount).
  - It never hangs. Whatever may touch a mount whose server is gone has a time limit.
  - A node has one such mount; a call with another O(path) replaces the first. A folder where something else is mounted is left alone, in one sentence.
  - What lies on this node's own disk below O(path) is hidden by the mount, not removed; RV(hidden) names it.
options:
  source:
    description: IPv4 address of the server and the folder there, for example C(192.168.100.10:/srv/models). Required with O(state=mounted).
    type: str
  path:
    description: The folder on this node.
    type: path
    required: true
  state:
    description: V(absent) unmounts what this module mounted, even from a server that is gone, and removes the units. Packages stay.
    type: str
    choices: [mounted, absent]
    default: mounted
  transport:
    description: How to reach the server.
    type: str
    choices: [tcp, rdma]
    default: tcp
  read_ahead_kib:
    description: KiB that the kernel reads ahead. Its own default of 128 keeps sequential reading from using a fast link.
    type: int
    default: 15360
  options:
    description: Further mount options of nfs(5); one that the module sets itself is replaced.
    type: list
    elements: str
    default: []
  v4_only:
    description:
      - Whether to keep rpcbind and rpc.statd, which come with the client's package and listen on all addresses, from running.
      - They are left alone where the node exports something or has mounts of an NFS before version 4.
    type: bool
    default: true
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Mount the head's store
  dgx_spark.vllm.nfs_mount:
    source: 192.168.100.10:/srv/models
    path: /srv/models
"""

RETURN = r"""
missing_packages:
  description: Packages of the operating system that are missing; install them and run again.
  returned: success
  type: list
  elements: str
hidden:
  description: What lies on this node's own disk at O(path) and is hidden by the mount; known only when this call mounts.
  returned: success
  type: list
  elements: str
options:
  description: Options in force, as the kernel negotiated them.
  returned: success
  type: list
  elements: str
actions:
  description: What was done, or would be in check mode, in words.
  returned: success
  type: list
  elements: str
msg:
  description: One sentence.
  returned: always
  type: str
"""

import socket
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.nfs.share import (
    CLIENT_CONF,
    CLIENT_PACKAGE,
    CLIENT_PROGRAM,
    LEGACY,
    PORT,
    SERVER_CONF,
    TRANSPORTS,
    UNITS,
    Changes,
    NfsError,
    NfsMount,
    check_path,
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
                f"{wish.path} is mounted, but not as wanted: {'; '.join(wrong)}; see `nfsstat -m` on this node."
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


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str"},
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["mounted", "absent"], "default": "mounted"},
            "transport": {"type": "str", "choices": list(TRANSPORTS), "default": "tcp"},
            "read_ahead_kib": {"type": "int", "default": 15360},
            "options": {"type": "list", "elements": "str", "default": []},
            "v4_only": {"type": "bool", "default": True},
        },
        required_if=[("state", "mounted", ["source"])],
        supports_check_mode=True,
    )
    params = module.params
    changes = Changes(module.check_mode)
    missing: list[str] = []
    hidden: list[str] = []
    options: list[str] = []
    told = f"{params['path']} is not mounted"
    try:
        path = check_path(params["path"])
        if params["state"] == "mounted":
            wish = NfsMount(
                params["source"], path, params["transport"], params["read_ahead_kib"], tuple(params["options"])
            )
            client = Client(wish, changes, params["v4_only"])
            missing = client.mounted()
            hidden, options = client.hidden, client.options()
            told = f"{wish.source} is mounted on {path} and answers"
        else:
            absent(changes)
    except NfsError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or params['path']}: {error.strerror}; nfs_mount needs root on the node")
    message = "; ".join(changes.actions) or told
    if hidden:
        message += (
            f"; what lies in {path} on this node's own disk stays there, hidden by the mount: {', '.join(hidden[:3])}"
        )
    if missing:
        message += f"; missing: {', '.join(missing)}"
    module.exit_json(
        changed=bool(changes.actions),
        actions=changes.actions,
        diff=changes.diff,
        missing_packages=missing,
        hidden=hidden,
        options=options,
        msg=message,
    )


if __name__ == "__main__":
    main()
