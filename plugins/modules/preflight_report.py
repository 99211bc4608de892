#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_report
short_description: One report of all checks of the nodes, in the terminal and as a page
version_added: 1.0.0
description:
  - Makes one report, green, yellow and red, of the registered results of modules that checked the nodes, shows it as a table and writes it as one
    HTML page that needs nothing beside itself.
  - Understood of a result are its RV(ignore:findings), and without them a failure, a node out of reach and a skipped task (no finding).
    RV(ignore:identity) of each node is compared with that of the others.
  - Duplicates (the same code of the same subject from several checks) are reported once, from the first check; a green finding only where no other
    check says more of
    the same check.
  - Each finding that is not green names its code; docs/troubleshooting.md has an entry for each.
  - Runs on the controller and needs no connection to any host. RV(ignore:changed) says whether the findings are others than those of the page that
    was there.
options:
  nodes:
    description: Results by what they checked, by node.
    type: dict
    required: true
  page:
    description: File on the controller to write the page to, readable to its owner alone. Left out, none is written.
    type: path
  title:
    description: Head of the page.
    type: str
    default: Preflight
  subject:
    description: What the report is about, in a line.
    type: str
    default: ""
  show:
    description: Whether to show the table.
    type: bool
    default: true
  show_only:
    description: Names of the checks to which the table is limited; the page has all. Empty, the table has all as well.
    type: list
    elements: str
    default: []
  fail_on_red:
    description:
      - Whether a red finding is a failure of the task. Its message counts the findings and says what to do next.
      - It has the red findings themselves where the table leaves one out.
    type: bool
    default: false
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
attributes:
  diff_mode:
    support: none
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Report
  dgx_spark.vllm.preflight_report:
    nodes:
      spark-1: {survey: "{{ hostvars['spark-1'].survey }}"}
      spark-2: {survey: "{{ hostvars['spark-2'].survey }}"}
    page: report.html
  run_once: true
"""

RETURN = r"""
level:
  description: The gravest level, C(green), C(yellow) or C(red).
  returned: success
  type: str
counts:
  description: Findings by level.
  returned: success
  type: dict
findings:
  description: Findings by node, those of all nodes together under C(all nodes); left out where O(fail_on_red=true) fails.
  returned: success
  type: dict
page:
  description: The page's file.
  returned: when it was written
  type: str
msg:
  description: One sentence.
  returned: always
  type: str
"""
