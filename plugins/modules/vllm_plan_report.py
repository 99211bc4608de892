#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_plan_report
short_description: The plan of a cluster's server, as a table and as a gate
version_added: 1.0.0
description:
  - Makes the plan of M(dgx_spark.vllm.vllm_memory_plan) for the model and the nodes of the inventory, shows it, and fails, when asked to, where the
    server would not start or would leave unified memory too little, or where nothing is known of the model.
  - Runs on the controller and needs no connection to any host.
options:
  name:
    description: Name of the model.
    type: str
    required: true
  config:
    description: Content of the model's config.json. Empty, and without O(config_path), nothing is planned; that is said, and a failure with O(gate).
    type: dict
    default: {}
  config_path:
    description: File on the controller with it.
    type: path
  memory:
    description: GiB of memory by node, as it was read; the smallest counts.
    type: dict
    default: {}
  memory_gib:
    description: GiB to plan with in their place; 0 for none.
    type: float
    default: 0
  plan:
    description:
      - What else is planned with, by the names of M(dgx_spark.vllm.vllm_memory_plan), C(rope_override) among them, and C(cpu_kv_gib). A value of 0 or an
        empty text is vLLM's own choice.
    type: dict
    default: {}
  looks:
    description:
      - What M(dgx_spark.vllm.node_preflight_info) returned of each node (C(node)). Memory that is in use, page cache and swap come from there, of the node with
        least available on which no server of this collection runs, and the record of the last start.
    type: dict
    default: {}
  host_gib:
    description: GiB of unified memory that system and processes take outside of vLLM's budget.
    type: float
    default: 12.5
  min_headroom_gib:
    description: GiB that the host must keep.
    type: float
    default: 11
  remarks:
    description: What is to be known of the model, shown below the plan.
    type: list
    elements: str
    default: []
  contexts:
    description: Context lengths of the table; an empty list for no table.
    type: list
    elements: int
    default: []
  show:
    description: Whether to show the report.
    type: bool
    default: true
  gate:
    description: Whether a plan that must not be started is a failure of the task.
    type: bool
    default: false
  page:
    description: File on the controller for the page, readable to its owner alone. Left out, none is written.
    type: path
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
attributes:
  diff_mode:
    support: none
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Plan
  dgx_spark.vllm.vllm_plan_report:
    name: qwen3-235b-awq
    config: "{{ lookup('dgx_spark.vllm.model', 'qwen3-235b-awq').config }}"
    memory_gib: 121.69
    plan: {tensor_parallel_size: 2, nodes: 2, max_model_len: 8192}
    contexts: [8192, 131072]
  run_once: true
"""

RETURN = r"""
plan:
  description: What M(dgx_spark.vllm.vllm_memory_plan) returns; empty when there is no config.
  returned: success
  type: dict
settings:
  description: What the size of the KV pool depends on, for a record of the start.
  returned: success
  type: dict
context_table:
  description: Each length with what it takes and whether it fits.
  returned: success
  type: list
  elements: dict
safe_length:
  description: Tokens from which on one request puts unified memory at risk; null where that is no question.
  returned: success
  type: int
lines:
  description: The report.
  returned: success
  type: list
  elements: str
msg:
  description: One sentence.
  returned: always
  type: str
"""
