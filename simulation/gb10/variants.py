# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""The Sparks that the stand-ins can show: one that is well, and those that are each sick in one way, with the verdict that is expected.

A verdict here follows from a finding; it does not prove that a real GB10 shows that finding. Where the text of the fault itself is
known, `source` names who showed it; all else is invented.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulation.gb10.world import World, case, gpu_row

#: Which part of the product looks: `report` is playbooks/report.yml, `kernels` and `image` the same with these looks added, `settings`
#: its first play; `runtime` and `proof` are the gates of role runtime_check and of container_runtime's proof, as in
#: playbooks/nodes.yml; `fabric` is playbooks/fabric.yml, measuring.
PARTS = ("report", "kernels", "image", "settings", "runtime", "proof", "fabric")
#: Parts whose verdict is a row of the report; the others stop with one sentence.
REPORTS = ("report", "kernels", "image")


@dataclass(frozen=True)
class Variant:
    """One way to be sick.

    `sicken` changes the healthy world. `level`, `check`, `found` and `remedy` are what the part must say: the row's check, and
    words of its sentence and of its remedy. Parts other than the report stop with one sentence that holds both.
    """

    name: str
    sicken: Callable[[World], None]
    level: str
    check: str
    found: str
    remedy: str
    part: str = "report"
    source: str = "invented"
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the run, the same for all nodes."""
    aspect: str = ""
    """What of the node is sick; variants of different aspects can be on one node at a time."""
    blind: bool = False
    """Whether the GPU cannot be seen at all, so that nothing is said of what is behind it."""
    both: bool = False
    """Whether both nodes are sick; otherwise the other one of the run has other variants, or is well."""
    between: bool = False
    """Whether the verdict is about how nodes differ, not about one of them."""


def smi(status: int, text: str) -> Callable[[World], None]:
    """nvidia-smi fails with these words."""

    def sicken(world: World) -> None:
        world.smi = {"status": status, "out": text + "\n"}

    return sicken


def put(**values: Any) -> Callable[[World], None]:
    """These attributes of the world have these values."""

    def sicken(world: World) -> None:
        for name, value in values.items():
            assert hasattr(world, name), name
            setattr(world, name, value)

    return sicken


def gpu(**values: str) -> Callable[[World], None]:
    """nvidia-smi says this of the GPU; a dot in a field's name is written as two underscores."""

    def sicken(world: World) -> None:
        world.gpus[0] |= {name.replace("__", "."): value for name, value in values.items()}

    return sicken


def twin(place: int, **values: Any) -> Callable[[World], None]:
    """One network device of the cabled port is like this."""

    def sicken(world: World) -> None:
        for name, value in values.items():
            assert hasattr(world.twins[place], name), name
            setattr(world.twins[place], name, value)

    return sicken


def check(name: str, state: str, reason: str, **details: Any) -> Callable[[World], None]:
    """One check of the kernel check ends like this."""

    def sicken(world: World) -> None:
        entry = world.check(name)
        entry |= {"state": state, "reason": reason}
        entry["details"] |= details

    return sicken


def _latched(world: World) -> None:
    world.gpus = [gpu_row("latched")]


def _cable_out(world: World) -> None:
    for place in (0, 1):
        world.twins[place].up = False


def _no_gpu(world: World) -> None:
    world.smi = {"missing": True}
    world.pci_gpu = False
    world.driver = world.libraries = world.spec_driver = ""


def _not_loaded(world: World) -> None:
    world.driver = ""
    smi(
        9,
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is "
        "installed and running.",
    )(world)


def _mismatch(world: World) -> None:
    world.libraries = "580.159.03"
    smi(18, "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.159")(world)


def _taken(world: World) -> None:
    """Another program has 82 GiB: a unit that really runs, whose process nvidia-smi counts."""
    world.available_kib = 31_457_280
    world.commands += [["systemd-run", "--quiet", "--collect", "--unit=other-server", "sleep", "infinity"]]
    world.undo += [["systemctl", "stop", "other-server.service"]]
    world.pids += ["other-server.service"]
    world.holders += [
        {"pid": "@PID other-server.service@", "process_name": "other-server", "used_memory": "83968 MiB"},
    ]


def _seed(world: World) -> None:
    """A container as vLLM's run_cluster.sh starts it, really running, and the shared cache in /etc/exports."""
    script = "ray() { sleep 3600; }; ray start --block --head"
    mounts = [word for name in ("bin", "lib", "lib64") for word in ("--volume", f"/usr/{name}:/{name}:ro")]
    world.commands += [
        ["sh", "-c", "tar --create --files-from /dev/null | docker import - vllm/vllm-openai:nightly"],
        [
            *("docker", "run", "--detach", "--name", "node-12345", "--network", "none", *mounts),
            *("--volume", "/usr/lib:/usr/lib:ro", "--volume", "/usr/bin:/usr/bin:ro"),
            *("vllm/vllm-openai:nightly", "/bin/bash", "-c", script),
        ],
    ]
    world.undo += [
        ["docker", "image", "rm", "--force", "vllm/vllm-openai:nightly"],
        ["docker", "rm", "--force", "node-12345"],
    ]
    world.files["/etc/exports"] = "/home/anna/.cache/huggingface 192.168.100.11(rw,no_root_squash)\n"


def _without_ray(world: World) -> None:
    world.image["packages"] |= {"ray": "", "aiohttp-cors": ""}
    world.image["programs"] |= {"ray": ""}


def _old_nccl(world: World) -> None:
    world.check("versions")["details"]["nccl"] = "2.28.9"


def _both_specifications(world: World) -> None:
    world.files["/etc/cdi/nvidia.yaml"] = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n  - name: all\n"


def _no_port(world: World) -> None:
    """Hot-plug took the card off the bus: no port, no RDMA device, and a kernel's log of an owner's Spark that says so."""
    world.twins = []
    world.powered = False
    world.kernel_log += case("dmesg_cx7_hotplug.txt")


def _no_devices(world: World) -> None:
    smi(6, "No devices were found")(world)
    world.kernel_log += "[   12.345678] NVRM: Xid (PCI:000f:01:00): 119, pid=1234, name=nvidia-smi, Timeout after 6s of waiting for RPC response from GPU0 GSP!\n"


VARIANTS = (
    # --- the report: GPU and driver
    Variant(
        "power supply latched",
        _latched,
        "red",
        "clocks",
        "runs at 721 MHz of 3003 under load",
        "take it off its power supply",
        source="NVIDIA forum 376039, as a survey quotes it",
        aspect="gpu",
    ),
    Variant(
        "kernel that spins",
        gpu(utilization__gpu="96 %", power__draw="22.00 W", clocks__sm="1400 MHz"),
        "yellow",
        "clocks",
        "runs at 1400 MHz of 3003 under load at 22 W: by 5 looks it may only wait",
        "let the kernel check put a load on it",
        source="96 % at 22 W: an owner of a GB10; the clock is invented",
        aspect="gpu",
    ),
    Variant(
        "no devices were found",
        _no_devices,
        "red",
        "gpu",
        "nvidia-smi answers that it finds no device, though driver 580.178.04 is loaded; the GPU's system processor (GSP) does not answer (Xid 119",
        "take it off its power supply for a minute",
        source="nvidia-smi's own words; form of the kernel's line: docs.nvidia.com/deploy/xid-errors",
        aspect="gpu",
        blind=True,
    ),
    Variant(
        "power brake",
        gpu(clocks_event_reasons__active="0x0000000000000080"),
        "red",
        "clocks",
        "power brake (hardware)",
        "use the power supply that came with it",
        source="bits of nvml.h",
        aspect="gpu",
    ),
    Variant(
        "slowed by heat",
        gpu(clocks_event_reasons__active="0x0000000000000020"),
        "yellow",
        "clocks",
        "thermal slowdown (software)",
        "check the airflow",
        source="bits of nvml.h",
        aspect="gpu",
    ),
    Variant(
        "driver and library differ",
        _mismatch,
        "red",
        "gpu",
        "driver and library differ",
        "reboot this node",
        source="nvidia-smi's own words",
        aspect="gpu",
        blind=True,
    ),
    Variant(
        "driver not loaded",
        _not_loaded,
        "red",
        "gpu",
        "the driver is not loaded",
        "install the driver's module for this kernel",
        source="nvidia-smi's own words",
        aspect="gpu",
        blind=True,
    ),
    Variant(
        "no GPU",
        _no_gpu,
        "red",
        "gpu",
        "this host has no NVIDIA GPU",
        "use the simulation's inventory",
        aspect="gpu",
        blind=True,
    ),
    Variant(
        "unsupported GPU",
        gpu(name="Tesla P100-PCIE-16GB", compute_cap="6.0"),
        "red",
        "gpu",
        "Tesla P100-PCIE-16GB, compute capability 6.0",
        "this GPU is not supported",
        aspect="gpu",
    ),
    Variant(
        "driver too old",
        put(
            gpus=[{**gpu_row("idle"), "driver_version": "570.86.10"}],
            driver="570.86.10",
            libraries="570.86.10",
            spec_driver="570.86.10",
        ),
        "red",
        "driver",
        "driver 570.86.10",
        "update DGX OS",
        aspect="gpu",
    ),
    Variant(
        "nodes differ in driver and kernel",
        put(
            gpus=[{**gpu_row("idle"), "driver_version": "580.159.03"}],
            driver="580.159.03",
            libraries="580.159.03",
            spec_driver="580.159.03",
            kernel="6.17.0-1008-nvidia",
        ),
        "yellow",
        "driver",
        "580.159.03",
        "",
        between=True,
        aspect="gpu",
    ),
    # --- the report: Docker
    Variant(
        "no CDI specification",
        put(spec_driver=""),
        "yellow",
        "Docker",
        "no CDI specification names nvidia.com/gpu=all",
        "site.yml fixes it (role container_runtime)",
        aspect="docker",
    ),
    Variant(
        "stale CDI specification",
        put(spec_driver="580.95.05"),
        "yellow",
        "Docker",
        "asks for /usr/lib/aarch64-linux-gnu/libcuda.so.580.95.05, which this node does not have",
        "site.yml fixes it (role container_runtime)",
        aspect="docker",
    ),
    Variant(
        "CDI off in Docker",
        put(cdi=False),
        "yellow",
        "docker",
        "CDI is switched off in Docker",
        "site.yml fixes it (role container_runtime)",
        aspect="docker",
    ),
    Variant(
        "two CDI specifications",
        _both_specifications,
        "yellow",
        "Docker",
        "/etc/cdi/nvidia.yaml names nvidia.com/gpu=all as well",
        "remove /etc/cdi/nvidia.yaml",
        aspect="docker",
    ),
    # --- the report: what else is on the machine
    Variant(
        "memory held by another program",
        _taken,
        "red",
        "memory",
        "90 GiB are needed; held by other-server.service",
        "stop what holds it",
        aspect="memory",
    ),
    Variant(
        "containers of run_cluster.sh",
        _seed,
        "red",
        "containers",
        "container node-12345 of run_cluster.sh (vllm/vllm-openai:nightly) runs",
        "end run_cluster.sh in its terminal",
        source="vllm-project/vllm 0c37e239, run_cluster.sh",
        aspect="containers",
    ),
    Variant(
        "driver upgraded unattended",
        put(packages=["nvidia-driver-580-open", "linux-image-nvidia-hwe-24.04"]),
        "yellow",
        "updates",
        "unattended upgrades are on and may exchange the driver or the kernel",
        "hold these packages",
        aspect="updates",
    ),
    Variant(
        "update cut off",
        put(unfinished=["dgx-release", "nvidia-driver-580-open"]),
        "yellow",
        "updates",
        "an update was not finished: nvidia-driver-580-open, dgx-release are only half installed",
        "finish it",
        source="states of dpkg-query(1)",
        aspect="updates",
    ),
    Variant(
        "swap in use",
        put(swap_free_kib=8_388_608),
        "yellow",
        "swap",
        "8.0 of 16.0 GiB of swap are in use",
        "see what takes the memory",
        source="SwapTotal of an owner's Spark; what is free is invented",
        aspect="memory",
    ),
    Variant(
        "kernel with handover",
        put(command_line="BOOT_IMAGE=/boot/vmlinuz-7.0.0-1019-nvidia ro quiet"),
        "yellow",
        "kernel",
        "kernel 7.0.0-1019-nvidia runs without kho=off",
        "install NVIDIA's package",
        source="three owners' notes on kho=off",
        aspect="kernel",
    ),
    # --- the report: the link
    Variant(
        "no port at all",
        _no_port,
        "red",
        "fabric",
        "takes the card off the bus",
        "plug the QSFP cable into the same port of both nodes",
        source="kernel log of an owner's Spark",
        aspect="link",
    ),
    Variant(
        "IOMMU translates",
        put(iommu="DMA-FQ", command_line="BOOT_IMAGE=/boot/vmlinuz-7.0.0-1019-nvidia ro iommu.passthrough=0 kho=off"),
        "yellow",
        "fabric",
        "the kernel was booted with iommu.passthrough=0",
        "a reboot alone does not cure it",
        source="one owner's three Sparks",
        aspect="link",
    ),
    Variant(
        "link at half speed",
        twin(0, speed=100_000),
        "yellow",
        "fabric",
        "enp1s0f1np1 runs at 100 of 200 Gb/s",
        "use an approved QSFP112 or QSFP56 cable",
        source="Speed: 100000Mb/s in NVIDIA/dgx-spark-playbooks @0db7c14, multi-sparks-through-switch",
        aspect="link",
    ),
    Variant(
        "one twin without address",
        twin(1, address=""),
        "red",
        "fabric",
        "enP2p1s0f1np1 has no IPv4 address",
        "run playbooks/site.yml with fabric_manage: true",
        aspect="link",
    ),
    Variant(
        "one twin without RoCE address",
        twin(1, gid=False),
        "red",
        "fabric",
        "RDMA device roceP2p1s0f1 has no RoCE v2 entry",
        "take the interface down and up again",
        aspect="link",
    ),
    Variant(
        "MTU 1500",
        twin(0, mtu=1500),
        "yellow",
        "fabric",
        "enp1s0f1np1 has MTU 1500, not 9000",
        "fabric_manage: true",
        aspect="link",
    ),
    Variant(
        "RDMA device not active",
        twin(0, state="2: INIT"),
        "red",
        "fabric",
        "RDMA device rocep1s0f1 of enp1s0f1np1 is INIT, not ACTIVE",
        "see `rdma link` and `dmesg`",
        aspect="link",
    ),
    Variant(
        "cable out",
        _cable_out,
        "red",
        "fabric",
        "no QSFP port of this node has a link",
        "plug the cable into the same port of both nodes",
        aspect="link",
    ),
    Variant(
        "both twins in one subnet",
        twin(1, address="192.168.200.99"),
        "red",
        "fabric",
        "enP2p1s0f1np1 has 192.168.200.99/24, not 192.168.201.",
        "run playbooks/site.yml with fabric_manage: true",
        aspect="link",
    ),
    Variant(
        "both twins in one subnet, by the settings",
        lambda world: None,
        "red",
        "settings",
        "puts enp1s0f1np1 and enP2p1s0f1np1 into one subnet (192.168.200.0/24)",
        "give each twin a subnet of its own",
        part="settings",
        settings={"fabric_addresses": {"enp1s0f1np1": "192.168.200.10/24", "enP2p1s0f1np1": "192.168.200.12/24"}},
        both=True,
    ),
    # --- what the serving image can do here
    Variant(
        "Marlin's experts wrong",
        check("awq_marlin_moe", "wrong", "bfloat16, 33 tokens: off by 0.81, at most 0.02 is right"),
        "red",
        "awq",
        "off by 0.81",
        "",
        part="kernels",
        aspect="kernels",
    ),
    Variant(
        "NVFP4 kernels fail",
        check("nvfp4_gemm", "failed", "RuntimeError: no kernel image is available for execution on the device"),
        "red",
        "nvfp4",
        "no kernel image is available",
        "",
        part="kernels",
        aspect="kernels",
    ),
    Variant(
        "NCCL too old for graphs",
        _old_nccl,
        "red",
        "cuda_graphs",
        "NCCL 2.28.9 is older than 2.30.4",
        "take an image with a newer NCCL, or stay eager",
        part="runtime",
        settings={"runtime_check_required": ["cuda_graphs"]},
    ),
    Variant(
        "throttled under load",
        check("load", "passed", "", sample=["721 MHz", "3003 MHz", "0x0000000000000000", "12.00 W", "47"]),
        "red",
        "clocks",
        "runs at 721 MHz of 3003 under load",
        "take it off its power supply",
        part="kernels",
        source="NVIDIA forum 376039, as a survey quotes it",
        aspect="kernels",
    ),
    Variant(
        "a kernel hangs",
        check("bf16_matmul", "timed_out", "no result within 300 s"),
        "red",
        "bf16_matmul",
        "check bf16_matmul timed out",
        "dmesg",
        part="kernels",
        aspect="kernels",
    ),
    Variant(
        "container without GPU",
        check("device", "failed", "RuntimeError: Found no NVIDIA driver on your system"),
        "red",
        "device",
        "check device failed",
        "run role container_runtime",
        part="kernels",
        aspect="kernels",
    ),
    Variant(
        "Docker does not support CDI device",
        put(
            kernel_check={
                "status": 125,
                "err": "docker: Error response from daemon: CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all\n",
            }
        ),
        "red",
        "kernels",
        "Docker knows no device nvidia.com/gpu=all",
        "run role container_runtime, which sets up CDI",
        part="kernels",
        aspect="kernels",
    ),
    # --- the image, and whether a container keeps its GPU
    Variant(
        "image without Ray",
        _without_ray,
        "red",
        "serving image",
        "it has no Ray",
        "set serving_image_base",
        part="image",
        aspect="image",
    ),
    Variant(
        "image for another architecture",
        put(architecture="arm64"),
        "red",
        "image",
        "is for arm64 and this node is amd64",
        "name one that is built for amd64",
        part="image",
        aspect="image",
    ),
    Variant(
        "GPU lost at daemon-reload",
        put(keeps_gpu=False),
        "red",
        "GPU in a container",
        "a running container loses its GPU at `systemctl daemon-reload` (nvidia-smi: Failed to initialize NVML: Unknown Error)",
        "upgrade NVIDIA's container toolkit to 1.18",
        part="proof",
        source="the words: NVIDIA/nvidia-docker#1730",
    ),
    # --- the link under load
    Variant(
        "NCCL over TCP",
        put(nccl_log="gb10_fabric/nccl_socket.log", nccl={"bus_gbytes": 2.9}),
        "red",
        "nccl",
        "uses NET/Socket",
        "see that the container has /dev/infiniband",
        part="fabric",
        aspect="nccl",
        source="log: NVIDIA/nccl#226 (no Spark)",
    ),
    Variant(
        "NET/IB and yet slow",
        put(nccl={"bus_gbytes": 2.8}),
        "red",
        "nccl",
        "2.8 GB/s",
        "reboot",
        part="fabric",
        aspect="nccl",
        source="log and figure: KoyoImai/dgx_spark_cluster2 @02c1b32a, Step011",
    ),
    Variant(
        "RDMA at half",
        put(rdma_share=0.5),
        "red",
        "rdma",
        "RDMA measured 94.9",
        "reboot both nodes",
        part="fabric",
        aspect="rdma",
        source="half of NVIDIA's recording",
    ),
)


def variant(name: str) -> Variant:
    """The variant of that name, with dashes or blanks. Raises KeyError for another."""
    return {entry.name: entry for entry in VARIANTS}[name.replace("-", " ") if "-" in name else name]
