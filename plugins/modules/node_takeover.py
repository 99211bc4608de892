#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what others run on a node is stopped, and does not come back at the next boot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_takeover
short_description: Stop what others run on a node, and keep it from starting at boot
version_added: 1.0.0
description:
  - Stops the named containers and takes their restart policy away; stops and disables the named units of systemd. Nothing is removed, so that all of it
    can be started again - RV(undo) says how.
  - Refuses containers and units of this collection, and units that are part of the system.
  - What is not there, or stopped already, is no change.
options:
  containers:
    description: Names of containers.
    type: list
    elements: str
    default: []
  units:
    description: Names of units of systemd, with their suffix.
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
- name: Show who holds the machine
  dgx_spark.vllm.node_survey_info:
  register: survey

- name: Take over the machine
  dgx_spark.vllm.node_takeover:
    containers: "{{ survey.takeover.containers }}"
    units: "{{ survey.takeover.units }}"
"""

RETURN = r"""
stopped:
  description: What was stopped, or would be in check mode.
  type: list
  elements: str
  returned: success
undo:
  description: Commands that bring it back.
  type: list
  elements: str
  returned: success
msg:
  description: One sentence.
  type: str
  returned: always
"""


from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node.takeover import TakeoverError, plan
from ..module_utils.system.run import run


def main() -> None:
    """Plan, stop, answer."""
    module = AnsibleModule(
        argument_spec={
            "containers": {"type": "list", "elements": "str", "default": []},
            "units": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )

    try:
        steps = plan(run, module.params["containers"], module.params["units"])
    except TakeoverError as error:
        module.fail_json(msg=str(error))
    done: list[str] = []
    undo: list[str] = []
    for step in steps:
        if not module.check_mode:
            for argv in step.commands:
                status, out, err = run(argv)
                if status != 0:
                    said = " ".join((err or out).split())[:300]
                    module.fail_json(
                        msg=f"{step.name} cannot be stopped ({' '.join(argv)}: {said}); stopped before it: {', '.join(done) or 'nothing'}",
                        stopped=done,
                        undo=undo,
                    )
        done.append(step.name)
        undo += step.undo
    what = (
        f"{'would stop' if module.check_mode else 'stopped'} {', '.join(done)}"
        if done
        else "nothing of others runs here"
    )
    module.exit_json(changed=bool(done), stopped=done, undo=undo, msg=what)


if __name__ == "__main__":
    main()
