#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: diagnosis_bundle
short_description: Pack the nodes' diagnosis into one archive without secrets
version_added: 1.0.0
description:
  - Packs answers of M(dgx_spark.vllm.node_diagnosis_info) and results of other modules into one C(.tar.gz) on the controller.
  - Everything is redacted once more, with the secrets that the controller knows. Where a secret would still leave, nothing is written.
  - Runs on the controller and needs no connection to any host.
options:
  path:
    description: File to write, ending in C(.tar.gz), readable to its owner alone.
    type: path
    required: true
  nodes:
    description: Answer of M(dgx_spark.vllm.node_diagnosis_info) by node.
    type: dict
    required: true
  results:
    description: Results of other modules by name, by node; of those nodes that gave no answer. The others bring theirs with their answer.
    type: dict
    default: {}
  secrets:
    description: Secret values by name, that must not be in it in any form.
    type: dict
    default: {}
  notes:
    description: Lines for the page on top.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
attributes:
  diff_mode:
    support: none
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Pack
  dgx_spark.vllm.diagnosis_bundle:
    path: diagnosis.tar.gz
    nodes:
      spark-1: "{{ hostvars['spark-1'].diagnosis }}"
    secrets:
      api_key: "{{ spark_api_key | default('') }}"
  no_log: true
  run_once: true
"""

RETURN = r"""
path:
  description: The archive.
  returned: success
  type: str
files:
  description: Names of the files in it.
  returned: success
  type: list
  elements: str
bytes:
  description: Its size.
  returned: success
  type: int
msg:
  description: One sentence.
  returned: always
  type: str
"""
