#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: the QSFP link of a node, and what is wrong with it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fabric_info
short_description: The QSFP link of a node, and what is wrong with it
version_added: 1.0.0
description:
  - Finds the ConnectX-7 ports, the two network devices behind each, their RDMA devices and addresses, and the cables.
  - Works out which address belongs on which interface, and judges what is there against it.
  - What is wrong is a finding in RV(problems) or RV(warnings_found), not a failure, so that all is reported at once. Only options that cannot be met fail.
  - It only reads. With O(peers) it sends a few packets to the other nodes.
options:
  address:
    description: Fabric address of the node, without prefix. It belongs on the first interface; further ones get the same host number in the next subnets.
    type: str
    required: true
  prefix:
    description: Length of the prefix of each subnet.
    type: int
    default: 24
  interfaces:
    description: Interfaces to use, in this order. Left empty, both twins of every port that has a cable, or the interface that holds O(address).
    type: list
    elements: str
    default: []
  addresses:
    description: Address with prefix of each interface, in place of those that follow from O(address).
    type: dict
    default: {}
  mtu:
    description: MTU that each interface must have; 0 asks for none.
    type: int
    default: 9000
  rdma:
    description: Whether NCCL is to use RDMA over the link.
    type: bool
    default: true
  judge:
    description: Whether to judge the state of the link. Without, only the options are checked for collisions.
    type: bool
    default: true
  managed:
    description: Whether role P(dgx_spark.vllm.fabric#role) comes next, so that an address or an MTU that it writes is yellow, not red.
    type: bool
    default: false
  least_gbits:
    description: Gb/s of a port from which nothing is said of its speed; V(100) for ports of a switch that are split in four.
    type: int
    default: 200
  one_twin:
    description: Whether one of the two interfaces of a port may be left unused; without, that is yellow.
    type: bool
    default: false
  peers:
    description: Other nodes, each with the addresses of its rails in the order of this node's. Each is asked over its rail with packets of full size.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the node, for the message.
        type: str
        required: true
      addresses:
        description: Addresses, with or without prefix.
        type: list
        elements: str
        required: true
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Inspect the link
  dgx_spark.vllm.fabric_info:
    address: 192.168.100.10
    peers:
      - name: spark-2
        addresses: [192.168.100.11, 192.168.101.11]
  register: link

- name: Assert that the link is sound
  ansible.builtin.assert:
    that: link.problems | length == 0
    fail_msg: "{{ link.problems | join('; ') }}"
"""

RETURN = r"""
rails:
  description: The interfaces in use, in order.
  type: list
  elements: dict
  returned: always
  contains:
    interface: {description: Name., type: str}
    address: {description: "The address that belongs on it, with prefix.", type: str}
    rdma: {description: "Its RDMA device; empty for none.", type: str}
    mtu: {description: Its MTU in bytes., type: int}
    carrier: {description: Whether it has a link., type: bool}
    speed: {description: "Mb/s of the port; null where the kernel does not say.", type: int}
    gid_index: {description: "Index of its RoCE v2 address; null for none.", type: int}
    firmware: {description: Version of the card's firmware., type: str}
problems:
  description: One sentence for each thing that must be fixed.
  type: list
  elements: str
  returned: always
warnings_found:
  description: One sentence for each thing that is not as it should be, but works.
  type: list
  elements: str
  returned: always
findings:
  description: Problems (red) and warnings (yellow); a green one where there is neither.
  type: list
  elements: dict
  returned: always
  contains:
    source: {description: Who found it., type: str}
    code: {description: "What it is, stable over releases; docs/troubleshooting.md has an entry for each.", type: str}
    level: {description: "C(green), C(yellow) or C(red).", type: str}
    check: {description: What was checked., type: str}
    found: {description: What was found., type: str}
    remedy: {description: What to do., type: str}
    commands: {description: The remedy as commands to be run by hand on the node., type: list, elements: str}
    subject: {description: Which one of several it is about., type: str}
environment:
  description: Network variables of NCCL, GLOO, TP, UCX, Open MPI, Ray and vLLM for the serving containers of this node.
  type: dict
  returned: always
fabric:
  description: >-
    What was read: twins (each with interface, rdma, pci, port, mac, mtu, state, carrier, speed, addresses, link_local, rdma_state, gids,
    firmware, pcie, pcie_best, why_down), others, routes, management, cables, host (what of PCI bus, IOMMU, hot-plug and kernel explains the link).
  type: dict
  returned: always
msg:
  description: One sentence.
  type: str
  returned: always
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.fabric.host import CHECK, why_no_port
from ..module_utils.fabric.link import (
    Demands,
    Fabric,
    FabricError,
    Machine,
    Rail,
    collect,
    fabric_environment,
    judge,
    judge_rails,
    jumbo_ping,
    plan_rails,
    select_interfaces,
    with_status,
)
from ..module_utils.report.finding import RED, YELLOW, Finding, as_dicts, fine, sentences
from ..module_utils.system.run import run

ARGUMENTS = {
    "address": {"type": "str", "required": True},
    "prefix": {"type": "int", "default": 24},
    "interfaces": {"type": "list", "elements": "str", "default": []},
    "addresses": {"type": "dict", "default": {}},
    "mtu": {"type": "int", "default": 9000},
    "rdma": {"type": "bool", "default": True},
    "judge": {"type": "bool", "default": True},
    "managed": {"type": "bool", "default": False},
    "least_gbits": {"type": "int", "default": 200},
    "one_twin": {"type": "bool", "default": False},
    "peers": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "addresses": {"type": "list", "elements": "str", "required": True},
        },
    },
}


def rails_of(
    fabric: Fabric, address: str, prefix: int, interfaces: Sequence[str], addresses: dict[str, str]
) -> list[Rail]:
    """Return the rails: of the ports, or of the interface that holds the address where the node has no port."""
    chosen = select_interfaces(fabric, interfaces, address)
    if not chosen:
        held = [(other.interface, entry) for other in fabric.others for entry in other.addresses]
        return [Rail(name, entry) for name, entry in held if entry.split("/")[0] == address]
    return plan_rails(chosen, address, prefix, {str(name): str(value) for name, value in addresses.items()})


def judge_node(fabric: Fabric, rails: Sequence[Rail], params: Mapping[str, Any]) -> list[Finding]:
    """Return what is wrong with the link; where it is not to be judged, only addresses that collide."""
    if not params["judge"]:
        return judge_rails(rails, fabric)
    demands = Demands(
        rails=tuple(rails),
        mtu=params["mtu"],
        rdma=params["rdma"],
        managed=params["managed"],
        named=bool(params["interfaces"]),
        least_mbps=1000 * params["least_gbits"],
        one_twin=params["one_twin"],
    )
    return judge(fabric, demands)


def no_holder(fabric: Fabric, address: str) -> Finding:
    """Return what is wrong with a node that has neither a cable nor the address."""
    if not fabric.twins and not fabric.host.cards and (fabric.host.hotplug or fabric.host.marker):
        return why_no_port(fabric.host)
    return Finding(
        "fabric.no_holder",
        RED,
        CHECK,
        f"no interface of this node holds {address}, and it has no QSFP port with a cable",
        "correct spark_fabric_address, or plug the cable",
    )


def main() -> None:
    """Read, judge, answer."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    machine = Machine(run)
    findings: list[Finding] = []
    environment: dict[str, str] = {}
    try:
        fabric = collect(machine)
        rails = rails_of(fabric, params["address"], params["prefix"], params["interfaces"], params["addresses"])
        findings = judge_node(fabric, rails, params)
        status = with_status(fabric.twins, rails)
        if rails:
            environment = fabric_environment(params["address"], status)
        elif not findings:
            findings = [no_holder(fabric, params["address"])]
    except FabricError as error:
        module.fail_json(msg=str(error))
    held = {twin.interface: twin.mtu for twin in fabric.twins}
    for peer in params["peers"]:
        for rail, address in zip(rails, peer["addresses"], strict=False):
            # What the interface cannot send says nothing of the way; another MTU than the wanted one is told above.
            size = min(params["mtu"] or 1500, held.get(rail.interface) or 1500)
            if silent := jumbo_ping(run, rail, address.split("/")[0], size):
                findings.append(replace(silent, found=f"{peer['name']}: {silent.found}"))
    problems = sentences(findings)
    told = ", ".join(f"{rail['interface']} {rail['address']}" for rail in status) or "no interface"
    summary = f"the fabric is {told}, cables: {len(fabric.cabled())}"
    module.exit_json(
        changed=False,
        msg="; ".join(problems) or summary,
        rails=status,
        problems=problems,
        warnings_found=sentences(findings, YELLOW),
        findings=as_dicts(findings or [fine("fabric", CHECK, summary)]),
        environment=environment,
        fabric=fabric.as_facts(),
    )


if __name__ == "__main__":
    main()
