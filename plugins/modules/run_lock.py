#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: one run at a time works on the nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_lock
short_description: Let one run at a time work on the nodes
version_added: 1.0.0
description:
  - Writes on the node (the head) which run works on the cluster, and fails where another one does - two runs at once would stop and start units of one another.
  - A run of the same controller counts as long as its process lives. One from elsewhere counts as long as an SSH session without a
    terminal is there beside the own one, or for an hour where it did not come by SSH. What is left of a run that was killed is taken over.
  - A run that holds the lock may take it again.
  - Nothing of the node's configuration changes, so it never reports a change. The lock does not survive a reboot.
options:
  state:
    description: Whether this run holds the lock, or gives it back.
    type: str
    choices: [taken, released]
    default: taken
  force:
    description: Take it from whoever holds it.
    type: bool
    default: false
  path:
    description: The lock's file.
    type: path
    default: /run/dgx-spark/playbook-run.json
  run:
    description: Which run this is. The action plugin of the same name fills it in.
    type: dict
  instead_of:
    description: A run that its controller saw to be gone. The action plugin of the same name fills it in.
    type: dict
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
attributes:
  check_mode:
    description: In check mode nothing is taken or refused.
  diff_mode:
    support: none
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Let no other run work on the nodes
  dgx_spark.vllm.run_lock:
  delegate_to: "{{ groups['head'] | first }}"
  run_once: true
  become: true
"""

RETURN = r"""
holder:
  description: The run that holds the lock; empty where none does.
  returned: success
  type: dict
  sample: {controller: laptop/2c3b, pid: 4711, user: anna, playbook: site.yml, at: 1764200000.0}
msg:
  description: One sentence.
  returned: always
  type: str
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node.run_lock import LOCK, Run, release, take

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["taken", "released"], "default": "taken"},
    "force": {"type": "bool", "default": False},
    "path": {"type": "path", "default": str(LOCK)},
    "run": {"type": "dict"},
    "instead_of": {"type": "dict"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        wanted = Run(**(module.params["run"] or {}))
    except TypeError:
        module.fail_json(
            msg="run is not filled in: use this module through its action plugin, as dgx_spark.vllm.run_lock"
        )
    if module.check_mode:
        module.exit_json(changed=False, holder={}, msg="check mode takes no lock")
    path = Path(module.params["path"])
    try:
        if module.params["state"] == "released":
            release(wanted, path)
            module.exit_json(changed=False, holder={}, msg="this run holds the nodes no more")
        holder = take(wanted, module.params["instead_of"], module.params["force"], path)
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or path} cannot be written ({error.strerror}): run it as root (become: true)"
        )
    if not holder.same_as(wanted):
        minutes = max(0.0, time.time() - holder.at) / 60
        module.fail_json(
            held_by=asdict(holder),
            msg=f"Another run works on these nodes: {holder.sentence()} ({minutes:.0f} min). Nothing was changed. Wait until it has ended; where it is gone "
            "for certain, add -e take_lock=yes.",
        )
    module.exit_json(changed=False, holder=asdict(holder), msg="this run holds the nodes")


if __name__ == "__main__":
    main()
