#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: settings_check
short_description: Check every setting before a node is touched
version_added: 1.0.0
description:
  - Checks on the controller the settings of all hosts in group C(sparks) - their names (one that no role knows is refused, with the name that was
    probably meant), types as they were given, the inventory's groups, addresses, secrets, the model's name, context and heads, ports, sizes, and
    further arguments of the server that a setting renders already.
  - Also refuses C(--limit) where it leaves out a node that is needed, and tags that no task has.
  - Needs no connection to any host, and runs on localhost as well as on any of them.
options:
  needs:
    description:
      - Which hosts of group C(sparks) have to take part in the play, V(all) of them or V(any).
      - V(inventory) checks groups and C(--limit) alone, for a playbook that must work whatever the settings are.
    type: str
    choices: [all, any, inventory]
    default: all
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Check the settings
  dgx_spark.vllm.settings_check:
  register: settings
"""

RETURN = r"""
head_name:
  description: Inventory name of the head.
  returned: success
  type: str
head_fabric_address:
  description: Fabric address of the head.
  returned: success
  type: str
node_addresses:
  description: Fabric addresses of all nodes, the head's first.
  returned: success
  type: list
  elements: str
gpu_count:
  description: GPUs of all nodes together.
  returned: success
  type: int
served_name:
  description: Name under which the endpoint is asked for the model, the first where it has several.
  returned: success
  type: str
endpoint_scheme:
  description: C(https) where the gateway speaks TLS, else C(http); empty where only the inventory was asked for.
  returned: success
  type: str
facts:
  description: For each host the settings that its inventory leaves to a shipped default or gives under an old name, as roles shall see them.
  returned: success
  type: dict
secret:
  description: Names of all settings whose values are not shown.
  returned: success
  type: list
  elements: str
problems:
  description: What is wrong, a sentence each.
  returned: failure
  type: list
  elements: str
msg:
  description: One sentence.
  returned: always
  type: str
"""
