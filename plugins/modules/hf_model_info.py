#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the store holds of a snapshot, and whether it is right."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_model_info
short_description: What the store holds of a snapshot, and whether it is right
version_added: 1.0.0
description:
  - Compares a snapshot with its manifest, without any network and through a read-only mount as well.
  - Returns what is wrong rather than failing; fails only where the store cannot be read.
  - Watches a download that M(dgx_spark.vllm.hf_model) detached on this node, how far it is and why the last one failed.
options:
  repo_id:
    description: Repository on the hub, as C(organisation/name).
    type: str
    required: true
  revision:
    description: Branch, tag or commit of 40 hexadecimal digits.
    type: str
    default: main
  dest:
    description: The store.
    type: path
    required: true
  verify:
    description:
      - V(none) asks whether all files are there, V(size) compares their sizes as well, V(sha256) reads every file, one for each core at a time.
    type: str
    choices: [none, size, sha256]
    default: size
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Read all weights once and compare them
  dgx_spark.vllm.hf_model_info:
    repo_id: QuantTrio/Qwen3-235B-A22B-Instruct-2507-AWQ
    dest: /srv/models
    verify: sha256
  register: weights
  failed_when: not weights.complete

- name: Watch a detached download
  dgx_spark.vllm.hf_model_info:
    repo_id: QuantTrio/Qwen3-235B-A22B-Instruct-2507-AWQ
    dest: /srv/models
    verify: none
  register: download
  until: not download.running
  retries: 100000
  delay: 10
"""

RETURN = r"""
complete:
  description: Whether every file of the manifest is there and right as far as O(verify) looks.
  returned: success
  type: bool
stamped:
  description: Whether the stamp of a verification is there and no file changed since.
  returned: success
  type: bool
running:
  description: Whether a run is working on the repository right now, or a detached download is under way; never seen through a mount.
  returned: success
  type: bool
commit:
  description: Commit of the snapshot; empty where the store does not know the revision.
  returned: success
  type: str
path:
  description: Folder of the snapshot; empty where the store does not know the revision.
  returned: success
  type: str
files:
  description: Number of files of the manifest.
  returned: success
  type: int
bytes:
  description: Bytes of the files of the manifest that are there with the right size, and of what came of the others so far.
  returned: success
  type: int
bytes_total:
  description: Bytes of all files of the manifest, or of the download that is running.
  returned: success
  type: int
manifest_sha256:
  description: One name for the content of the whole snapshot, equal on all nodes; empty where there is no manifest.
  returned: success
  type: str
missing:
  description: Files that are not there.
  returned: success
  type: list
  elements: str
corrupt:
  description: Files with another size or content, each with the reason.
  returned: success
  type: list
  elements: str
extra:
  description: Files that are no part of the snapshot.
  returned: success
  type: list
  elements: str
rate:
  description: Bytes read per second with O(verify=sha256), else 0.
  returned: success
  type: int
download_rate:
  description: Bytes per second that a running download brought over the last half minute, 0 where none runs.
  returned: success
  type: int
seconds_left:
  description: What the rest takes at this rate; null where no download runs or nothing comes.
  returned: success
  type: int
error:
  description: Why the last detached download failed, in one sentence; empty where it did not, or another one is under way.
  returned: success
  type: str
seconds:
  description: Seconds that the check took.
  returned: success
  type: float
findings:
  description: What the store holds; red where files are missing or damaged or a download failed.
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

from ..module_utils.hub.judge import judge_refusal, judge_store
from ..module_utils.hub.queue import Queue, watch
from ..module_utils.hub.store import Store, StoreError
from ..module_utils.report.finding import as_dicts
from ..module_utils.system.run import run


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "repo_id": {"type": "str", "required": True},
            "revision": {"type": "str", "default": "main"},
            "dest": {"type": "path", "required": True},
            "verify": {"type": "str", "choices": ["none", "size", "sha256"], "default": "size"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        found, error_text = watch(
            Store(params["dest"]),
            params["repo_id"],
            params["revision"],
            params["verify"],
            Queue(),
            run,
        )
    except StoreError as error:
        module.fail_json(msg=str(error), findings=as_dicts([judge_refusal(error)]))
    findings = as_dicts(judge_store(found, error_text))
    module.exit_json(changed=False, error=error_text, findings=findings, **asdict(found))


if __name__ == "__main__":
    main()
