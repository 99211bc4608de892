#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Share weights and images with the other nodes over the fabric, for as long as they ask."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fabric_share
short_description: Share weights and images with the other nodes over the fabric, for as long as they ask
version_added: 1.0.0
description:
  - Starts or stops a read-only HTTP server on the fabric address, as the transient systemd unit C(spark-fabric-share). Nothing is left on the disk.
  - Whoever asks must show a token derived from the cluster's token. The server ends by itself when nobody asks for O(idle_timeout) seconds.
  - Start it only when a node needs something; a run in which nobody does then changes nothing.
  - The program is installed by M(dgx_spark.vllm.node_tools).
options:
  state:
    description: Whether the server shall run.
    type: str
    choices: [started, stopped]
    default: started
  address:
    description: Address of this node on the fabric. Required with O(state=started).
    type: str
  port:
    description: Port to listen on.
    type: int
    default: 8236
  store:
    description: Folder with the models.
    type: path
    default: /srv/models
  cluster_token_file:
    description: File on this node with the cluster's token.
    type: path
    default: /etc/dgx-spark/secrets/cluster_token
  idle_timeout:
    description: Seconds without a request after which the server ends.
    type: int
    default: 600
  launcher:
    description: The program's launcher.
    type: path
    default: /opt/dgx-spark/bin/spark-fabric-share
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Share the weights on the fabric
  dgx_spark.vllm.fabric_share:
    address: 192.168.100.10

- name: Stop sharing
  dgx_spark.vllm.fabric_share:
    state: stopped
"""

RETURN = r"""
running:
  description: Whether the server runs now.
  returned: success
  type: bool
msg:
  description: One sentence.
  returned: always
  type: str
"""

import hashlib
import json
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.hub.store import StoreError
from ..module_utils.peer.share import DEFAULT_IDLE, DEFAULT_PORT, ShareClient, read_share_token
from ..module_utils.system.run import run

UNIT = "spark-fabric-share.service"
# Seconds until a server that was started must answer.
START_PATIENCE = 20


class FabricShare:
    """The transient unit on this node."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params

    def state(self) -> tuple[str, str]:
        """Return systemd's state of the unit and its description."""
        code, out, err = run(["systemctl", "show", "--property=ActiveState,Description", UNIT])
        if code:
            raise StoreError(
                f"systemctl does not answer on this node ({err.strip()}): the share needs a running systemd."
            )
        found = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return found.get("ActiveState", ""), found.get("Description", "")

    def stop(self) -> None:
        """Stop the unit and forget how it ended."""
        run(["systemctl", "stop", UNIT])
        run(["systemctl", "reset-failed", UNIT])

    def started(self) -> tuple[bool, str]:
        """Make sure that the server runs with these settings and answers; return whether it was started."""
        params = self.params
        where = f"{params['address']}:{params['port']}"
        argv = [params["launcher"], "serve", "--address", params["address"], "--port", str(params["port"])]
        argv += ["--store", params["store"], "--token-file", params["cluster_token_file"]]
        argv += ["--idle-timeout", str(params["idle_timeout"])]
        # The token is part of what runs: after a change of it the old server would refuse everybody.
        token = "" if self.module.check_mode else read_share_token(params["cluster_token_file"])
        digest = hashlib.sha256(json.dumps([argv, token]).encode()).hexdigest()[:12]
        description = f"dgx_spark.vllm share on the fabric {digest}"
        active, running = self.state()
        if active in ("active", "reloading") and running == description:
            return False, f"{params['store']} is shared on {where}."
        if self.module.check_mode:
            return True, f"would share {params['store']} on {where}."
        self.stop()
        unit = [
            "systemd-run",
            "--quiet",
            f"--unit={UNIT}",
            f"--description={description}",
            "--property=NoNewPrivileges=yes",
        ]
        code, _out, err = run([*unit, *argv])
        if code:
            raise StoreError(
                f"systemd-run could not start the share ({err.strip()}): run the role node_tools, which installs it."
            )
        self.wait(ShareClient(params["address"], params["port"], token, timeout=5), where)
        return True, f"shares {params['store']} on {where} until no request comes for {params['idle_timeout']} s."

    def wait(self, client: ShareClient, where: str) -> None:
        """Wait until the server answers; StoreError with its own last line where it ended instead."""
        deadline = time.monotonic() + START_PATIENCE
        while True:
            try:
                client.status()
                return
            except StoreError as error:
                active, _running = self.state()
                if active not in ("active", "activating"):
                    _code, words, _err = run(
                        ["journalctl", "--unit", UNIT, "--lines", "20", "--output", "cat", "--no-pager"]
                    )
                    own = [line for line in words.splitlines() if line.startswith(("cannot ", "the "))]
                    self.stop()
                    raise StoreError(
                        f"the share ended at once: {(own or ['it left nothing in the journal'])[-1]}"
                    ) from None
                if time.monotonic() > deadline:
                    self.stop()
                    raise StoreError(
                        f"the share did not answer on {where} within {START_PATIENCE} s: {error}"
                    ) from None
                time.sleep(0.1)

    def stopped(self) -> tuple[bool, str]:
        """Make sure that the server does not run; return whether it did."""
        active, _description = self.state()
        runs = active in ("active", "activating", "reloading", "deactivating")
        if not self.module.check_mode and active != "inactive":
            self.stop()
        return runs, "the share is stopped." if runs else "nothing is shared."


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
            "address": {"type": "str"},
            "port": {"type": "int", "default": DEFAULT_PORT},
            "store": {"type": "path", "default": "/srv/models"},
            "cluster_token_file": {"type": "path", "default": "/etc/dgx-spark/secrets/cluster_token", "no_log": False},
            "idle_timeout": {"type": "int", "default": DEFAULT_IDLE},
            "launcher": {"type": "path", "default": "/opt/dgx-spark/bin/spark-fabric-share"},
        },
        required_if=[("state", "started", ["address"])],
        supports_check_mode=True,
    )
    share = FabricShare(module)
    wanted = module.params["state"] == "started"
    try:
        changed, told = share.started() if wanted else share.stopped()
    except StoreError as error:
        module.fail_json(msg=str(error))
    undone = changed and module.check_mode
    running = not undone if wanted else undone
    sides: dict[str, Any] = {
        "before": f"state: {'started' if wanted != changed else 'stopped'}\n",
        "after": f"state: {module.params['state']}\n",
    }
    module.exit_json(changed=changed, running=running, diff=sides, msg=told)


if __name__ == "__main__":
    main()
