#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a revision on a Hugging Face hub is, and whether it fits on this node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_hub_info
short_description: What a revision on a Hugging Face hub is, and whether it fits on this node
version_added: 1.0.0
description:
  - Asks the hub from this node, with the system's Python and before anything is installed or written there, so that a wrong name, a missing token,
    an unreachable hub or a full disk shows up before the first change.
  - Where O(store) holds the verified snapshot already, or a detached download of M(dgx_spark.vllm.hf_model) is under way, the hub is not asked at all.
options:
  store:
    description: Folder with the models on this node. When set, fails where its disk is too small for what is missing.
    type: path
  import_from:
    description: Folders of the node that may hold files of the repository already; what can be linked from there needs no room.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - dgx_spark.vllm.hub
  - dgx_spark.vllm.attributes.info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Check the hub before anything is changed
  dgx_spark.vllm.hf_hub_info:
    repo_id: QuantTrio/Qwen3-235B-A22B-Instruct-2507-AWQ
    store: /srv/models
"""

RETURN = r"""
local:
  description: Whether O(store) holds the verified snapshot, so that nothing was asked.
  returned: success
  type: bool
commit:
  description: The commit that O(revision) is.
  returned: success
  type: str
files:
  description: Number of files that the patterns choose.
  returned: success
  type: int
bytes_total:
  description: Their bytes.
  returned: success
  type: int
bytes_missing:
  description: Bytes that the disk must still take.
  returned: success
  type: int
bytes_free:
  description: Free bytes of the file system of O(store); 0 without it.
  returned: success
  type: int
path:
  description: Folder of the verified snapshot; empty unless RV(local).
  returned: success
  type: str
manifest_sha256:
  description: SHA-256 of its manifest, the same on every node; empty unless RV(local), and where the hub gave no SHA-256 of its files.
  returned: success
  type: str
repo_id:
  description: As asked for.
  returned: success
  type: str
revision:
  description: As asked for.
  returned: success
  type: str
findings:
  description: One, what the hub refuses in red or what it offers in green.
  type: list
  elements: dict
  returned: always
  contains:
    source: {description: Who found it., type: str}
    code: {description: "What it is, stable over releases; docs/troubleshooting.md has an entry for each.", type: str}
    level: {description: "C(green), C(yellow) or C(red).", type: str}
    check: {description: What was checked., type: str}
    found: {description: What was found., type: str}
    remedy: {description: What to do., type: str}
    commands: {description: The remedy as commands to be run by hand on the node., type: list, elements: str}
    subject: {description: Which one of several it is about., type: str}
msg:
  description: One sentence.
  returned: always
  type: str
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.hub.client import HUB_ARGUMENTS, Hub, read_token
from ..module_utils.hub.fetch import HubSource
from ..module_utils.hub.judge import CHECK, judge_refusal
from ..module_utils.hub.queue import Queue, preview_under_way
from ..module_utils.hub.snapshot import Request, preview
from ..module_utils.hub.store import Store, StoreError
from ..module_utils.report.finding import as_dicts, fine
from ..module_utils.system.run import run


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **HUB_ARGUMENTS,
            "store": {"type": "path"},
            "import_from": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params

    try:
        token, note = read_token(params["token"] or "", params["token_file"] or "")
        hub = Hub(params["endpoint"], token, note, params["ca_bundle"] or "")
        request = Request(
            params["repo_id"],
            params["revision"],
            tuple(params["allow_patterns"]),
            tuple(params["ignore_patterns"]),
            places=tuple(params["import_from"]),
        )
        store = Store(params["store"]) if params["store"] else None
        known = preview_under_way(store, request, Queue(), run) if store else None
        found = known or preview(HubSource(hub, params["repo_id"]), request, store)
    except StoreError as error:
        module.fail_json(msg=str(error), findings=as_dicts([judge_refusal(error)]))
    module.exit_json(
        changed=False,
        findings=as_dicts([fine("hub", CHECK, found.msg.rstrip("."))]),
        repo_id=params["repo_id"],
        revision=params["revision"],
        **asdict(found),
    )


if __name__ == "__main__":
    main()
