#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: the cluster's ports are closed to everybody but its own nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: packet_filter
short_description: Close the cluster's ports to everybody but its own nodes
version_added: 1.0.0
description:
  - Puts one table of nftables in force, C(inet dgx_spark), which refuses new connections to the named ports from others than the named nodes. It touches no
    other table, and what it lets pass is still judged by those (ufw's, Docker's).
  - A new table is taken back after O(seconds) unless O(state=confirmed) comes, which has to be over a connection that was made meanwhile. Only then it stays,
    and a unit of systemd brings it back at boot, before any network is up.
options:
  state:
    description: Whether the table is there, is confirmed, or is taken away.
    type: str
    choices: [present, confirmed, absent]
    default: present
  ports:
    description:
      - What listens on this node, as lookup P(dgx_spark.vllm.ports#lookup) returns it for V(filter), in dictionaries of C(protocol), C(first), C(last),
        C(name) and C(reach) - V(anyone), V(fabric) for the nodes of the cluster, V(loopback) for the node itself.
    type: list
    elements: dict
    default: []
  nodes:
    description: Addresses of the cluster's nodes, and addresses or networks of others that may reach what the nodes may.
    type: list
    elements: str
    default: []
  dynamic_ports:
    description: Whether the TCP ports that the kernel hands out (C(net.ipv4.ip_local_port_range)) are the cluster's as well; NCCL, Gloo and ranks listen there.
    type: bool
    default: true
  seconds:
    description: Seconds after which an unconfirmed table is taken back, 10 to 600.
    type: int
    default: 60
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Close the cluster's ports
  dgx_spark.vllm.packet_filter:
    ports: "{{ query('dgx_spark.vllm.ports', 'filter') }}"
    nodes: "{{ spark_node_addresses }}"

- name: Reconnect to the node
  ansible.builtin.meta: reset_connection

- name: Confirm the packet filter
  dgx_spark.vllm.packet_filter:
    state: confirmed
"""

RETURN = r"""
pending:
  description: Whether the table waits to be confirmed.
  returned: success
  type: bool
missing_packages:
  description: Packages without which nothing was done.
  returned: success
  type: list
  elements: str
actions:
  description: What was done, or would be in check mode, in words.
  returned: success
  type: list
  elements: str
msg:
  description: One sentence.
  returned: always
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node.packet_filter import Filter, FilterError, Ports, Wanted
from ..module_utils.system.run import run

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "confirmed", "absent"], "default": "present"},
    "ports": {"type": "list", "elements": "dict", "default": []},
    "nodes": {"type": "list", "elements": "str", "default": []},
    "dynamic_ports": {"type": "bool", "default": True},
    "seconds": {"type": "int", "default": 60},
}


def wanted(params: dict[str, Any]) -> Wanted:
    """Return what the parameters ask for; raises FilterError."""
    rows: dict[str, list[Ports]] = {"anyone": [], "fabric": [], "loopback": []}
    for row in params["ports"]:
        if row.get("reach") not in rows:
            raise FilterError(f"reach is {row.get('reach')!r} in {row}, expected {', '.join(rows)}")
        rows[row["reach"]].append(Ports.of(row))
    return Wanted(
        tuple(rows["loopback"]),
        tuple(rows["fabric"]),
        tuple(rows["anyone"]),
        tuple(params["nodes"]),
        params["dynamic_ports"],
    )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    found = Filter(run, module.check_mode)
    missing: list[str] = []
    pending = False
    try:
        if module.params["state"] == "absent":
            found.remove()
        elif missing := found.missing_packages():
            wanted(module.params)
        elif module.params["state"] == "confirmed":
            found.confirm()
        else:
            pending = found.apply(wanted(module.params), module.params["seconds"])
    except FilterError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or 'the packet filter'}: {error.strerror}; packet_filter needs root on the node"
        )
    module.exit_json(
        changed=bool(found.actions),
        pending=pending,
        missing_packages=missing,
        actions=found.actions,
        diff=found.changes.diff,
        msg="; ".join(found.actions) or "the packet filter is as it is wanted",
    )


if __name__ == "__main__":
    main()
