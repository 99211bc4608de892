#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of a node beside the last state that was verified."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_snapshot_info
short_description: Compare a node's units with the last state that was verified
version_added: 1.0.0
description:
  - Says which state M(dgx_spark.vllm.service_snapshot) recorded, whether it could be put back, and whether the units are in it now.
  - Only reads.
options: {}
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Read which state was verified last
  dgx_spark.vllm.service_snapshot_info:
  register: snapshot
"""

RETURN = r"""
digest:
  description: Digest of the units as they are on disk; empty without a unit.
  returned: success
  type: str
unproven:
  description: Why what runs is not what the units on disk say; empty where it is.
  returned: success
  type: list
  elements: str
good:
  description: The state that was recorded.
  returned: success
  type: dict
  contains:
    digest: {description: "Its digest; empty for none.", type: str}
    verified: {description: "When it was verified first, in UTC.", type: str}
    cluster: {description: Digest of each node that it was verified with., type: dict}
    proof: {description: How it was verified., type: dict}
    images: {description: Ids of its images., type: list, elements: str}
    problem: {description: "Why it cannot be put back; empty where it can.", type: str}
kept:
  description: Whether its images are kept from being pruned.
  returned: success
  type: bool
stop_flag:
  description: Whether the operator stopped the cluster with playbooks/stop.yml.
  returned: success
  type: bool
msg:
  description: One sentence.
  returned: always
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.docker.cli import DockerError
from ..module_utils.docker.service import STOP_FLAG
from ..module_utils.docker.service_snapshot import snapshot
from ..module_utils.system.run import run


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    try:
        found = snapshot(run)
    except DockerError as error:
        module.fail_json(msg=str(error))
    good = found["good"]
    told = good["problem"] or f"the state that was verified on {good['verified']} can be put back"
    module.exit_json(changed=False, **found, stop_flag=Path(STOP_FLAG).exists(), msg=told)


if __name__ == "__main__":
    main()
