#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What guards a machine's memory, what it did, and what in the kernel's log announces a freeze."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_guard_info
short_description: Read what guards a machine's memory and what announces a freeze
version_added: 1.0.0
description:
  - Reads whether the parts that M(dgx_spark.vllm.node_guard) set up are in force, which processes earlyoom ended, and lines of the kernel's log that were
    seen before machines with unified memory froze.
  - Only reads.
options:
  hours:
    description: Span of the journal in hours. Where the journal has no kernel log, all that the kernel still holds is read.
    type: int
    default: 24
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
seealso:
  - module: dgx_spark.vllm.node_guard
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Read what guards the node
  dgx_spark.vllm.node_guard_info:
  register: guard
"""

RETURN = r"""
earlyoom:
  description: Whether earlyoom runs.
  returned: success
  type: bool
min_free_kib:
  description: KiB that the kernel keeps free for itself; none where it does not say.
  returned: success
  type: int
watchdog:
  description: Time after which the hardware watchdog restarts the machine; empty where systemd holds none.
  returned: success
  type: str
watchdog_device:
  description: Whether the machine has a watchdog of its own.
  returned: success
  type: bool
findings:
  description: How the guard stands, what it did, and what announces a freeze.
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

from ..module_utils.node.guard import PACKAGE, GuardError, Node, facts, guard_findings
from ..module_utils.report.finding import as_dicts
from ..module_utils.service.freeze import recent_warnings
from ..module_utils.system.kernel_log import boot_journal
from ..module_utils.system.run import run


def main() -> None:
    module = AnsibleModule(argument_spec={"hours": {"type": "int", "default": 24}}, supports_check_mode=True)
    hours = module.params["hours"]
    if hours < 1:
        module.fail_json(msg=f"hours is {hours}, expected at least 1")
    node = Node(run)
    try:
        found = list(guard_findings(node, boot_journal(run, "--unit", PACKAGE, "--since", f"-{hours}h")))
        state = facts(node)
    except GuardError as error:
        module.fail_json(msg=str(error))
    found += recent_warnings(run, hours)
    module.exit_json(
        changed=False, findings=as_dicts(found), msg="; ".join(finding.sentence() for finding in found), **state
    )


if __name__ == "__main__":
    main()
