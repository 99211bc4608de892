#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The snapshot of a model at a commit is in the store, complete and proven."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_model
short_description: The snapshot of a model at a commit is in the store, complete and proven
version_added: 0.1.0
description:
  - Downloads what is missing with huggingface_hub, proves every file by its content and only then stamps the snapshot as verified.
  - A run that finds everything in place asks nobody and reads no weights; a file whose size, modification or change time differs from what the
    stamp saw is read again, and only that file is fetched anew where its content is wrong.
  - A branch or tag is resolved to its commit once and stays there; see O(update_revision).
  - Files that are no part of the snapshot are removed from its folder.
  - A run that was killed is continued by the next; whole files that it brought are not fetched again.
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
  max_workers:
    description: Files that are downloaded at once.
    type: int
    default: 8
  verify:
    description:
      - How files are proven. V(sha256) reads each once. V(size) trusts every byte of the right number. V(none) trusts the download.
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
notes:
  - Xet is used where the hub offers it; set C(HF_HUB_DISABLE_XET=1) in the task's environment for plain HTTP.
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
  description: Bytes of the files that this run fetched, or would fetch in check mode.
  returned: success
  type: int
verified:
  description: Whether the snapshot is complete and proven by O(verify) now. Never true with V(none), and false in check mode when something differs.
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

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.hf_fetch import HubSource
from ..module_utils.hf_hub import HUB_ARGUMENTS, Hub, read_token
from ..module_utils.hf_snapshot import Outcome, Request, absent, present
from ..module_utils.hf_store import Store, StoreError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "dest": {"type": "path", "required": True},
            **HUB_ARGUMENTS,
            "max_workers": {"type": "int", "default": 8},
            "verify": {"type": "str", "choices": ["sha256", "size", "none"], "default": "sha256"},
            "reverify": {"type": "bool", "default": False},
            "update_revision": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        outcome = ensure(module)
    except StoreError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=outcome.changed,
        commit=outcome.commit,
        path=outcome.path,
        files=outcome.files,
        bytes_total=outcome.bytes_total,
        bytes_downloaded=outcome.bytes_downloaded,
        verified=outcome.verified,
        manifest_sha256=outcome.manifest_sha256,
        actions=outcome.actions,
        diff={"before": lines(outcome.before), "after": lines(outcome.after)},
        msg=outcome.msg,
    )


def ensure(module: AnsibleModule) -> Outcome:
    """Bring the store into the wanted state; StoreError with one sentence where that fails."""
    params = module.params
    store = Store(params["dest"])
    if params["state"] == "absent":
        return absent(store, params["repo_id"], params["revision"], module.check_mode)
    if params["max_workers"] < 1:
        raise StoreError(f"max_workers is {params['max_workers']}: expected 1 or more.")
    token, note = read_token(params["token"] or "", params["token_file"] or "")
    ca_bundle = params["ca_bundle"] or ""
    hub = Hub(params["endpoint"], token, note, ca_bundle)
    request = Request(
        params["repo_id"],
        params["revision"],
        tuple(params["allow_patterns"]),
        tuple(params["ignore_patterns"]),
        params["verify"],
        params["reverify"],
        params["update_revision"],
    )
    return present(
        store, request, HubSource(hub, params["repo_id"], ca_bundle, params["max_workers"]), module.check_mode
    )


def lines(texts: list[str]) -> str:
    """Return texts for a diff."""
    return "".join(f"{text}\n" for text in texts)


if __name__ == "__main__":
    main()
