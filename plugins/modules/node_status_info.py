#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: how a node is at this moment, and on the head the cluster, within a few seconds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_status_info
short_description: GPU, memory, link, disk and units of a node, and on the head Ray and server, within seconds
version_added: 1.0.0
description:
  - Looks at everything at the same time, and returns after O(seconds) with what has been seen by then. A look that is not done, because a driver or a
    daemon hangs, is a finding.
  - Only reads.
options:
  seconds:
    description: Seconds for all looks together.
    type: float
    default: 3
  disk:
    description: A path on the file system whose room is told.
    type: path
    default: /
  reserve_gib:
    description: GiB of memory at which processes are ended; the headroom is what is available above that.
    type: float
    default: 4
  ray:
    description: The options O(ignore:dashboard_url), O(ignore:token_file), O(ignore:expected_nodes) and O(ignore:expected_gpus) of
      M(dgx_spark.vllm.ray_cluster_info); left out, Ray is not asked.
    type: dict
  server:
    description: The options O(ignore:base_url), O(ignore:model) and O(ignore:api_key_file) of M(dgx_spark.vllm.vllm_server_info); left out, the server is
      not asked.
    type: dict
  weights:
    description: The options O(ignore:repo_id), O(ignore:revision) and O(ignore:dest) of M(dgx_spark.vllm.hf_model_info); left out, the store is not read.
    type: dict
  watchdog:
    description: Whether the state of the watchdog is read.
    type: bool
    default: false
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
seealso:
  - module: dgx_spark.vllm.status_report
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Inspect the node
  dgx_spark.vllm.node_status_info:
    seconds: 3
  register: look
"""

RETURN = r"""
looks:
  description: What each look found, by its name, with its RV(ignore:findings); one that was not done has RV(ignore:failed) and the reason.
  returned: success
  type: dict
  sample: {memory: {total_gib: 121.7, available_gib: 9.3, headroom_gib: 5.3, findings: []}}
msg:
  description: One sentence.
  returned: always
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.command.looks import looks


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "seconds": {"type": "float", "default": 3},
            "disk": {"type": "path", "default": "/"},
            "reserve_gib": {"type": "float", "default": 4},
            "ray": {"type": "dict", "no_log": False},
            "server": {"type": "dict", "no_log": False},
            "weights": {"type": "dict"},
            "watchdog": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    if module.params["seconds"] <= 0:
        module.fail_json(msg=f"seconds is {module.params['seconds']:g}, expected more than 0")
    found = looks(module.params)
    failed = [str(said["msg"]) for said in found.values() if said.get("failed")]
    module.exit_json(changed=False, looks=found, msg="; ".join(failed) or f"looked at {', '.join(found)}")


if __name__ == "__main__":
    main()
