#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last verified state of a node's units."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_snapshot
short_description: Record the verified state of a node's units, or put it back
version_added: 1.0.0
description:
  - Writes down the units that M(dgx_spark.vllm.container_service) wrote, once the endpoint was verified with them, and keeps their images from being
    pruned; or writes these units back. Starts nothing.
  - What is recorded lies in C(/var/lib/dgx-spark/good/services.json) on the node, written whole or not at all.
options:
  state:
    description:
      - V(recorded) writes down what the units are now. Refused where something else runs than they say.
      - V(restored) writes the units back as they were recorded, and removes those that were not there then.
    type: str
    choices: [recorded, restored]
    default: recorded
  cluster:
    description: Digest of each node's units by its name, as RV(dgx_spark.vllm.service_snapshot_info#module:digest) has them; with O(state=recorded).
    type: dict
    default: {}
  proof:
    description: How the endpoint was verified. M(dgx_spark.vllm.service_snapshot_info) returns it as it is. With O(state=recorded).
    type: dict
    default: {}
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Put the units back as they were when the endpoint was verified
  dgx_spark.vllm.service_snapshot:
    state: restored
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in words.
  returned: success
  type: list
  elements: str
msg:
  description: One sentence.
  returned: always
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.docker.cli import DockerError
from ..module_utils.docker.service_snapshot import GOOD, ServiceSnapshot
from ..module_utils.system.run import run


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["recorded", "restored"], "default": "recorded"},
            "cluster": {"type": "dict", "default": {}},
            "proof": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    snapshot = ServiceSnapshot(run, module.check_mode)
    try:
        if module.params["state"] == "recorded":
            snapshot.recorded(module.params["cluster"], module.params["proof"])
        else:
            snapshot.restored()
    except DockerError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or GOOD}: {error.strerror}; service_snapshot needs root on the node")
    message = "; ".join(snapshot.actions) or f"the units are as {module.params['state']}"
    module.exit_json(changed=bool(snapshot.actions), actions=snapshot.actions, diff=snapshot.diff, msg=message)


if __name__ == "__main__":
    main()
