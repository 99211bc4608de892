#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Secrets of the cluster as files that only root reads."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_secrets
short_description: Secrets of the cluster as files that only root reads
version_added: 0.1.0
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
- name: Make the cluster's secrets on the head
  dgx_spark.vllm.node_secrets:
    secrets:
      - name: cluster_token
      - name: api_key
        value: "{{ vaulted_api_key | default(omit) }}"
"""

RETURN = r"""
fingerprints:
  description: First 12 hex digits of the SHA-256 of each secret by name.
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

import hashlib
import os
import re
import secrets as generator
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

_NAME = re.compile(r"^[a-z][a-z0-9_]*$")
#: 32 bytes of the kernel's random generator, as hexadecimal.
_BYTES = 32


def write_secret(path: Path, text: str) -> None:
    """Write a file that is never, not for a moment, readable for others."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    temporary.replace(path)


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
    actions: list[str] = []
    fingerprints: dict[str, str] = {}
    try:
        if not folder.is_dir() or folder.stat().st_mode & 0o777 != 0o700 or folder.stat().st_uid != 0:
            actions.append(f"made {folder} readable for root only")
            if not module.check_mode:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.chmod(0o700)
                os.chown(folder, 0, 0)
        for secret in module.params["secrets"]:
            name: str = secret["name"]
            value: str = (secret["value"] or "").strip()
            if not _NAME.match(name):
                module.fail_json(msg=f"secrets: name is {name!r}, expected lower-case letters, digits and '_'")
            if value and len(value) < 8:
                module.fail_json(
                    msg=f"secret {name!r} has {len(value)} characters, expected at least 8: choose a longer one or leave it empty"
                )
            path = folder / name
            present = path.read_text(encoding="utf-8").strip() if path.exists() else ""
            wanted = value or present or (generator.token_hex(_BYTES) if secret["generate"] else "")
            if not wanted:
                continue
            right = path.exists() and path.stat().st_mode & 0o777 == 0o400 and path.stat().st_uid == 0
            if present != wanted or not right:
                actions.append(
                    f"{'changed' if present else 'made'} secret {name}"
                    if present != wanted
                    else f"set mode of secret {name} to 0400"
                )
                if not module.check_mode:
                    write_secret(path, wanted)
            fingerprints[name] = hashlib.sha256(wanted.encode()).hexdigest()[:12]
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
