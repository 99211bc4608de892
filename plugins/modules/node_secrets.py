#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of the cluster as files that only root reads."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_secrets
short_description: Write the cluster's secrets as files that only root reads
version_added: 1.0.0
description:
  - Writes secrets to files of mode 0400 in a folder of mode 0700, and makes up those that have no value and no file yet.
  - Never returns a secret; returns a fingerprint of each, by which two nodes can be compared.
options:
  path:
    description: Folder of the secrets.
    type: path
    default: /etc/dgx-spark/secrets
  secrets:
    description: The secrets.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: File name.
        type: str
        required: true
      value:
        description: The secret. Left out or empty, what the file has stays, and a new one is made up where there is no file.
        type: str
      generate:
        description: Whether to make one up where there is neither value nor file; if not, the secret is left out.
        type: bool
        default: true
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Create the cluster's secrets on the head
  dgx_spark.vllm.node_secrets:
    secrets:
      - name: cluster_token
      - name: api_key
        value: "{{ vaulted_api_key | default(omit) }}"
"""

RETURN = r"""
fingerprints:
  description: First 12 hex digits of the SHA-256 of each secret by name, but for those of less than 32 characters.
  returned: success
  type: dict
actions:
  description: What was done, in words.
  returned: success
  type: list
  elements: str
msg:
  description: One sentence.
  returned: always
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node.secret_files import Secret, SecretError, ensure_secrets


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/etc/dgx-spark/secrets"},
            "secrets": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "no_log": False,
                "options": {
                    "name": {"type": "str", "required": True},
                    "value": {"type": "str", "no_log": True},
                    "generate": {"type": "bool", "default": True},
                },
            },
        },
        supports_check_mode=True,
    )
    folder = Path(module.params["path"])
    try:
        wanted = [
            Secret(secret["name"], (secret["value"] or "").strip(), secret["generate"])
            for secret in module.params["secrets"]
        ]
        actions, fingerprints = ensure_secrets(folder, wanted, module.check_mode)
    except SecretError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or folder}: {error.strerror}; node_secrets needs root on the node")
    module.exit_json(
        changed=bool(actions),
        actions=actions,
        fingerprints=fingerprints,
        msg="; ".join(actions) or "the secrets are in place",
    )


if __name__ == "__main__":
    main()
