#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Export a folder read-only over NFS 4.2."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nfs_export
short_description: Export a folder read-only over NFS 4.2
version_added: 1.0.0
description:
  - Writes the export and the server's settings, keeps the services of older NFS versions from running, and sees that the kernel's server runs
    with exactly that; one call does all.
  - A node exports one folder by this module; a call with another O(path) replaces the first.
  - The export is read-only and squashes root, and its identity for clients is derived from O(path), so that they hold on to it over a restart.
  - What is compared is what is in force (the export table, the running server), not files. The server is restarted only where it runs with other settings.
  - Where another file exports something on this node and O(v4_only=true), it refuses in one sentence, because that export may need what would be switched off.
options:
  path:
    description: The folder.
    type: path
    required: true
  clients:
    description: Networks or addresses that may mount it. Required with O(state=present).
    type: list
    elements: str
    default: []
  state:
    description:
      - V(absent) removes the export and the settings, lets the masked services run again, and stops the server where nothing else is exported.
        Packages stay.
    type: str
    choices: [present, absent]
    default: present
  transport:
    description: V(rdma) makes the server listen for RDMA as well.
    type: str
    choices: [tcp, rdma]
    default: tcp
  threads:
    description: Threads of the server.
    type: int
    default: 16
  grace_seconds:
    description: Seconds after a restart in which clients that were there before may claim what they had open, and new opens wait.
    type: int
    default: 15
  lease_seconds:
    description: Seconds without a sign after which the server forgets a client.
    type: int
    default: 15
  v4_only:
    description:
      - Whether this server speaks NFS 4.2 alone, without rpcbind and rpc.statd.
      - V(false) leaves the other versions and the server's other settings as they are.
    type: bool
    default: true
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Export the store to the fabric
  dgx_spark.vllm.nfs_export:
    path: /srv/models
    clients: [192.168.100.0/24]
  register: export

- name: Install the server
  ansible.builtin.apt:
    name: "{{ export.missing_packages }}"
  when: export.missing_packages | length > 0
"""

RETURN = r"""
missing_packages:
  description: Packages of the operating system that are missing; install them and run again. Everything else is prepared already.
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

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.nfs.share import (
    EXPORTS,
    LEGACY,
    SERVER,
    SERVER_CONF,
    SERVER_PACKAGE,
    SERVER_PROGRAM,
    TRANSPORTS,
    Changes,
    Export,
    Nfsd,
    NfsError,
    check_clients,
    check_path,
    export_differences,
    mounts_here,
    nfsd_differences,
    old_mounts,
    other_exports,
    read_text,
    unit_states,
)

ETAB = Path("/var/lib/nfs/etab")
# The unit waits for network-online.target, which gives up on a link without carrier after two minutes.
START_SECONDS = 150


def present(export: Export, changes: Changes) -> list[str]:
    """Bring the server into the wanted state; return the packages that are missing for it."""
    refuse_to_disturb(export)
    if not Path(export.path).is_dir() and not changes.check:
        raise NfsError(f"the folder {export.path} is not on this node: download the model first.")
    configured = changes.write(SERVER_CONF, export.conf())
    changes.write(EXPORTS, export.exports())
    states = unit_states([SERVER, *LEGACY])
    if export.v4_only:
        # Before the packages come: installing them starts what is not masked.
        changes.mask_legacy(states)
    if not Path(SERVER_PROGRAM).exists():
        return [SERVER_PACKAGE]
    states = unit_states([SERVER])
    if states[SERVER].enabled != "enabled":
        changes.command(["systemctl", "enable", SERVER], f"enabled {SERVER} at boot")
    why = f"see `journalctl -u {SERVER}` on this node"
    # rpc.mountd shows nowhere which settings it runs with, so that new settings restart as well.
    running = nfsd_differences(export, Nfsd.read()) or (["its settings are new"] if configured else [])
    if states[SERVER].active != "active":
        changes.command(["systemctl", "start", SERVER], f"started {SERVER}", START_SECONDS, why)
    elif running:
        changes.command(
            ["systemctl", "restart", SERVER], f"restarted {SERVER}: {'; '.join(running)}", START_SECONDS, why
        )
    elif table := export_differences(export, read_text(ETAB)):
        changes.command(["/usr/sbin/exportfs", "-r"], f"re-exported: {'; '.join(table)}")
    if not changes.check and changes.actions:
        prove(export, changes)
    return []


def refuse_to_disturb(export: Export) -> None:
    """Raise NfsError where this machine is also an NFS server, or an old NFS client, for somebody else."""
    others = other_exports()
    for path, lines in others.items():
        if any(line.split()[0].strip('"').rstrip("/") == export.path for line in lines):
            raise NfsError(f"{path} exports {export.path} as well: remove that line, or set model_share_method: copy.")
    named = [f"{path} exports {lines[0].split()[0]}" for path, lines in others.items()]
    named += [
        f"{mount.point} is mounted from {mount.source} by an NFS before version 4"
        for mount in old_mounts(mounts_here())
    ]
    if export.v4_only and named:
        raise NfsError(
            f"this node serves or uses NFS for others ({'; '.join(named)}), which NFS 4.2 alone could break: set "
            "model_share_nfs_v4_only: false to leave all that as it is, or model_share_method: copy."
        )


def prove(export: Export, changes: Changes) -> None:
    """See that what was done is in force; NfsError where it is not."""
    wrong = nfsd_differences(export, Nfsd.read())
    if wrong:
        raise NfsError(
            f"the NFS server is not in the desired state after its start: {'; '.join(wrong)}; see `nfsconf --dump` and "
            f"`journalctl -u {SERVER}` on this node."
        )
    wrong = export_differences(export, read_text(ETAB))
    if wrong:
        changes.command(["/usr/sbin/exportfs", "-r"])
        wrong = export_differences(export, read_text(ETAB))
    if wrong:
        raise NfsError(f"the export is not in force: {'; '.join(wrong)}; see `exportfs -v` on this node.")


def absent(changes: Changes) -> None:
    """Take the export and the settings away; nothing there is no change."""
    exported = changes.remove(EXPORTS)
    configured = changes.remove(SERVER_CONF)
    if not exported and not configured:
        return
    states = unit_states([SERVER, *LEGACY])
    changes.unmask_legacy(states)
    if not Path(SERVER_PROGRAM).exists():
        return
    if other_exports():
        if states[SERVER].active == "active":
            changes.command(["systemctl", "restart", SERVER], f"restarted {SERVER} with the settings of the others")
        return
    changes.command(["systemctl", "disable", "--now", SERVER], f"stopped {SERVER}: nothing else is exported")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "clients": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "transport": {"type": "str", "choices": list(TRANSPORTS), "default": "tcp"},
            "threads": {"type": "int", "default": 16},
            "grace_seconds": {"type": "int", "default": 15},
            "lease_seconds": {"type": "int", "default": 15},
            "v4_only": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    changes = Changes(module.check_mode)
    missing: list[str] = []
    told = "nothing is exported"
    try:
        path = check_path(params["path"])
        if params["state"] == "present":
            export = Export(
                path=path,
                clients=check_clients(params["clients"]),
                transport=params["transport"],
                threads=params["threads"],
                grace=params["grace_seconds"],
                lease=params["lease_seconds"],
                v4_only=params["v4_only"],
            )
            missing = present(export, changes)
            told = f"{path} is exported to {', '.join(export.clients)}"
        else:
            absent(changes)
    except NfsError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or params['path']}: {error.strerror}; nfs_export needs root on the node")
    message = "; ".join(changes.actions) or told
    if missing:
        message += f"; missing: {', '.join(missing)}"
    module.exit_json(
        changed=bool(changes.actions), actions=changes.actions, diff=changes.diff, missing_packages=missing, msg=message
    )


if __name__ == "__main__":
    main()
