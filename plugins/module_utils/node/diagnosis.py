# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What somebody who was not there needs to see of a node: outputs and files, redacted before they leave it.

What is read is chosen so that little has to be redacted: no environment, no arguments of processes, no file of secrets, no history.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..docker.cli import DOCKER
from ..system.redact import MIN_SECRET, Redactor
from ..system.run import GIVEN_UP
from .requirements import Runner

#: Seconds after which a command is given up: nvidia-smi of a wedged GPU never returns.
COMMAND_SECONDS = 20
#: Characters of one document. What is longer loses its beginning (a journal) or its end (all else).
MAX_CHARS = 300_000
#: Keys of a result that say nothing about the node, and the survey's raw list, which names all programs and containers of the machine.
_NOISE = frozenset(
    {"invocation", "ansible_facts", "_ansible_no_log", "warnings", "deprecations", "failed_when_result", "survey"}
)
#: Names that are no machine's own: taking them for a host's name would blur half of every text.
_COMMON_NAMES = frozenset(
    {"spark", "dgx", "gx10", "nvidia", "localhost", "ubuntu", "debian", "node", "head", "worker", "host"}
)
#: Lines of the kernel's log that tell of GPU, link, memory, heat and power; the others tell of the rest of somebody's house.
_KERNEL = re.compile(
    r"(?i)\b(?:NVRM|Xid|nvidia|mlx5|pcieport|AER|oom|out of memory|killed process|thermal|throttl|nvme|hung task|blocked for more|"
    r"soft lockup|watchdog|nfsd?|rpcrdma|Linux version|cx7|MTKP0001|hot-?plug|kernel panic|DOE:|E-Switch|arm-smmu|iommu|power (?:key|button)|"
    r"15b3:|10de:|SError|hardware error|EDAC|BUG:|Oops|Call trace|(?:Kernel )?command line|kho\b|KHO|reserved\b|swiotlb)"
)
_DOCKER_STATE = (
    "{{.Name}} image={{.Config.Image}} id={{.Image}} status={{.State.Status}} exit={{.State.ExitCode}} oom={{.State.OOMKilled}} "
    "started={{.State.StartedAt}} finished={{.State.FinishedAt}} restart={{.HostConfig.RestartPolicy.Name}} "
    "network={{.HostConfig.NetworkMode}} ipc={{.HostConfig.IpcMode}} pid={{.HostConfig.PidMode}} runtime={{.HostConfig.Runtime}} "
    "devices={{json .HostConfig.Devices}} requests={{json .HostConfig.DeviceRequests}} ulimits={{json .HostConfig.Ulimits}} "
    "shm={{.HostConfig.ShmSize}} binds={{json .HostConfig.Binds}}"
)

#: Document by name: the command whose output it is. What is not installed is left out and named.
COMMANDS: dict[str, tuple[str, ...]] = {
    "system/uname.txt": ("uname", "--kernel-name", "--kernel-release", "--kernel-version", "--machine"),
    "system/uptime.txt": ("uptime",),
    "system/memory.txt": ("free", "--mebi", "--wide"),
    "system/disks.txt": ("df", "--print-type", "--block-size=M", "--local"),
    "system/mounts.txt": (
        "findmnt",
        "--raw",
        "--output",
        "TARGET,SOURCE,FSTYPE,OPTIONS",
        "--types",
        "nfs,nfs4,ext4,xfs,btrfs,autofs",
    ),
    "system/largest-processes.txt": ("ps", "-e", "--sort=-rss", "--format", "pid,rss,nlwp,stat,wchan:24,comm"),
    "system/virtual-memory.txt": ("sysctl", "vm", "kernel.numa_balancing"),
    "system/failed-units.txt": ("systemctl", "list-units", "--failed", "--no-pager", "--plain"),
    "system/firmware.txt": ("fwupdmgr", "get-devices", "--no-unreported-check", "--json"),
    "gpu/nvidia-smi.txt": ("nvidia-smi",),
    "gpu/nvidia-smi-q.txt": ("nvidia-smi", "-q"),
    "gpu/query.csv": (
        "nvidia-smi",
        "--query-gpu=name,compute_cap,driver_version,pstate,clocks.sm,clocks.max.sm,clocks.mem,clocks_throttle_reasons.active,"
        "temperature.gpu,power.draw,utilization.gpu,memory.total,memory.used",
        "--format=csv",
    ),
    "gpu/processes.csv": ("nvidia-smi", "--query-compute-apps=pid,process_name,used_memory", "--format=csv"),
    "gpu/topology.txt": ("nvidia-smi", "topo", "-m"),
    "gpu/toolkit.txt": ("nvidia-ctk", "--version"),
    "gpu/cdi.txt": ("nvidia-ctk", "cdi", "list"),
    "gpu/cdi-refresh.txt": (
        "systemctl",
        "status",
        "nvidia-cdi-refresh.service",
        "nvidia-cdi-refresh.path",
        "--no-pager",
        "--lines=20",
    ),
    "docker/version.json": (DOCKER, "version", "--format", "{{json .}}"),
    "docker/info.json": (DOCKER, "info", "--format", "{{json .}}"),
    "docker/containers.txt": (
        DOCKER,
        "ps",
        "--all",
        "--format",
        "{{.Names}}\t{{.Image}}\t{{.Status}}\t{{.RunningFor}}",
    ),
    "docker/images.txt": (DOCKER, "images", "--digests"),
    "network/addresses.json": ("ip", "-json", "address", "show"),
    "network/links.txt": ("ip", "-statistics", "-details", "link", "show"),
    "network/routes.txt": ("ip", "route", "show", "table", "all"),
    "network/netplan.txt": ("netplan", "get"),
    "network/ibdev2netdev.txt": ("ibdev2netdev",),
    "network/ibstat.txt": ("ibstat",),
    "network/ibv_devinfo.txt": ("ibv_devinfo", "-v"),
    "network/gids.txt": ("show_gids",),
    "network/rdma.txt": ("rdma", "link", "show"),
    "network/rdma-counters.txt": ("rdma", "statistic", "show"),
    "network/nfs.txt": ("nfsstat", "-m"),
    "packages/held.txt": ("apt-mark", "showhold"),
    "packages/unfinished.txt": ("dpkg", "--audit"),
    "system/clock.txt": ("timedatectl", "show"),
    "system/boots.txt": ("journalctl", "--list-boots", "--no-pager"),
    "packages/versions.txt": (
        "dpkg-query",
        "--show",
        "--showformat",
        "${db:Status-Abbrev} ${Package} ${Version}\n",
        "nvidia*",
        "libnvidia*",
        "cuda*",
        "docker*",
        "containerd*",
        "linux-image*",
        "linux-modules*",
        "linux-nvidia*",
        "dgx*",
        "rdma-core",
        "libibverbs*",
        "nfs*",
        "netplan*",
    ),
}
#: Document by name: the files that it is made of, as patterns below /.
FILES: dict[str, tuple[str, ...]] = {
    "system/release.txt": ("etc/os-release", "etc/dgx-release"),
    "system/command-line.txt": ("proc/cmdline", "etc/default/grub", "etc/default/grub.d/*.cfg"),
    "system/meminfo.txt": ("proc/meminfo",),
    "system/pressure.txt": ("proc/pressure/memory", "proc/pressure/cpu", "proc/pressure/io"),
    "system/machine.txt": (
        "sys/class/dmi/id/product_name",
        "sys/class/dmi/id/bios_version",
        "sys/class/dmi/id/bios_date",
    ),
    "gpu/driver.txt": ("proc/driver/nvidia/version", "sys/module/nvidia/version"),
    "gpu/cdi-nvidia.yaml": ("etc/cdi/*.yaml", "run/cdi/*.yaml"),
    "gpu/kernel-check.json": ("var/lib/dgx-spark/kernel-check.json",),
    "docker/daemon.json": ("etc/docker/daemon.json",),
    "network/netplan-files.txt": ("etc/netplan/*.yaml", "etc/netplan/*.sync-disabled-*"),
    "network/hotplug.txt": (
        "etc/nvidia/cx7-hotplug-*",
        "sys/devices/platform/MTKP0001:00/pcie_hotplug/hotplug_enabled",
        "sys/devices/platform/MTKP0001:00/pcie_hotplug/debug_state",
    ),
    "network/iommu.txt": ("sys/class/net/en*/device/iommu_group/type",),
    "network/infiniband.txt": (
        "sys/class/infiniband/*/fw_ver",
        "sys/class/infiniband/*/ports/*/state",
        "sys/class/infiniband/*/ports/*/rate",
        "sys/class/infiniband/*/ports/*/gid_attrs/ndevs/[0-7]",
        "sys/class/infiniband/*/ports/*/gid_attrs/types/[0-7]",
        "sys/class/infiniband/*/ports/*/counters/port_*_data",
        "sys/class/infiniband/*/ports/*/hw_counters/*",
    ),
    "network/link-speeds.txt": ("sys/class/net/en*/mtu", "sys/class/net/en*/speed", "sys/class/net/en*/operstate"),
    "services/limits.txt": ("proc/sys/fs/file-max", "etc/security/limits.conf"),
    "services/units.txt": ("etc/systemd/system/spark-*.service", "etc/systemd/system/spark-*.timer"),
}


@dataclass
class Diagnosis:
    """Documents by name, redacted, and why others are not there."""

    documents: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def result_text(result: Any) -> str:
    """Return a module's result as JSON, one key a line, without what Ansible itself puts beside it."""
    kept = {key: value for key, value in result.items() if key not in _NOISE} if isinstance(result, Mapping) else result
    return json.dumps(kept, indent=1, sort_keys=True, default=str, ensure_ascii=False) + "\n"


def read_secrets(folder: Path) -> dict[str, str]:
    """Return the secrets of this node by the names of their files; they are looked for in all that leaves it."""
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            text = path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            continue
        if len(text) >= MIN_SECRET:
            found[path.name] = text
    return found


def host_aliases(names: Iterable[str], alias: str) -> dict[str, str]:
    """Return what stands for the machine's own names; names that are ordinary words stay."""
    found = {}
    for name in names:
        for part in (name, name.partition(".")[0]):
            if len(part) > 2 and part.lower() not in _COMMON_NAMES:
                found[part] = alias
    return found


def diagnose(
    run: Runner, redactor: Redactor, units: Sequence[str], journal_lines: int, root: Path = Path("/")
) -> Diagnosis:
    """Read the node and return what was found, redacted.

    Args:
        run: runs a command.
        redactor: takes secrets out.
        units: units whose journals belong to it.
        journal_lines: lines of each journal; 0 leaves the journals out.
        root: stands for / in tests.
    """
    result = Diagnosis()
    for name, argv in {**COMMANDS, **dict(_dynamic(run, root, units))}.items():
        _take(result, redactor, name, run_bounded(run, argv))
    for name, patterns in FILES.items():
        text = "".join(_files(root, patterns))
        if text:
            result.documents[name] = shorten(redactor.text(text))
        else:
            result.left_out[name] = "no such file"
    if journal_lines > 0:
        tail = ("--lines", str(journal_lines), "--no-pager", "--output", "short-iso", "--no-hostname")
        for unit in units:
            _take(
                result,
                redactor,
                f"journal/{unit}.txt",
                run_bounded(run, ("journalctl", "--unit", unit, *tail)),
                keep_end=True,
            )
        status, text = run_bounded(
            run, ("journalctl", "--dmesg", "--lines", "20000", "--no-pager", "--output", "short-iso", "--no-hostname")
        )
        kept = "\n".join([line for line in text.splitlines() if _KERNEL.search(line)][-journal_lines:])
        _take(result, redactor, "journal/kernel.txt", (status, kept), keep_end=True)
    return result


def run_bounded(run: Runner, argv: Sequence[str]) -> tuple[int, str]:
    """Run a command that may hang; return its status and what it said, errors included. Status 127: not installed."""
    status, out, err = run(argv, COMMAND_SECONDS)
    if status == GIVEN_UP:
        return status, f"{out}\n(given up after {COMMAND_SECONDS} s)"
    return status, out if status == 0 else f"{out}{err}\n(exit status {status})"


def shorten(text: str, keep_end: bool = False) -> str:
    """Return at most MAX_CHARS of a text, with a line that says what is missing."""
    if len(text) <= MAX_CHARS:
        return text
    gone = len(text) - MAX_CHARS
    return (
        f"({gone} characters before this are left out)\n{text[-MAX_CHARS:]}"
        if keep_end
        else f"{text[:MAX_CHARS]}\n({gone} more left out)\n"
    )


def _take(result: Diagnosis, redactor: Redactor, name: str, said: tuple[int, str], keep_end: bool = False) -> None:
    status, text = said
    if status == 127:
        result.left_out[name] = "not installed"
    elif not text.strip():
        result.left_out[name] = "says nothing"
    else:
        # Redacted before it is cut: half a secret at the cut would no longer be known as one.
        result.documents[name] = shorten(redactor.text(text), keep_end)


def _dynamic(run: Runner, root: Path, units: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the commands that depend on what the machine has: its Ethernet ports, and our containers."""
    folder = root / "sys/class/net"
    for name in sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []:
        if name.startswith("en"):
            yield f"network/ethtool-{name}.txt", ("ethtool", name)
            yield f"network/ethtool-{name}-driver.txt", ("ethtool", "--driver", name)
    _status, listed = run_bounded(run, (DOCKER, "ps", "--all", "--format", "{{.Names}}"))
    own = {unit.removesuffix(".service") for unit in units}
    names = sorted(name for name in listed.split() if name in own)
    if names:
        yield (
            "docker/our-containers.txt",
            (DOCKER, "inspect", "--type", "container", "--format", _DOCKER_STATE, *names),
        )


def _files(root: Path, patterns: Sequence[str]) -> Iterator[str]:
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            try:
                text = path.read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            place = f"/{path.relative_to(root)}"
            yield f"{place}: {text.rstrip()}\n" if text.count("\n") <= 1 else f"--- {place}\n{text.rstrip()}\n"


def contents(nodes: Mapping[str, Diagnosis], notes: Sequence[str]) -> str:
    """Return the page that lies on top of a bundle: what is in it, what is not, and what was taken out."""
    lines = [
        "A diagnosis of a dgx_spark.vllm cluster.",
        "",
        "Secrets (keys, tokens, passwords), serial numbers, the second halves of MAC addresses, public addresses, e-mail addresses, names of",
        "users' folders and names of machines were taken out on the nodes, and once more when this was packed. It holds no weights, no",
        "prompts and no answers, unless you made the server log them. The redaction may miss something: look through it before you hand it on.",
        *(["", *notes] if notes else []),
    ]
    for name, diagnosis in nodes.items():
        lines += ["", f"{name}: {len(diagnosis.documents)} documents"]
        lines += [f"  not there: {document} ({why})" for document, why in sorted(diagnosis.left_out.items())]
    return "\n".join(lines) + "\n"
