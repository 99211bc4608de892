#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount a folder of another node read-only over NFS 4.2."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nfs_mount
short_description: Mount a folder of another node read-only over NFS 4.2
version_added: 1.0.0
description:
  - Writes and enables an automount unit and its mount unit, mounts now, and makes sure that the mount is in the desired state and that the server answers.
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

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.nfs.client import Client, absent
from ..module_utils.nfs.share import TRANSPORTS, Changes, NfsError, NfsMount, check_path


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
            desired = NfsMount(
                params["source"], path, params["transport"], params["read_ahead_kib"], tuple(params["options"])
            )
            client = Client(desired, changes, params["v4_only"])
            missing = client.mounted()
            hidden, options = client.hidden, client.options()
            told = f"{desired.source} is mounted on {path} and answers"
        else:
            absent(changes)
    except NfsError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or params['path']}: {error.strerror}; nfs_mount needs root on the node")
    message = "; ".join(changes.actions) or told
    if hidden:
        message += (
            f"; the files in {path} on this node's own disk stay there, hidden by the mount: {', '.join(hidden[:3])}"
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
