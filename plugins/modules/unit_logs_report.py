#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: unit_logs_report
short_description: Show the lines of several nodes' units in one order of time
version_added: 1.0.0
description:
  - Puts what M(dgx_spark.vllm.unit_logs_info) returned of each node into one order of time, by the clock of each node, shows it, and writes it to a file.
  - A node that did not answer is named, and the lines of the others are shown.
  - Runs on the controller and needs no connection to any host. What it writes is no part of a node, so it is never RV(ignore:changed).
options:
  nodes:
    description: The registered result of M(dgx_spark.vllm.unit_logs_info) by node; of one that did not answer the failed or unreachable result.
    type: dict
    required: true
  file:
    description: File on the controller for all lines, readable to its owner alone. Left out, none is written.
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
- name: Show the logs
  dgx_spark.vllm.unit_logs_report:
    nodes:
      spark-1: "{{ hostvars['spark-1'].logs }}"
      spark-2: "{{ hostvars['spark-2'].logs }}"
    file: cluster.log
  run_once: true
"""

RETURN = r"""
missing:
  description: Nodes that did not answer, and units whose journal could not be read, each with the reason.
  returned: success
  type: list
  elements: str
msg:
  description: One sentence.
  returned: always
  type: str
"""
