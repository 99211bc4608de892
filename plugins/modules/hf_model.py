#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Download a model's snapshot at a commit into the store, complete and verified."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_model
short_description: Download a model's snapshot at a commit into the store, complete and verified
version_added: 1.0.0
description:
  - Downloads what is missing with huggingface_hub, verifies every file by its content and only then stamps the snapshot as verified.
  - A run that finds everything in place asks nobody and reads no weights; a file whose size, modification or change time differs from what the
    stamp saw is read again, and only that file is fetched again where its content is wrong.
  - A branch or tag is resolved to its commit once and stays there; see O(update_revision).
  - Files that are no part of the snapshot are removed from its folder.
  - A run that was killed is continued by the next, inside a file where it stopped; at most what was in flight is fetched twice.
  - What this machine has already, at another commit of the same store or in folders of O(import_from), is verified and linked instead of fetched.
requirements:
  - huggingface_hub 2.4 in the Python that runs this module, only where something must be fetched. The role C(node_tools) makes
    C(/opt/dgx-spark/venv) with it.
options:
  state:
    description: Whether the snapshot shall be there. V(absent) removes it with its manifest, its stamp and the refs to it.
    type: str
    choices: [present, absent]
    default: present
  dest:
    description: The store, a folder on a local disk; the snapshot comes to C(dest/organisation--name/commit).
    type: path
    required: true
  detach:
    description:
      - Whether to order the download from the unit C(spark-model-download) and return at once, so that it outlives the connection. A second task that
        orders the same joins the one that runs. Watch it with M(dgx_spark.vllm.hf_model_info).
      - Needs the role C(node_tools) on the node, and the token in a O(token_file).
    type: bool
    default: false
  import_from:
    description:
      - Folders of the node that may hold files of the repository, such as C(/home/user/.cache/huggingface) or a folder of plain files. They are proven by
        sha256 and then cloned or linked where the file system can (a file that others may not read is copied); the folders stay as they are.
    type: list
    elements: str
    default: []
  transport:
    description:
      - V(http) goes on inside a file after an interruption. V(xet) leaves the transfer to huggingface_hub, which takes Xet where the hub offers it and begins
        an unfinished file again from its start.
    type: str
    choices: [http, xet]
    default: http
  environment:
    description: Environment of the download, for example C(https_proxy), or C(HF_XET_HIGH_PERFORMANCE) with O(transport=xet).
    type: dict
    default: {}
  max_workers:
    description: Files that are downloaded at once.
    type: int
    default: 8
  verify:
    description:
      - How files are verified. V(sha256) reads each once. V(size) trusts every byte of the right number. V(none) trusts the download.
    type: str
    choices: [sha256, size, none]
    default: sha256
  reverify:
    description: Whether to read every file again, even those that the stamp vouches for.
    type: bool
    default: false
  update_revision:
    description: Whether to ask the hub again where a branch or tag points.
    type: bool
    default: false
seealso:
  - module: dgx_spark.vllm.hf_model_info
  - module: dgx_spark.vllm.hf_model_copy
extends_documentation_fragment:
  - dgx_spark.vllm.hub
  - dgx_spark.vllm.attributes
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: The weights are in the store
  dgx_spark.vllm.hf_model:
    repo_id: QuantTrio/Qwen3-235B-A22B-Instruct-2507-AWQ
    dest: /srv/models
    token_file: /etc/dgx-spark/secrets/hf_token
  vars:
    ansible_python_interpreter: /opt/dgx-spark/venv/bin/python
  register: model

- name: A model that is no longer needed
  dgx_spark.vllm.hf_model:
    repo_id: QuantTrio/Qwen3-235B-A22B-Instruct-2507-AWQ
    dest: /srv/models
    state: absent
"""

RETURN = r"""
commit:
  description: The commit that O(revision) is; empty where O(state=absent) found none.
  returned: success
  type: str
path:
  description: Folder of the snapshot.
  returned: success
  type: str
files:
  description: Number of its files.
  returned: success
  type: int
bytes_total:
  description: Their bytes.
  returned: success
  type: int
bytes_downloaded:
  description: Bytes that this run fetched, or would fetch; what an earlier run left of a file does not count.
  returned: success
  type: int
bytes_imported:
  description: Bytes of the files that this run took from this machine, or would take.
  returned: success
  type: int
running:
  description: Whether a detached download is under way.
  returned: success
  type: bool
verified:
  description: Whether the snapshot is complete and verified by O(verify) now. Never true with V(none), and false in check mode when something differs.
  returned: success
  type: bool
manifest_sha256:
  description: One name for the content of the whole snapshot, equal on all nodes; empty where check mode could not know it.
  returned: success
  type: str
actions:
  description: What was done, or would be, in words.
  returned: success
  type: list
  elements: str
msg:
  description: One sentence.
  returned: always
  type: str
"""

import contextlib
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.hub.client import HUB_ARGUMENTS
from ..module_utils.hub.queue import Order, Queue, order_name, start, under_way
from ..module_utils.hub.snapshot import NotReady, Outcome, absent, inspect, present
from ..module_utils.hub.store import Store, StoreError, explain
from ..module_utils.system.run import run


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "dest": {"type": "path", "required": True},
            **HUB_ARGUMENTS,
            "detach": {"type": "bool", "default": False},
            "import_from": {"type": "list", "elements": "str", "default": []},
            "transport": {"type": "str", "choices": ["http", "xet"], "default": "http"},
            "environment": {"type": "dict", "default": {}},
            "max_workers": {"type": "int", "default": 8},
            "verify": {"type": "str", "choices": ["sha256", "size", "none"], "default": "sha256"},
            "reverify": {"type": "bool", "default": False},
            "update_revision": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        outcome, running = ensure(module)
    except StoreError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=outcome.changed,
        commit=outcome.commit,
        path=outcome.path,
        files=outcome.files,
        bytes_total=outcome.bytes_total,
        bytes_downloaded=outcome.bytes_downloaded,
        bytes_imported=outcome.bytes_imported,
        running=running,
        verified=outcome.verified,
        manifest_sha256=outcome.manifest_sha256,
        actions=outcome.actions,
        diff={"before": lines(outcome.before), "after": lines(outcome.after)},
        msg=outcome.msg,
    )


def ensure(module: AnsibleModule) -> tuple[Outcome, bool]:
    """Bring the store into the wanted state, or order that; return what was done and whether it goes on elsewhere.

    StoreError with one sentence where that fails.
    """
    params = module.params
    store, token = Store(params["dest"]), params["token"] or ""
    if params["state"] == "absent":
        outcome = absent(store, params["repo_id"], params["revision"], module.check_mode)
        if not module.check_mode:
            Queue().forget(order_name(params["repo_id"], params["revision"]))
        return outcome, False
    lists = ("allow_patterns", "ignore_patterns", "import_from")
    plain = (
        "repo_id",
        "revision",
        "dest",
        "endpoint",
        "max_workers",
        "verify",
        "reverify",
        "update_revision",
        "transport",
    )
    options: dict[str, Any] = {name: params[name] for name in plain} | {name: tuple(params[name]) for name in lists}
    order = Order(
        **options,
        token_file=params["token_file"] or "",
        ca_bundle=params["ca_bundle"] or "",
        environment={str(name): str(value) for name, value in params["environment"].items()},
    )
    if not params["detach"]:
        if module.check_mode:
            return present(store, order.request, order.source(token), check=True), False
        return order.perform(token), False
    if token:
        raise StoreError("token is set together with detach: a detached download reads its token from token_file.")

    if not module.check_mode and under_way(order, run, Queue()):
        seen = inspect(store, order.repo_id, order.revision, "none")
        return Outcome(seen.commit, seen.path, seen.files, seen.bytes_total, msg=f"joined a run: {seen.msg}"), True
    # Wrong settings show now, to whoever asks, and not in a unit's journal.
    outcome = present(store, order.request, order.source(), check=True, read=module.check_mode)
    if module.check_mode or (outcome.verified and not outcome.changed):
        return outcome, False
    if not outcome.bytes_downloaded + outcome.bytes_imported:
        # Reading again or stamping takes no network and a minute or two; what turns out to be wrong is ordered.
        with contextlib.suppress(NotReady):
            return order.perform(), False
    try:
        outcome.changed = start(order, run, Queue())
    except OSError as error:
        raise StoreError(explain(error, "queue a download on the node")) from error
    outcome.verified = False
    outcome.msg = f"ordered: {outcome.msg}"
    return outcome, True


def lines(texts: list[str]) -> str:
    """Return texts for a diff."""
    return "".join(f"{text}\n" for text in texts)


if __name__ == "__main__":
    main()
