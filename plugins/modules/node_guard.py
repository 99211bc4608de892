#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a machine with unified memory alive when memory runs out."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_guard
short_description: Keep a machine with unified memory alive when memory runs out
version_added: 1.0.0
description:
  - Has earlyoom end the ranks of a server before memory is full, has the kernel keep some memory free for itself, and has systemd feed the hardware
    watchdog, so that a machine that froze nevertheless restarts by itself. Bounds what the journal takes of the disk.
  - What is compared is what is in force (the running service, the kernel's value), not files alone.
  - A part whose option is V(0) or V(false) is taken away, as far as this module brought it.
  - In a container the kernel's value and the watchdog are left alone, since they are another machine's.
options:
  earlyoom:
    description: Whether earlyoom ends ranks.
    type: bool
    default: true
  min_available_gib:
    description: GiB of available memory (MemAvailable) below which it does.
    type: float
    default: 4
  min_free_mib:
    description: MiB that the kernel keeps free for itself (C(vm.min_free_kbytes)); never less than its own value. V(0) leaves it to the kernel.
    type: int
    default: 512
  watchdog_seconds:
    description: Seconds without a sign of systemd after which the hardware watchdog restarts the machine. V(0) does without.
    type: int
    default: 300
  journal_gib:
    description: GiB that the journal may take of the disk (C(SystemMaxUse)). V(0) leaves it to systemd, which takes a tenth of the disk, at most 4 GiB.
    type: float
    default: 0
  journal_days:
    description: Days for which the journal is kept (C(MaxRetentionSec)), where O(journal_gib) is given. V(0) for as long as there is room.
    type: int
    default: 0
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
seealso:
  - module: dgx_spark.vllm.node_guard_info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Guard the node's memory
  dgx_spark.vllm.node_guard:
    min_available_gib: 4
  register: guard

- name: Install earlyoom
  ansible.builtin.apt:
    name: "{{ guard.missing_packages }}"
  when: guard.missing_packages | length > 0
"""

RETURN = r"""
missing_packages:
  description: Packages of the operating system that are missing; install them and run again. Everything else is prepared already.
  returned: success
  type: list
  elements: str
actions:
  description: What was done, or would be in check mode, in words.
  returned: success
  type: list
  elements: str
notes:
  description: What was left out, and why.
  returned: success
  type: list
  elements: str
msg:
  description: One sentence.
  returned: always
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node.guard import Guard, GuardError, Node, Wanted
from ..module_utils.system.run import run


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "earlyoom": {"type": "bool", "default": True},
            "min_available_gib": {"type": "float", "default": 4},
            "min_free_mib": {"type": "int", "default": 512},
            "watchdog_seconds": {"type": "int", "default": 300},
            "journal_gib": {"type": "float", "default": 0},
            "journal_days": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    try:
        guard = Guard(Wanted(**module.params), Node(run), module.check_mode)
        guard.apply()
    except GuardError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or 'the guard'}: {error.strerror}; node_guard needs root on the node")
    module.exit_json(
        changed=bool(guard.actions),
        actions=guard.actions,
        diff=guard.diff,
        missing_packages=guard.missing,
        msg="; ".join([*guard.actions, *guard.notes]) or "the guard is in place",
        notes=guard.notes,
    )


if __name__ == "__main__":
    main()
