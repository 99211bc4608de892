#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: status_report
short_description: The state of the cluster on one screen, as JSON and as a page
version_added: 1.0.0
description:
  - Makes one document of what M(dgx_spark.vllm.node_status_info) returned of each node, shows it on one screen, and writes it as JSON and as one HTML page
    that needs nothing beside itself.
  - docs/status.schema.json describes the document; its C(schema) carries the version.
  - A node that did not answer has the reason in the place of its figures.
  - Runs on the controller and needs no connection to any host. What it writes is no part of a node, so it is never RV(ignore:changed).
options:
  nodes:
    description: The registered result of M(dgx_spark.vllm.node_status_info) by node; of one that did not answer the failed or unreachable result.
    type: dict
    required: true
  head:
    description: Name of the head among them.
    type: str
    required: true
  about:
    description: What the settings say, V(model), V(image), V(endpoint), V(expected_nodes), V(expected_gpus) and V(addresses) by node.
    type: dict
    default: {}
  json_file:
    description: File on the controller for the document, readable to its owner alone. Left out, none is written.
    type: path
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
- name: Show the status
  dgx_spark.vllm.status_report:
    nodes:
      spark-1: "{{ hostvars['spark-1'].look }}"
      spark-2: "{{ hostvars['spark-2'].look }}"
    head: spark-1
    json_file: status.json
  run_once: true
"""

RETURN = r"""
status:
  description: The document.
  returned: success
  type: dict
  sample: {schema: dgx_spark.vllm.status/1, level: green}
msg:
  description: One sentence.
  returned: always
  type: str
"""
