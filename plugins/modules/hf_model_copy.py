#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy a verified snapshot from another node over the fabric."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_model_copy
short_description: Copy a verified snapshot from another node over the fabric
version_added: 1.0.0
description:
  - Fetches what is missing or damaged from a node that runs M(dgx_spark.vllm.fabric_share), in parallel streams that go on where an earlier run broke off.
  - The link is not trusted. The manifest must have O(manifest_sha256), which M(dgx_spark.vllm.hf_model) returned on the other node, and every file
    must have the sha256 that the manifest names.
  - A run that finds everything in place contacts nobody and reads no weights. In check mode the other node is never contacted, so that it need not share.
  - Needs the standard library only.
options:
  repo_id:
    description: Repository on the hub, as C(organisation/name).
    type: str
    required: true
  commit:
    description: Commit of the snapshot.
    type: str
    required: true
  revision:
    description: Branch or tag to note as this commit; empty for none.
    type: str
    default: ""
  manifest_sha256:
    description: As M(dgx_spark.vllm.hf_model) returned it on the other node. May be empty in check mode only.
    type: str
    required: true
  dest:
    description: The store on this node.
    type: path
    required: true
  source_address:
    description: Fabric address of the node that shares.
    type: str
    required: true
  source_port:
    description: Port of its share.
    type: int
    default: 8236
  cluster_token_file:
    description: File on this node with the cluster's token, which the share asks for.
    type: path
    default: /etc/dgx-spark/secrets/cluster_token
  streams:
    description: Files that are copied at once.
    type: int
    default: 4
  reverify:
    description: Whether to read every file again, even those that the stamp vouches for.
    type: bool
    default: false
  progress_file:
    description:
      - New file on this node into which the module writes how far it is, a sentence every two seconds.
      - Set by the action of the same name, which shows it while the module works.
    type: path
seealso:
  - module: dgx_spark.vllm.fabric_share
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: This node has its own copy of the weights
  dgx_spark.vllm.hf_model_copy:
    repo_id: QuantTrio/Qwen3-235B-A22B-Instruct-2507-AWQ
    commit: "{{ hostvars['spark-1'].model_download_result.commit }}"
    manifest_sha256: "{{ hostvars['spark-1'].model_download_result.manifest_sha256 }}"
    dest: /srv/models
    source_address: 192.168.100.10
"""

RETURN = r"""
needed:
  description: Whether the other node must share for this, because something is missing here or may be.
  returned: success
  type: bool
commit:
  description: Commit of the snapshot.
  returned: success
  type: str
path:
  description: Folder of the snapshot on this node.
  returned: success
  type: str
files:
  description: Number of its files; 0 where check mode found no manifest here.
  returned: success
  type: int
bytes_total:
  description: Their bytes; 0 where check mode found no manifest here.
  returned: success
  type: int
bytes_copied:
  description: Bytes of the files that this run fetched.
  returned: success
  type: int
verified:
  description: Whether the snapshot is complete and verified now.
  returned: success
  type: bool
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

from ..module_utils.hub.snapshot import Outcome, Request, present
from ..module_utils.hub.store import Store, StoreError, is_commit, is_sha256
from ..module_utils.peer.share import DEFAULT_PORT, ShareClient, read_share_token
from ..module_utils.peer.snapshot import PeerSource, look_here, telling
from ..module_utils.system.progress import Progress


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "repo_id": {"type": "str", "required": True},
            "commit": {"type": "str", "required": True},
            "revision": {"type": "str", "default": ""},
            "manifest_sha256": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
            "source_address": {"type": "str", "required": True},
            "source_port": {"type": "int", "default": DEFAULT_PORT},
            "cluster_token_file": {"type": "path", "default": "/etc/dgx-spark/secrets/cluster_token", "no_log": False},
            "streams": {"type": "int", "default": 4},
            "reverify": {"type": "bool", "default": False},
            "progress_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        outcome, needed = ensure(module)
    except StoreError as error:
        module.fail_json(msg=str(error))
    before, after = ("".join(f"{line}\n" for line in side) for side in (outcome.before, outcome.after))
    module.exit_json(
        changed=outcome.changed,
        needed=needed,
        commit=outcome.commit,
        path=outcome.path,
        files=outcome.files,
        bytes_total=outcome.bytes_total,
        bytes_copied=0 if module.check_mode else outcome.bytes_downloaded,
        verified=outcome.verified,
        actions=outcome.actions,
        diff={"before": before, "after": after},
        msg=outcome.msg,
    )


def ensure(module: AnsibleModule) -> tuple[Outcome, bool]:
    """Bring this node's store into the wanted state; return what was done, and whether the other node was needed.

    StoreError with one sentence where that fails.
    """
    params = module.params
    store, repo_id, commit = Store(params["dest"]), params["repo_id"], params["commit"]
    digest = params["manifest_sha256"]
    if not is_commit(commit):
        raise StoreError(f"commit is '{commit}': expected 40 hexadecimal digits.")
    if not is_sha256(digest) and not (module.check_mode and not digest):
        raise StoreError(f"manifest_sha256 is '{digest}': expected what hf_model returned on the node that shares.")
    if params["streams"] < 1:
        raise StoreError(f"streams is {params['streams']}: expected 1 or more.")
    request = Request(repo_id, commit, reverify=params["reverify"], manifest_sha256=digest, note=params["revision"])
    here, needed = look_here(store, request)
    if module.check_mode or here.verified:
        return here, needed
    client = ShareClient(
        params["source_address"], params["source_port"], read_share_token(params["cluster_token_file"])
    )
    source = PeerSource(client, repo_id, commit, digest, params["streams"])
    with telling(Progress(params["progress_file"]), f"copying the weights from {client.where}", store, request):
        return present(store, request, source), needed


if __name__ == "__main__":
    main()
