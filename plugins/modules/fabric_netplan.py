#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: Configure the fabric's interfaces in netplan, and roll back a change that nobody confirms."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fabric_netplan
short_description: Configure the fabric's interfaces in netplan, and roll back a change that nobody confirms
version_added: 1.0.0
description:
  - Adds what the netplan files of others do not say yet, in the file C(/etc/netplan/99-zz-dgx-spark-fabric.yaml).
  - Where they say all of it, there is no such file.
  - Each interface gets one address, its MTU, no link-local addresses, no DHCP, and is configured also while the other node is off.
  - Where another file gives an interface another address, nothing is changed and the sentence names the file, unless O(replace) is set.
  - The rollback is scheduled before a change is made. Unless a call with O(state=confirmed) follows within O(seconds), a timer of systemd puts the
    old files back and
    applies them; a boot in between does the same. The module rolls a change back itself where the connection to this machine, or an address, does
    not come back.
  - C(netplan apply) makes systemd reload its units and may interrupt the management network for about a second.
options:
  rails:
    description: Interfaces with their addresses, as RV(dgx_spark.vllm.fabric_info#module:rails) has them. Required with O(state=present).
    type: list
    elements: dict
    default: []
    suboptions:
      interface:
        description: Name.
        type: str
        required: true
      address:
        description: IPv4 address with prefix.
        type: str
        required: true
  mtu:
    description: MTU of each interface in bytes.
    type: int
    default: 9000
  state:
    description: V(confirmed) keeps the change that waits; it does nothing where none waits. V(absent) removes what this module wrote, with the same rollback.
    type: str
    choices: [present, confirmed, absent]
    default: present
  replace:
    description:
      - Whether to put aside a file that configures the interfaces otherwise, where it configures nothing but QSFP ports.
      - What it said of another QSFP port goes with it, unless the node is reached over that port; RV(notes) say so.
      - It stays beside the others with C(.dgx-spark-aside) at its end.
    type: bool
    default: false
  seconds:
    description: How long a change waits for its confirmation.
    type: int
    default: 180
  management_address:
    description: Address or host name at which the node is reached; a name is resolved on the node. The interface that holds it is never touched.
    type: str
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Give the link its addresses
  dgx_spark.vllm.fabric_netplan:
    rails:
      - {interface: enp1s0f1np1, address: 192.168.100.10/24}
      - {interface: enP2p1s0f1np1, address: 192.168.101.10/24}
  register: link

- name: Reconnect over SSH to confirm the change
  ansible.builtin.meta: reset_connection

- name: Confirm the change, since the node still answers
  dgx_spark.vllm.fabric_netplan:
    state: confirmed
"""

RETURN = r"""
pending:
  description: Whether a change waits for its confirmation.
  returned: success
  type: bool
actions:
  description: What was done, or would be in check mode, in words.
  returned: success
  type: list
  elements: str
notes:
  description: What was left as it was found, in words.
  returned: success
  type: list
  elements: str
msg:
  description: One sentence.
  returned: always
  type: str
"""

import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils.fabric.link import Fabric, FabricError, Machine, Rail, collect
from ..module_utils.fabric.netplan import FOLDERS, OWN_FILE, STATE, UNITS, Plan, Rollback, plan_netplan, steps_of
from ..module_utils.system.run import run

try:
    import yaml

    YAML_ERROR = ""
except ImportError as import_error:
    YAML_ERROR = str(import_error)

# Seconds that the network may take to settle after `netplan apply`.
SETTLE = 40


def read_files(folders: Sequence[Path]) -> dict[str, Any]:
    """Return every file that netplan reads, parsed.

    Raises:
        FabricError: one is no YAML, so that netplan itself would refuse to work.
    """
    found = {}
    for folder in folders:
        for path in sorted(folder.glob("*.yaml")) if folder.is_dir() else []:
            try:
                found[str(path)] = yaml.safe_load(path.read_text(encoding="utf-8"))
            except yaml.YAMLError as error:
                raise FabricError(
                    f"{path} is no YAML ({' '.join(str(error).split())[:160]}): correct or remove it, netplan cannot read it either"
                ) from None
    return found


def holders(fabric: Fabric) -> dict[str, tuple[str, ...]]:
    """Return the IPv4 addresses of each interface."""
    return {other.interface: other.addresses for other in fabric.others} | {
        twin.interface: twin.addresses for twin in fabric.twins
    }


def addresses_at(name: str | None) -> list[str]:
    """Return the IPv4 addresses that a host name, or an address, stands for on this node; none where nobody knows it."""
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None, socket.AF_INET)}) if name else []
    except (OSError, UnicodeError):
        return []


def way_in(fabric: Fabric, reached: Sequence[str]) -> list[str]:
    """Return the interfaces by which the node is reached: those of the default routes, and those that hold an address of ``reached``."""
    found = [
        name
        for name, entries in holders(fabric).items()
        if any(entry.partition("/")[0] in reached for entry in entries)
    ]
    return sorted({*fabric.management, *found})


def settled(
    machine: Machine, before: Fabric, reached: Sequence[str], rails: Sequence[Rail], seconds: float, pause: float = 1.0
) -> str:
    """Wait until the way in and the wanted addresses are there; return what is missing after ``seconds``, or an empty string."""
    end = time.monotonic() + seconds
    kept = {entry: name for name in way_in(before, reached) for entry in holders(before).get(name, ())}
    while True:
        fabric = collect(machine)
        held = {entry for entries in holders(fabric).values() for entry in entries}
        linked = {twin.interface for twin in fabric.twins if twin.carrier}
        missing = [f"the address {entry} of {name}" for entry, name in kept.items() if entry not in held]
        missing += [f"the default route over {name}" for name in before.management if name not in fabric.management]
        missing += [
            f"{rail.address} on {rail.interface}"
            for rail in rails
            if rail.interface in linked and rail.address not in held
        ]
        if not missing or time.monotonic() >= end:
            return ", ".join(missing)
        time.sleep(pause)


def change(
    module: AnsibleModule,
    machine: Machine,
    rollback: Rollback,
    plan: Plan,
    rails: Sequence[Rail],
    reached: Sequence[str],
) -> tuple[list[str], list[dict[str, str]]]:
    """Bring the files to the plan; return what was done, and the difference."""
    steps = steps_of(plan, OWN_FILE)
    actions, diff = [], []
    for step in steps:
        before = step.path.read_text(encoding="utf-8") if step.path.exists() else ""
        after = step.content or ""
        word = "put aside" if step.moved_to else "wrote" if step.content is not None else "removed"
        actions.append(f"{word} {step.path}")
        diff.append({"before": before, "after": after, "before_header": str(step.path), "after_header": str(step.path)})
    if not steps or module.check_mode:
        return actions, diff
    if rollback.pending():
        raise FabricError(
            "an earlier change is not confirmed yet: wait until it is rolled back (journalctl -u dgx-spark-fabric-rollback), then run again"
        )
    fabric = collect(machine)
    rollback.arm(steps, module.params["seconds"])
    rollback.apply(steps)
    missing = settled(machine, fabric, reached, rails, SETTLE)
    if missing:
        rollback.restore()
        raise FabricError(
            f"after `netplan apply` {missing} did not come within {SETTLE} s, and the old files are back: see `journalctl "
            "-u systemd-networkd -u NetworkManager`"
        )
    return actions, diff


def wanted_plan(module: AnsibleModule, machine: Machine, rails: Sequence[Rail], reached: Sequence[str]) -> Plan:
    """Return what to write.

    Raises:
        FabricError: netplan is missing, an interface is, or the node is reached over one of them.
    """
    if module.params["state"] == "absent":
        return Plan()
    if module.get_bin_path("netplan") is None:
        raise FabricError(
            "netplan is missing on this node: configure the link with what the node uses, and set fabric_manage: false"
        )
    if YAML_ERROR:
        raise FabricError(
            f"{missing_required_lib('PyYAML')}: install python3-yaml on the node, which netplan itself needs"
        )
    fabric = collect(machine)
    ways = way_in(fabric, reached)
    macs = {twin.interface: twin.mac for twin in fabric.twins}
    for rail in rails:
        if rail.interface not in macs and rail.interface not in {other.interface for other in fabric.others}:
            raise FabricError(f"interface {rail.interface} does not exist on this node: correct fabric_interfaces")
        if rail.interface in ways:
            raise FabricError(
                f"this node is reached over {rail.interface}, so it is left alone: name the QSFP port in fabric_interfaces"
            )
    ports = [name for name in macs if name not in ways]
    plan = plan_netplan(read_files(FOLDERS), rails, macs, module.params["mtu"], module.params["replace"], ports)
    if plan.problems:
        raise FabricError("; ".join(plan.problems))
    return plan


def confirm(module: AnsibleModule, rollback: Rollback) -> None:
    """Keep the change that waits."""
    waiting = rollback.pending()
    undone = rollback.undone()
    if waiting is None and undone is not None:
        raise FabricError(
            f"the change of {', '.join(undone.get('files', []))} was rolled back, since it was not confirmed within "
            f"{undone.get('seconds')} s: the old files are in force; "
            "see `journalctl -u dgx-spark-fabric-rollback`, then run again"
        )
    kept = module.check_mode or rollback.disarm() if waiting else False
    told = f"kept {', '.join(waiting['files'])}" if kept and waiting else "no change waits for a confirmation"
    module.exit_json(changed=False, pending=False, actions=[], notes=[], msg=told)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "rails": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "interface": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                },
            },
            "mtu": {"type": "int", "default": 9000},
            "state": {"type": "str", "choices": ["present", "confirmed", "absent"], "default": "present"},
            "replace": {"type": "bool", "default": False},
            "seconds": {"type": "int", "default": 180},
            "management_address": {"type": "str"},
        },
        required_if=[("state", "present", ["rails"])],
        supports_check_mode=True,
    )
    params = module.params

    machine = Machine(run)
    rollback = Rollback(run, STATE, UNITS)
    rails = (
        [Rail(entry["interface"], entry["address"]) for entry in params["rails"]]
        if params["state"] == "present"
        else []
    )
    try:
        if not 1280 <= params["mtu"] <= 9978:
            raise FabricError(f"fabric_mtu is {params['mtu']}, expected 1280 to 9978 (ConnectX-7); 9000 is usual")
        if params["seconds"] < 60:
            raise FabricError(
                f"seconds is {params['seconds']}, expected 60 or more: the network needs time to settle before anybody can confirm"
            )
        if params["state"] == "confirmed":
            confirm(module, rollback)
        # Before anything changes: a name server may be out of reach while netplan is applied.
        reached = addresses_at(params["management_address"])
        plan = wanted_plan(module, machine, rails, reached)
        actions, diff = change(module, machine, rollback, plan, rails, reached)
    except FabricError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or OWN_FILE}: {error.strerror}; fabric_netplan needs root on the node")
    told = "; ".join(actions) or ("netplan says all of it already" if rails else "there is nothing to remove")
    module.exit_json(
        changed=bool(actions),
        pending=rollback.pending() is not None,
        actions=actions,
        notes=plan.notes,
        diff=diff,
        msg=told,
    )


if __name__ == "__main__":
    main()
