# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A setting of another role, with the default that its owner gives it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: setting
author: dgx_spark.vllm contributors (@dgx-spark)
version_added: 1.0.0
short_description: A setting of another role, as it is in force
description:
  - Returns what the inventory, the command line or the play says of a setting, and where nobody says anything the default of the role that owns it.
  - The defaults of a role are seen by that role alone. With this lookup they stand in one place, and whoever needs one refers to it.
options:
  _terms:
    description: Names of settings of this collection's roles, and of shared settings that have a default.
    required: true
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Show where Ray's head listens
  ansible.builtin.debug:
    msg: "{{ lookup('dgx_spark.vllm.setting', 'ray_head_port') }}"
"""

RETURN = r"""
_raw:
  description: One value for each name.
  type: list
  elements: raw
"""

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible.template import trust_as_template

from ..module_utils.settings.shared import SHARED

_ROLES = Path(__file__).resolve().parents[2] / "roles"
# Ansible's own loader notes the line of every value, which takes ten times as long.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _trusted(value: Any) -> Any:
    """Return a value whose texts Ansible takes for templates, as it does with those of a role."""
    if isinstance(value, dict):
        return {name: _trusted(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_trusted(inner) for inner in value]
    return trust_as_template(value) if isinstance(value, str) else value


@cache
def _defaults(name: str) -> dict[str, Any]:
    """Return the defaults of the role that owns a setting; empty where none does."""
    for path in _ROLES.glob("*/defaults/main.yml"):
        if name.startswith(f"{path.parts[-3]}_"):
            # A safe loader, CSafeLoader or SafeLoader.
            found = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER) or {}
            if name in found:
                return dict(_trusted(found))
    return {}


class LookupModule(LookupBase):
    """Reads variables and the defaults of roles; see DOCUMENTATION."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        return [self._value(str(name), variables or {}) for name in terms]

    def _value(self, name: str, variables: dict[str, Any]) -> Any:
        if name in variables:
            return self._templar.template(variables[name])
        if "default" in SHARED.get(name, {}):
            return SHARED[name]["default"]
        defaults = _defaults(name)
        if not defaults:
            raise AnsibleLookupError(
                f"setting {name!r} does not exist: no role of this collection has a default of this name"
            )
        # A default may refer to another one of the same role.
        templar = self._templar.copy_with_new_env(available_variables={**defaults, **variables})
        return templar.template(defaults[name])
