#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the running containers compare with their desired state."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_service_info
short_description: Compare the running containers with their desired state
version_added: 1.0.0
description:
  - Compares each container that M(dgx_spark.vllm.container_service) wrote with what runs, by what C(docker inspect) shows of it.
  - Only reads.
options:
  names:
    description: Names of the containers. Left out, the cluster's on this node.
    type: list
    elements: str
  startup_of:
    description: Container that runs C(vllm serve), to say how long its last start took once its unit is active. Left out, no journal is read for it.
    type: str
  snapshot:
    description: Whether to return what M(dgx_spark.vllm.service_snapshot_info) returns as well.
    type: bool
    default: false
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Read what runs
  dgx_spark.vllm.container_service_info:
  register: services
"""

RETURN = r"""
units:
  description: One entry for each unit.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the container and its unit.
      type: str
    present:
      description: Whether M(dgx_spark.vllm.container_service) wrote it.
      type: bool
    active:
      description: systemd's ActiveState.
      type: str
    sub:
      description: systemd's SubState; C(start-pre) while a gate waits, C(start-post) while readiness is being proven.
      type: str
    enabled:
      description: Whether it starts at boot.
      type: bool
    restarts:
      description: How often systemd restarted it by itself.
      type: int
    result:
      description: systemd's result of the last run.
      type: str
    running:
      description: Whether the container runs.
      type: bool
    settled:
      description: Whether the unit is active, so that its gates passed and its readiness was proven.
      type: bool
    differs:
      description: How what runs differs from the desired state; empty when it does not.
      type: list
      elements: str
settled:
  description: Whether every unit is active.
  returned: success
  type: bool
failed_units:
  description: Units that systemd has given up on.
  returned: success
  type: list
  elements: str
aside:
  description: Containers that stand beside the cluster and are on this node, C(spark-chat) alone so far.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: Name of the container and its unit., type: str}
    active: {description: systemd's ActiveState., type: str}
    differs: {description: As in RV(units)., type: list, elements: str}
    port: {description: Port on which it listens., type: int}
others:
  description: Names of the collection's other units on this node, C(spark-watchdog) and C(spark-gateway) among them.
  returned: success
  type: list
  elements: str
stop_flag:
  description: Whether the operator stopped the cluster with playbooks/stop.yml, so that no unit starts.
  returned: success
  type: bool
causes:
  description: >-
    Why the last start of each unit failed that systemd has given up on or starts again, by name: the line that says it, and for one that is known its
    code, cause and remedy (docs/start-failures.md), with all of it as one sentence.
  returned: success
  type: dict
journal:
  description: The last lines that each unit that is not active wrote to the journal, by name.
  returned: success
  type: dict
startup:
  description: >-
    Lines on the last start of O(startup_of), its seconds by phase and the rate at which it read the weights; empty where its unit is not active on this
    node, or its journal does not say.
  returned: success
  type: list
  elements: str
start:
  description: >-
    Figures of that start as its journal has them, C(kv_cache_gib), C(kv_cache_tokens), C(model_gib), C(graph_gib) among them, and when it was (C(started)).
  returned: success
  type: dict
snapshot:
  description: What M(dgx_spark.vllm.service_snapshot_info) returns of the verified state.
  returned: with O(snapshot=true)
  type: dict
findings:
  description: One on all units together, one where code from the model's repository may run, and where each image came from.
  type: list
  elements: dict
  returned: success
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

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.docker.cli import DockerError
from ..module_utils.service.unit_states import ARGUMENTS, answer
from ..module_utils.system.run import run


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        found = answer(module.params, run)
    except DockerError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
