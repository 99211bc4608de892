# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What of a node explains a ConnectX-7 that is missing or slow: PCI bus, hot-plug, IOMMU, kernel and its log.

Owners of Sparks found the same symptom with different causes, each of which has its own remedy. So the fact is looked for first, and only
where none is seen are the causes named in the order in which owners found them.

Sources. Hot-plug: NVIDIA/NV-Kernels#271 (driver cx7-pcie-hotplug, ACPI MTKP0001), package dgx-spark-mlnx-hotplug 26.01, which comes with DGX OS
7.5; NVIDIA forum 376825. A rescan of the PCI bus while the card is off made kernels panic or hang (two owners). 13 Gb/s and 3 GB/s after a
cable was plugged while on: NVIDIA/dgx-spark-playbooks#108, forum 363461. iommu.passthrough=0: one owner's three nodes, where ib_write_bw into
that node looked sound, RDMA reads from it brought 13 to 15 Gb/s, and NCCL 3.0 GB/s; 21 GB/s without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..report.finding import RED, Finding
from ..system.kernel_log import kernel_log, lines_with, xids
from ..system.run import Runner

#: What was checked.
CHECK = "fabric"
#: PCI vendor of ConnectX (Mellanox), as the kernel writes it.
MELLANOX = "0x15b3"
#: While this file is there, DGX OS takes the card off the bus where it sees no cable.
HOTPLUG_MARKER = "/etc/nvidia/cx7-hotplug-enabled"
#: The platform device of the hot-plug driver; `debug_state` below it is 0 while the card is off.
HOTPLUG_DEVICE = "/sys/devices/platform/MTKP0001:00"
#: Kernels that owners name for a ConnectX that goes missing or slow.
REGRESSIONS = ("6.17.0-1021-nvidia", "6.17.0-1029-nvidia")
#: With this kernel RoCE over several nodes failed until it was booted with kho=off, which NVIDIA's package nvidia-spark-grub-kho sets.
KHO_KERNEL = "7.0.0-1019-nvidia"
#: Groups of the IOMMU in which the card's memory accesses are not translated.
_DIRECT = ("identity", "")
#: Kinds of the kernel's lines that are kept of the link.
_WORDS = ("cx7-pcie-hotplug", "mlx5", "DOE:", "E-Switch", "arm-smmu", "PCIe Bus Error", "Xid")


@dataclass(frozen=True)
class Host:
    """What was read of a node.

    Attributes:
        cards: PCI addresses of the ConnectX functions that are on the bus.
        iommu: kind of the IOMMU group of each of them (``identity``, ``DMA``, ``DMA-FQ``).
        pcie: what each of them runs at below what it can do, in words.
        command_line: of the kernel.
        kernel: its release.
        marker: whether hot-plug is switched on by its file.
        hotplug: whether the kernel has the hot-plug driver.
        powered: whether that driver has the card switched on; None where it does not say.
        log: lines of the kernel's log that are about the link.
        xids: numbers of the GPU driver's errors since boot.
        product: name of the machine by its firmware.
    """

    cards: tuple[str, ...] = ()
    iommu: Mapping[str, str] = field(default_factory=dict)
    pcie: tuple[str, ...] = ()
    command_line: str = ""
    kernel: str = ""
    marker: bool = False
    hotplug: bool = False
    powered: bool | None = None
    log: tuple[str, ...] = ()
    xids: tuple[int, ...] = ()
    product: str = ""

    def removed(self) -> bool:
        """Say whether the last that hot-plug said of the cable is that it is gone."""
        said = [
            line for line in self.log if re.search(r"cx7-pcie-hotplug.*cable (removal|plug-?in)", line, re.IGNORECASE)
        ]
        return bool(said) and "removal" in said[-1].lower()

    def plugged_while_on(self) -> bool:
        """Say whether the card came back since boot, with a cable that was plugged while the node was on."""
        return bool(lines_with("\n".join(self.log), "cable plugin", "cable plug-in"))

    def translated(self) -> str:
        """Return the fact that the card's memory accesses go through the IOMMU; empty where they do not."""
        # The last one counts, by its first letters (kstrtobool in the kernel's lib/kstrtox.c).
        said = re.findall(r"(?:^|\s)iommu\.passthrough=(\S+)", self.command_line)
        if said and re.match(r"[0nf]|of", said[-1], re.IGNORECASE):
            return f"the kernel was booted with iommu.passthrough={said[-1]}"
        kinds = sorted({kind for kind in self.iommu.values() if kind not in _DIRECT})
        return f"the card's IOMMU group is of kind {', '.join(kinds)}, not identity" if kinds else ""


def read_host(run: Runner, root: Path = Path("/")) -> Host:
    """Read the node; what cannot be read is left out."""

    def text(path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    bus = root / "sys/bus/pci/devices"
    cards = [card for card in (sorted(bus.iterdir()) if bus.is_dir() else ()) if text(card / "vendor") == MELLANOX]
    pcie = []
    for card in cards:
        now, best = (
            f"{text(card / f'{kind}_link_speed')} x{text(card / f'{kind}_link_width')}" for kind in ("current", "max")
        )
        if now != best and not now.startswith(" ") and not best.startswith(" "):
            pcie.append(f"{card.name} at {now} of {best}")
    log = kernel_log(run)
    device = root / HOTPLUG_DEVICE.lstrip("/")
    state = text(device / "pcie_hotplug/debug_state")
    return Host(
        cards=tuple(card.name for card in cards),
        iommu={card.name: kind for card in cards if (kind := text(card / "iommu_group/type"))},
        pcie=tuple(pcie),
        command_line=text(root / "proc/cmdline"),
        kernel=text(root / "proc/sys/kernel/osrelease"),
        marker=(root / HOTPLUG_MARKER.lstrip("/")).exists(),
        hotplug=device.exists() or bool(lines_with(log, "cx7-pcie-hotplug")),
        powered={"1": True, "0": False}.get(state),
        log=lines_with(log, *_WORDS)[-200:],
        xids=xids(log),
        product=text(root / "sys/class/dmi/id/product_name"),
    )


# --- why there is no port -----------------------------------------------------------------------------------------

#: A rescan of the PCI bus does not bring the card back: it made kernels panic.
NO_RESCAN = "never rescan the PCI bus while the card is off, which made kernels panic"
_SWITCH_OFF = f"`sudo mv {HOTPLUG_MARKER} /etc/nvidia/cx7-hotplug-disabled`"


def why_no_port(host: Host) -> Finding:
    """Return what is wrong with a node that shows no ConnectX port with an RDMA device."""
    if host.cards:
        return Finding(
            "fabric.no_rdma_port",
            RED,
            CHECK,
            f"the ConnectX is on the PCI bus ({', '.join(host.cards)}), but it has no network port with an RDMA device, so that NCCL would use TCP",
            "load the kernel's drivers (`sudo modprobe mlx5_core mlx5_ib`) and read what `sudo dmesg | grep mlx5` says; "
            "where they are missing for this kernel, an update was not finished: finish it (`sudo dpkg --configure -a`) and reboot",
        )
    signs = []
    if host.removed():
        signs.append("the kernel's log says `cx7-pcie-hotplug ... Cable removal`")
    if host.powered is False:
        signs.append("cx7-pcie-hotplug has it switched off")
    if host.marker:
        signs.append(f"{HOTPLUG_MARKER} is there")
    if signs:
        return Finding(
            "fabric.card_off",
            RED,
            CHECK,
            "no ConnectX port is on the PCI bus: DGX OS takes the card off the bus some 20 s after boot, and whenever the other end goes down, "
            f"while it sees no cable ({'; '.join(signs)})",
            "plug the QSFP cable into the same port of both nodes until it clicks, with the other node on, and reboot this node with the cable in place. "
            f"If the card stays away with the cable in, or is to stay on without one, switch the feature off: {_SWITCH_OFF}, then reboot. "
            f"And {NO_RESCAN}",
        )
    if host.hotplug:
        return Finding(
            "fabric.card_off",
            RED,
            CHECK,
            "no ConnectX port is on the PCI bus of this Spark, and its hot-plug driver says nothing of a removed cable",
            "plug the QSFP cable into both nodes and reboot with it in place; then shut the node down, take it off its power supply for a minute and start it; "
            f"then update system and firmware. {NO_RESCAN.capitalize()}",
        )
    spark = re.search(r"spark|gx10|gb10", host.product, re.IGNORECASE)
    last = (
        "A Spark always has one: what is left is a fault for NVIDIA's support"
        if spark
        else "A machine without ConnectX serves over TCP, at about a tenth of the bandwidth: then set fabric_rdma: false and take /dev/infiniband "
        "out of spark_devices"
    )
    return Finding(
        "fabric.no_rdma_port",
        RED,
        CHECK,
        "no ConnectX port is on this node's PCI bus (no function of vendor 15b3), so that NCCL would use TCP",
        "plug the QSFP cable into both nodes and reboot with it in place; where nothing changes, shut the node down and take it off its "
        "power supply for a minute. "
        f"{last}",
    )


# --- why it is slow -----------------------------------------------------------------------------------------------

BY_IOMMU = "take iommu.passthrough=0 out of /etc/default/grub and /etc/default/grub.d, then `sudo update-grub` and reboot; a reboot alone does not cure it"
_BY_HOTPLUG = "shut down or reboot both nodes with the cable in place"


def development(build: str) -> bool:
    """Say whether a version of NCCL is none that NVIDIA released: a patch level 0, or a word behind it (``2.31.0``, ``2.30.7a1``, ``2.29.3-dev``)."""
    found = re.match(r"\d+\.\d+(?:\.(\d+))?(.*)", build)
    if not found:
        return False
    behind = re.sub(r"^\+cuda[\d.]+$", "", found[2])
    return found[1] == "0" or bool(behind)


def slow_causes(host: Host | None, nccl: str = "") -> list[tuple[str, str]]:
    """Return what explains a link that is far too slow, each as the fact and its remedy; the most certain first.

    Args:
        host: of this node; None where it was not read.
        nccl: version with all that stands behind it, where NCCL was slow.
    """
    causes = []
    if host is not None:
        if fact := host.translated():
            causes.append((fact, BY_IOMMU))
        if host.plugged_while_on():
            causes.append(
                (
                    "the cable was plugged while the node was on (`cx7-pcie-hotplug ... Cable plugin` in the kernel's log)",
                    _BY_HOTPLUG,
                )
            )
        if host.pcie:
            causes.append(
                (
                    f"the card's PCIe link is slower than it can be ({'; '.join(host.pcie)})",
                    "update the firmware (`fwupdmgr update`), then take the node off its power supply for a minute",
                )
            )
        if host.xids:
            numbers = ", ".join(map(str, host.xids))
            causes.append(
                (
                    f"the GPU driver logged Xid {numbers} since boot",
                    "reboot this node and read `sudo dmesg | grep -i xid`",
                )
            )
        if host.kernel in REGRESSIONS:
            causes.append((f"kernel {host.kernel} is reported to cause ConnectX problems", "update DGX OS and reboot"))
        if host.kernel.startswith(KHO_KERNEL) and "kho=off" not in host.command_line.split():
            causes.append(
                (
                    f"kernel {host.kernel} runs without kho=off, with which owners' RoCE between nodes worked",
                    "install NVIDIA's package nvidia-spark-grub-kho, or add kho=off to the kernel's command line, and reboot",
                )
            )
    if development(nccl):
        causes.append((f"NCCL {nccl} is no release", "take a serving image with a released NCCL"))
    return causes


#: What owners found behind such a link, the most frequent first; told where no fact of this node explains it.
CANDIDATES = (
    "reboot both nodes with the cable in place, which cured it where the cable had been reseated while they were on",
    "shut both down and take them off their power supplies for a minute",
    "look for iommu.passthrough=0 in /proc/cmdline of the other node, where only the data that it sends is slow",
    "take a released NCCL",
)


def remedy_for(causes: list[tuple[str, str]]) -> str:
    """Return what to do about a link that is far too slow: for what was seen, or in the order of what owners found."""
    if causes:
        return "; ".join(f"{fact}: {remedy}" for fact, remedy in causes)
    return "nothing on this node explains it; in the order of what owners found: " + "; ".join(
        f"({place}) {what}" for place, what in enumerate(CANDIDATES, 1)
    )
