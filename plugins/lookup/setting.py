# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A setting of another role, with the default that its owner gives it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: setting
author: dgx_spark.vllm contributors (@dgx-spark)
version_added: 0.1.0
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

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..module_utils.settings.check import SHARED

_ROLES = Path(__file__).resolve().parents[2] / "roles"


class LookupModule(LookupBase):
    """Reads variables and the defaults of roles; see DOCUMENTATION."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        return [self._value(str(name), variables or {}) for name in terms]

    def _value(self, name: str, variables: dict[str, Any]) -> Any:
        if name in variables:
            return self._templar.template(variables[name])
        if "default" in SHARED.get(name, {}):
            return SHARED[name]["default"]
        defaults = self._defaults(name)
        # A default may refer to another one of the same role.
        templar = self._templar.copy_with_new_env(available_variables={**defaults, **variables})
        return templar.template(defaults[name])

    def _defaults(self, name: str) -> dict[str, Any]:
        """Return the defaults of the role that owns a setting."""
        for path in _ROLES.glob("*/defaults/main.yml"):
            if name.startswith(f"{path.parts[-3]}_"):
                found: dict[str, Any] = self._loader.load_from_file(str(path), unsafe=True, trusted_as_template=True)
                if name in found:
                    return found
        raise AnsibleLookupError(
            f"setting {name!r} does not exist: no role of this collection has a default of this name"
        )
