# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a machine is, read from /proc, /etc and a few commands, and what about it does not meet given requirements.

Everything here only reads. Collecting (``Machine``, ``collect``) and judging (``judge``) are apart: the judge takes
plain data and needs no machine.
"""

from __future__ import annotations

import ipaddress
import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..docker.cli import ask
from ..nfs.share import Mounted, over_nfs, parse_mountinfo
from ..report.finding import RED, Finding, as_dicts, fine, sentences
from ..system.run import MISSING, Runner
from ..system.units import ORDER

GIB = 1024**3
#: Where role vllm_plan keeps what the last start of a server here logged.
START_RECORD = "/var/lib/dgx-spark/vllm-start.json"
#: Units of ours that hold a model.


# State of a listening socket in /proc/net/tcp: TCP_LISTEN of include/net/tcp_states.h.
_LISTEN = "0A"
# The file system that shows in /proc/filesystems when a module is built in or loaded.
_FILE_SYSTEM = {"nfsv4": "nfs4"}
_NFS_MODULES = {"server": ("nfsd",), "client": ("nfsv4",)}
_CONTAINER_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_UNIT = re.compile(r"/([^/]+\.service)(?=/|$)")

# A walk of a directory stops here: beyond, the answer would cost more than it is worth.
_MAX_WALK_ENTRIES = 500_000


class CollectError(Exception):
    """The machine could not be read; ``str()`` is one sentence."""


# --- what is asked for --------------------------------------------------------------------------------------


#: Stands in a path need for the folder where this node's Docker keeps its images.
DOCKER_STORE = "docker"
#: Docker's and containerd's own defaults.
_DOCKER_ROOT, _CONTAINERD_ROOT = "/var/lib/docker", "/var/lib/containerd"


@dataclass(frozen=True)
class PathNeed:
    """``need_gib`` GiB must fit below ``path``, or below Docker's store; what already lies below it counts as fitted."""

    path: str
    need_gib: float


@dataclass(frozen=True)
class PortNeed:
    """``port`` must be free for ``units``: a listener of one of these, or of the container of that name, is fine.

    ``address`` is where it will listen; None means on all addresses.
    """

    port: int
    units: tuple[str, ...] = ()
    address: str | None = None


@dataclass(frozen=True)
class Requirements:
    """What a node must be; None and empty mean: no demand."""

    fabric_address: str | None = None
    min_memory_gib: float | None = None
    paths: tuple[PathNeed, ...] = ()
    ports: tuple[PortNeed, ...] = ()
    architectures: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()
    min_python: tuple[int, ...] = ()
    systemd: bool = True
    root: bool = True
    nfs: str = "none"
    nfs_transport: str = "tcp"


# --- what is found ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interface:
    """A network interface: its state as the kernel says it (UP, DOWN, UNKNOWN), MTU in bytes, addresses with prefix."""

    name: str
    state: str
    mtu: int
    mac: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class FileSystem:
    """The file system that would take what is written below ``path``.

    ``existing`` is the nearest directory that exists, ``device`` tells file systems apart; ``free_gib`` is what
    ordinary users may take; ``present_gib`` is what lies below ``path`` already, or None where nobody needed to know.
    """

    path: str
    existing: str
    device: int
    total_gib: float
    free_gib: float
    present_gib: float | None = None


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket on a wanted port and whose it is; empty where that could not be found out."""

    port: int
    address: str
    pid: int | None = None
    process: str = ""
    unit: str = ""
    container: str = ""

    def owner(self) -> str:
        """Return the owner in words."""
        if self.container:
            who = f"container {self.container}"
            return who + (f" ({self.process}, pid {self.pid})" if self.pid else "")
        if self.pid:
            return f"{self.process or 'a process'} (pid {self.pid}" + (f", {self.unit})" if self.unit else ")")
        return "a process that cannot be seen from here"


@dataclass
class Node:
    """The machine."""

    distribution: str = ""
    distribution_like: tuple[str, ...] = ()
    distribution_name: str = ""
    architecture: str = ""
    kernel: str = ""
    init: str = ""
    memory_total_gib: float = 0.0
    memory_available_gib: float = 0.0
    page_cache_gib: float = 0.0
    swap_total_gib: float = 0.0
    swap_used_gib: float = 0.0
    serving: bool = False
    vllm_start: dict[str, Any] = field(default_factory=dict)
    cpus: int = 0
    interfaces: list[Interface] = field(default_factory=list)
    fabric_interface: str | None = None
    file_systems: list[FileSystem] = field(default_factory=list)
    listeners: list[Listener] = field(default_factory=list)
    kernel_lacks: tuple[str, ...] = ()
    rdma_devices: tuple[str, ...] = ()
    docker_client: str | None = None
    docker_server: str | None = None
    python: tuple[int, ...] = ()
    boot_id: str = ""
    root: bool = False
    user: str = ""

    def as_facts(self) -> dict[str, Any]:
        """Return everything as plain data; versions as dotted text."""
        facts = asdict(self)
        facts["python"] = ".".join(map(str, self.python))
        return facts


# --- parsing ------------------------------------------------------------------------------------------------


def parse_os_release(text: str) -> dict[str, str]:
    """Return the fields of an os-release(5) file, unquoted."""
    fields = {}
    for line in text.splitlines():
        key, separator, value = line.strip().partition("=")
        if separator and not key.startswith("#"):
            if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
                value = re.sub(r'\\(["\\$`])', r"\1", value[1:-1])
            fields[key] = value
    return fields


def parse_meminfo(text: str) -> tuple[float, float]:
    """Return MemTotal and MemAvailable of /proc/meminfo in GiB (its kB are KiB); 0 for what is missing."""
    found = dict.fromkeys(("MemTotal", "MemAvailable"), 0.0)
    for line in text.splitlines():
        name, _sep, rest = line.partition(":")
        if name in found and rest.split():
            found[name] = round(int(rest.split()[0]) * 1024 / GIB, 2)
    return found["MemTotal"], found["MemAvailable"]


def parse_memory_use(text: str) -> tuple[float, float, float]:
    """Return page cache, all of swap, and what of it is used, in GiB, of /proc/meminfo; 0 for what is missing."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, _sep, rest = line.partition(":")
        if rest.split() and rest.split()[0].isdigit():
            found[name] = int(rest.split()[0]) * 1024 / GIB
    swap = found.get("SwapTotal", 0.0)
    return round(found.get("Cached", 0.0), 2), round(swap, 2), round(swap - found.get("SwapFree", swap), 2)


def parse_start_record(text: str) -> dict[str, Any]:
    """Return what the last start of a server here left (START_RECORD); empty where there is none, or nothing that can be read."""
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def parse_ip_addresses(text: str) -> list[Interface]:
    """Return the interfaces in the output of ``ip -json address show``.

    Raises:
        CollectError: the text is not that.
    """
    try:
        rows = json.loads(text)
        return [
            Interface(
                name=str(row["ifname"]),
                state=str(row.get("operstate", "")),
                mtu=int(row.get("mtu", 0)),
                mac=str(row.get("address", "")),
                addresses=tuple(
                    f"{entry['local']}/{entry['prefixlen']}" for entry in row.get("addr_info", []) if "local" in entry
                ),
            )
            # Older versions of iproute2 print an empty object for what they filter out.
            for row in rows
            if row
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CollectError(
            f"the output of `ip -json address show` cannot be read ({error}): install iproute2 4.13 or newer"
        ) from error


def interface_with(interfaces: Sequence[Interface], address: str) -> str | None:
    """Return the name of the interface that holds ``address`` (without prefix), or None."""
    wanted = _normal_address(address)
    for interface in interfaces:
        if any(_normal_address(entry.split("/")[0]) == wanted for entry in interface.addresses):
            return interface.name
    return None


def _normal_address(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address


def parse_proc_net_tcp(text: str) -> list[tuple[str, int, int]]:
    """Return (address, port, inode) of each listening socket in the text of /proc/net/tcp or tcp6.

    Addresses are hexadecimal words in the byte order of the host (little-endian on x86-64 and on arm64).
    """
    found = []
    for line in text.splitlines()[1:]:
        parts = line.split()
        if len(parts) < 10 or parts[3] != _LISTEN:
            continue
        raw, _sep, port = parts[1].partition(":")
        words = [int(raw[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(raw), 8)]
        address = ipaddress.ip_address(b"".join(words))
        mapped = getattr(address, "ipv4_mapped", None)
        found.append((str(mapped or address), int(port, 16), int(parts[9])))
    return found


def parse_cgroup(text: str) -> tuple[str, str]:
    """Return (systemd unit, container id) that the text of /proc/<pid>/cgroup names; empty strings for none.

    Works on cgroup v1, v2 and hybrid, with Docker's cgroupfs driver (``/docker/<id>``) and its systemd driver
    (``/system.slice/docker-<id>.scope``). The innermost name counts: on a machine that is itself a container, each path
    starts with the outer container.
    """
    best = ("", "")
    depth = -1
    for line in text.splitlines():
        path = line.split(":", 2)[-1]
        units = list(_UNIT.finditer(path))
        ids = list(_CONTAINER_ID.finditer(path))
        unit_at = units[-1].start() if units else -1
        id_at = ids[-1].start() if ids else -1
        if max(unit_at, id_at) > depth:
            depth = max(unit_at, id_at)
            best = (units[-1][1], "") if unit_at > id_at else ("", ids[-1][0])
    return best


# --- collecting ---------------------------------------------------------------------------------------------


class Machine:
    """Reads this machine; ``root`` stands for / in tests."""

    def __init__(self, run: Runner, root: Path = Path("/")) -> None:
        self.run = run
        self.root = root

    def text(self, path: str) -> str:
        """Return the text of a file, or an empty string when it cannot be read."""
        try:
            return (self.root / path.lstrip("/")).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def serving(self) -> bool:
        """Return whether a unit of ours runs that holds a model: systemd keeps a link for each active unit."""
        return any((self.root / "run/systemd/units" / f"invocation:{unit}.service").is_symlink() for unit in ORDER)

    def interfaces(self) -> list[Interface]:
        """Return the interfaces of the machine."""
        status, out, err = self.run(["ip", "-json", "address", "show"])
        if status != 0:
            words = err.strip() or f"exit status {status}"
            raise CollectError(f"the interfaces of this node cannot be read ({words}): install iproute2")
        return parse_ip_addresses(out)

    def listeners(self, wanted: Sequence[PortNeed] | None) -> list[Listener]:
        """Return the listening sockets on the wanted ports, or on all, with their owners as far as this user may see them."""
        ports = {need.port for need in wanted or ()}
        rows = [
            row
            for table in ("/proc/net/tcp", "/proc/net/tcp6")
            for row in parse_proc_net_tcp(self.text(table))
            if wanted is None or row[1] in ports
        ]
        if not rows:
            return []
        owners = self.socket_owners({inode for _address, _port, inode in rows})
        found = [self._listener(address, port, owners.get(inode)) for address, port, inode in rows]
        return self._name_containers(sorted(set(found), key=lambda entry: (entry.port, entry.address, entry.pid or 0)))

    def socket_owners(self, inodes: set[int]) -> dict[int, int]:
        """Return the first process that holds each socket, by inode; processes of others need root."""
        links = {f"socket:[{inode}]": inode for inode in inodes}
        owners: dict[int, int] = {}
        for process in sorted(
            (entry for entry in (self.root / "proc").iterdir() if entry.name.isdigit()), key=lambda p: int(p.name)
        ):
            for link in _descriptors(process / "fd"):
                inode = links.get(link)
                if inode is not None:
                    owners.setdefault(inode, int(process.name))
            if len(owners) == len(inodes):
                break
        return owners

    def _listener(self, address: str, port: int, pid: int | None) -> Listener:
        if pid is None:
            return Listener(port, address)
        unit, container = parse_cgroup(self.text(f"/proc/{pid}/cgroup"))
        return Listener(port, address, pid, self.text(f"/proc/{pid}/comm").strip(), unit, container)

    def _name_containers(self, listeners: list[Listener]) -> list[Listener]:
        """Replace container ids by names, and docker-proxy by the container that it listens for."""
        names = self._container_names({entry.container for entry in listeners} - {""})
        named = []
        for entry in listeners:
            container = names.get(entry.container, "")
            if entry.process == "docker-proxy":
                container = self._publisher(entry.port) or container
            named.append(replace(entry, container=container))
        return named

    def _container_names(self, ids: set[str]) -> dict[str, str]:
        """Return names by id. Docker passes over ids that it does not know (those of an outer container) with status 1."""
        if not ids:
            return {}
        _status, out, _err = ask(
            self.run, "inspect", "--type", "container", "--format", "{{.Id}} {{.Name}}", *sorted(ids)
        )
        pairs = [line.split() for line in out.splitlines()]
        return {pair[0]: pair[1].lstrip("/") for pair in pairs if len(pair) == 2}

    def _publisher(self, port: int) -> str:
        status, out, _err = ask(self.run, "ps", "--filter", f"publish={port}", "--format", "{{.Names}}")
        return out.split()[0] if status == 0 and out.split() else ""

    def docker(self) -> tuple[str | None, str | None]:
        """Return the versions of Docker's command and of its daemon; None for what is missing or does not answer."""
        status, out, _err = ask(self.run, "version", "--format", "{{json .}}")
        if status == MISSING:
            return None, None
        try:
            data = json.loads(out.strip().splitlines()[0]) if out.strip() else {}
        except ValueError:
            data = {}
        client = (data.get("Client") or {}).get("Version")
        server = (data.get("Server") or {}).get("Version")
        return (str(client) if client else "unknown"), (str(server) if server else None)

    def docker_store(self) -> str:
        """Return the folder where Docker keeps images on this node, or will keep them once it is installed.

        Docker 29 keeps those of a new installation with containerd, whatever its own data-root says.
        """
        status, out, _err = ask(self.run, "info", "--format", "{{.DockerRootDir}} {{json .DriverStatus}}")
        root, _space, driver = out.strip().partition(" ")
        if status == 0 and root.startswith("/"):
            return _CONTAINERD_ROOT if "io.containerd.snapshotter" in driver else root
        try:
            wanted = json.loads(self.text("/etc/docker/daemon.json") or "{}").get("data-root")
        except (ValueError, AttributeError):
            wanted = None
        return wanted if isinstance(wanted, str) and wanted.startswith("/") else _DOCKER_ROOT

    def kernel_lacks(self, modules: Sequence[str]) -> tuple[str, ...]:
        """Return the modules that this kernel neither has built in nor can load."""
        known = {line.split()[-1] for line in self.text("/proc/filesystems").splitlines() if line.split()}
        return tuple(
            name
            for name in modules
            if _FILE_SYSTEM.get(name, name) not in known
            and self.run(["modprobe", "--dry-run", "--quiet", name])[0] != 0
        )

    def rdma_devices(self) -> tuple[str, ...]:
        """Return the names of the RDMA devices."""
        folder = self.root / "sys/class/infiniband"
        return tuple(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else ()

    def file_systems(self, needs: Sequence[PathNeed]) -> list[FileSystem]:
        """Return the file system below each path; what lies there is counted only where free space is too little."""
        mounts = parse_mountinfo(self.text("/proc/self/mountinfo"))
        plain = [self._file_system(need.path, mounts) for need in needs]
        wanted: dict[int, float] = {}
        for need, found in zip(needs, plain, strict=True):
            wanted[found.device] = wanted.get(found.device, 0.0) + need.need_gib
        result = []
        for need, found in zip(needs, plain, strict=True):
            present = None
            # What lies on another node's disk neither counts here, nor must anybody touch it whose server may be gone.
            if over_nfs(mounts, need.path):
                present = 0.0
            elif found.free_gib < wanted[found.device]:
                present = round(tree_size(self.root / need.path.lstrip("/"), need.need_gib * GIB) / GIB, 2)
            result.append(
                FileSystem(found.path, found.existing, found.device, found.total_gib, found.free_gib, present)
            )
        return result

    def _file_system(self, path: str, mounts: Sequence[Mounted]) -> FileSystem:
        # The disk below an NFS mount is the one of the folder that holds the mount point.
        point = over_nfs(mounts, path)
        existing = (self.root / point.lstrip("/")).parent if point else self.root / path.lstrip("/")
        while not existing.is_dir() and existing != existing.parent:
            existing = existing.parent
        numbers = os.statvfs(existing)
        return FileSystem(
            path=path,
            existing=str(existing),
            device=existing.stat().st_dev,
            total_gib=round(numbers.f_blocks * numbers.f_frsize / GIB, 2),
            free_gib=round(numbers.f_bavail * numbers.f_frsize / GIB, 2),
        )


def _descriptors(folder: Path) -> Iterator[str]:
    """Yield what the descriptors of one process point to; a process that is gone or another's yields nothing."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - Path.iterdir would build an object for each of thousands
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink(folder / name)  # noqa: PTH115 - the text itself is wanted, not a path
        except OSError:
            continue


def tree_size(path: Path, enough: float) -> int:
    """Return the bytes on disk below ``path`` on its file system; the walk stops once ``enough`` bytes are found."""
    total = entries = 0
    try:
        device = path.stat().st_dev
    except OSError:
        return 0
    seen: set[int] = set()
    stack = [path]
    while stack and total < enough and entries < _MAX_WALK_ENTRIES:
        try:
            children = list(os.scandir(stack.pop()))
        except OSError:
            continue
        for child in children:
            entries += 1
            try:
                status = child.stat(follow_symlinks=False)
            except OSError:
                continue
            if status.st_dev != device:
                continue
            if child.is_dir(follow_symlinks=False):
                stack.append(Path(child.path))
            if status.st_nlink > 1 and not child.is_dir(follow_symlinks=False):
                if status.st_ino in seen:
                    continue
                seen.add(status.st_ino)
            total += status.st_blocks * 512
    return total


def nfs_modules(requirements: Requirements) -> tuple[str, ...]:
    """Return the kernel modules that the wanted part of NFS needs."""
    modules = _NFS_MODULES.get(requirements.nfs, ())
    return (*modules, "rpcrdma") if modules and requirements.nfs_transport == "rdma" else modules


def collect(machine: Machine, requirements: Requirements) -> Node:
    """Read the machine, as far as the requirements and the facts ask for it.

    Raises:
        CollectError: the interfaces cannot be read.
    """
    release = parse_os_release(machine.text("/etc/os-release"))
    memory = machine.text("/proc/meminfo")
    total, available = parse_meminfo(memory)
    page_cache, swap, swap_used = parse_memory_use(memory)
    interfaces = machine.interfaces()
    client, server = machine.docker()
    address = requirements.fabric_address
    return Node(
        distribution=release.get("ID", ""),
        distribution_like=tuple(release.get("ID_LIKE", "").split()),
        distribution_name=release.get("PRETTY_NAME", ""),
        architecture=platform.machine(),
        kernel=platform.release(),
        init=machine.text("/proc/1/comm").strip(),
        memory_total_gib=total,
        memory_available_gib=available,
        page_cache_gib=page_cache,
        swap_total_gib=swap,
        swap_used_gib=swap_used,
        serving=machine.serving(),
        vllm_start=parse_start_record(machine.text(START_RECORD)),
        cpus=os.cpu_count() or 0,
        interfaces=interfaces,
        fabric_interface=interface_with(interfaces, address) if address else None,
        file_systems=machine.file_systems(requirements.paths),
        listeners=machine.listeners(requirements.ports),
        kernel_lacks=machine.kernel_lacks(nfs_modules(requirements)),
        rdma_devices=machine.rdma_devices(),
        docker_client=client,
        docker_server=server,
        python=tuple(sys.version_info[:3]),
        boot_id=machine.text("/proc/sys/kernel/random/boot_id").strip(),
        root=os.geteuid() == 0,
        user=os.environ.get("USER", "") or str(os.geteuid()),
    )


# --- judging ------------------------------------------------------------------------------------------------


def on_this_machine(requirements: Requirements, machine: Machine) -> Requirements:
    """Return the requirements with the folder that stands for Docker's store on this machine."""
    if not any(need.path == DOCKER_STORE for need in requirements.paths):
        return requirements
    store = machine.docker_store()
    paths = (replace(need, path=store) if need.path == DOCKER_STORE else need for need in requirements.paths)
    return replace(requirements, paths=tuple(paths))


def judge(node: Node, wanted: Requirements) -> list[Finding]:
    """Return a finding for each thing that was asked for: red with value and remedy, or green with what is there."""
    system = f"{node.distribution_name or node.distribution or 'unknown system'} on {node.architecture}, kernel {node.kernel}"
    checks: list[tuple[str, Iterator[Finding], str]] = [
        ("machine", _identity(node, wanted), system),
        (
            "fabric address",
            _address(node, wanted),
            f"{wanted.fabric_address} is on {node.fabric_interface}" if wanted.fabric_address else "",
        ),
        ("memory size", _memory(node, wanted), f"{node.memory_total_gib:g} GiB"),
        ("NFS", _nfs(node, wanted), f"the kernel can be an NFS {wanted.nfs}" if wanted.nfs != "none" else ""),
        ("disk", _space(node, wanted), _room(node)),
        ("TCP ports", _ports(node, wanted), _free_ports(node, wanted)),
    ]
    found = []
    for check, wrong, well in checks:
        found += (faults := list(wrong))
        if well and not faults:
            found.append(fine("node", check, well))
    return found


def _room(node: Node) -> str:
    spaces = [f"{found.path} ({found.free_gib:g} GiB free)" for found in node.file_systems]
    return f"room for what is still to come: {', '.join(spaces)}" if spaces else ""


def _free_ports(node: Node, wanted: Requirements) -> str:
    own = sorted({entry.container or entry.unit.removesuffix(".service") for entry in node.listeners} - {""})
    held = f", or held by our own {', '.join(own)}" if own else ""
    return f"{len(wanted.ports)} port{'s are' if len(wanted.ports) != 1 else ' is'} free{held}" if wanted.ports else ""


def _identity(node: Node, wanted: Requirements) -> Iterator[Finding]:
    if wanted.root and not node.root:
        yield Finding(
            "node.not_root",
            RED,
            "machine",
            f"tasks run as user {node.user}, not as root",
            "set become: true, and see that this user may use sudo",
        )
    if wanted.architectures and node.architecture not in wanted.architectures:
        yield Finding(
            "node.architecture",
            RED,
            "machine",
            f"architecture {node.architecture} is not supported, expected {_or(wanted.architectures)}",
            "take a machine of this kind, or add the architecture to node_report_architectures where an image for it exists",
        )
    family = {node.distribution, *node.distribution_like}
    if wanted.distributions and not family & set(wanted.distributions):
        name = node.distribution_name or node.distribution or "unknown"
        yield Finding(
            "node.operating_system",
            RED,
            "machine",
            f"operating system {name} is not supported, expected {_or(wanted.distributions)}, or one derived from it",
            "install DGX OS or Ubuntu on the node: the roles install Debian packages",
        )
    if wanted.systemd and node.init != "systemd":
        yield Finding(
            "node.no_systemd",
            RED,
            "machine",
            f"process 1 is {node.init or 'unknown'}, not systemd, and the services are systemd units",
            "boot the machine (or the container) with systemd",
        )
    if wanted.min_python and node.python < wanted.min_python:
        yield Finding(
            "node.old_python",
            RED,
            "machine",
            f"Python {_dotted(node.python)} is too old, expected {_dotted(wanted.min_python)} or newer",
            "set ansible_python_interpreter to a newer one, or upgrade the operating system",
        )


def _address(node: Node, wanted: Requirements) -> Iterator[Finding]:
    if wanted.fabric_address and node.fabric_interface is None:
        held = [
            f"{interface.name} {entry.split('/')[0]}"
            for interface in node.interfaces
            for entry in interface.addresses
            if not ipaddress.ip_address(entry.split("/")[0]).is_loopback and ":" not in entry
        ]
        yield Finding(
            "node.no_fabric_address",
            RED,
            "fabric address",
            f"fabric address {wanted.fabric_address} is on no interface of this node ({', '.join(held) or 'none'})",
            "give the QSFP interface that address, or correct spark_fabric_address in the inventory",
        )


def _memory(node: Node, wanted: Requirements) -> Iterator[Finding]:
    if wanted.min_memory_gib is not None and node.memory_total_gib < wanted.min_memory_gib:
        yield Finding(
            "node.too_little_memory",
            RED,
            "memory size",
            f"memory is {node.memory_total_gib:g} GiB, {wanted.min_memory_gib:g} GiB are needed",
            "choose a smaller model, or lower node_report_min_memory_gib if it fits",
        )


def _nfs(node: Node, wanted: Requirements) -> Iterator[Finding]:
    if wanted.nfs == "none":
        return
    lacks = [name for name in node.kernel_lacks if name != "rpcrdma"]
    if lacks:
        does = "serve" if wanted.nfs == "server" else "mount"
        yield Finding(
            "node.no_nfs",
            RED,
            "NFS",
            f"the kernel cannot {does} NFS (it has no module {lacks[0]})",
            "install the kernel's extra modules, or set model_share_method: copy",
        )
    if wanted.nfs_transport == "rdma" and ("rpcrdma" in node.kernel_lacks or not node.rdma_devices):
        lack = "its kernel has no module rpcrdma" if "rpcrdma" in node.kernel_lacks else "it has no RDMA device"
        yield Finding(
            "node.no_nfs_over_rdma",
            RED,
            "NFS",
            f"NFS over RDMA is set, but {lack}",
            "set model_share_nfs_transport: tcp",
        )


def _space(node: Node, wanted: Requirements) -> Iterator[Finding]:
    """Judge each file system once for all that is wanted on it: two paths on one disk share its space."""
    needs = {need.path: need.need_gib for need in wanted.paths}
    by_device: dict[int, list[FileSystem]] = {}
    for found in node.file_systems:
        if found.path in needs:
            by_device.setdefault(found.device, []).append(found)
    for group in by_device.values():
        missing = sum(max(0.0, needs[found.path] - (found.present_gib or 0.0)) for found in group)
        free = min(found.free_gib for found in group)
        if free >= missing:
            continue
        parts = [
            f"{found.path} needs {needs[found.path]:g} GiB"
            + (f" of which {found.present_gib:g} are there" if found.present_gib else "")
            for found in group
        ]
        yield Finding(
            "node.disk_full",
            RED,
            "disk",
            f"disk space is short: {' and '.join(parts)}, but the file system at {group[0].existing} "
            f"has {free:g} GiB free where {missing:g} GiB are still to come",
            "free some, or choose a larger disk",
            subject=group[0].existing,
        )


def _ports(node: Node, wanted: Requirements) -> Iterator[Finding]:
    for need in wanted.ports:
        names = {name.removesuffix(".service") for name in need.units}
        seen: set[str] = set()
        for entry in node.listeners:
            if entry.port != need.port or not _collide(entry.address, need.address):
                continue
            # A unit's container runs in Docker's cgroup, not in the unit's; it carries the name of the unit.
            if entry.container in names or (not entry.container and entry.unit.removesuffix(".service") in names):
                continue
            if entry.owner() in seen:
                continue
            seen.add(entry.owner())
            purpose = f" for {_or(need.units)}" if need.units else ""
            yield Finding(
                "node.port_in_use",
                RED,
                "TCP ports",
                f"port {need.port} is needed{purpose} but in use on {entry.address} by {entry.owner()}",
                "stop that, or move one of them to another port",
                subject=str(need.port),
            )


def _collide(listening: str, wanted: str | None) -> bool:
    """Say whether a socket on ``listening`` keeps one from binding ``wanted`` (None: all addresses)."""
    return wanted is None or _normal_address(wanted) == listening or wanted in _ANY or listening in _ANY


_ANY = ("0.0.0.0", "::")


def _or(names: Sequence[str]) -> str:
    return " or ".join(names)


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


# --- input --------------------------------------------------------------------------------------------------


def requirements_from(params: Mapping[str, Any]) -> Requirements:
    """Return requirements from module parameters.

    Raises:
        ValueError: a value is not usable; one sentence that names it.
    """
    address = params.get("fabric_address") or None
    if address is not None:
        try:
            ipaddress.ip_address(address)
        except ValueError as error:
            raise ValueError(
                f"fabric_address {address!r} is not an IP address: expected one like 192.168.100.10"
            ) from error
    paths = []
    for entry in params.get("paths") or []:
        if entry["path"] != DOCKER_STORE and not str(entry["path"]).startswith("/"):
            raise ValueError(
                f"path {entry['path']!r} is not absolute: expected one like /srv/models, or {DOCKER_STORE}"
            )
        if entry["need_gib"] < 0:
            raise ValueError(
                f"need_gib {entry['need_gib']:g} of path {entry['path']} is negative: expected GiB, 0 or more"
            )
        paths.append(PathNeed(os.path.normpath(entry["path"]), float(entry["need_gib"])))
    ports = []
    for entry in params.get("ports") or []:
        if not 1 <= entry["port"] <= 65535:
            raise ValueError(f"port {entry['port']} is not a port: expected 1 to 65535")
        ports.append(PortNeed(entry["port"], tuple(entry.get("units") or ()), entry.get("address") or None))
    minimum = str(params.get("min_python") or "")
    if minimum and not re.fullmatch(r"\d+(\.\d+){0,2}", minimum):
        raise ValueError(f"min_python {minimum!r} is not a version: expected one like 3.11")
    memory = params.get("min_memory_gib")
    return Requirements(
        fabric_address=address,
        min_memory_gib=None if memory is None else float(memory),
        paths=tuple(paths),
        ports=tuple(ports),
        nfs=str(params.get("nfs") or "none"),
        nfs_transport=str(params.get("nfs_transport") or "tcp"),
        architectures=tuple(params.get("architectures") or ()),
        distributions=tuple(params.get("distributions") or ()),
        min_python=tuple(int(part) for part in minimum.split(".")) if minimum else (),
        systemd=bool(params.get("require_systemd", True)),
        root=bool(params.get("require_root", True)),
    )


#: Parameters of whoever asks for this look, as AnsibleModule takes them.
ARGUMENTS: dict[str, Any] = {
    "fabric_address": {"type": "str"},
    "min_memory_gib": {"type": "float"},
    "paths": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "need_gib": {"type": "float", "required": True},
        },
    },
    "ports": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "port": {"type": "int", "required": True},
            "address": {"type": "str"},
            "units": {"type": "list", "elements": "str", "default": []},
        },
    },
    "nfs": {"type": "str", "choices": ["none", "server", "client"], "default": "none"},
    "nfs_transport": {"type": "str", "choices": ["tcp", "rdma"], "default": "tcp"},
    "architectures": {"type": "list", "elements": "str", "default": []},
    "distributions": {"type": "list", "elements": "str", "default": []},
    "min_python": {"type": "str"},
    "require_systemd": {"type": "bool", "default": True},
    "require_root": {"type": "bool", "default": True},
}


def answer(params: Mapping[str, Any], run: Runner) -> dict[str, Any]:
    """Return what M(node_preflight_info) returns for its parameters.

    Raises:
        ValueError: a parameter is not usable, or the node cannot be read (CollectError); one sentence.
    """
    machine = Machine(run)
    requirements = on_this_machine(requirements_from(params), machine)
    node = collect(machine, requirements)
    findings = judge(node, requirements)
    problems = sentences(findings)
    good = f"{node.distribution_name} on {node.architecture} with {node.memory_total_gib:g} GiB meets the requirements"
    return {
        "changed": False,
        "msg": "; ".join(problems) or good,
        "problems": problems,
        "findings": as_dicts(findings),
        "node": node.as_facts(),
    }
