# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What GPU, driver and container toolkit a node has, how its memory and clocks are, and what of it stands in the way.

Everything here only reads. Collecting (``collect``) and judging (``judge``) are apart, as in ``node.requirements``: the judge
takes plain data and needs no machine. On GB10 the GPU has no memory of its own, so nvidia-smi says [N/A] for it and the
kernel's /proc/meminfo is what counts.
"""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..node.packages import unfinished
from ..node.requirements import parse_meminfo
from ..report.finding import RED, YELLOW, Finding, as_dicts, fine, sentences
from ..system.kernel_log import kernel_log, lines_with, xids
from ..system.run import GIVEN_UP, Runner

#: What nvidia-smi is asked of each GPU. Without the reasons where a driver does not know the field.
GPU_FIELDS = (
    "index",
    "name",
    "uuid",
    "compute_cap",
    "driver_version",
    "memory.total",
    "memory.used",
    "utilization.gpu",
    "power.draw",
    "temperature.gpu",
    "clocks.sm",
    "clocks.max.sm",
)
#: The active reasons for a lower clock: under its name since driver 535, and before.
REASON_FIELDS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
#: Bits of that field (nvml.h, nvmlClocksEventReasons) in words, and which of them are a fault rather than a limit.
REASONS = {
    0x1: "idle",
    0x2: "clocks set by an application",
    0x4: "power cap (software)",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal slowdown (software)",
    0x40: "thermal slowdown (hardware)",
    0x80: "power brake (hardware)",
    0x100: "display clocks",
}
HARDWARE_FAULTS = 0x8 | 0x40 | 0x80
THERMAL_SOFTWARE = 0x20

GB10 = "NVIDIA GB10"
#: Capability from which Marlin's kernels run (vLLM's AWQ layers ask for 75), and the one of GB10.
MIN_CAPABILITY = (7, 5)
GB10_CAPABILITY = (12, 1)
#: Driver branch that Sparks are served with; one page reports that graphs hang with 590.
DRIVER_BRANCH = 580
#: Part of the highest clock below which a busy GPU counts as held back, and the percent from which it counts as busy. Reports put a
#: Spark whose power supply latched at 481 to 858 of 3003 MHz with no reason shown, a healthy one at 2171 to 2489 MHz (a survey
#: that quotes NVIDIA forum 361296, 376039 and 376239, which were not read; hasso5703/dgx-spark-qwen38#8).
LOW_CLOCK, BUSY_PERCENT = 0.5, 50
#: A latched supply holds the clock at 481 to 858 of 3003 MHz and the power at 12 to 18 W, at 94 to 96 % (the reports above; a page on three GX10).
#: A kernel that waits by spinning, NCCL's for example, reads 96 % at 22 W with a clock that nothing holds: low power alone says nothing.
LATCHED_CLOCK, WORKING_W = 0.3, 40.0
#: How often a GPU is asked whose clock is low while it is busy, and the seconds between.
SAMPLES, SAMPLE_SECONDS = 5, 0.5
#: Seconds that nvidia-smi and nvidia-ctk may take; with a stuck driver they never answer.
PATIENCE = 30
PCI_NVIDIA = "0x10de"
PCI_DISPLAY = ("0x0300", "0x0302")
DGX_RELEASE_FIELDS = ("DGX_NAME", "DGX_PRETTY_NAME", "DGX_SWBUILD_VERSION", "DGX_OTA_VERSION", "DGX_PLATFORM")
CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")


@dataclass(frozen=True)
class Gpu:
    """One GPU as nvidia-smi tells it; None where it says [N/A]. Memory in MiB, power in W, degrees Celsius, clocks in MHz.

    ``trouble`` is what it says in the place of values where the GPU does not work (``GPU requires reset``).
    """

    index: int
    name: str
    uuid: str = ""
    compute_capability: str = ""
    driver: str = ""
    memory_total_mib: int | None = None
    memory_used_mib: int | None = None
    utilization_percent: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    clock_sm_mhz: int | None = None
    clock_sm_max_mhz: int | None = None
    reasons: int | None = None
    trouble: str = ""

    @property
    def capability(self) -> tuple[int, ...]:
        """Return the compute capability as numbers; empty where it is not known."""
        return tuple(int(part) for part in re.findall(r"\d+", self.compute_capability))

    @property
    def is_gb10(self) -> bool:
        """Say whether it is a Spark's GPU."""
        return self.name == GB10 or self.capability == GB10_CAPABILITY


@dataclass(frozen=True)
class Holder:
    """A process that holds memory of the GPU."""

    pid: int
    process: str
    memory_mib: int | None


@dataclass
class Runtime:
    """What a node has to run models with.

    ``samples`` are later looks at GPUs whose clock was low while they were busy. ``xids``, ``gsp`` (lines of the kernel's log) and ``unfinished``
    (packages) are read where nvidia-smi shows no GPU.
    """

    pci_gpus: tuple[str, ...] = ()
    smi_found: bool = False
    smi_error: str = ""
    gpus: list[Gpu] = field(default_factory=list)
    samples: list[list[Gpu]] = field(default_factory=list)
    xids: tuple[int, ...] = ()
    gsp: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    holders: list[Holder] = field(default_factory=list)
    kernel_module: str = ""
    cuda: str = ""
    toolkit: str = ""
    cdi_devices: tuple[str, ...] = ()
    cdi_files: tuple[str, ...] = ()
    memory_total_gib: float = 0.0
    memory_available_gib: float = 0.0
    kernel: str = ""
    boot_id: str = ""
    dgx_release: dict[str, str] = field(default_factory=dict)

    def as_facts(self) -> dict[str, Any]:
        """Return everything as plain data, with the reasons for a lower clock in words."""
        facts = asdict(self)
        facts["samples"] = len(self.samples)
        for gpu, plain in zip(self.gpus, facts["gpus"], strict=True):
            plain["reasons"] = reason_words(gpu.reasons)
        return facts


# --- parsing ------------------------------------------------------------------------------------------------


def number(text: str) -> float | None:
    """Return the number that a value starts with (``11.17 W``); None for ``[N/A]`` and the like, never an error."""
    match = re.match(r"-?\d+(?:\.\d+)?", text.strip())
    return float(match.group()) if match else None


def _whole(text: str) -> int | None:
    value = number(text)
    return None if value is None else int(value)


def _version(text: str) -> str:
    """Return the version at the start of a value, without what newer drivers put behind it (``610.57.04 [Deprecated; ...]``); empty for none."""
    match = re.match(r"\d+(?:\.\d+)+", text.strip())
    return match.group() if match else ""


def _csv_rows(text: str) -> Iterator[list[str]]:
    """Return the lines of nvidia-smi's CSV in their parts; one that is no CSV is passed over."""
    for line in text.splitlines():
        try:
            yield next(csv.reader([line], skipinitialspace=True), [])
        except csv.Error:
            continue


def parse_gpus(text: str, fields: Sequence[str]) -> list[Gpu]:
    """Return the GPUs in what ``nvidia-smi --query-gpu=... --format=csv,noheader`` printed; other lines are passed over."""
    gpus = []
    for row in _csv_rows(text):
        value = dict(zip(fields, (part.strip() for part in row), strict=False))
        if len(row) != len(fields) or not value.get("index", "").isdecimal():
            continue
        reasons = next((value[name] for name in REASON_FIELDS if name in value), "")
        gpus.append(
            Gpu(
                index=int(value["index"]),
                name=value["name"],
                uuid=value["uuid"],
                compute_capability=value["compute_cap"] if number(value["compute_cap"]) is not None else "",
                driver=_version(value["driver_version"]),
                memory_total_mib=_whole(value["memory.total"]),
                memory_used_mib=_whole(value["memory.used"]),
                utilization_percent=number(value["utilization.gpu"]),
                power_w=number(value["power.draw"]),
                temperature_c=number(value["temperature.gpu"]),
                clock_sm_mhz=_whole(value["clocks.sm"]),
                clock_sm_max_mhz=_whole(value["clocks.max.sm"]),
                reasons=parse_reasons(reasons),
                trouble=_trouble([value[name] for name in fields]),
            )
        )
    return gpus


def _trouble(values: Sequence[str]) -> str:
    """Return what stands in the place of values where a GPU does not work; empty where it does.

    One value that cannot be read is no fault: drivers say [Unknown Error] of single sensors.
    """
    for said in ("GPU is lost", "GPU requires reset"):
        if f"[{said}]" in values:
            return said
    return "Unknown Error" if 2 * values.count("[Unknown Error]") > len(values) else ""


def parse_reasons(text: str) -> int | None:
    """Return the bits of ``0x0000000000000004``; None for [N/A]."""
    try:
        return int(text.strip(), 16)
    except ValueError:
        return None


def reason_words(bits: int | None) -> list[str]:
    """Return the active reasons for a lower clock in words."""
    return [word for bit, word in REASONS.items() if (bits or 0) & bit]


def parse_holders(text: str) -> list[Holder]:
    """Return the processes of ``--query-compute-apps=pid,process_name,used_memory --format=csv,noheader``."""
    holders = []
    for row in _csv_rows(text):
        if len(row) >= 3 and row[0].strip().isdecimal():
            holders.append(Holder(int(row[0]), ",".join(row[1:-1]).strip(), _whole(row[-1])))
    return holders


def parse_cuda(text: str) -> str:
    """Return the CUDA version of the driver: from ``nvidia-smi --version``, or from the table that nvidia-smi prints."""
    match = re.search(r"CUDA(?: \w+)? Version\s*:\s*(\d+\.\d+)", text)
    return match.group(1) if match else ""


def parse_kernel_module(text: str) -> str:
    """Return the version of the loaded kernel module from /proc/driver/nvidia/version."""
    match = re.search(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", text, re.MULTILINE)
    return match.group(1) if match else ""


def parse_dgx_release(text: str) -> dict[str, str]:
    """Return what /etc/dgx-release says of system and build (``DGX_NAME="DGX Spark"``), never the serial number in it."""
    pairs = (line.partition("=") for line in text.splitlines())
    fields = {name.strip(): value.strip().strip('"').strip() for name, _sign, value in pairs}
    return {name: fields[name] for name in DGX_RELEASE_FIELDS if fields.get(name)}


# --- reading ------------------------------------------------------------------------------------------------


class Host:
    """Reads files below ``root`` and asks programs."""

    def __init__(self, run: Runner, root: Path = Path("/"), pause: Callable[[float], None] = time.sleep) -> None:
        self.run = run
        self.root = root
        self.pause = pause

    def text(self, path: str) -> str:
        """Return a file's text; empty where it cannot be read."""
        try:
            return (self.root / path.lstrip("/")).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def pci_gpus(self) -> tuple[str, ...]:
        """Return the addresses of NVIDIA's display devices, which are there without a driver too."""
        found = []
        folder = self.root / "sys/bus/pci/devices"
        for device in sorted(folder.iterdir()) if folder.is_dir() else ():
            vendor = self.text(f"sys/bus/pci/devices/{device.name}/vendor").strip()
            kind = self.text(f"sys/bus/pci/devices/{device.name}/class").strip()
            if vendor == PCI_NVIDIA and kind.startswith(PCI_DISPLAY):
                found.append(device.name)
        return tuple(found)

    def cdi_files(self) -> tuple[str, ...]:
        """Return the specifications of NVIDIA's devices in the folders that Docker reads."""
        found = []
        for folder in CDI_FOLDERS:
            path = self.root / folder.lstrip("/")
            for entry in sorted(path.iterdir()) if path.is_dir() else ():
                if entry.suffix in (".yaml", ".json") and "nvidia.com/gpu" in self.text(f"{folder}/{entry.name}"):
                    found.append(f"{folder}/{entry.name}")
        return tuple(found)

    def ask(self, *argv: str) -> tuple[int, str, str]:
        """Run a program that may never answer when the driver is stuck; status 124 where it did not in time."""
        return self.run(argv, PATIENCE)

    def ask_patiently(
        self, argv: Sequence[str], _seconds: float | None = None, /, **_more: Any
    ) -> tuple[int, str, str]:
        """Run a program as ``ask`` does, with the arguments of a Runner."""
        return self.ask(*argv)

    def smi(self, *arguments: str) -> tuple[int, str]:
        """Ask nvidia-smi; it writes its errors to standard output as well."""
        status, out, err = self.ask("nvidia-smi", *arguments)
        if status == GIVEN_UP:
            return status, f"no answer within {PATIENCE} s"
        return status, out if status == 0 else (out.strip() or err.strip())


def collect(host: Host) -> Runtime:
    """Read the node. Nothing that is missing is an error here; ``judge`` says what it means."""
    total, available = parse_meminfo(host.text("/proc/meminfo"))
    runtime = Runtime(
        pci_gpus=host.pci_gpus(),
        kernel_module=parse_kernel_module(host.text("/proc/driver/nvidia/version")),
        cdi_files=host.cdi_files(),
        memory_total_gib=total,
        memory_available_gib=available,
        kernel=host.text("/proc/sys/kernel/osrelease").strip(),
        boot_id=host.text("/proc/sys/kernel/random/boot_id").strip(),
        dgx_release=parse_dgx_release(host.text("/etc/dgx-release")),
    )
    for reasons in (*REASON_FIELDS, ""):
        fields = (*GPU_FIELDS, reasons) if reasons else GPU_FIELDS
        status, out = host.smi(f"--query-gpu={','.join(fields)}", "--format=csv,noheader")
        runtime.smi_found = status != 127
        runtime.smi_error = "" if status == 0 else _one_line(out)
        # An older driver knows a field under another name, or not at all.
        if status == 0 or "not a valid field" not in out:
            break
    if status == 0:
        runtime.gpus = parse_gpus(out, fields)
        while any(map(_suspicious, runtime.gpus)) and len(runtime.samples) < SAMPLES - 1:
            host.pause(SAMPLE_SECONDS)
            again, out = host.smi(f"--query-gpu={','.join(fields)}", "--format=csv,noheader")
            runtime.samples.append(parse_gpus(out, fields) if again == 0 else [])
        query = ("--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader")
        code, apps = host.smi(*query)
        runtime.holders = parse_holders(apps) if code == 0 else []
        code, versions = host.smi("--version")
        runtime.cuda = parse_cuda(versions) if code == 0 else ""
        if not runtime.cuda:
            code, table = host.smi()
            runtime.cuda = parse_cuda(table) if code == 0 else ""
    if runtime.smi_found and (not runtime.gpus or any(gpu.trouble for gpu in runtime.gpus)):
        log = kernel_log(host.ask_patiently)
        runtime.xids = xids(log)
        runtime.gsp = lines_with(log, "RmInitAdapter failed", "GSP", "gsp_")[-3:]
        runtime.unfinished = unfinished(host.ask_patiently)
    status, out, _err = host.ask("nvidia-ctk", "--version")
    match = re.search(r"version (\d[\w.\-~+]*)", out) if status == 0 else None
    runtime.toolkit = match.group(1) if match else ""
    if runtime.toolkit:
        status, out, _err = host.ask("nvidia-ctk", "cdi", "list")
        lines = [line.strip() for line in out.splitlines()] if status == 0 else []
        runtime.cdi_devices = tuple(line for line in lines if line.startswith("nvidia.com/gpu="))
    return runtime


def read_gpus(run: Runner) -> list[Gpu]:
    """Return the GPUs by one question to nvidia-smi, empty where there is none to ask; an older driver is asked again by its own names.

    Raises:
        ValueError: it gives no answer, or a GPU does not work; one sentence.
    """
    fields: tuple[str, ...] = GPU_FIELDS
    for reasons in (*REASON_FIELDS, ""):
        fields = (*GPU_FIELDS, reasons) if reasons else GPU_FIELDS
        status, out, err = run(["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"], PATIENCE)
        if status == 0 or "not a valid field" not in out:
            break
    if status == 127:
        return []
    if status == GIVEN_UP:
        raise ValueError("nvidia-smi gave no answer in time")
    if status != 0:
        raise ValueError(f"nvidia-smi failed: {_one_line(out) or _one_line(err)}")
    gpus = parse_gpus(out, fields)
    broken = next((gpu for gpu in gpus if gpu.trouble), None)
    if broken:
        raise ValueError(f"GPU {broken.index} does not work: nvidia-smi says {broken.trouble}")
    return gpus


def _suspicious(gpu: Gpu) -> bool:
    """Say whether a GPU is busy at a clock that is far too low."""
    return (gpu.utilization_percent or 0) >= BUSY_PERCENT and _below(gpu, LOW_CLOCK)


def _below(gpu: Gpu, share: float) -> bool:
    return bool(
        gpu.clock_sm_mhz is not None and gpu.clock_sm_max_mhz and gpu.clock_sm_mhz < share * gpu.clock_sm_max_mhz
    )


def _one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip())[:300]


# --- judging ------------------------------------------------------------------------------------------------

#: What can be looked at; whoever looks at memory or toolkit with more knowledge leaves them out here.
CHECKS = ("gpu", "memory", "driver", "clocks", "toolkit")
#: First driver branch with one report of hanging CUDA graphs (not confirmed).
UNPROVEN_BRANCH = 590


def judge(
    runtime: Runtime, *, require_gpu: bool = True, min_available_gib: float = 0.0, checks: Sequence[str] = CHECKS
) -> list[Finding]:
    """Return one finding for each thing looked at.

    Args:
        require_gpu: a node without a GPU is red; otherwise it is green, and nothing else of the GPU is judged.
        min_available_gib: GiB that the kernel must call available.
        checks: what of CHECKS to look at.
    """
    looks: list[tuple[str, Iterator[Finding]]] = [
        ("gpu", _judge_gpu(runtime, require_gpu)),
        ("memory", _judge_memory(runtime, min_available_gib)),
    ]
    if runtime.gpus:
        looks += [
            ("driver", _judge_driver(runtime)),
            ("clocks", _judge_clocks(runtime)),
            ("toolkit", _judge_toolkit(runtime)),
        ]
    return [finding for name, found in looks if name in checks for finding in found]


def no_gpu(runtime: Runtime) -> str:
    """Say plainly that the host has no NVIDIA GPU; empty where it has one."""
    if runtime.gpus or runtime.pci_gpus or runtime.kernel_module:
        return ""
    # A GPU that is passed into a virtual machine or a container need not be on the PCI bus that is seen from here.
    if runtime.smi_found and not runtime.smi_error.lower().startswith("no devices"):
        return ""
    return "this host has no NVIDIA GPU"


def _judge_gpu(runtime: Runtime, required: bool) -> Iterator[Finding]:
    if missing := no_gpu(runtime):
        remedy = "run on a DGX Spark, or use the simulation's inventory"
        yield Finding("gpu.no_gpu", RED, "gpu", missing, remedy) if required else fine("gpu", "gpu", missing)
        return
    if not runtime.gpus:
        yield _without_smi(runtime)
        return
    for gpu in runtime.gpus:
        label = f"GPU {gpu.index} is {gpu.name}, compute capability {gpu.compute_capability or 'unknown'}"
        if gpu.trouble:
            said = f"GPU {gpu.index} does not work: nvidia-smi says [{gpu.trouble}] in the place of its values"
            yield Finding("gpu.not_answering", RED, "gpu", f"{said}{_logged(runtime)}", _RESTART)
        elif gpu.capability and gpu.capability < MIN_CAPABILITY:
            yield Finding(
                "gpu.unsupported", RED, "gpu", label, "vLLM's AWQ kernels need 7.5 or newer; this GPU is not supported"
            )
        elif not gpu.is_gb10:
            yield Finding(
                "gpu.not_gb10",
                YELLOW,
                "gpu",
                label,
                "the settings are made for a DGX Spark (NVIDIA GB10, 12.1); check them",
            )
        elif gpu.capability != GB10_CAPABILITY:
            yield Finding("gpu.odd_capability", YELLOW, "gpu", label, "a GB10 says 12.1; update the driver")
        else:
            yield fine("gpu", "gpu", label, str(gpu.index))


def _without_smi(runtime: Runtime) -> Finding:
    """Judge a GPU that nvidia-smi does not show."""
    where = f"GPU at {', '.join(runtime.pci_gpus)}" if runtime.pci_gpus else "GPU"
    if not runtime.smi_found:
        return Finding(
            "gpu.driver_missing",
            RED,
            "gpu",
            f"{where}, but nvidia-smi is not installed",
            "install the NVIDIA driver (580 branch)",
        )
    error = runtime.smi_error
    if "mismatch" in error.lower():
        loaded = f"the kernel has {runtime.kernel_module} loaded" if runtime.kernel_module else "the kernel has another"
        return Finding(
            "gpu.driver_mismatch",
            RED,
            "gpu",
            f"driver and library differ ({error}; {loaded})",
            "the driver was updated under the running kernel: reboot this node",
        )
    if not runtime.kernel_module and not error.startswith("no answer"):
        return Finding(
            "gpu.driver_not_loaded",
            RED,
            "gpu",
            f"{where}, but the driver is not loaded ({error or 'nvidia-smi shows nothing'})",
            "reboot; if that does not help, install the driver's module for this kernel "
            f"({runtime.kernel or 'unknown'}) and look at `dmesg | grep -i nvrm`",
        )
    if error.lower().startswith("no devices") or not error:
        return _no_devices(runtime, where)
    if error.startswith("no answer"):
        return Finding(
            "gpu.not_answering", RED, "gpu", f"nvidia-smi does not answer ({error}){_logged(runtime)}", _RESTART
        )
    remedy = next((remedy for word, remedy in _BY_WORD.items() if word in error.lower()), _RESTART)
    if runtime.unfinished and remedy is not _RESTART:
        remedy = f"an update was not finished ({', '.join(runtime.unfinished[:5])}): {_FINISH}"
    return Finding("gpu.not_answering", RED, "gpu", f"nvidia-smi fails ({error}){_logged(runtime)}", remedy)


def _logged(runtime: Runtime) -> str:
    return f"; Xid {', '.join(map(str, runtime.xids))} in the kernel's log" if runtime.xids else ""


_RESTART = (
    "look at `dmesg | grep -i -e nvrm -e xid`, and take the node off its power supply where a reboot does not help"
)
_FINISH = "finish it (`sudo dpkg --configure -a`, then `sudo apt-get --fix-broken install`), then reboot"
#: What helps where nvidia-smi names something else than the GPU.
_BY_WORD = {
    "libnvidia-ml": "the driver's libraries are missing or half installed: finish the update (`sudo dpkg --configure -a`), or install the libnvidia-compute "
    "package of the driver's own release, then reboot",
    "insufficient permissions": "the user may not open /dev/nvidia*: run the play as root (`become: true`), and see the modes of these files",
    "blocked by the operating system": "the user may not open /dev/nvidia*: run the play as root (`become: true`), and see the modes of these files",
}
#: Errors of the driver with which its processor on the GPU (GSP) is gone: RPC timeout, its task's fault, and "recovery action required".
_GSP_XIDS = (119, 120, 154)


def _no_devices(runtime: Runtime, where: str) -> Finding:
    """Judge a driver that is loaded and has no GPU: nvidia-smi answered, and the cause stands elsewhere."""
    driver = f"driver {runtime.kernel_module}" if runtime.kernel_module else "the driver"
    said = f"{where}: nvidia-smi answers that it finds no device, though {driver} is loaded"
    code, check = "gpu.no_devices", "gpu"
    if runtime.unfinished:
        names = ", ".join(runtime.unfinished[:5]) + (" and more" if len(runtime.unfinished) > 5 else "")
        return Finding(
            code,
            RED,
            check,
            f"{said}; an update was not finished ({names})",
            _FINISH,
        )
    lost = [number for number in runtime.xids if number in _GSP_XIDS]
    if lost or runtime.gsp:
        told = (
            f"Xid {', '.join(map(str, lost))} in the kernel's log"
            if lost
            else f"the kernel's log says: {runtime.gsp[-1][:160]}"
        )
        return Finding(
            code,
            RED,
            check,
            f"{said}; the GPU's system processor (GSP) does not answer ({told})",
            "shut the node down, take it off its power supply for a minute and start it; where it comes back, update system and firmware on all nodes",
        )
    return Finding(
        code,
        RED,
        check,
        said,
        "in the order of what owners found: (1) finish a half-done update (`dpkg --audit`, `sudo dpkg --configure -a`) and reboot; (2) read "
        "`sudo dmesg | grep -i -e nvrm -e xid` for Xid 119 or 154, and take the node off its power supply for a minute; (3) update system and firmware",
    )


def _judge_memory(runtime: Runtime, needed: float) -> Iterator[Finding]:
    said = f"{runtime.memory_available_gib:g} of {runtime.memory_total_gib:g} GiB are available"
    if not runtime.memory_total_gib:
        yield Finding("node.memory_unreadable", RED, "memory", "/proc/meminfo cannot be read", "check the node")
        return
    if runtime.memory_available_gib >= needed:
        yield fine("gpu", "memory", said)
        return
    held = sorted(runtime.holders, key=lambda holder: -(holder.memory_mib or 0))[:3]
    by = ", ".join(
        f"{holder.process} (pid {holder.pid}{f', {holder.memory_mib} MiB' if holder.memory_mib else ''})"
        for holder in held
    )
    yield Finding(
        "node.memory_taken",
        RED,
        "memory",
        f"{said}, {needed:g} GiB are needed" + (f"; the GPU's memory is held by {by}" if by else ""),
        "stop what holds it" if by else "stop what holds it (`ps aux --sort=-rss | head`)",
    )


def _judge_driver(runtime: Runtime) -> Iterator[Finding]:
    driver = runtime.gpus[0].driver
    said = f"driver {driver or 'unknown'}, CUDA {runtime.cuda or 'unknown'}"
    branch = number(driver)
    if runtime.kernel_module and driver and runtime.kernel_module != driver:
        yield Finding(
            "gpu.driver_mismatch",
            RED,
            "driver",
            f"{said}, but the kernel has {runtime.kernel_module} loaded",
            "the driver was updated under the running kernel: reboot this node",
        )
    elif runtime.gpus[0].is_gb10 and branch is not None and int(branch) < DRIVER_BRANCH:
        yield Finding(
            "gpu.driver_old", RED, "driver", said, f"GB10 and CUDA 13 need the {DRIVER_BRANCH} branch: update DGX OS"
        )
    elif runtime.gpus[0].is_gb10 and branch is not None and int(branch) >= UNPROVEN_BRANCH:
        yield Finding(
            "gpu.driver_unproven",
            YELLOW,
            "driver",
            said,
            f"{_of_branch(int(branch))}; the {DRIVER_BRANCH} branch is what Sparks are served with",
        )
    else:
        yield fine("gpu", "driver", said)


def _of_branch(branch: int) -> str:
    """Return what is known of a driver branch newer than the proven one."""
    if branch == UNPROVEN_BRANCH:
        return f"one report says that CUDA graphs hang with {branch} (not confirmed)"
    return f"nothing is known of branch {branch} on Sparks"


def _judge_clocks(runtime: Runtime) -> Iterator[Finding]:
    for gpu in runtime.gpus:
        bits = gpu.reasons
        if gpu.trouble:
            continue
        if bits is None:
            yield Finding(
                "gpu.clock_unknown",
                YELLOW,
                "clocks",
                f"GPU {gpu.index} does not say why its clock is low",
                "see the kernel check",
            )
            continue
        later = [other for sample in runtime.samples for other in sample if other.index == gpu.index]
        yield clock_finding(gpu, busy=(gpu.utilization_percent or 0) >= BUSY_PERCENT, later=later)


def clock_finding(gpu: Gpu, *, busy: bool, later: Sequence[Gpu] = (), loaded: bool = False) -> Finding:
    """Judge the clock of one GPU; a low clock counts only while it is busy.

    One look at a busy GPU proves nothing: a kernel that waits reads as busy. A low clock is a fault where the driver names the hardware, where the
    load is our own, or where several looks agree: at a latched supply's clock, or at a power that waiting does not take.

    Args:
        gpu: at the first look.
        busy: whether it works, by its own word.
        later: the same GPU at later looks.
        loaded: whether the load is our own, and known to work.
    """
    words = reason_words(gpu.reasons)
    said = f"GPU {gpu.index} runs at {gpu.clock_sm_mhz if gpu.clock_sm_mhz is not None else 'unknown'} MHz"
    said += f" of {gpu.clock_sm_max_mhz}" if gpu.clock_sm_max_mhz else ""
    said += " under load" if busy else ""
    said += f" ({', '.join(words)})" if words else ""
    bits = gpu.reasons or 0
    if bits & HARDWARE_FAULTS:
        return Finding(
            "gpu.power_limited",
            RED,
            "clocks",
            said,
            "use the power supply that came with it, and check the airflow",
        )
    if busy and _below(gpu, LOW_CLOCK) and not (later and not all(map(_suspicious, later))):
        looks = [gpu, *later]
        latched = all(_below(look, LATCHED_CLOCK) for look in looks)
        working = all((look.power_w or 0) > WORKING_W for look in looks)
        if loaded or (len(looks) >= SAMPLES and (latched or working)):
            return Finding(
                "gpu.clock_low",
                RED,
                "clocks",
                said,
                "less than half of what it can do: shut it down and take it off its power supply for some minutes; "
                "a cap that somebody set goes with `sudo nvidia-smi -rgc`",
            )
        power = f" at {gpu.power_w:g} W" if gpu.power_w is not None else ""
        why = "one look" if len(looks) < SAMPLES else f"{len(looks)} looks"
        return Finding(
            "gpu.clock_unsure",
            YELLOW,
            "clocks",
            f"{said}{power}: by {why} it may only wait, as a kernel of NCCL does that spins, or somebody has set a cap",
            "let the kernel check put a load on it while nothing is served (`playbooks/report.yml` with `kernels` in node_report_looks); "
            "a cap goes with `sudo nvidia-smi -rgc`",
        )
    if bits & THERMAL_SOFTWARE:
        return Finding("gpu.hot", YELLOW, "clocks", said, "it slows down by heat: check the airflow")
    return fine("gpu", "clocks", said, str(gpu.index))


def _judge_toolkit(runtime: Runtime) -> Iterator[Finding]:
    if not runtime.toolkit:
        yield Finding(
            "docker.toolkit_missing",
            RED,
            "toolkit",
            "NVIDIA's container toolkit is not installed",
            "run role container_runtime, which installs it",
        )
        return
    said = f"container toolkit {runtime.toolkit}"
    etc = [path for path in runtime.cdi_files if path.startswith("/etc/")]
    run = [path for path in runtime.cdi_files if path.startswith("/var/run/")]
    if not runtime.cdi_devices:
        yield Finding(
            "docker.device_unknown",
            RED,
            "toolkit",
            f"{said}, but no CDI device nvidia.com/gpu",
            "run `sudo systemctl restart nvidia-cdi-refresh.service` (toolkit 1.18 or newer), or role container_runtime",
        )
    elif etc and run:
        yield Finding(
            "docker.spec_shadowed",
            YELLOW,
            "toolkit",
            f"{said}, with two CDI specifications ({', '.join([*etc, *run])})",
            f"the toolkit keeps {run[0]} up to date, {etc[0]} goes stale with the next driver: remove it",
        )
    else:
        yield fine("docker", "toolkit", f"{said}, CDI {', '.join(runtime.cdi_devices)}")


#: Parameters of whoever asks for this look, as AnsibleModule takes them.
ARGUMENTS: dict[str, Any] = {
    "require_gpu": {"type": "bool", "default": True},
    "min_available_gib": {"type": "float", "default": 0},
    "checks": {"type": "list", "elements": "str", "choices": list(CHECKS), "default": list(CHECKS)},
}


def answer(params: Mapping[str, Any], run: Runner) -> dict[str, Any]:
    """Return what M(gb10_runtime_info) returns for its parameters.

    Raises:
        ValueError: a parameter is not usable; one sentence.
    """
    if params["min_available_gib"] < 0:
        raise ValueError(f"min_available_gib is {params['min_available_gib']:g}, expected GiB, 0 or more")
    runtime = collect(Host(run))
    findings = judge(
        runtime,
        require_gpu=params["require_gpu"],
        min_available_gib=params["min_available_gib"],
        checks=params["checks"],
    )
    problems = sentences(findings)
    said = no_gpu(runtime) or "; ".join(finding.found for finding in findings)
    return {
        "changed": False,
        "healthy": not problems,
        "gpu_present": bool(runtime.gpus),
        "problems": problems,
        "findings": as_dicts(findings),
        "runtime": runtime.as_facts(),
        "msg": "; ".join(problems) or said,
    }
