# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""How containers of a node get at its GPU: Docker, NVIDIA's container toolkit and CDI, read and judged.

CDI (container device interface) is asked for, not the legacy hook: with the hook and systemd's cgroups a `systemctl
daemon-reload`, which each installation of a unit does, takes the GPU from running containers
(NVIDIA/nvidia-docker#1730, NVIDIA/nvidia-container-toolkit#48 and #1227).

Everything here only reads. Collecting (``Host``, ``collect``) and judging (``judge``, ``judge_proof``) are apart: the
judges take plain data and need no machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..report.finding import RED, YELLOW, Finding, as_dicts, fine, sentences
from ..system.run import Runner
from . import cli

#: Where runtimes look for specifications when they are told nothing else; of two that name one device, the one in the
#: later folder counts (package tags.cncf.io/container-device-interface/pkg/cdi).
SPEC_FOLDERS = ("/etc/cdi", "/var/run/cdi")
SETTINGS = "/etc/docker/daemon.json"
DOCKER_UNIT = "docker.service"
REFRESH_UNIT = "nvidia-cdi-refresh.service"
#: Unit of role container_runtime that writes the specification before containers of the cluster start.
OWN_UNIT = "spark-cdi.service"
#: Without this node no CUDA program starts in a container; it is there only after nvidia-modprobe or a first CUDA program made it, and
#: `nvidia-ctk cdi generate` names the nodes that it finds.
UVM = "/dev/nvidia-uvm"
#: First Docker that knows CDI at all, as an option (moby/moby#45134), and first that has it on (28.2.0, moby/moby#49963).
DOCKER_WITH_CDI = (25, 0)
#: First toolkit that regenerates the specification at boot and after a new driver (its documentation, cdi-support).
TOOLKIT_WITH_REFRESH = (1, 18)
#: What was looked at: how containers come by their GPU, and what one container really gets.
DOCKER, PROOF, DRIVER = "Docker", "GPU in a container", "driver"

_CDI_NAME = re.compile(r"^(?P<kind>[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*)=(?P<name>\S+)$")
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_DRIVER_LIBRARY = re.compile(r"/libcuda\.so\.(\d+\.\d+(?:\.\d+)?)$")


#: What role container_runtime installs, switches on or regenerates.
MENDED = frozenset(
    {
        "docker.missing",
        "docker.silent",
        "docker.toolkit_missing",
        "docker.cdi_off",
        "docker.device_unknown",
        "docker.spec_stale",
        "docker.spec_other_driver",
        "docker.spec_without_uvm",
    }
)


def reported(findings: Sequence[Finding], well: str, *, managed: bool = False, check: str = DOCKER) -> list[Finding]:
    """Return findings for the report, with a green one where nothing was red.

    Args:
        findings: what was found.
        well: what the green one says.
        managed: whether role container_runtime comes next; what it fixes is yellow then.
        check: what the green one is about.
    """
    told = [
        finding.milder("site.yml fixes it (role container_runtime)") if managed and finding.code in MENDED else finding
        for finding in findings
    ]
    return told if any(finding.level == RED for finding in findings) else [*told, fine("docker", check, well)]


@dataclass(frozen=True)
class Docker:
    """Docker's daemon as `docker info` tells it; ``error`` where it does not answer.

    ``cdi_folders`` is empty where CDI is off, ``devices`` None where this Docker does not tell (before 28.2).
    """

    installed: bool = False
    snap: bool = False
    error: str = ""
    version: str = ""
    client: str = ""
    architecture: str = ""
    storage_driver: str = ""
    containerd_store: bool = False
    cgroup_driver: str = ""
    default_runtime: str = ""
    runtimes: tuple[str, ...] = ()
    cdi_folders: tuple[str, ...] = ()
    devices: tuple[str, ...] | None = None
    buildx: bool = False


@dataclass(frozen=True)
class Spec:
    """A CDI specification: the devices it names and the files and device nodes of the host that it needs.

    ``missing`` are those that are not there, ``uvm`` says whether /dev/nvidia-uvm is one of them all, ``driver`` is the version in the
    name of its libcuda, ``error`` why it cannot be read.
    """

    path: str
    kind: str = ""
    devices: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    uvm: bool = False
    driver: str = ""
    error: str = ""

    def names(self) -> tuple[str, ...]:
        """Return the devices by their full names."""
        return tuple(f"{self.kind}={name}" for name in self.devices)


@dataclass(frozen=True)
class Unit:
    """A unit as `systemctl show` tells it."""

    name: str
    loaded: bool = False
    enabled: bool = False
    active: str = "inactive"
    result: str = ""
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class Runtime:
    """All that decides whether a container gets the GPU.

    ``driver_loaded`` is the version of the kernel's module, ``driver_installed`` that of libcuda on the disk; both empty
    where there is none. ``toolkit`` is the version of nvidia-ctk, ``settings`` what /etc/docker/daemon.json holds, ``uvm`` whether the node
    has /dev/nvidia-uvm.
    """

    docker: Docker = field(default_factory=Docker)
    toolkit: str = ""
    driver_loaded: str = ""
    driver_installed: str = ""
    uvm: bool = False
    specs: tuple[Spec, ...] = ()
    daemon: Unit = field(default_factory=lambda: Unit(DOCKER_UNIT))
    refresh: Unit = field(default_factory=lambda: Unit(REFRESH_UNIT))
    own: Unit = field(default_factory=lambda: Unit(OWN_UNIT))
    settings: Mapping[str, Any] = field(default_factory=dict)
    settings_error: str = ""

    def as_facts(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {**asdict(self), "boot_order": boot_order(self)}


# --- parsing ------------------------------------------------------------------------------------------------


def version_of(text: str) -> tuple[int, ...]:
    """Return the first dotted version in a text as numbers, or an empty tuple."""
    match = _VERSION.search(text)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def cdi_devices(devices: Iterable[str]) -> list[str]:
    """Return those of a container's devices that are CDI names (`nvidia.com/gpu=all`) and not paths."""
    return [device for device in devices if _CDI_NAME.match(device)]


def _mapping_in(value: Any) -> Mapping[str, Any]:
    """Return a value of somebody else's document where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _list_in(value: Any) -> list[Any]:
    """Return a value of somebody else's document where it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def parse_docker_info(text: str, error: str = "") -> Docker:
    """Return what `docker info --format '{{json .}}'` says.

    Without its daemon the command fails and still prints the client's half, with ``ServerErrors``. Whatever has another shape than
    expected is passed over. A row of ``DiscoveredDevices`` has ``Source`` and ``ID`` (schema DeviceInfo of Docker's API, from 1.50).
    """
    try:
        info = _mapping_in(json.loads(text))
    except ValueError:
        info = {}
    client = _mapping_in(info.get("ClientInfo"))
    plugins = {str(_mapping_in(plugin).get("Name")) for plugin in _list_in(client.get("Plugins"))}
    version = str(info.get("ServerVersion") or "")
    reasons = _list_in(info.get("ServerErrors"))
    devices = info.get("DiscoveredDevices")
    pairs = [row for row in _list_in(info.get("DriverStatus")) if isinstance(row, list) and len(row) == 2]
    status = {str(name): str(value) for name, value in pairs}
    return Docker(
        installed=True,
        error="" if version else str((reasons or [error.strip() or "no answer"])[0]),
        version=version,
        client=str(client.get("Version") or ""),
        architecture=str(info.get("Architecture") or ""),
        storage_driver=str(info.get("Driver") or ""),
        containerd_store=status.get("driver-type", "").startswith("io.containerd.snapshotter"),
        cgroup_driver=str(info.get("CgroupDriver") or ""),
        default_runtime=str(info.get("DefaultRuntime") or ""),
        runtimes=tuple(sorted(_mapping_in(info.get("Runtimes")))),
        cdi_folders=tuple(str(folder) for folder in _list_in(info.get("CDISpecDirs")) if isinstance(folder, str)),
        devices=tuple(
            str(row.get("ID") or "") for row in devices if isinstance(row, Mapping) and row.get("Source") == "cdi"
        )
        if isinstance(devices, list)
        else None,
        buildx="buildx" in plugins,
    )


def parse_unit(name: str, text: str) -> Unit:
    """Return what `systemctl show --property=...` says of a unit."""
    values = dict(line.partition("=")[::2] for line in text.splitlines())
    return Unit(
        name=name,
        loaded=values.get("LoadState") == "loaded",
        enabled=values.get("UnitFileState") == "enabled",
        active=values.get("ActiveState", "inactive"),
        result=values.get("Result", ""),
        after=tuple(values.get("After", "").split()),
        before=tuple(values.get("Before", "").split()),
    )


def parse_block_yaml(text: str) -> Any:
    """Return the data of YAML in the block style that nvidia-ctk writes: mappings, lists, plain and quoted scalars, as text.

    The nodes' Python has no YAML, and a specification needs no more of it.

    Raises:
        ValueError: the text uses more of YAML than that.
    """
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        body = line.rstrip()
        if body.lstrip() and not body.lstrip().startswith("#") and body not in ("---", "..."):
            if "\t" in body[: len(body) - len(body.lstrip())]:
                raise ValueError(f"line {number} is indented with a tab")
            rows.append((len(body) - len(body.lstrip()), body.lstrip(), number))
    value, rest = _block(rows, 0)
    if rest != len(rows):
        raise ValueError(f"line {rows[rest][2]} is not understood: {rows[rest][1][:60]}")
    return value


_Rows = list[tuple[int, str, int]]


def _block(rows: _Rows, at: int) -> tuple[Any, int]:
    """Return the value that begins at a row, and the first row behind it."""
    if at >= len(rows):
        return None, at
    indent, text, _number = rows[at]
    return _sequence(rows, at, indent) if text == "-" or text.startswith("- ") else _mapping(rows, at, indent)


def _sequence(rows: _Rows, at: int, indent: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    while at < len(rows) and rows[at][0] == indent and (rows[at][1] == "-" or rows[at][1].startswith("- ")):
        rest = rows[at][1][1:].lstrip()
        if not rest:
            deeper = at + 1 < len(rows) and rows[at + 1][0] > indent
            item, at = _block(rows, at + 1) if deeper else (None, at + 1)
        elif rest.startswith("- "):
            raise ValueError(
                f"line {rows[at][2]}: a list in a list is more of YAML than a specification of nvidia-ctk uses"
            )
        elif _key(rest) is not None:
            # What follows the dash is the first line of a mapping whose other lines stand below it.
            column = indent + len(rows[at][1]) - len(rest)
            rows[at] = (column, rest, rows[at][2])
            item, at = _mapping(rows, at, column)
        else:
            item, at = _scalar(rest), at + 1
        items.append(item)
    return items, at


def _mapping(rows: _Rows, at: int, indent: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while at < len(rows) and rows[at][0] == indent:
        pair = _key(rows[at][1])
        if pair is None:
            raise ValueError(f"line {rows[at][2]} is not understood: {rows[at][1][:60]}")
        key, value = pair
        if value:
            found[key], at = _scalar(value), at + 1
            continue
        at += 1
        # A list may stand at the column of its key.
        inside = at < len(rows) and (rows[at][0] > indent or (rows[at][0] == indent and rows[at][1].startswith("-")))
        found[key], at = _block(rows, at) if inside else (None, at)
    return found, at


def _key(text: str) -> tuple[str, str] | None:
    match = re.match(r"""(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_./-]+)):(?:\s+(.*))?$""", text)
    if not match:
        return None
    return next(part for part in match.groups()[:3] if part is not None), (match.group(4) or "").strip()


def _scalar(text: str) -> Any:
    if text[0] in "\"'" and len(text) >= 2 and text[-1] == text[0]:
        return text[1:-1]
    if text in ("{}", "[]"):
        return {} if text == "{}" else []
    if text[0] in "{[|>&*!%@`":
        raise ValueError(f"{text[:60]!r} is more of YAML than a specification of nvidia-ctk uses")
    return text.partition(" #")[0].rstrip()


def parse_spec(path: str, text: str, exists: Callable[[str], bool]) -> Spec:
    """Return a CDI specification (YAML or JSON) and which of the host's files it needs in vain."""
    try:
        data = json.loads(text) if text.lstrip().startswith("{") else parse_block_yaml(text)
        kind = str(data["kind"])
        devices = list(data.get("devices") or [])
        names = tuple(str(device["name"]) for device in devices)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        return Spec(path=path, error=reason)
    edits = [_mapping_in(part.get("containerEdits")) for part in (data, *devices)]
    needed = [source for edit in edits for source in _sources(edit)]
    nodes = [_mapping_in(node).get("path") for edit in edits for node in _list_in(edit.get("deviceNodes"))]
    drivers = [match.group(1) for source in needed if (match := _DRIVER_LIBRARY.search(source))]
    return Spec(
        path=path,
        kind=kind,
        devices=names,
        missing=tuple(dict.fromkeys(source for source in needed if not exists(source))),
        uvm=UVM in nodes,
        driver=drivers[0] if drivers else "",
    )


def _sources(edits: Mapping[str, Any]) -> list[str]:
    """Return the host's paths in containerEdits: of nodes, mounts and hooks."""
    found = []
    for group, keys in (("deviceNodes", ("hostPath", "path")), ("mounts", ("hostPath",)), ("hooks", ("path",))):
        for row in map(_mapping_in, _list_in(edits.get(group))):
            source = next((str(row[key]) for key in keys if row.get(key)), "")
            if source.startswith("/"):
                found.append(source)
    return found


# --- collecting ---------------------------------------------------------------------------------------------

_UNIT_PROPERTIES = "LoadState,UnitFileState,ActiveState,Result,After,Before"


class Host:
    """A node that can be read; ``root`` stands for `/`, so that a folder can play a node."""

    def __init__(self, run: Runner, root: Path = Path("/")) -> None:
        self.run = run
        self.root = root

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def text(self, absolute: str) -> str:
        try:
            return self.path(absolute).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def docker(self) -> Docker:
        """Ask Docker's daemon."""
        if not self.path(cli.DOCKER).exists():
            return Docker(snap=self.path("/snap/bin/docker").exists())
        _status, out, err = self.run([cli.DOCKER, "info", "--format", "{{json .}}"])
        return parse_docker_info(out, err)

    def toolkit(self) -> str:
        """Return the version of nvidia-ctk; empty where there is none."""
        status, out, _err = self.run(["nvidia-ctk", "--version"])
        match = _VERSION.search(out) if status == 0 else None
        return match.group() if match else ""

    def driver_loaded(self) -> str:
        """Return the version of the kernel's NVIDIA module; empty where none is loaded."""
        match = _VERSION.search(self.text("/sys/module/nvidia/version"))
        return match.group() if match else ""

    def driver_installed(self) -> str:
        """Return the version of libcuda on the disk; empty where there is none."""
        folders = [*self.root.glob("usr/lib/*-linux-gnu"), self.root / "usr/lib64"]
        found = [
            match.group(1)
            for folder in folders
            for library in folder.glob("libcuda.so.*")
            if (match := _DRIVER_LIBRARY.search(f"/{library.name}"))
        ]
        return max(found, key=version_of, default="")

    def specs(self, folders: Sequence[str]) -> tuple[Spec, ...]:
        """Read the specifications in the given folders, in their order."""
        found, seen = [], set()
        for folder in folders:
            place = self.path(folder)
            if place.resolve() in seen:
                continue
            seen.add(place.resolve())
            for file in sorted(place.glob("*")):
                if file.suffix in (".yaml", ".json") and file.is_file():
                    shown = f"{folder.rstrip('/')}/{file.name}"
                    found.append(parse_spec(shown, self.text(shown), lambda source: self.path(source).exists()))
        return tuple(found)

    def settings(self) -> tuple[dict[str, Any], str]:
        """Return the daemon's settings, and why they cannot be read; no file means none."""
        text = self.text(SETTINGS)
        try:
            found = json.loads(text) if text.strip() else {}
        except ValueError as error:
            return {}, str(error)
        return (found, "") if isinstance(found, dict) else ({}, "it is no JSON object")

    def unit(self, name: str) -> Unit:
        """Ask systemd for a unit."""
        status, out, _err = self.run(["systemctl", "show", name, f"--property={_UNIT_PROPERTIES}"])
        return parse_unit(name, out) if status == 0 else Unit(name)


def collect(host: Host) -> Runtime:
    """Read a node."""
    docker = host.docker()
    settings, settings_error = host.settings()
    return Runtime(
        docker=docker,
        toolkit=host.toolkit(),
        driver_loaded=host.driver_loaded(),
        driver_installed=host.driver_installed(),
        uvm=host.path(UVM).exists(),
        specs=host.specs(docker.cdi_folders or SPEC_FOLDERS),
        daemon=host.unit(DOCKER_UNIT),
        refresh=host.unit(REFRESH_UNIT),
        own=host.unit(OWN_UNIT),
        settings=settings,
        settings_error=settings_error,
    )


# --- judging ------------------------------------------------------------------------------------------------


def boot_order(runtime: Runtime) -> str:
    """Return what puts the specification before containers at boot: ``toolkit``, ``unit`` (ours) or ``none``.

    NVIDIA's unit said ``After=multi-user.target`` from February to March 2026 (pull requests #1638 and #1746 of its toolkit):
    whatever is wanted by that target and ordered after the unit makes a cycle, which systemd breaks by not starting
    something, Docker itself in issue #1735. Since August 2026 a drop-in puts it before Docker (#2019).
    """
    if runtime.refresh.enabled and "docker.service" in runtime.refresh.before:
        return "toolkit"
    return "unit" if runtime.own.enabled else "none"


def judge(runtime: Runtime, devices: Sequence[str] = ()) -> list[Finding]:
    """Return what keeps containers from getting the given CDI devices; with none, Docker alone is judged."""
    wanted = cdi_devices(devices)
    found = list(_docker_findings(runtime.docker))
    if runtime.settings_error:
        found.append(
            Finding(
                "docker.settings_broken",
                RED,
                DOCKER,
                f"{SETTINGS} is not JSON ({runtime.settings_error}), and Docker will not start with it",
                "correct it, or remove it if you do not need it",
            )
        )
    if not wanted:
        return found
    driver = list(_driver_findings(runtime))
    found += driver
    if not runtime.toolkit:
        found.append(
            Finding(
                "docker.toolkit_missing",
                RED,
                DOCKER,
                "NVIDIA's container toolkit is not installed (there is no nvidia-ctk)",
                "install package nvidia-container-toolkit; where apt does not know it, name NVIDIA's repository in "
                "container_runtime_repositories",
            )
        )
    if runtime.docker.version:
        found += _cdi_findings(runtime.docker)
    # Without a driver there is nothing that a specification could describe.
    if runtime.toolkit and runtime.driver_loaded:
        found += _spec_findings(runtime, wanted)
        found += _order_findings(runtime)
    return found


def _docker_findings(docker: Docker) -> Iterable[Finding]:
    if docker.installed:
        if docker.error:
            yield Finding(
                "docker.silent",
                RED,
                DOCKER,
                f"Docker's daemon does not answer ({docker.error})",
                "look at `systemctl status docker` and `journalctl --unit docker`",
            )
    elif docker.snap:
        yield Finding(
            "docker.snap",
            RED,
            DOCKER,
            "Docker is installed as a snap, which sees neither /etc/cdi nor the node's secrets",
            "`snap remove docker` once nothing runs in it, then run this again: Docker is then installed as a package",
        )
    else:
        yield Finding("docker.missing", RED, DOCKER, "Docker is not installed", "run role container_runtime")


def _driver_findings(runtime: Runtime) -> Iterable[Finding]:
    if not runtime.driver_loaded:
        lack = (
            f"driver {runtime.driver_installed} is installed and the kernel has not loaded it"
            if runtime.driver_installed
            else "there is no NVIDIA driver on this node"
        )
        remedy = (
            "reboot; if that does not help, look at `dmesg | grep -i nvrm`"
            if runtime.driver_installed
            else "install it, or set spark_devices: [] for a node without a GPU"
        )
        yield Finding(
            "gpu.driver_not_loaded" if runtime.driver_installed else "gpu.driver_missing", RED, DRIVER, lack, remedy
        )
    elif runtime.driver_installed and runtime.driver_installed != runtime.driver_loaded:
        yield Finding(
            "gpu.driver_mismatch",
            RED,
            DRIVER,
            f"the kernel runs NVIDIA driver {runtime.driver_loaded} while the libraries are of {runtime.driver_installed} "
            "(what nvidia-smi calls a driver/library version mismatch)",
            "reboot this node; to avoid it, hold the driver's packages and upgrade them by hand",
        )


def _cdi_findings(docker: Docker) -> Iterable[Finding]:
    if docker.cdi_folders:
        return
    if version_of(docker.version) < DOCKER_WITH_CDI:
        yield Finding(
            "docker.without_cdi",
            RED,
            DOCKER,
            f"Docker {docker.version} does not support CDI, which came with {DOCKER_WITH_CDI[0]}.{DOCKER_WITH_CDI[1]}",
            "install a newer Docker, Docker's own packages for example, and run this again",
        )
    else:
        yield Finding(
            "docker.cdi_off",
            RED,
            DOCKER,
            f"CDI is switched off in Docker {docker.version}",
            'run role container_runtime, which adds {"features": {"cdi": true}} to /etc/docker/daemon.json and restarts Docker',
        )


def _spec_findings(runtime: Runtime, wanted: Sequence[str]) -> Iterable[Finding]:
    refresh = (
        f"`systemctl restart {REFRESH_UNIT}`"
        if runtime.refresh.loaded
        else "`nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml`"
    )
    for spec in runtime.specs:
        if spec.error:
            yield Finding(
                "docker.spec_unreadable",
                YELLOW,
                DOCKER,
                f"{spec.path} is no CDI specification that can be read here ({spec.error})",
                "remove it if nothing of yours needs it",
            )
    for device in wanted:
        holders = [spec for spec in runtime.specs if device in spec.names()]
        if not holders:
            yield Finding(
                "docker.device_unknown",
                RED,
                DOCKER,
                f"no CDI specification names {device}",
                f"{refresh}, as root",
                subject=device,
            )
            continue
        # The last folder counts, so the last holder is the one that a container gets.
        active = holders[-1]
        rivals = [spec.path for spec in holders if _folder(spec) == _folder(active)]
        if len(rivals) > 1:
            yield Finding(
                "docker.device_twice",
                RED,
                DOCKER,
                f"{device} is named by {' and by '.join(rivals)}, and of two in one folder runtimes take neither",
                f"remove the one that is not written by {REFRESH_UNIT}",
            )
            continue
        if len(holders) > 1:
            yield Finding(
                "docker.spec_shadowed",
                YELLOW,
                DOCKER,
                f"{holders[0].path} names {device} as well; it counts only until {active.path} is written at boot, and nobody "
                "keeps it up to date",
                f"remove {holders[0].path}",
            )
        if active.missing:
            more = f" and {len(active.missing) - 1} more" if len(active.missing) > 1 else ""
            yield Finding(
                "docker.spec_stale",
                RED,
                DOCKER,
                f"{active.path} asks for {active.missing[0]}{more}, which this node does not have, so no container with {device} starts",
                f"{refresh}, as root",
            )
        elif active.driver and runtime.driver_loaded and active.driver != runtime.driver_loaded:
            yield Finding(
                "docker.spec_other_driver",
                RED,
                DOCKER,
                f"{active.path} was written for driver {active.driver} and the kernel runs {runtime.driver_loaded}",
                f"{refresh}, as root",
            )
        elif runtime.uvm and not active.uvm and active.kind.startswith("nvidia.com/"):
            yield Finding(
                "docker.spec_without_uvm",
                RED,
                DOCKER,
                f"{active.path} names no {UVM}, which this node has, so no CUDA program starts in a container with {device}",
                f"{refresh}, as root",
            )
        elif runtime.docker.devices is not None and runtime.docker.cdi_folders and device not in runtime.docker.devices:
            yield Finding(
                "docker.device_unseen",
                RED,
                DOCKER,
                f"{active.path} names {device}, but Docker does not list it among its devices",
                "look at `docker info` and `journalctl --unit docker` for what it says of that file",
            )


def _folder(spec: Spec) -> str:
    return spec.path.rpartition("/")[0]


def _order_findings(runtime: Runtime) -> Iterable[Finding]:
    if version_of(runtime.toolkit) < TOOLKIT_WITH_REFRESH:
        yield Finding(
            "docker.toolkit_old",
            YELLOW,
            DOCKER,
            f"NVIDIA's container toolkit {runtime.toolkit} does not renew the CDI specification after a new driver",
            f"upgrade it to {'.'.join(map(str, TOOLKIT_WITH_REFRESH))} or newer; until then {OWN_UNIT} renews it at boot",
        )
    if boot_order(runtime) == "none":
        yield Finding(
            "docker.boot_order",
            YELLOW,
            DOCKER,
            "at boot nothing makes the cluster's containers wait for the CDI specification",
            f"run role container_runtime, which installs {OWN_UNIT}",
        )


# --- the proof: a container that keeps its GPU ---------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """What a container shows: whether nvidia-smi works in it and what it said, its limits, its RDMA devices.

    ``uvm`` says whether it has /dev/nvidia-uvm, which nvidia-smi works without and CUDA does not; None where the node has none either.
    """

    gpu: bool
    said: str = ""
    limits: Mapping[str, str] = field(default_factory=dict)
    rdma: tuple[str, ...] = ()
    uvm: bool | None = None


def parse_limits(text: str) -> dict[str, str]:
    """Return the soft limits of /proc/<pid>/limits that matter: ``nofile`` (files) and ``memlock`` (bytes), -1 for unlimited."""
    names = {"Max open files": "nofile", "Max locked memory": "memlock"}
    found = {}
    for line in text.splitlines():
        for title, name in names.items():
            if line.startswith(title):
                soft = line[len(title) :].strip().partition(" ")[0]
                if soft:
                    found[name] = "-1" if soft == "unlimited" else soft
    return found


def judge_proof(
    before: Look, after: Look | None, *, gpu: bool, rdma: bool, ulimits: Mapping[str, str], docker: str = ""
) -> list[Finding]:
    """Return what a container lacks, and what it lost by a daemon-reload.

    Args:
        before: what it showed after its start.
        after: what it showed after `systemctl daemon-reload`; None where that was not tried.
        gpu: whether it was given the GPU.
        rdma: whether it was given /dev/infiniband.
        ulimits: limits that it was given, as `docker run --ulimit` takes them ("soft:hard").
        docker: version of Docker, for the sentence.
    """
    found = []
    if gpu and not before.gpu:
        found.append(
            Finding(
                "docker.gpu_missing",
                RED,
                PROOF,
                f"a container that is given the GPU does not see it (nvidia-smi: {before.said or 'no output'})",
                "run `nvidia-smi` on the node; if that works, regenerate the CDI specification",
            )
        )
    elif gpu and after is not None and not after.gpu:
        found.append(
            Finding(
                "docker.gpu_lost",
                RED,
                PROOF,
                f"a running container loses its GPU at `systemctl daemon-reload` (nvidia-smi: {after.said or 'no output'})",
                "upgrade NVIDIA's container toolkit to 1.18 or newer and give the GPU by its CDI name, not by --gpus or --runtime",
            )
        )
    if gpu and before.gpu and before.uvm is False:
        found.append(
            Finding(
                "docker.uvm_missing",
                RED,
                PROOF,
                f"a container that is given the GPU has no {UVM}, which this node has, so no CUDA program starts in it",
                f"`systemctl restart {OWN_UNIT}`, which regenerates the CDI specification",
            )
        )
    for name, value in sorted(ulimits.items()):
        soft = str(value).partition(":")[0]
        has = before.limits.get(name)
        if has is not None and has != soft:
            found.append(
                Finding(
                    "docker.limit",
                    RED,
                    PROOF,
                    f"a container that is given {name} {soft} has {has}" + (f" (Docker {docker})" if docker else ""),
                    "look for LimitNOFILE and LimitMEMLOCK in `systemctl cat docker containerd`",
                    subject=name,
                )
            )
    if rdma and not any(name.startswith("uverbs") for name in before.rdma):
        found.append(
            Finding(
                "docker.rdma_missing",
                RED,
                PROOF,
                "a container that is given /dev/infiniband sees no RDMA device (uverbs) in it",
                "load ib_uverbs and mlx5_ib on the node; without them NCCL falls back to TCP",
            )
        )
    return found


#: Parameters of module container_runtime_info.
ARGUMENTS: dict[str, Any] = {
    "devices": {"type": "list", "elements": "str", "default": []},
    "managed": {"type": "bool", "default": False},
}


def _summary(runtime: Runtime, wanted: Sequence[str]) -> str:
    if not wanted:
        return f"Docker {runtime.docker.version} runs; no GPU device is set"
    return (
        f"Docker {runtime.docker.version} gives containers {' and '.join(wanted)} by CDI "
        f"(toolkit {runtime.toolkit}, driver {runtime.driver_loaded})"
    )


def answer(params: Mapping[str, Any], run: Runner) -> dict[str, Any]:
    """Return what module container_runtime_info documents."""
    runtime = collect(Host(run))
    wanted = cdi_devices(params["devices"])
    findings = judge(runtime, wanted)
    problems, summary = sentences(findings), _summary(runtime, wanted)
    return {
        "healthy": not problems,
        "problems": problems,
        "notes": sentences(findings, YELLOW),
        "findings": as_dicts(reported(findings, summary, managed=params["managed"])),
        "devices": list(params["devices"]),
        "wanted": wanted,
        "runtime": runtime.as_facts(),
        "msg": "; ".join(problems) or summary,
    }
