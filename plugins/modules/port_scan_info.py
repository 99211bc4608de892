#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what listens on this machine, and which ports of others it reaches."""

from __future__ import annotations

DOCUMENTATION = r"""
module: port_scan_info
short_description: What listens on a machine, and which ports of others it reaches
version_added: 1.0.0
description:
  - With O(targets) tries a TCP connection to each, which is closed at once; nothing is sent.
  - Without them reads what listens on this machine, who holds it, and the machine's addresses.
options:
  targets:
    description: What to try, in dictionaries of C(address) and C(port).
    type: list
    elements: dict
  seconds:
    description: Time limit of one connection.
    type: float
    default: 2
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Read what listens
  dgx_spark.vllm.port_scan_info:
  register: listening

- name: Try Ray's port on the head
  dgx_spark.vllm.port_scan_info:
    targets:
      - address: 192.168.1.50
        port: 6379
"""

RETURN = r"""
listening:
  description: Listening TCP sockets.
  returned: without targets
  type: list
  elements: dict
  contains:
    address: {description: What it is bound to., type: str}
    port: {description: The port., type: int}
    process: {description: Name of the process., type: str}
    unit: {description: Unit of systemd that it belongs to., type: str}
    container: {description: Container that it belongs to., type: str}
addresses:
  description: Addresses of this machine at which others reach it.
  returned: without targets
  type: list
  elements: str
dynamic:
  description: First and last of the TCP ports that the kernel hands out.
  returned: without targets
  type: list
  elements: int
reached:
  description: Those of the targets to which a connection came about.
  returned: with targets
  type: list
  elements: dict
msg:
  description: One sentence.
  returned: always
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node.packet_filter import PORT_RANGE, FilterError, dynamic_ports
from ..module_utils.node.port_scan import is_outside, reached
from ..module_utils.node.requirements import CollectError, Machine
from ..module_utils.system.files import read_text
from ..module_utils.system.run import run


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "targets": {"type": "list", "elements": "dict"},
            "seconds": {"type": "float", "default": 2},
        },
        supports_check_mode=True,
    )
    targets = module.params["targets"]
    if targets is not None:
        try:
            wanted = [(str(target["address"]), int(target["port"])) for target in targets]
        except (KeyError, TypeError, ValueError):
            module.fail_json(msg="a target has no address or no port: expected dictionaries of address and port")
        found = reached(wanted, module.params["seconds"])
        module.exit_json(
            changed=False,
            reached=[{"address": address, "port": port} for address, port in found],
            msg=f"{len(found)} of {len(wanted)} are reached",
        )
    machine = Machine(run)
    try:
        sockets = machine.listeners(None)
        addresses = [
            address.partition("/")[0]
            for interface in machine.interfaces()
            # Those of bridges are the same on every node.
            if not interface.name.startswith(("docker", "br-", "veth", "virbr"))
            for address in interface.addresses
        ]
        dynamic = dynamic_ports(read_text(PORT_RANGE))
    except (CollectError, FilterError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=False,
        listening=[
            {
                "address": one.address,
                "port": one.port,
                "process": one.process,
                "unit": one.unit,
                "container": one.container,
            }
            for one in sockets
        ],
        addresses=[address for address in addresses if is_outside(address)],
        dynamic=[dynamic.first, dynamic.last],
        msg=f"{len(sockets)} sockets listen",
    )


if __name__ == "__main__":
    main()
