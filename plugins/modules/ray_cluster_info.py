#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what a Ray cluster consists of, and whether it is complete."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ray_cluster_info
short_description: Nodes, GPUs and version of a Ray cluster, and whether it is complete
version_added: 1.0.0
description:
  - Asks the state API of Ray's dashboard, which listens on the head only; run it there.
  - Compares what is alive with what is expected and says in words what is missing.
  - A cluster that is down is a finding (RV(reachable=false)), not a failure, so that C(until) can wait for it.
  - C(ray status) is not used, because it ends with 0 for a dead node.
options:
  dashboard_url:
    description: Address of the dashboard, without a path.
    type: str
    default: http://127.0.0.1:8265
  token_file:
    description:
      - File on the node that holds the cluster's token (C(RAY_AUTH_MODE=token)).
      - Where the file cannot be read, the dashboard is asked without a token, and RV(reason) says so if that fails.
    type: path
  token:
    description: The token itself; prefer O(token_file), which keeps it on the node.
    type: str
  expected_nodes:
    description: Addresses of all nodes that must be alive in Ray, and no others; empty compares nothing.
    type: list
    elements: str
    default: []
  expected_gpus:
    description: Number of GPUs that the living nodes must have together; unset compares nothing.
    type: int
  timeout:
    description: Seconds to wait for each answer.
    type: float
    default: 10
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Wait until both nodes and their GPUs are in Ray
  dgx_spark.vllm.ray_cluster_info:
    token_file: /etc/dgx-spark/secrets/cluster_token
    expected_nodes: [192.168.100.10, 192.168.100.11]
    expected_gpus: 2
  register: cluster
  until: cluster.ready
  retries: 60
  delay: 2
"""

RETURN = r"""
reachable:
  description: The dashboard answered and accepted the token.
  type: bool
  returned: always
ready:
  description: Reachable, and exactly the expected nodes and GPUs are alive.
  type: bool
  returned: always
reason:
  description: Why it is not ready, in one sentence; empty when it is.
  type: str
  returned: always
findings:
  description: One, the reason in red or the cluster that is ready in green.
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
  description: The reason, or one sentence on the cluster that is ready.
  type: str
  returned: always
ray_version:
  description: Version of Ray on the head.
  type: str
  returned: always
  sample: 2.60.0
nodes:
  description: Every node that Ray remembers, the head first; nodes that died stay in the list.
  type: list
  elements: dict
  returned: always
  contains:
    node_id: {description: Ray's id of this start of the node., type: str}
    ip: {description: Address under which it joined., type: str}
    state: {description: V(ALIVE) or V(DEAD)., type: str}
    is_head: {description: It is the head., type: bool}
    gpus: {description: GPUs that it brought., type: float}
    cpus: {description: CPUs that it brought., type: float}
    memory_bytes: {description: Memory that it offers to Ray's scheduler., type: int}
    message: {description: Why it died., type: str}
alive:
  description: Addresses of the living nodes.
  type: list
  elements: str
  returned: always
dead:
  description: Addresses of which only dead nodes are left.
  type: list
  elements: str
  returned: always
gpus_alive:
  description: GPUs of the living nodes together.
  type: float
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.ray.cluster import DASHBOARD, look
from ..module_utils.report.finding import GREEN, as_dicts
from ..module_utils.system.http_json import HttpClient, secret_or_reason


def main() -> None:
    """Ask, compare, answer."""
    module = AnsibleModule(
        argument_spec={
            "dashboard_url": {"type": "str", "default": DASHBOARD},
            "token_file": {"type": "path", "no_log": False},
            "token": {"type": "str", "no_log": True},
            "expected_nodes": {"type": "list", "elements": "str", "default": []},
            "expected_gpus": {"type": "int"},
            "timeout": {"type": "float", "default": 10},
        },
        mutually_exclusive=[("token_file", "token")],
        supports_check_mode=True,
    )
    params = module.params
    token, token_problem = secret_or_reason(params["token"], params["token_file"])
    try:
        client = HttpClient(params["dashboard_url"], token=token, timeout=params["timeout"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    cluster, found = look(client, params["expected_nodes"], params["expected_gpus"], token_problem)
    reason = "" if found.level == GREEN else found.sentence()
    module.exit_json(
        changed=False,
        ready=not reason,
        reason=reason,
        findings=as_dicts([found]),
        msg=reason or found.found,
        **cluster.as_facts(),
    )


if __name__ == "__main__":
    main()
