#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages of the operating system that roles installed on a node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: installed_packages
short_description: Record which packages a role installed
version_added: 1.0.0
description:
  - Adds the packages that apt installed anew, dependencies included, to C(/etc/dgx-spark/installed.json), so that M(dgx_spark.vllm.node_remove) can
    remove them and no others.
options:
  output:
    description: What apt printed while it installed them, as M(ansible.builtin.apt) returns it in C(stdout).
    type: str
    required: true
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Install the NFS client
  ansible.builtin.apt:
    name: nfs-common
  register: installed

- name: Record the installed packages
  dgx_spark.vllm.installed_packages:
    output: "{{ installed.stdout }}"
  when: installed is changed
"""

RETURN = r"""
packages:
  description: Packages that were added to the record.
  returned: success
  type: list
  elements: str
msg:
  description: One sentence.
  returned: always
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.service.removal import INSTALLED, new_packages, record_packages, recorded_packages


def main() -> None:
    module = AnsibleModule(argument_spec={"output": {"type": "str", "required": True}}, supports_check_mode=True)
    before = recorded_packages()
    fresh = sorted(set(new_packages(module.params["output"])) - set(before))
    try:
        if fresh and not module.check_mode:
            record_packages(fresh)
    except OSError as error:
        module.fail_json(msg=f"{INSTALLED}: {error.strerror}; installed_packages needs root on the node")
    sides = {
        "before": "".join(f"{name}\n" for name in before),
        "after": "".join(f"{name}\n" for name in sorted({*before, *fresh})),
    }
    told = f"recorded {', '.join(fresh)}" if fresh else "no package is new"
    module.exit_json(changed=bool(fresh), packages=fresh, diff=sides, msg=told)


if __name__ == "__main__":
    main()
