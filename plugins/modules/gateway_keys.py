#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Named keys of the gateway."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_keys
short_description: Add, change, rotate, withdraw and list the named keys of the gateway
version_added: 1.0.0
description:
  - Keeps the keys in one file for root alone, as SHA-256, and tells a running gateway, which takes a change without a reload and cuts no stream.
  - A key is returned when it is made and never again.
options:
  state:
    description:
      - V(listed) returns the keys without themselves and writes the gateway's files where they differ.
      - V(present) adds a key, or changes role, limits and end of one that is there.
      - V(rotated) gives a name another key; the earlier one is refused at once.
      - V(absent) refuses a key from now on.
    type: str
    choices: [listed, present, rotated, absent]
    default: listed
  name:
    description: Name of the key, up to 32 of a-z, 0-9, C(-) and C(_). Needed unless O(state=listed).
    type: str
  role:
    description: V(user) opens what clients need, V(operator) also what tells of the server (docs/security.md). Left out, V(user) or as it is.
    type: str
    choices: [user, operator]
  per_minute:
    description: Most requests in a minute; 0 for no limit. Left out, no limit or as it is.
    type: int
  at_once:
    description: Most requests at the same time; 0 for no limit. Left out, no limit or as it is.
    type: int
  ends:
    description: Last day on which it is taken, in UTC, as C(2027-01-31); empty for none. Left out, none or as it is.
    type: str
  key_file:
    description:
      - With O(state=present), file for root alone that holds the key, for a program on the head. The key is then in no answer.
      - Where the file is missing or has another key than the gateway, both get a new one.
    type: path
  server_key_file:
    description:
      - File with the key of the server behind the gateway, which the gateway sends in place of a client's.
      - A gateway that has never had keys takes it as the first one, named C(default), so that clients go on as before; that one changes with the
        file until it is rotated.
    type: path
    default: /etc/dgx-spark/secrets/api_key
  folder:
    description: Folder of the gateway's files.
    type: path
    default: /etc/dgx-spark/gateway
  socket:
    description: Admin socket of the running gateway.
    type: path
    default: /run/spark-gateway/admin.sock
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Add a key with limits
  dgx_spark.vllm.gateway_keys:
    state: present
    name: alice
    per_minute: 60
    at_once: 4
    ends: "2027-06-30"
  register: added
  no_log: true
"""

RETURN = r"""
key:
  description: The key that was made.
  returned: when one was made, outside of check mode
  type: str
keys:
  description: All keys without themselves.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: Its name., type: str}
    role: {description: "C(user) or C(operator).", type: str}
    per_minute: {description: "Most requests in a minute; 0 for no limit.", type: int}
    at_once: {description: "Most requests at the same time; 0 for no limit.", type: int}
    ends: {description: "Last day on which it is taken; empty for none.", type: str}
    made: {description: "When it was made, in UTC.", type: str}
    follows: {description: "Whether it is the server's own key and changes with that.", type: bool}
actions:
  description: What was done, or would be done in check mode, in words.
  returned: success
  type: list
  elements: str
msg:
  description: One sentence.
  returned: always
  type: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.gateway.keys import KeyProblem, Keys, change, held

ARGUMENTS = {
    "state": {"type": "str", "choices": ["listed", "present", "rotated", "absent"], "default": "listed"},
    "name": {"type": "str"},
    "role": {"type": "str", "choices": ["user", "operator"]},
    "per_minute": {"type": "int"},
    "at_once": {"type": "int"},
    "ends": {"type": "str"},
    "key_file": {"type": "path", "no_log": False},
    "server_key_file": {"type": "path", "default": "/etc/dgx-spark/secrets/api_key", "no_log": False},
    "folder": {"type": "path", "default": "/etc/dgx-spark/gateway"},
    "socket": {"type": "path", "default": "/run/spark-gateway/admin.sock"},
}
#: What may be given of a key.
LIMITS = ("role", "per_minute", "at_once", "ends")


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        required_if=[("state", state, ["name"]) for state in ("present", "rotated", "absent")],
        supports_check_mode=True,
    )
    params = module.params
    made, server_key = "", Path(params["server_key_file"])
    try:
        keys = Keys(Path(params["folder"]), Path(params["socket"]), module.check_mode)
        if server_key.exists() or not module.check_mode:
            value = server_key.read_text(encoding="utf-8").strip()
            keys.server(value)
        given = {field: params[field] for field in LIMITS if params[field] is not None}
        if params["key_file"] and params["state"] == "present":
            held(keys, params["name"], Path(params["key_file"]), given)
        else:
            made = change(keys, params["state"], params["name"], given)
        keys.save()
    except KeyProblem as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or params['folder']}: {error.strerror}; gateway_keys needs root on the head, after role cluster_secrets"
        )
    answer: dict[str, Any] = {"keys": [key.listed() for key in keys.keys], "actions": keys.actions}
    if made and not module.check_mode:
        answer["key"] = made
    module.exit_json(changed=bool(keys.actions), msg="; ".join(keys.actions) or "the keys are as wanted", **answer)


if __name__ == "__main__":
    main()
