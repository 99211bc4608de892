#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the watchdog says of the endpoint."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_watchdog_info
short_description: Read what the watchdog says of the endpoint
version_added: 1.0.0
description:
  - Reads the state that C(spark-watchdog) writes on the head every other second, with its reason, the nodes that report to it and the last recovery.
  - Only reads.
options:
  path:
    description: File of the state.
    type: path
    default: /run/dgx-spark/watchdog.json
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Read what the watchdog says
  dgx_spark.vllm.vllm_watchdog_info:
  register: watchdog
"""

RETURN = r"""
state:
  description: What it wrote; empty where there is nothing to read.
  returned: success
  type: dict
  sample: {state: serving, reason: idle}
findings:
  description: The state with its reason, nodes that do not report, and the last recovery.
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

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.report.finding import as_dicts
from ..module_utils.service.watchdog_report import look

ARGUMENTS = {"path": {"type": "path", "default": "/run/dgx-spark/watchdog.json"}}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    state, found = look(Path(module.params["path"]))
    module.exit_json(
        changed=False,
        state=state,
        findings=as_dicts(found),
        msg="; ".join(finding.sentence() for finding in found),
    )


if __name__ == "__main__":
    main()
