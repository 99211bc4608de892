# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a model, from models/<name>.yml."""

from __future__ import annotations

DOCUMENTATION = r"""
name: model
author: dgx_spark.vllm contributors (@dgx-spark)
version_added: 1.0.0
short_description: What is known of a model
description:
  - Returns the content of C(models/<name>.yml), from the folder C(models) beside the inventory when it is there, else from this collection.
options:
  _terms:
    description: Name of one model.
    required: true
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Show the repository of the default model
  ansible.builtin.debug:
    msg: "{{ lookup('dgx_spark.vllm.model', 'qwen3-235b-awq').repo_id }}"
"""

RETURN = r"""
_raw:
  description: One dictionary for each model; see docs/models.md for its keys.
  type: list
  elements: dict
"""

from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..module_utils.model.catalog import ModelDataError, check_model, find_model

_SHIPPED = Path(__file__).resolve().parents[2] / "models"


class LookupModule(LookupBase):
    """Reads model files; see DOCUMENTATION."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        inventory = (variables or {}).get("inventory_dir")
        folders = [*([Path(inventory) / "models"] if inventory else []), _SHIPPED]
        found = []
        for name in terms:
            try:
                path = find_model(str(name), folders)
                found.append(check_model(yaml.safe_load(path.read_text(encoding="utf-8")), path))
            except (ModelDataError, yaml.YAMLError) as error:
                raise AnsibleLookupError(str(error)) from None
        return found
