#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One of the node's own programs as a service."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_service
short_description: Run one of the node's own programs as a service
version_added: 1.0.0
description:
  - Writes the configuration and the systemd unit of a program that M(dgx_spark.vllm.node_tools) installed, enables it, and restarts it when its
    configuration, its unit or the installed programs changed.
  - These services watch; restarting one touches no request.
options:
  name:
    description: Name of the program, and of its unit without C(.service).
    type: str
    required: true
    choices: [spark-watchdog, spark-follower, spark-metrics]
  state:
    description: V(present) runs it, V(absent) stops and removes it with its configuration.
    type: str
    choices: [present, absent]
    default: present
  description:
    description: Description of the unit.
    type: str
    default: ""
  config_path:
    description: Absolute path of the configuration, readable for all.
    type: path
    default: /etc/dgx-spark/watchdog.json
  config:
    description: The configuration, without secrets.
    type: dict
    default: {}
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Run the follower
  dgx_spark.vllm.node_service:
    name: spark-follower
    description: Follows the head of the serving cluster
    config: {address: 192.168.100.11, head: 192.168.100.10, container: spark-ray-worker, ray: true, alive_port: 6379, leave_after_s: 15}
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in words.
  returned: success
  type: list
  elements: str
  sample: ["restarted spark-follower.service"]
msg:
  description: One sentence.
  returned: always
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.system.node_service import NodeService, NodeServiceError
from ..module_utils.system.run import run

ARGUMENTS = {
    "name": {"type": "str", "required": True, "choices": ["spark-watchdog", "spark-follower", "spark-metrics"]},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "description": {"type": "str", "default": ""},
    "config_path": {"type": "path", "default": "/etc/dgx-spark/watchdog.json"},
    "config": {"type": "dict", "default": {}},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    service = NodeService(params["name"], run, module.check_mode)
    try:
        if params["state"] == "absent":
            service.absent(Path(params["config_path"]))
        else:
            service.present(params["description"] or params["name"], Path(params["config_path"]), params["config"])
    except (NodeServiceError, OSError) as error:
        module.fail_json(msg=str(error), actions=service.actions)
    said = "; ".join(service.actions) or f"{params['name']} is as wanted"
    module.exit_json(changed=bool(service.actions), actions=service.actions, diff=service.diff, msg=said)


if __name__ == "__main__":
    main()
