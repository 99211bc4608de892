# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""What a healthy Spark shows to the code, as data that a variant changes and that `node.py` puts on a simulated node.

Two things are real on the node: the four network devices of the QSFP ports (made as tunnels between the nodes, so that `ip`, MTU and
pings are true), and Docker. What the kernel, the driver and the serving image would say are texts. Their sources stand in the
README of the fixtures that are read here; whatever is composed here without such a source is `invented` and proves nothing about a
real GB10, only that a verdict follows from a finding.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulation import settings
from simulation.settings import Node

FOLDER = Path(__file__).resolve().parent
FIXTURES = settings.REPOSITORY / "tests/unit/plugins/module_utils/fixtures"
#: Words of owners' machines; the first line of each says where it comes from.
CASES = settings.REPOSITORY / "tests/field_cases/gb10"

#: Subnets of the two twins; the simulation's own direct link stays below them.
TWINS = ("192.168.200", "192.168.201")
#: Network device, RDMA device and PCI address of each twin; the first two ports hold the cable. Names: NVIDIA/dgx-spark-playbooks
#: @0db7c14, nvidia/connect-two-sparks; addresses: the log in fixtures/gb10_fabric/nccl_ib_slow.log.
PORTS = (
    ("enp1s0f1np1", "rocep1s0f1", "0000:01:00.1"),
    ("enP2p1s0f1np1", "roceP2p1s0f1", "0002:01:00.1"),
    ("enp1s0f0np0", "rocep1s0f0", "0000:01:00.0"),
    ("enP2p1s0f0np0", "roceP2p1s0f0", "0002:01:00.0"),
)
#: The release that is shown: DGX OS 7.6.0 with kernel, driver, Docker and toolkit as two owners' notes name them.
DGX_OS, KERNEL, DRIVER = "7.6.0", "7.0.0-1019-nvidia", "580.178.04"
DOCKER, TOOLKIT = "29.6.2", "1.20.1"
#: Driver of the recorded outputs.
RECORDED, BANNER = "580.142", "580.173.02"
UUID = "GPU-00000000-0000-0000-0000-000000000001"
#: Devices of NVIDIA's toolkit for one GPU: by index, by its own name, and all.
CDI_DEVICES = ("0", UUID, "all")
LIBRARIES = "/usr/lib/aarch64-linux-gnu"
IMAGE = "sha256:" + "0b" * 32
PROBE = "DGX_SPARK_KERNEL_PROBE "
#: Programs that have a stand-in; those that the node has go on answering whatever no rule names.
PROGRAMS = (
    *("/usr/bin/docker", "/usr/bin/nvidia-smi", "/usr/bin/nvidia-ctk", "/usr/bin/ib_write_bw"),
    *("/usr/bin/apt-config", "/usr/bin/apt-mark", "/usr/bin/dpkg-query", "/usr/bin/dmesg"),
    "/usr/bin/timedatectl",
)


def fixture(name: str) -> str:
    """The text of a fixture, by its path below the fixtures' folder."""
    return (FIXTURES / name).read_text(encoding="utf-8")


def case(name: str) -> str:
    """The words of an owner's machine, without the line that says whose they are."""
    lines = (CASES / name).read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("# source:"))


@dataclass
class Twin:
    """One network device of a QSFP port. `gid`: whether its RDMA device has an entry for its address. Speed in Mb/s."""

    interface: str
    rdma: str
    pci: str
    address: str = ""
    mtu: int = 9000
    up: bool = True
    speed: int = 200_000
    gid: bool = True
    state: str = "4: ACTIVE"


@dataclass
class World:
    """One node as it shows itself."""

    node: Node
    remote: str
    """Address of the other node, which the tunnels lead to."""
    twins: list[Twin] = field(default_factory=list)
    gpus: list[dict[str, str]] = field(default_factory=list)
    holders: list[dict[str, str]] = field(default_factory=list)
    smi: dict[str, Any] | None = None
    """What nvidia-smi says instead of anything else; None where it works."""
    pci_gpu: bool = True
    driver: str = DRIVER
    """Version of the loaded kernel module; empty for none."""
    libraries: str = DRIVER
    toolkit: str = TOOLKIT
    spec_driver: str = DRIVER
    """Driver that the CDI specification was written for; empty for no specification."""
    cdi: bool = True
    """Whether Docker has CDI on."""
    kernel: str = KERNEL
    command_line: str = "BOOT_IMAGE=/boot/vmlinuz-7.0.0-1019-nvidia root=/dev/nvme0n1p2 ro quiet splash kho=off"
    """Of the kernel; `kho=off` as NVIDIA's package nvidia-spark-grub-kho sets it, the rest invented."""
    kernel_log: str = ""
    powered: bool = True
    """Whether the hot-plug driver has the ConnectX switched on."""
    iommu: str = "identity"
    available_kib: int = 118_566_368
    swap_free_kib: int = 16_777_212
    probe: dict[str, Any] = field(default_factory=dict)
    """Document of the kernel check."""
    kernel_check: dict[str, Any] | None = None
    """What `docker run` says of the kernel check instead; None where it runs."""
    image: dict[str, Any] = field(default_factory=dict)
    architecture: str = ""
    """Architecture of the serving image; empty for the node's own."""
    keeps_gpu: bool = True
    """Whether a container keeps its GPU through a daemon-reload."""
    nccl_log: str = "gb10_fabric/nccl_ib_slow.log"
    nccl: dict[str, Any] = field(default_factory=dict)
    rdma_share: float = 1.0
    """Part of the recorded bandwidth that ib_write_bw shows."""
    packages: list[str] = field(default_factory=list)
    """Packages of the driver that unattended upgrades may touch."""
    unfinished: list[str] = field(default_factory=list)
    """Packages that are only half installed."""
    files: dict[str, str] = field(default_factory=dict)
    commands: list[list[str]] = field(default_factory=list)
    undo: list[list[str]] = field(default_factory=list)
    pids: list[str] = field(default_factory=list)

    def check(self, name: str) -> dict[str, Any]:
        """The entry of one check in the kernel check's document, to be changed."""
        return next(entry for entry in self.probe["checks"] if entry["name"] == name)

    def document(self) -> dict[str, Any]:
        """Everything that `node.py` needs."""
        return {
            "stand_in": (FOLDER / "stand_in.py").read_text(encoding="utf-8"),
            "programs": [path for path in PROGRAMS if path != "/usr/bin/nvidia-smi" or self.smi != {"missing": True}],
            "answers": json.dumps(self._answers()),
            "files": {path: [text, 0o644] for path, text in {**self._files(), **self.files}.items()},
            "trees": self._trees(),
            "links": [
                {
                    "name": twin.interface,
                    "id": 100 + place,
                    "remote": self.remote,
                    "mac": f"02:00:00:0{place}:00:{int(self.node.name.rpartition('-')[2]):02x}",
                    "mtu": twin.mtu,
                    "addresses": [f"{twin.address}/24"] if twin.address else [],
                    "up": twin.up,
                }
                for place, twin in enumerate(self.twins)
            ]
            + [self._ethernet()],
            "driver": self._kernel_module(),
            "commands": self.commands,
            "undo": self.undo,
            "pids": self.pids,
            "enable": ["nvidia-cdi-refresh.service"],
        }

    def _ethernet(self) -> dict[str, Any]:
        """The port for the house's network, by its name on a Spark; nothing goes over it here."""
        number = int(self.node.name.rpartition("-")[2])
        link = {"name": "enP7s7", "id": 110, "remote": self.remote, "mac": f"02:00:00:07:00:{number:02x}", "mtu": 1500}
        return {**link, "addresses": [], "up": False}

    def _kernel_module(self) -> str:
        return case("nvrm_banner.txt").replace(BANNER, self.driver) if self.driver else ""

    def _files(self) -> dict[str, str]:
        found = {
            "/proc/meminfo": case("meminfo_121.txt").replace("118566368", str(self.available_kib))
            + f"SwapFree:       {self.swap_free_kib} kB\n",
            "/etc/dgx-release": case("dgx_release_7.2.3_ota_7.5.0.txt").replace("7.5.0", DGX_OS),
            "/proc/cmdline": f"{self.command_line}\n",
            "/etc/nvidia/cx7-hotplug-enabled": "",
            # Like the toolkit's unit since a drop-in puts it before Docker (NVIDIA/nvidia-container-toolkit#2019); the rest is invented.
            "/etc/systemd/system/nvidia-cdi-refresh.service": (
                "[Unit]\nDescription=Stand-in of NVIDIA's refresh of the CDI specification\nBefore=docker.service\n"
                "[Service]\nType=oneshot\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
            ),
        }
        if self.kernel:
            found["/proc/sys/kernel/osrelease"] = f"{self.kernel}\n"
        if self.driver or self.libraries:
            found |= {f"{LIBRARIES}/{name}.so.{self.libraries}": "" for name in ("libcuda", "libnvidia-ml")}
            found |= {f"/dev/{name}": "" for name in ("nvidia0", "nvidiactl", "nvidia-uvm")}
        if self.spec_driver:
            found["/var/run/cdi/nvidia.yaml"] = cdi_specification(self.spec_driver)
        if self.packages:
            found["/usr/bin/unattended-upgrade"] = ""
        return found

    def _trees(self) -> dict[str, dict[str, Any]]:
        """Files of /sys. Their form is the kernel's documentation's; what they say is invented but for names and speeds."""
        classes: dict[str, Any] = {
            "dmi/id/product_name": "NVIDIA_DGX_Spark\n",
            "dmi/id/bios_version": "5.36_0ACUM018\n",
        }
        nets: dict[str, Any] = {}
        run: dict[str, Any] = {}
        for twin in self.twins:
            run[f"{twin.pci}/vendor"] = "0x15b3\n"
            for kind in ("current", "max"):
                run[f"{twin.pci}/{kind}_link_speed"] = "32.0 GT/s PCIe\n"
                run[f"{twin.pci}/{kind}_link_width"] = "4\n"
            run[f"{twin.pci}/iommu_group/type"] = f"{self.iommu}\n"
            run[f"{twin.pci}/net/{twin.interface}"] = None
            nets[f"{twin.interface}/speed"] = f"{twin.speed}\n" if twin.up else "-1\n"
            nets[f"{twin.interface}/device"] = {"link": f"/sys/bus/pci/devices/{twin.pci}"}
            if not twin.rdma:
                continue
            port = f"infiniband/{twin.rdma}/ports/1"
            classes[f"infiniband/{twin.rdma}/device"] = {"link": f"/sys/bus/pci/devices/{twin.pci}"}
            classes[f"infiniband/{twin.rdma}/fw_ver"] = "28.45.4028\n"
            classes[f"{port}/state"] = f"{twin.state if twin.up else '1: DOWN'}\n"
            held = str(ipaddress.IPv6Address("::ffff:" + twin.address).exploded) if twin.address and twin.gid else ""
            for index, kind in enumerate(("IB/RoCE v1", "RoCE v2")):
                classes[f"{port}/gids/{index}"] = (held or "0000:" * 7 + "0000") + "\n"
                classes[f"{port}/gid_attrs/types/{index}"] = f"{kind}\n"
        if self.pci_gpu:
            run |= {"000f:01:00.0/vendor": "0x10de\n", "000f:01:00.0/class": "0x030000\n"}
        modules = {"nvidia/version": f"{self.driver}\n"} if self.driver else {"gb10_stand_ins/version": "1\n"}
        return {
            "/sys/bus/pci/devices": run,
            "/sys/devices/virtual/net": nets,
            "/sys/class": classes,
            "/sys/module": modules,
            # Names of the driver's files: NVIDIA/NV-Kernels#271.
            "/sys/devices/platform": {
                "MTKP0001:00/pcie_hotplug/hotplug_enabled": "1\n",
                "MTKP0001:00/pcie_hotplug/debug_state": "1\n" if self.powered else "0\n",
            },
        }

    def _answers(self) -> dict[str, list[dict[str, Any]]]:
        smi: list[dict[str, Any]] = [{"when": [], **self.smi}] if self.smi else []
        smi += [
            {"when": ["--query-gpu="], "query": "--query-gpu=", "rows": self.gpus},
            {"when": ["--query-compute-apps="], "query": "--query-compute-apps=", "rows": self.holders},
            {"when": ["--version"], "out": fixture("gb10/smi_version.txt").replace(RECORDED, self.driver)},
            {"when": ["-L"], "out": GPU_LINE},
        ]
        ctk: list[dict[str, Any]] = [
            {"when": ["--version"], "out": f"NVIDIA Container Toolkit CLI version {self.toolkit}\ncommit: 0000000\n"},
            {
                "when": ["cdi", "list"],
                "out": "".join(f"nvidia.com/gpu={name}\n" for name in CDI_DEVICES) if self.spec_driver else "",
            },
        ]
        upgrades: dict[str, Any] = {
            "when": ["dump"],
            "out": f'APT::Periodic::Unattended-Upgrade "{1 if self.packages else 0}";\n',
        }
        return {
            "nvidia-smi": smi,
            "nvidia-ctk": ctk,
            "docker": self._docker(),
            "ib_write_bw": [
                {"when": [f"-d {twin.rdma} "], "out": self._bandwidth(twin.rdma)} for twin in self.twins if twin.rdma
            ],
            "apt-config": [upgrades],
            "apt-mark": [{"when": ["showhold"], "out": ""}],
            "dpkg-query": [
                {
                    "when": ["db:Status-Abbrev"],
                    "out": "".join(f"ii  {name}\n" for name in self.packages)
                    + "".join(f"iF  {name}\n" for name in self.unfinished),
                },
            ],
            "dmesg": [{"when": [], "out": self.kernel_log or f"[    0.000000] Linux version {self.kernel}\n"}],
            "timedatectl": [{"when": ["NTPSynchronized"], "out": "yes\n"}],
        }

    def _bandwidth(self, rdma: str) -> str:
        """What NVIDIA recorded for the twin of the other port, under this one's name."""
        recorded = rdma.replace("f1", "f0")
        lines = []
        for line in fixture(f"gb10_fabric/ib_write_bw_{recorded}.txt").replace(recorded, rdma).splitlines():
            words = line.split()
            if self.rdma_share != 1.0 and len(words) >= 5 and words[0].isdigit() and words[1].isdigit():
                words[3] = f"{float(words[3]) * self.rdma_share:.2f}"
                line = "  ".join(words)
            lines.append(line)
        return "\n".join(lines) + "\n"

    def _docker(self) -> list[dict[str, Any]]:
        """Docker 29 as its documentation describes it, on top of what the node's own daemon says."""
        folders = ["/etc/cdi", "/var/run/cdi"] if self.cdi else []
        # Fields: schema DeviceInfo, docs.docker.com/reference/api/engine/version/v1.57/schemas/DeviceInfo (Source and ID, nothing else).
        devices = [{"Source": "cdi", "ID": f"nvidia.com/gpu={name}"} for name in CDI_DEVICES if self.spec_driver]
        info = {"ServerVersion": DOCKER, "CDISpecDirs": folders, "DiscoveredDevices": devices}
        uverbs = {"uverbs": ["uverbs0", "uverbs1", "uverbs2", "uverbs3"], "uverbs_denied": [], "uverbs_error": ""}
        fabric = {**uverbs, "memlock": -1, "right": True, "bus_gbytes": 21.4, "latency_us": 55.0, **self.nccl}
        seen = "FABRIC-PROBE-RESULT "
        check = self.kernel_check or {"out": f"{PROBE}{json.dumps(self.probe)}\n"}
        lost = {"out": "", "err": "Failed to initialize NVML: Unknown Error\n", "status": 255}
        inspected = [{"Id": IMAGE, "Architecture": self.architecture or "amd64", "Os": "linux"}]
        machine = {"arm64": "aarch64"}.get(self.architecture, "x86_64")
        return [
            {"when": ["info --format"], "merge": info},
            {"when": ["run", "spark-kernel-check"], "stdin": True, **check},
            {"when": ["run", "--look-only"], "stdin": True, "out": f"{seen}{json.dumps(fabric)}\n"},
            {
                "when": ["run", "spark-fabric-benchmark"],
                "stdin": True,
                "out": f"{self._nccl()}\n{seen}{json.dumps(fabric)}\n",
            },
            {"when": ["run --detach", "spark-gpu-check"], "out": "0\n"},
            {
                "when": ["exec spark-gpu-check nvidia-smi"],
                "turns": [{"out": GPU_LINE}, {"out": GPU_LINE} if self.keeps_gpu else lost],
            },
            {
                "when": ["exec spark-gpu-check cat"],
                "out": f"{'Max open files':26}{1048576:<21}{1048576:<21}files\n"
                f"{'Max locked memory':26}{'unlimited':21}{'unlimited':21}bytes\n",
            },
            {"when": ["exec spark-gpu-check ls"], "out": "uverbs0\nuverbs1\nuverbs2\nuverbs3\nrdma_cm\n"},
            {"when": ["image inspect --format {{.Id}}"], "out": f"{IMAGE}\n"},
            {"when": ["image inspect"], "out": json.dumps(inspected)},
            {"when": ["run", "importlib.metadata"], "out": json.dumps({**self.image, "machine": machine}) + "\n"},
        ]

    def _nccl(self) -> str:
        """The log of a pair whose cable is in port 0, under the names of port 1."""
        return fixture(self.nccl_log).replace("p1s0f0", "p1s0f1").replace("s0f0np0", "s0f1np1")


GPU_LINE = f"GPU 0: NVIDIA GB10 (UUID: {UUID})\n"


def cdi_specification(driver: str) -> str:
    """A CDI specification in nvidia-ctk's form (its documentation, cdi-support), shortened to what is judged."""
    devices = "".join(
        f"  - name: {name}\n    containerEdits:\n      deviceNodes:\n        - path: /dev/nvidia0\n"
        for name in CDI_DEVICES
    )
    return (
        f"---\ncdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n{devices}containerEdits:\n  deviceNodes:\n    - path: /dev/nvidiactl\n"
        f"    - path: /dev/nvidia-uvm\n  mounts:\n    - hostPath: {LIBRARIES}/libcuda.so.{driver}\n"
        f"      containerPath: {LIBRARIES}/libcuda.so.{driver}\n      options:\n        - ro\n        - nosuid\n"
    )


def gpu_row(name: str) -> dict[str, str]:
    """A GPU as nvidia-smi tells it, by the name of a recorded query: each field by its name."""
    fields = (
        *("index", "name", "uuid", "compute_cap", "driver_version", "memory.total", "memory.used", "utilization.gpu"),
        *("power.draw", "temperature.gpu", "clocks.sm", "clocks.max.sm", "clocks_event_reasons.active"),
    )
    values = [value.strip() for value in fixture(f"gb10/smi_query_{name}.csv").strip().split(",")]
    return {**dict(zip(fields, values, strict=True)), "driver_version": DRIVER}


def healthy(node: Node, other: Node) -> World:
    """A Spark as it should be, with a cable from its port 1 to the other node."""
    host = node.fabric_address.rpartition(".")[2]
    twins = [Twin(*names) for names in PORTS]
    for twin, subnet in zip(twins, TWINS, strict=False):
        twin.address = f"{subnet}.{host}"
    for twin in twins[2:]:
        twin.up = False
    packages = {"vllm": "0.31.0", "ray": "2.56.1", "torch": "2.13.0", "triton": "3.6.0", "transformers": "5.2.0"}
    return World(
        node=node,
        remote=other.fabric_address,
        twins=twins,
        gpus=[gpu_row("idle")],
        probe=json.loads(fixture("gb10/probe_sm121_invented.json")),
        image={
            "packages": {**packages, "flashinfer-python": "0.6.4", "aiohttp-cors": "0.8.1"},
            "nccl": "2.30.7",
            "nccl_library": "/usr/lib/libnccl.so.2",
            "cuda": "13.4.0",
            "python": "3.12.3",
            "programs": {name: f"/usr/local/bin/{name}" for name in ("vllm", "ray", "python3", "ptxas")},
        },
    )
