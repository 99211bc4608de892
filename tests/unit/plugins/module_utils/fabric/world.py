# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A Spark's link as files and command outputs. All of it is invented after the kernel's formats; names and addresses are NVIDIA's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.link import Fabric, Machine, collect

FIXTURES = Path(__file__).parents[1] / "fixtures" / "gb10_fabric"
# Interface, RDMA device, PCI address: NVIDIA's names; the PCI addresses follow from NCCL's pciPath in nccl_ib_slow.log.
DEVICES = (
    ("enp1s0f0np0", "rocep1s0f0", "0000:01:00.0"),
    ("enp1s0f1np1", "rocep1s0f1", "0000:01:00.1"),
    ("enP2p1s0f0np0", "roceP2p1s0f0", "0002:01:00.0"),
    ("enP2p1s0f1np1", "roceP2p1s0f1", "0002:01:00.1"),
)
FIRST, SECOND = "enp1s0f1np1", "enP2p1s0f1np1"


@dataclass
class Spark:
    """A machine below ``root``; change its fields, then ``look()``."""

    root: Path
    addresses: dict[str, list[str]] = field(
        default_factory=lambda: {
            "enP7s7": ["10.0.0.5/24"],
            FIRST: ["192.168.100.10/24"],
            SECOND: ["192.168.101.10/24"],
            "docker0": ["172.17.0.1/16"],
        }
    )
    cabled: tuple[str, ...] = (FIRST, SECOND)
    mtu: int = 9000
    speed: int = 200000
    rdma: bool = True
    gid_less: tuple[str, ...] = ()
    link_local: tuple[str, ...] = ()
    narrow: tuple[str, ...] = ()
    inactive: tuple[str, ...] = ()
    routes: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {"dst": "default", "gateway": "10.0.0.1", "dev": "enP7s7"},
            {"dst": "10.0.0.0/24", "dev": "enP7s7"},
            {"dst": "192.168.100.0/24", "dev": FIRST},
            {"dst": "192.168.101.0/24", "dev": SECOND},
        ]
    )
    commands: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    ran: list[list[str]] = field(default_factory=list)

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n")

    def build(self) -> None:
        for interface, rdma, pci in DEVICES:
            device = self.root / "sys/devices" / pci
            device.mkdir(parents=True, exist_ok=True)
            self.write(f"sys/devices/{pci}/vendor", "0x15b3")
            self.write(f"sys/devices/{pci}/current_link_speed", "32.0 GT/s PCIe")
            self.write(f"sys/devices/{pci}/current_link_width", "1" if interface in self.narrow else "4")
            self.write(f"sys/devices/{pci}/max_link_speed", "32.0 GT/s PCIe")
            self.write(f"sys/devices/{pci}/max_link_width", "4")
            (device / "net" / interface).mkdir(parents=True, exist_ok=True)
            folders = [f"sys/class/net/{interface}", *([f"sys/class/infiniband/{rdma}"] if self.rdma else [])]
            for folder in folders:
                (self.root / folder).mkdir(parents=True, exist_ok=True)
                link = self.root / folder / "device"
                if not link.exists():
                    link.symlink_to(device)
            self.write(f"sys/class/net/{interface}/speed", str(self.speed) if interface in self.cabled else "-1")
            if not self.rdma:
                continue
            port = f"sys/class/infiniband/{rdma}/ports/1"
            self.write(f"sys/class/infiniband/{rdma}/fw_ver", "28.45.4028")
            self.write(
                f"{port}/state",
                "1: DOWN" if interface in self.inactive or interface not in self.cabled else "4: ACTIVE",
            )
            self.write(f"{port}/counters/port_xmit_data", "250")
            self.write(f"{port}/counters/port_rcv_data", "1")
            self.write(f"{port}/hw_counters/out_of_sequence", "7")
            gids = ["0000:0000:0000:0000:0000:0000:0000:0000"]
            for entry in self.addresses.get(interface, []) if interface not in self.gid_less else []:
                numbers = [int(part) for part in entry.split("/")[0].split(".")]
                words = f"{numbers[0]:02x}{numbers[1]:02x}:{numbers[2]:02x}{numbers[3]:02x}"
                gids += [f"0000:0000:0000:0000:0000:ffff:{words}"] * 2
            for number, gid in enumerate(gids):
                self.write(f"{port}/gids/{number}", gid)
                self.write(f"{port}/gid_attrs/types/{number}", "RoCE v2" if number % 2 == 0 else "IB/RoCE v1")

    def run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        self.ran.append(list(argv))
        line = " ".join(argv)
        if line == "ip -json address show":
            names = [*dict.fromkeys([*(name for name, _rdma, _pci in DEVICES), *self.addresses])]
            return 0, json.dumps([self.row(name) for name in names]), ""
        if line == "ip -json -4 route show":
            return 0, json.dumps(self.routes), ""
        for start, answer in self.commands.items():
            if line.startswith(start):
                return answer
        return 127, "", f"{argv[0]}: not found"

    def row(self, name: str) -> dict[str, Any]:
        held = [entry.split("/") for entry in self.addresses.get(name, [])]
        info = [{"family": "inet", "local": address, "prefixlen": int(prefix)} for address, prefix in held]
        if name in self.link_local:
            info.append({"family": "inet6", "local": "fe80::3e6d:66ff:fecc:b3b7", "prefixlen": 64})
        fabric = name in [interface for interface, _rdma, _pci in DEVICES]
        up = name in self.cabled or not fabric
        return {
            "ifname": name,
            "flags": ["BROADCAST", "UP", *(["LOWER_UP"] if up else [])],
            "mtu": self.mtu if fabric else 1500,
            "operstate": "UP" if up else "DOWN",
            "address": "3c:6d:66:cc:b3:b7",
            "addr_info": info,
        }

    def machine(self) -> Machine:
        self.build()
        return Machine(self.run, self.root)

    def look(self) -> Fabric:
        return collect(self.machine())
