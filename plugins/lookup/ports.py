# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports that a node must have free, from the table of listeners."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ports
author: dgx_spark.vllm contributors (@dgx-spark)
version_added: 1.0.0
short_description: Ports that a node must have free
description:
  - Returns the TCP ports that the services of this node will listen on, from the collection's table of listeners and the settings that are in force.
  - Needs C(spark_head_name) and C(spark_node_addresses), which the settings play derives.
options:
  _terms:
    description:
      - V(needs), or nothing, for the ports that must be free on the node.
      - V(filter) for all ports that its services listen on, and who may reach them.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Show the ports of this node
  ansible.builtin.debug:
    msg: "{{ query('dgx_spark.vllm.ports') }}"
"""

RETURN = r"""
_raw:
  description:
    - One dictionary for each port, with C(port) and C(units) that may hold it.
    - For V(filter) with C(protocol), C(first), C(last), C(name) and C(reach) - V(anyone), V(fabric) for the nodes of the cluster, V(loopback) for the
      node itself.
  type: list
  elements: dict
"""

from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..module_utils.service.listeners import filter_rows, port_needs, settings_asked


class LookupModule(LookupBase):
    """Reads settings; see DOCUMENTATION."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        given = variables or {}
        wanted = [*settings_asked(), "spark_head_name", "spark_node_addresses"]
        values = {name: self._templar.template(given[name]) for name in wanted if name in given}
        kind = "head" if values.get("spark_head_name") == given.get("inventory_hostname") else "worker"
        if set(terms) - {"needs", "filter"} or len(terms) > 1:
            raise AnsibleLookupError(f"ports: {', '.join(map(str, terms))} is asked for, expected needs or filter")
        rows = filter_rows if terms == ["filter"] else port_needs
        try:
            return rows(values, kind, len(values.get("spark_node_addresses") or []))
        except (TypeError, ValueError) as error:
            raise AnsibleLookupError(f"ports: {error}") from None
