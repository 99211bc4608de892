# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What stands in the way on a machine that was used before: other people's containers, mounts, memory, netplan and updates.

Everything here only reads. Collecting (``Surveyor``, ``collect``) and judging (``judge``) are apart: the judge takes plain data.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..docker.cli import DOCKER, ask
from ..docker.service import DIGEST_LABEL
from ..nfs.share import EXPORTS, UNITS, Mounted, own_paths, parse_exports, parse_mountinfo, unescape
from ..report.finding import LEVELS, RED, YELLOW, Finding, as_dicts, fine
from ..report.report import counts
from ..system.run import Runner
from ..system.units import ORDER
from .packages import QUERY, is_driver_package, parse_installed, parse_unfinished
from .requirements import GIB, Machine, parse_cgroup, parse_meminfo, parse_os_release

#: Units of ours carry this prefix.
OURS = "spark-"
#: What holds less than this is not worth a line.
MENTION_GIB = 1.0
#: Below this much available memory a serving Spark was reported to freeze under load (sparky-cluster, its README: about 6 GiB).
HEADROOM_GIB = 6.0
#: vLLM's run_cluster.sh calls its container node-$RANDOM and runs `/bin/bash -c "ray start --block ..."` in it
#: (vllm-project/vllm 0c37e239, examples/online_serving/run_cluster.sh; the seed calls that script).
_SEED_NAME = re.compile(r"^node-\d{1,5}$")
_SEED_COMMAND = "ray start --block"
#: ConnectX-7 ports of a Spark and their twins: enp1s0f0np0, enp1s0f1np1, enP2p1s0f0np0, enP2p1s0f1np1 (NVIDIA/dgx-spark-playbooks 0db7c14).
_PORT = re.compile(r"^en(?:P\d+)?p\d+s\d+f\d+np\d+$")
_HF_CACHE = ".cache/huggingface"
#: Kernels of which owners report trouble; none was seen by us.
REPORTED_KERNELS = {
    "6.17.0-1008-nvidia": "was reported to panic on Sparks (NVIDIA forum, topic 366026)",
    "6.17.0-1021-nvidia": "is named by owners for a ConnectX that goes missing or slow",
    "6.17.0-1029-nvidia": "is named by owners for a ConnectX that goes missing or slow",
}
#: The kernel of DGX OS 7.6 keeps about 9.3 GiB for a handover to the next kernel, and RoCE between nodes failed with it, until it was booted with
#: kho=off, as NVIDIA's package nvidia-spark-grub-kho does (three owners' notes).
HANDOVER_KERNEL = "7.0.0-1019-nvidia"
#: DGX OS has 16 GiB of swap on by default. What is in it already is slow to come back; below this it is not worth a line.
SWAPPED_GIB = 1.0
#: NVIDIA Sync puts netplan files of others aside under this name.
_PUT_ASIDE = ".sync-disabled-"
#: Units that nobody stops to make room.
_PROTECTED = re.compile(
    r"^(?:docker|containerd|ssh|sshd|dbus|NetworkManager|cron|rsyslog|polkit|systemd-.*|user@.*|nvidia-persistenced|init)\b"
)


# --- what is asked for ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """What the node is to take.

    Attributes:
        min_available_gib: GiB that must be available before a start; None asks for none.
        netplan_files: netplan files of this collection's own.
        interfaces: interfaces to look at besides the ConnectX ports, the one with the fabric's address for example.
    """

    min_available_gib: float | None = None
    netplan_files: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()


# --- what is found ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Container:
    """A container of Docker's; ``restart`` is its restart policy, ``gpu`` whether it was given one."""

    name: str
    image: str
    running: bool
    restart: str = "no"
    gpu: bool = False
    seed: bool = False
    mounts: tuple[str, ...] = ()
    ours: bool = False


@dataclass(frozen=True)
class Holder:
    """Who holds memory: a container, a unit, or processes of a login session.

    ``memory_gib`` is what cannot be taken back (anonymous and shared memory), ``gpu_gib`` what nvidia-smi counts. Whether the kernel counts
    a GB10's GPU memory in the first as well has not been measured.
    """

    kind: str
    name: str
    memory_gib: float
    gpu_gib: float
    processes: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()
    ours: bool = False

    @property
    def gib(self) -> float:
        return self.memory_gib + self.gpu_gib

    def words(self) -> str:
        """Return who it is and how much it holds."""
        who = {"container": f"container {self.name}", "unit": self.name}.get(
            self.kind, f"{', '.join(self.processes)} (pid {self.pids[0]})"
        )
        gpu = f", {self.gpu_gib:.1f} of it on the GPU" if self.gpu_gib >= 0.1 else ""
        return f"{who} ({self.gib:.1f} GiB{gpu})"

    def commands(self) -> tuple[str, ...]:
        """Return how to stop it for good, or nothing for what must not be stopped."""
        if self.kind == "container":
            return stop_container(self.name)
        if self.kind == "unit":
            return () if protected(self.name) else (f"sudo systemctl disable --now {shlex.quote(self.name)}",)
        return tuple(f"sudo kill {pid}" for pid in self.pids)


@dataclass
class Survey:
    """The machine as it was found."""

    identity: dict[str, str] = field(default_factory=dict)
    memory_total_gib: float = 0.0
    memory_available_gib: float = 0.0
    containers: list[Container] = field(default_factory=list)
    docker: str = ""
    holders: list[Holder] = field(default_factory=list)
    loose: tuple[str, ...] = ()
    hf_mounts: tuple[str, ...] = ()
    hf_exports: tuple[str, ...] = ()
    open_exports: tuple[str, ...] = ()
    own_nfs: bool = False
    ports: dict[str, tuple[str, ...]] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    reboot_for: tuple[str, ...] | None = None
    upgrades: bool = False
    driver_packages: tuple[str, ...] = ()
    swap_total_gib: float = 0.0
    swap_free_gib: float = 0.0
    command_line: str = ""
    put_aside: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    clock_synchronized: bool | None = None

    def as_facts(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)


def protected(unit: str) -> bool:
    """Say whether a unit is one that nobody stops to make room."""
    return bool(_PROTECTED.match(unit))


def stop_container(name: str) -> tuple[str, ...]:
    """Return the commands that stop a container and keep it from coming back; nothing of it is lost."""
    return (f"docker update --restart=no {shlex.quote(name)}", f"docker stop {shlex.quote(name)}")


# --- parsing ----------------------------------------------------------------------------------------------------------


def _mapping_in(value: Any) -> Mapping[str, Any]:
    """Return a value of Docker's document where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _list_in(value: Any) -> list[Any]:
    """Return a value of Docker's document where it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def _inspected(text: str) -> list[Mapping[str, Any]]:
    """Return the documents in the output of ``docker inspect``; what is no such output has none."""
    try:
        rows = json.loads(text)
    except ValueError:
        return []
    return [row for row in _list_in(rows) if isinstance(row, Mapping)]


def parse_containers(text: str) -> list[Container]:
    """Return the containers in the output of ``docker inspect``; what is no such output has none."""
    found = []
    for row in _inspected(text):
        host, config, state = (_mapping_in(row.get(key)) for key in ("HostConfig", "Config", "State"))
        name = str(row.get("Name") or "").lstrip("/")
        # Containers of ours carry the label; those that serve are known by name as well. A name that only starts like ours is nobody's: owners of a
        # Spark call many things spark-something.
        ours = name in ORDER or DIGEST_LABEL in _mapping_in(config.get("Labels"))
        command = " ".join([str(row.get("Path") or ""), *map(str, _list_in(row.get("Args")))])
        found.append(
            Container(
                name=name,
                image=str(config.get("Image") or ""),
                running=bool(state.get("Running")),
                restart=str(_mapping_in(host.get("RestartPolicy")).get("Name") or "no"),
                gpu=_has_gpu(host),
                seed=not ours and bool(_SEED_NAME.match(name)) and _SEED_COMMAND in command,
                mounts=tuple(
                    sorted(str(_mapping_in(mount).get("Source") or "") for mount in _list_in(row.get("Mounts")))
                ),
                ours=ours,
            )
        )
    return sorted(found, key=lambda entry: entry.name)


def _has_gpu(host: Mapping[str, Any]) -> bool:
    """Say whether a container was given a GPU: --gpus, --device nvidia.com/gpu=..., /dev/nvidia*, or the runtime nvidia."""
    for request in map(_mapping_in, _list_in(host.get("DeviceRequests"))):
        flat = [str(name) for names in _list_in(request.get("Capabilities")) for name in _list_in(names)]
        if "gpu" in flat or any("nvidia.com/gpu" in str(name) for name in _list_in(request.get("DeviceIDs"))):
            return True
    devices = [str(_mapping_in(device).get("PathOnHost") or "") for device in _list_in(host.get("Devices"))]
    return host.get("Runtime") == "nvidia" or any(path.startswith("/dev/nvidia") for path in devices)


def parse_held(status: str) -> float:
    """Return the GiB in the text of /proc/<pid>/status that the kernel cannot take back: RssAnon and RssShmem (kB are KiB)."""
    total = 0
    for line in status.splitlines():
        name, _colon, rest = line.partition(":")
        kib = rest.strip().partition(" ")[0]
        if name in {"RssAnon", "RssShmem"} and kib.isdecimal():
            total += int(kib)
    return total * 1024 / GIB


def parse_compute_apps(text: str) -> dict[int, float]:
    """Return GiB by pid from ``nvidia-smi --query-compute-apps=pid,used_memory --format=csv,noheader,nounits`` (MiB)."""
    found: dict[int, float] = {}
    for line in text.splitlines():
        pid, _comma, used = (part.strip() for part in line.partition(","))
        if pid.isdecimal():
            mib = float(used) if re.fullmatch(r"\d+(?:\.\d+)?", used) else 0.0
            found[int(pid)] = found.get(int(pid), 0.0) + mib / 1024
    return found


def parse_swap(meminfo: str) -> tuple[float, float]:
    """Return SwapTotal and SwapFree of /proc/meminfo in GiB; where only the first stands there, nothing is swapped."""
    found: dict[str, float] = {}
    for line in meminfo.splitlines():
        name, _colon, rest = line.partition(":")
        if name in {"SwapTotal", "SwapFree"} and rest.split() and rest.split()[0].isdecimal():
            found[name] = int(rest.split()[0]) * 1024 / GIB
    total = found.get("SwapTotal", 0.0)
    return round(total, 2), round(found.get("SwapFree", total), 2)


def parse_dgx_release(text: str) -> str:
    """Return the version of DGX OS in /etc/dgx-release, whose updates are appended: the last DGX_OTA_VERSION, or DGX_SWBUILD_VERSION.

    Its fields: NVIDIA/NemoClaw pull request 7108.
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _equals, value = line.strip().partition("=")
        fields[key] = value.strip("\"'")
    return fields.get("DGX_OTA_VERSION") or fields.get("DGX_SWBUILD_VERSION") or ""


def parse_apt_config(text: str) -> tuple[bool, list[str]]:
    """Return whether unattended upgrades are on, and the patterns they pass over, from ``apt-config dump``."""
    enabled = False
    blocked = []
    for line in text.splitlines():
        key, _blank, value = line.strip().rstrip(";").partition(" ")
        value = value.strip('"')
        if key == "APT::Periodic::Unattended-Upgrade":
            enabled = value not in {"", "0"}
        elif key == "Unattended-Upgrade::Package-Blacklist::" and value:
            blocked.append(value)
    return enabled, blocked


def passed_over(package: str, blocked: Iterable[str]) -> bool:
    """Say whether unattended-upgrades passes over a package: its patterns are regular expressions from the start of the name."""
    for pattern in blocked:
        try:
            if re.match(pattern, package):
                return True
        except re.error:
            continue
    return False


def configures(text: str, interface: str) -> bool:
    """Say whether a netplan file configures an interface, by its name, by set-name, or by a match on its name.

    Read line by line, because a node need not have a YAML parser; a file in YAML's flow style is not understood.
    """
    for line in text.splitlines():
        bare = line.split("#", maxsplit=1)[0].rstrip()
        key, colon, value = (part.strip().strip("\"'") for part in bare.partition(":"))
        if not colon or not bare[:1].isspace():
            continue
        if key == interface and not value:
            return True
        if key in {"set-name", "name"} and value and fnmatch.fnmatchcase(interface, value):
            return True
    return False


def connects(text: str, interface: str, mac: str = "") -> bool:
    """Say whether a NetworkManager profile (keyfile) is for an interface: by its name, by its MAC address, or for any Ethernet port.

    Forms: nm-settings-keyfile(5) and nm-settings(5); ``match`` sections with patterns of names count as well. A profile that does not connect by itself,
    or that leaves this port out, is for none.
    """
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if equals and not key.startswith("#"):
            values.setdefault(key, value)
    if values.get("autoconnect", "").lower() in {"false", "no", "0", "off"}:
        return False
    refused = values.get("mac-address-denylist", values.get("mac-address-blacklist", ""))
    if mac and mac.lower() in re.split(r"[;,\s]+", refused.lower()):
        return False
    names = [name.strip() for name in values.get("interface-name", "").replace(",", ";").split(";") if name.strip()]
    # `!` leaves an interface out, `|` and `&` are for combinations.
    if any(fnmatch.fnmatchcase(interface, name.lstrip("|&!")) for name in names if "!" in name[:2]):
        return False
    names = [name.lstrip("|&") for name in names if "!" not in name[:2]]
    if names:
        return any(fnmatch.fnmatchcase(interface, name) for name in names)
    if address := values.get("mac-address", ""):
        return bool(mac) and address.lower() == mac.lower()
    return values.get("type") in {"ethernet", "802-3-ethernet"}


# --- collecting -------------------------------------------------------------------------------------------------------


class Surveyor(Machine):
    """Reads this machine; ``root`` stands for / in tests, ``now`` for its clock."""

    now: Callable[[], float] = staticmethod(time.time)

    def output(self, *argv: str) -> str:
        """Return what a command says, or nothing where it fails or is not there."""
        status, out, _err = self.run(list(argv))
        return out if status == 0 else ""

    def identity(self) -> dict[str, str]:
        """Return what the nodes of one cluster should have alike."""
        release = parse_os_release(self.text("/etc/os-release"))
        toolkit = re.search(r"version (\S+)", self.output("nvidia-ctk", "--version"))
        _client, server = self.docker()
        return {
            "architecture": self.output("uname", "--machine").strip(),
            "os": release.get("PRETTY_NAME", ""),
            "dgx_os": parse_dgx_release(self.text("/etc/dgx-release")),
            "kernel": self.text("/proc/sys/kernel/osrelease").strip(),
            "firmware": self.text("/sys/class/dmi/id/bios_version").strip(),
            "nic_firmware": " ".join(
                sorted({self.text(str(path)).strip() for path in self.files("sys/class/infiniband/*/fw_ver")})
            ),
            "driver": self.text("/sys/module/nvidia/version").strip(),
            "toolkit": toolkit[1] if toolkit else "",
            "docker": server or "",
            "product": self.text("/sys/class/dmi/id/product_name").strip(),
            "time": str(round(self.now())),
        }

    def files(self, pattern: str) -> list[Path]:
        """Return the files below ``root`` as absolute paths of the machine."""
        return [Path("/") / path.relative_to(self.root) for path in sorted(self.root.glob(pattern))]

    def containers(self) -> tuple[list[Container], dict[str, str]]:
        """Return all containers, and their names by id."""
        ids = self.output(DOCKER, "ps", "--all", "--quiet", "--no-trunc").split()
        if not ids:
            return [], {}
        # One that was removed meanwhile makes inspect fail; it still prints the others.
        _status, out, _err = ask(self.run, "inspect", "--type", "container", *ids)
        rows = [row for row in _inspected(out) if row.get("Id")]
        return parse_containers(out), {str(row["Id"]): str(row.get("Name") or "").lstrip("/") for row in rows}

    def holders(self, names: Mapping[str, str], own: frozenset[str]) -> tuple[list[Holder], tuple[str, ...]]:
        """Return who holds memory, the largest first, and Ray's and vLLM's processes that run in no container of Docker's.

        Args:
            names: names of containers by id.
            own: names of our own containers.
        """
        gpu = parse_compute_apps(
            self.output("nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")
        )
        sums: dict[tuple[str, str], list[Any]] = {}
        loose = set()
        for folder in (self.root / "proc").iterdir():
            if not folder.name.isdigit():
                continue
            pid = int(folder.name)
            held, name = parse_held(self.text(f"/proc/{pid}/status")), self.text(f"/proc/{pid}/comm").strip()
            server = name in {"raylet", "gcs_server"} or name.startswith("VLLM::")
            if held < 0.05 and pid not in gpu and not server:
                continue
            kind, owner = self._owner(pid, names)
            # A container that this Docker does not know (another engine's, or one in a container) is no loose process.
            if server and kind != "container" and not parse_cgroup(self.text(f"/proc/{pid}/cgroup"))[1]:
                loose.add(f"{name} (pid {pid})")
            entry = sums.setdefault((kind, owner or f"{name}-{pid}"), [0.0, 0.0, [], []])
            entry[0] += held
            entry[1] += gpu.get(pid, 0.0)
            entry[2].append(name)
            entry[3].append(pid)
        found = [
            Holder(
                kind,
                owner,
                round(held, 2),
                round(used, 2),
                tuple(sorted(set(names_))),
                tuple(sorted(pids)),
                owner in own if kind == "container" else kind == "unit" and owner.startswith(OURS),
            )
            for (kind, owner), (held, used, names_, pids) in sums.items()
        ]
        large = [holder for holder in found if holder.gib >= MENTION_GIB or holder.gpu_gib > 0]
        return sorted(large, key=lambda holder: -holder.gib), tuple(sorted(loose))

    def _owner(self, pid: int, names: Mapping[str, str]) -> tuple[str, str]:
        cgroup = self.text(f"/proc/{pid}/cgroup")
        unit, container = parse_cgroup(cgroup)
        if names.get(container):
            return "container", names[container]
        # A unit of a user's own manager is not the system's to stop.
        if unit and "/user.slice/" not in cgroup:
            return "unit", unit
        return "session", ""

    def driver_libraries(self) -> tuple[str, ...]:
        """Return the versions of the driver's library on disk."""
        found = set()
        for path in self.files("usr/lib/*/libnvidia-ml.so.*"):
            version = path.name.removeprefix("libnvidia-ml.so.")
            if "." in version:
                found.add(version)
        return tuple(sorted(found))

    def reboot_for(self) -> tuple[str, ...] | None:
        """Return the packages that wait for a reboot; None where none does."""
        for folder in ("/run", "/var/run"):
            if (self.root / folder.lstrip("/") / "reboot-required").exists():
                return tuple(sorted(set(self.text(f"{folder}/reboot-required.pkgs").split())))
        return None

    def driver_packages(self, blocked: Sequence[str], listed: str) -> tuple[str, ...]:
        """Return installed packages of driver and kernel that unattended upgrades may touch."""
        held = set(self.output("apt-mark", "showhold").split())
        free = parse_installed(listed) - held
        return tuple(sorted(name for name in free if is_driver_package(name) and not passed_over(name, blocked)))

    def clock_synchronized(self) -> bool | None:
        """Return whether systemd knows the clock as set by a time server; None where it does not say."""
        said = self.output("timedatectl", "show", "--property", "NTPSynchronized", "--value").strip()
        return {"yes": True, "no": False}.get(said)

    def port_files(self, interfaces: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return, for each interface of this machine that is a ConnectX port or was named, the files that configure it."""
        here = {path.name for path in self.files("sys/class/net/*")}
        names = sorted({name for name in here if _PORT.match(name)} | (here & set(interfaces)))
        plans = {str(path): self.text(str(path)) for path in self.files("etc/netplan/*.yaml")}
        # Those that NetworkManager makes by itself ("Wired connection 2") lie below /run.
        folders = ("etc", "run", "usr/lib")
        profiles = {
            str(path): self.text(str(path))
            for folder in folders
            for path in self.files(f"{folder}/NetworkManager/system-connections/*")
        }
        macs = {name: self.text(f"/sys/class/net/{name}/address").strip() for name in names}
        return {
            name: tuple(
                sorted(
                    [path for path, text in plans.items() if configures(text, name)]
                    + [path for path, text in profiles.items() if connects(text, name, macs[name])]
                )
            )
            for name in names
        }


def collect(surveyor: Surveyor, wanted: Wanted) -> Survey:
    """Read the machine."""
    total, available = parse_meminfo(surveyor.text("/proc/meminfo"))
    identity = surveyor.identity()
    containers, names = surveyor.containers()
    holders, loose = surveyor.holders(names, frozenset(entry.name for entry in containers if entry.ours))
    upgrades, blocked = parse_apt_config(surveyor.output("apt-config", "dump"))
    upgrades = upgrades and (surveyor.root / "usr/bin/unattended-upgrade").exists()
    files = ("/etc/exports", *map(str, surveyor.files("etc/exports.d/*.exports")))
    exports = [line for path in files for line in parse_exports(surveyor.text(path))]
    listed = surveyor.output(*QUERY)
    swap = parse_swap(surveyor.text("/proc/meminfo"))
    return Survey(
        identity=identity,
        memory_total_gib=total,
        memory_available_gib=available,
        containers=containers,
        docker=identity["docker"],
        holders=holders,
        loose=loose,
        hf_mounts=tuple(_hf_mounts(parse_mountinfo(surveyor.text("/proc/self/mountinfo")))),
        hf_exports=tuple(sorted({_exported(line) for line in exports if _HF_CACHE in line})),
        own_nfs=(surveyor.root / str(EXPORTS).lstrip("/")).exists()
        or bool(own_paths(surveyor.root / str(UNITS).lstrip("/"))),
        open_exports=tuple(sorted({_exported(line) for line in exports if "no_root_squash" in line})),
        ports=surveyor.port_files(wanted.interfaces),
        libraries=surveyor.driver_libraries(),
        reboot_for=surveyor.reboot_for(),
        upgrades=upgrades,
        driver_packages=surveyor.driver_packages(blocked, listed) if upgrades else (),
        swap_total_gib=swap[0],
        swap_free_gib=swap[1],
        command_line=surveyor.text("/proc/cmdline").strip(),
        put_aside=tuple(map(str, surveyor.files(f"etc/netplan/*{_PUT_ASIDE}*"))),
        unfinished=parse_unfinished(listed),
        clock_synchronized=surveyor.clock_synchronized(),
    )


def _exported(line: str) -> str:
    """Return the path of a line of exports(5)."""
    return unescape(line.split(maxsplit=1)[0].strip('"'))


def _hf_mounts(mounts: Iterable[Mounted]) -> Iterator[str]:
    for mount in mounts:
        if mount.kind.startswith("nfs") and _HF_CACHE in mount.point:
            yield f"{mount.point} from {mount.source}"


# --- judging ----------------------------------------------------------------------------------------------------------


def judge(survey: Survey, wanted: Wanted) -> list[Finding]:
    """Return what was looked at, each with its level and remedy."""
    return [
        *_containers(survey),
        *_memory(survey, wanted),
        *_swap(survey),
        *_shares(survey),
        *_port_files(survey, wanted),
        *_driver(survey),
        *_updates(survey),
        *_clock(survey),
    ]


def takeover(survey: Survey, wanted: Wanted) -> dict[str, list[str]]:
    """Return the containers and units of others that have the GPU and, where memory is short, those that hold it.

    What somebody started in a login session is theirs to end.
    """
    own = sum(holder.gib for holder in survey.holders if holder.ours)
    short = wanted.min_available_gib is not None and survey.memory_available_gib + own < wanted.min_available_gib
    found: dict[str, set[str]] = {
        "container": {entry.name for entry in survey.containers if entry.running and not entry.ours and entry.gpu},
        "unit": set(),
    }
    for holder in survey.holders:
        if holder.kind in found and not holder.ours and holder.commands() and (short or holder.gpu_gib > 0):
            found[holder.kind].add(holder.name)
    return {"containers": sorted(found["container"]), "units": sorted(found["unit"])}


def _containers(survey: Survey) -> Iterator[Finding]:
    others = [entry for entry in survey.containers if not entry.ours]
    seeds = [entry for entry in others if entry.seed]
    for entry in seeds:
        what = f"container {entry.name} of run_cluster.sh ({entry.image})"
        if entry.running:
            yield Finding(
                "node.seed_runs",
                RED,
                "containers",
                f"{what} runs: its Ray and its model hold the GPU's memory and Ray's ports",
                "end run_cluster.sh in its terminal with Ctrl-C, or stop the container; its model cache stays",
                stop_container(entry.name),
            )
        else:
            yield Finding(
                "node.seed_left",
                YELLOW,
                "containers",
                f"{what} is left over; it is stopped and blocks nothing",
                "remove it",
                (f"docker rm {entry.name}",),
            )
    rest = [entry for entry in others if entry.gpu and not entry.seed]
    for entry in rest:
        returns = entry.restart in {"always", "unless-stopped"}
        if entry.running:
            yield Finding(
                "node.container_runs",
                YELLOW,
                "containers",
                f"container {entry.name} ({entry.image}) runs and has the GPU"
                + (", and comes back at every boot" if returns else ""),
                "stop it unless both fit into the memory together",
                stop_container(entry.name),
            )
        elif entry.restart == "always":
            yield Finding(
                "node.container_returns",
                YELLOW,
                "containers",
                f"container {entry.name} ({entry.image}) has the GPU and starts with Docker (restart policy always)",
                "keep it from starting",
                (f"docker update --restart=no {shlex.quote(entry.name)}",),
            )
    if survey.loose:
        yield Finding(
            "node.loose_processes",
            YELLOW,
            "containers",
            f"Ray or vLLM runs outside of Docker: {', '.join(survey.loose)}",
            "stop what started it; Ray's own way is `ray stop`",
        )
    if not any(entry.running or entry.restart == "always" for entry in rest) and not seeds and not survey.loose:
        own = ", ".join(entry.name for entry in survey.containers if entry.ours and entry.running)
        yield fine("node", "containers", f"only our own run ({own})" if own else "no container of others has the GPU")


def _memory(survey: Survey, wanted: Wanted) -> Iterator[Finding]:
    others = [holder for holder in survey.holders if not holder.ours]
    ours = [holder for holder in survey.holders if holder.ours]
    serving = [entry.name for entry in survey.containers if entry.ours and entry.running]
    available, total = survey.memory_available_gib, survey.memory_total_gib
    state = f"{available:.1f} of {total:.1f} GiB are available"
    held = sum(holder.gib for holder in ours)
    if serving:
        state += f"; our own {', '.join(serving)} hold{'s' if len(serving) == 1 else ''} {f'{held:.1f} GiB' if held else 'part of the rest'}"
    need = wanted.min_available_gib
    named = [holder for holder in others if holder.gib >= MENTION_GIB]
    told = f"held by {', '.join(holder.words() for holder in named[:5])}" if named else ""
    commands = tuple(command for holder in named[:5] for command in holder.commands())
    if need is not None and not serving and available < need:
        if named:
            yield Finding(
                "node.memory_taken",
                RED,
                "memory",
                f"{state}, {need:g} GiB are needed; {told}",
                "stop what holds it, then check again",
                commands,
            )
        else:
            yield Finding(
                "node.memory_lost",
                RED,
                "memory",
                f"{state}, {need:g} GiB are needed, and no program is seen that holds the rest",
                "reboot the node: memory of a GPU program that crashed is freed by nothing else; or choose a smaller model",
                ("sudo reboot",),
            )
        return
    if need is not None and serving and named and available + held < need:
        yield Finding(
            "node.memory_short_at_restart",
            YELLOW,
            "memory",
            f"{state}; a restart would not get its {need:g} GiB, {told}",
            "stop what holds it",
            commands,
        )
        return
    if serving and available < HEADROOM_GIB:
        yield Finding(
            "node.memory_low",
            YELLOW,
            "memory",
            f"{state}: a Spark was reported to freeze under load below about {HEADROOM_GIB:g} GiB",
            "lower vllm_serve_gpu_memory_utilization, or stop what else runs",
            commands,
        )
        return
    yield fine(
        "node",
        "memory",
        state + (f" ({need:g} GiB are needed for a start)" if need is not None and not serving else ""),
    )
    gpu = [holder for holder in others if holder.gpu_gib > 0 and holder.kind != "container"]
    if gpu:
        yield Finding(
            "node.gpu_in_use",
            YELLOW,
            "GPU in use",
            f"others have the GPU: {', '.join(holder.words() for holder in gpu[:5])}",
            "stop them before a benchmark; a desktop goes with `sudo systemctl set-default multi-user.target` and a reboot",
            tuple(command for holder in gpu[:5] if holder.kind == "unit" for command in holder.commands()),
        )


def _swap(survey: Survey) -> Iterator[Finding]:
    """Judge swap: a Spark has 16 GiB of it by default, and on one memory for all, what lies there stalls the model when it is wanted."""
    used = survey.swap_total_gib - survey.swap_free_gib
    if used >= SWAPPED_GIB:
        yield Finding(
            "node.swapped",
            YELLOW,
            "swap",
            f"{used:.1f} of {survey.swap_total_gib:.1f} GiB of swap are in use: memory was short, and reading it back is slow",
            "see what takes the memory; read it back with swapoff and swapon while nothing is served, and leave swap off where the node should "
            "fail rather than slow down",
            ("sudo swapoff --all", "sudo swapon --all"),
        )
    elif survey.swap_total_gib:
        yield fine(
            "node",
            "swap",
            f"{survey.swap_total_gib:.1f} GiB of swap are on and hardly used, as DGX OS has it by default",
        )


def _shares(survey: Survey) -> Iterator[Finding]:
    for mount in survey.hf_mounts:
        point = mount.partition(" from ")[0]
        yield Finding(
            "node.cache_over_nfs",
            YELLOW,
            "shares",
            f"a Hugging Face cache is mounted over NFS: {mount}; compile caches that land on a share break",
            "nothing of ours uses it: unmount it once nothing else does, and take its line out of /etc/fstab",
            (f"sudo umount {shlex.quote(point)}",),
        )
    for path in survey.hf_exports:
        yield Finding(
            "node.cache_exported",
            YELLOW,
            "shares",
            f"this node exports a Hugging Face cache over NFS: {path}; the cache also holds the user's token",
            "take its line out of /etc/exports once no other machine mounts it",
            ("sudo exportfs -ra",),
        )
    rest = [path for path in survey.open_exports if path not in survey.hf_exports]
    if rest:
        yield Finding(
            "node.open_export",
            YELLOW,
            "shares",
            f"exported with no_root_squash, so root of any client is root there: {', '.join(rest)}",
            "use root_squash unless something needs the other",
        )
    if not survey.hf_mounts and not survey.hf_exports and not rest:
        yield fine("node", "shares", "no cache is shared over NFS")


def _port_files(survey: Survey, wanted: Wanted) -> Iterator[Finding]:
    plain = []
    for name, files in survey.ports.items():
        # What NetworkManager made by itself gives way to any file, and is on every port of a Spark that nobody configured.
        automatic = [path for path in files if path.startswith("/run/NetworkManager/")]
        files = tuple(path for path in files if path not in automatic)
        foreign = [path for path in files if path not in wanted.netplan_files]
        if len(files) > 1:
            yield Finding(
                "node.port_configured_twice",
                YELLOW,
                "network files",
                f"{name} is configured by {' and by '.join(files)}: netplan adds the addresses of both together",
                "keep one of them, then `sudo netplan try`, with another way into the machine at hand",
            )
        elif foreign:
            yield Finding(
                "node.port_configured_by_others",
                YELLOW,
                "network files",
                f"{name} is configured by {foreign[0]}, which is not ours",
                "it is left as it is; remove it first to have role fabric set the port up",
            )
        else:
            held = (
                files[0]
                if files
                else f"only NetworkManager's own {Path(automatic[0]).stem!r}"
                if automatic
                else "no file"
            )
            plain.append(f"{name} ({held})")
    for path in survey.put_aside:
        plan = path.partition(_PUT_ASIDE)[0]
        ours = plan in wanted.netplan_files
        yield Finding(
            "node.netplan_put_aside",
            YELLOW,
            "network files",
            f"NVIDIA Sync put {'our ' if ours else ''}{plan} aside as {Path(path).name}, and what it said no longer holds",
            "either keep NVIDIA Sync's own file, and set spark_fabric_address and fabric_addresses to the addresses in it, or remove that "
            "file and run site.yml",
            subject=plan,
        )
    if plain:
        yield fine("node", "network files", f"nobody else configures {', '.join(plain)}")


def _driver(survey: Survey) -> Iterator[Finding]:
    driver = survey.identity.get("driver", "")
    kernel = survey.identity.get("kernel", "")
    if driver and survey.libraries and driver not in survey.libraries:
        yield Finding(
            "gpu.driver_mismatch",
            RED,
            "driver",
            f"the kernel runs NVIDIA driver {driver}, the libraries on disk are of {', '.join(survey.libraries)}: "
            "nothing new can use the GPU (driver/library version mismatch)",
            "reboot the node",
            ("sudo reboot",),
        )
    elif driver:
        yield fine("node", "driver", f"NVIDIA driver {driver}, kernel module and libraries alike")
    if kernel in REPORTED_KERNELS:
        yield Finding(
            "node.reported_kernel",
            YELLOW,
            "kernel",
            f"kernel {kernel} {REPORTED_KERNELS[kernel]}",
            "update the kernel and reboot",
        )
    if kernel.startswith(HANDOVER_KERNEL) and "kho=off" not in survey.command_line.split():
        yield Finding(
            "node.kernel_handover",
            YELLOW,
            "kernel",
            f"kernel {kernel} runs without kho=off: it keeps about 9 GiB for a handover to the next kernel, and owners' RoCE between nodes failed",
            "install NVIDIA's package for it on all nodes and reboot them, or add kho=off to the kernel's command line",
            ("sudo apt-get install nvidia-spark-grub-kho", "sudo reboot"),
        )


def _clock(survey: Survey) -> Iterator[Finding]:
    """Judge whether the clock is set by a time server; how far the nodes are apart is judged over all of them."""
    if survey.clock_synchronized is False:
        yield Finding(
            "node.clock_unset",
            YELLOW,
            "clock",
            "no time server sets the clock of this node: downloads, certificates and the times in logs go wrong with it",
            "switch it on, and see that the node reaches a time server",
            ("sudo timedatectl set-ntp true",),
        )
    elif survey.clock_synchronized:
        yield fine("node", "clock", "a time server sets the clock")


def _updates(survey: Survey) -> Iterator[Finding]:
    if survey.unfinished:
        names = survey.unfinished
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        driver = " The driver may be gone after the next boot." if any(map(is_driver_package, names)) else ""
        yield Finding(
            "node.update_torn",
            YELLOW,
            "updates",
            f"an update was not finished: {', '.join(names[:4])}{more} are only half installed, and nothing else can be.{driver}".rstrip(
                "."
            ),
            "finish it, then reboot while nothing is being served",
            ("sudo dpkg --configure -a", "sudo apt-get --fix-broken install"),
        )
    if survey.reboot_for is not None:
        why = f" for {', '.join(survey.reboot_for[:6])}" if survey.reboot_for else ""
        yield Finding(
            "node.reboot_pending",
            YELLOW,
            "updates",
            f"a reboot is pending{why}",
            "reboot while nothing is being served",
            ("sudo reboot",),
        )
    if survey.upgrades and survey.driver_packages:
        names = survey.driver_packages
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        yield Finding(
            "node.driver_updates_itself",
            YELLOW,
            "updates",
            f"unattended upgrades are on and may exchange the driver or the kernel below a running model: {', '.join(names[:4])}{more}",
            "hold these packages, and update them yourself, on all nodes at one time (`sudo apt-mark unhold` lifts it)",
            (f"sudo apt-mark hold {' '.join(names)}",),
        )
    elif survey.reboot_for is None and not survey.unfinished:
        yield fine(
            "node",
            "updates",
            "the driver is not updated by itself" if survey.upgrades else "unattended upgrades are off",
        )


# --- input ------------------------------------------------------------------------------------------------------------


def wanted_from(params: Mapping[str, Any]) -> Wanted:
    """Return what is wanted from module parameters.

    Raises:
        ValueError: a value is not usable; one sentence that names it.
    """
    need = params.get("min_available_gib")
    if need is not None and need < 0:
        raise ValueError(f"min_available_gib {need:g} is negative: expected GiB, 0 or more")
    for path in params.get("netplan_files") or []:
        if not str(path).startswith("/"):
            raise ValueError(f"netplan_files has {path!r}, expected an absolute path like /etc/netplan/60-fabric.yaml")
    return Wanted(
        min_available_gib=None if need is None else float(need),
        netplan_files=tuple(params.get("netplan_files") or ()),
        interfaces=tuple(params.get("interfaces") or ()),
    )


#: Parameters of whoever asks for this look, as AnsibleModule takes them.
ARGUMENTS: dict[str, Any] = {
    "min_available_gib": {"type": "float"},
    "netplan_files": {"type": "list", "elements": "path", "default": []},
    "interfaces": {"type": "list", "elements": "str", "default": []},
}


def answer(params: Mapping[str, Any], run: Runner) -> dict[str, Any]:
    """Return what M(node_survey_info) returns for its parameters.

    Raises:
        ValueError: a parameter is not usable; one sentence.
    """
    wanted = wanted_from(params)
    survey = collect(Surveyor(run), wanted)
    found = judge(survey, wanted)
    many = counts(found)
    return {
        "changed": False,
        "msg": f"{len(found)} findings: {', '.join(f'{many[level]} {level}' for level in LEVELS)}",
        "findings": as_dicts(found),
        "identity": survey.identity,
        "takeover": takeover(survey, wanted),
        "survey": survey.as_facts(),
    }
