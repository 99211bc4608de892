#!/usr/bin/python3
# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Stands in for ip, ibdev2netdev, ethtool, netplan and ping on a simulated node: two ConnectX-7 ports, one of them with a cable.

It is called by links `/opt/link/NODE/PROGRAM`. What `netplan apply` finds in /etc/netplan is what `ip` shows afterwards; all other devices and
routes are the node's own. Names of the interfaces and the form of ibdev2netdev's lines: NVIDIA/dgx-spark-playbooks @0db7c14,
nvidia/connect-two-sparks; MAC addresses are invented.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import yaml

PORTS = {"enp1s0f0np0": False, "enP2p1s0f0np0": False, "enp1s0f1np1": True, "enP2p1s0f1np1": True}
STATE = Path("/var/lib/link")


def main() -> int:
    """Answer as the program of this name."""
    program = Path(sys.argv[0])
    node = program.parent.name if program.parent.parent.name == "link" else "spark-1"
    with (STATE / "calls").open("a", encoding="utf-8") as calls:
        print(node, program.name, *sys.argv[1:], file=calls)
    return {"ip": ip, "ibdev2netdev": ibdev2netdev, "netplan": netplan}.get(program.name, lambda _file: 0)(
        STATE / f"{node}.json"
    )


def ip(file: Path) -> int:
    """Show the node's own devices, and the ports as netplan has left them."""
    done = subprocess.run(["/usr/sbin/ip", *sys.argv[1:]], capture_output=True, text=True, check=False)
    if sys.argv[1:] != ["-json", "address", "show"]:
        sys.stdout.write(done.stdout)
        return done.returncode
    configured = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    rows = json.loads(done.stdout)
    for place, (name, cable) in enumerate(PORTS.items()):
        body = configured.get(name, {})
        held = [entry.split("/") for entry in body.get("addresses", [])]
        rows.append(
            {
                "ifname": name,
                "flags": ["UP", *(["LOWER_UP"] if cable else [])],
                "mtu": body.get("mtu", 1500),
                "operstate": "UP" if cable else "DOWN",
                "address": f"02:00:00:00:00:{place:02x}",
                "addr_info": [
                    {"family": "inet", "local": address, "prefixlen": int(prefix)} for address, prefix in held
                ],
            }
        )
    print(json.dumps(rows))
    return 0


def ibdev2netdev(_file: Path) -> int:
    """Name the RDMA device of each port."""
    for name, cable in PORTS.items():
        rdma = "roce" + name.removeprefix("en").rpartition("np")[0]
        print(f"{rdma} port 1 ==> {name} ({'Up' if cable else 'Down'})")
    return 0


def netplan(file: Path) -> int:
    """Take what /etc/netplan says of the ports."""
    found: dict[str, dict[str, object]] = {}
    for path in sorted(Path("/etc/netplan").glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for name, body in content.get("network", {}).get("ethernets", {}).items():
            found[name] = found.get(name, {}) | body
    if sys.argv[1:2] == ["apply"]:
        file.write_text(json.dumps({name: body for name, body in found.items() if name in PORTS}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
