#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: the last lines of each of the collection's units on a node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: unit_logs_info
short_description: Read the last lines of each of the collection's units on a node
version_added: 1.0.0
description:
  - Reads the journal of each unit of this collection that is on the node, so many lines of each, so that one that says much does not hide the others.
  - The node's secrets, and what has the form of one, are taken out on the node.
  - Only reads.
options:
  lines:
    description: Lines of each unit, counted from the end.
    type: int
    default: 50
  since:
    description: Nothing that is older, in journalctl's words, C(-1h) or C(2026-11-27 08:00); empty for no limit.
    type: str
    default: ""
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
seealso:
  - module: dgx_spark.vllm.unit_logs_report
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Read the logs of the last hour
  dgx_spark.vllm.unit_logs_info:
    since: -1h
  register: logs
"""

RETURN = r"""
logs:
  description: The lines, unit by unit.
  returned: success
  type: list
  elements: dict
  contains:
    at: {description: Seconds since 1970., type: float}
    unit: {description: Name of the unit., type: str}
    level: {description: "C(red) for errors, C(yellow) for warnings, else C(green).", type: str}
    text: {description: The line., type: str}
left_out:
  description: Why the journal of a unit is not there, by unit.
  returned: success
  type: dict
msg:
  description: One sentence.
  returned: always
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node.diagnosis import read_secrets
from ..module_utils.service.unit_logs import own_units, read_unit
from ..module_utils.system.redact import Redactor
from ..module_utils.system.run import run

SECRETS = Path("/etc/dgx-spark/secrets")


def main() -> None:
    module = AnsibleModule(
        argument_spec={"lines": {"type": "int", "default": 50}, "since": {"type": "str", "default": ""}},
        supports_check_mode=True,
    )
    wanted = module.params["lines"]
    if wanted < 1:
        module.fail_json(msg=f"lines is {wanted}, expected 1 or more")
    redactor, units = Redactor(read_secrets(SECRETS)), own_units()
    logs, left_out = [], {}
    for name in units:
        try:
            logs += read_unit(run, name, wanted, module.params["since"], redactor.text)
        except ValueError as error:
            left_out[name] = str(error)
    said = f"{len(logs)} lines of {', '.join(units)}" if units else "no unit of this collection is on this node"
    module.exit_json(changed=False, logs=logs, left_out=left_out, msg="; ".join([said, *left_out.values()]))


if __name__ == "__main__":
    main()
