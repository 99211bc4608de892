#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what somebody who was not there needs to see of a node, without its secrets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_diagnosis_info
short_description: What somebody who was not there needs to see of a node, without its secrets
version_added: 1.0.0
description:
  - Reads versions, states and logs of system, GPU, Docker, network and the services of this collection, and redacts them on the node, before they
    go over any wire.
  - Taken out are the node's secrets in any encoding, keys of well-known forms, values of names that say password, token or key, serial numbers,
    the machine's half of MAC addresses, public addresses, e-mail addresses and names of users' folders.
  - No environment, no arguments of processes and no file of secrets is read into it. It only reads.
options:
  units:
    description: Units whose journals belong to it.
    type: list
    elements: str
    default:
      - spark-ray-head.service
      - spark-ray-worker.service
      - spark-vllm-worker.service
      - spark-vllm.service
  journal_lines:
    description: Lines of each journal, counted from its end; V(0) leaves the journals out.
    type: int
    default: 2000
  secrets_folder:
    description: Folder with the node's secrets, a file each; their values are looked for in all that leaves the node.
    type: path
    default: /etc/dgx-spark/secrets
  secrets:
    description: Further secret values by name.
    type: dict
    default: {}
  results:
    description: Results of other modules on this node by name, to be redacted with the node's secrets and returned as documents.
    type: dict
    default: {}
  alias:
    description: Name that stands for the machine's own. Left out, its name stays.
    type: str
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Collect what there is
  dgx_spark.vllm.node_diagnosis_info:
    alias: "{{ inventory_hostname }}"
  register: diagnosis
"""

RETURN = r"""
documents:
  description: Texts by name, redacted.
  type: dict
  returned: always
left_out:
  description: Why other documents are not there, by name.
  type: dict
  returned: always
msg:
  description: One sentence.
  type: str
  returned: always
"""

import socket
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node.diagnosis import diagnose, host_aliases, read_secrets, result_text
from ..module_utils.system.redact import Redactor
from ..module_utils.system.run import run
from ..module_utils.system.units import ORDER


def main() -> None:
    """Read, redact, answer."""
    module = AnsibleModule(
        argument_spec={
            "units": {
                "type": "list",
                "elements": "str",
                "default": [f"{name}.service" for name in ORDER],
            },
            "journal_lines": {"type": "int", "default": 2000},
            "secrets_folder": {"type": "path", "default": "/etc/dgx-spark/secrets", "no_log": False},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "results": {"type": "dict", "default": {}},
            "alias": {"type": "str"},
        },
        supports_check_mode=True,
    )
    if module.params["journal_lines"] < 0:
        module.fail_json(
            msg=f"journal_lines is {module.params['journal_lines']}, expected 0 or more; 0 leaves the journals out"
        )

    secrets = read_secrets(Path(module.params["secrets_folder"]))
    secrets |= {str(name): str(value) for name, value in module.params["secrets"].items() if value}
    alias = module.params["alias"]
    aliases = host_aliases([socket.gethostname(), socket.getfqdn()], alias) if alias else {}
    redactor = Redactor(secrets, aliases)
    found = diagnose(run, redactor, module.params["units"], module.params["journal_lines"])
    for name, result in module.params["results"].items():
        found.documents[f"results/{name}.json"] = redactor.text(result_text(result))
    module.exit_json(
        changed=False,
        documents=found.documents,
        left_out=found.left_out,
        msg=f"{len(found.documents)} documents, {len(found.left_out)} not there",
    )


if __name__ == "__main__":
    main()
