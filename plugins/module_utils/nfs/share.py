# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The weights over NFS: what the server's and the client's files say, what is in force, and how the two differ.

Server: one export, read-only, root squashed, to networks of the fabric; NFS 4.2 alone, which needs no rpcbind.
Client: a mount unit behind an automount unit. Everything that may touch a mount whose server is gone runs in a process of
its own with a time limit (:func:`~..system.run.run`), because such a call never returns.

Standard library only: the same file runs inside Ansible modules and inside the gates on the node.
"""

from __future__ import annotations

import configparser
import ipaddress
import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..system import files
from ..system.files import read_text
from ..system.run import GIVEN_UP, Runner, last_line, run, said
from ..system.systemd_unit import render

PORT = 2049
RDMA_PORT = 20049
TRANSPORTS = ("tcp", "rdma")
UNITS = Path("/etc/systemd/system")
#: Read after the other files of the folder, such as the local.conf that Debian's upgrade writes: the last one counts.
SERVER_CONF = Path("/etc/nfs.conf.d/zz-dgx-spark.conf")
CLIENT_CONF = Path("/etc/nfs.conf.d/zz-dgx-spark-client.conf")
EXPORTS = Path("/etc/exports.d/dgx-spark.exports")
SERVER = "nfs-server.service"
#: What NFS before version 4 needs and version 4 does not. They listen on all addresses.
LEGACY = ("rpcbind.service", "rpcbind.socket", "rpc-statd.service")
SERVER_PACKAGE, SERVER_PROGRAM = "nfs-kernel-server", "/usr/sbin/rpc.nfsd"
CLIENT_PACKAGE, CLIENT_PROGRAM = "nfs-common", "/usr/sbin/mount.nfs"
#: Seconds that a mount may take; beyond, whoever touched the folder gets an error instead of waiting on.
MOUNT_SECONDS = 30
#: Seconds in which a mount must answer one question before it counts as dead.
ANSWER_SECONDS = 10
WRITTEN = "# Written by dgx_spark.vllm.{module}; the next run of site.yml replaces what is changed here.\n"

_PATH = re.compile(r"/[A-Za-z0-9._+@/-]+")
_SECTION = "X-DgxSpark"
_NFS_TYPES = ("nfs", "nfs4")


class NfsError(Exception):
    """One sentence for the person who runs the tool."""


# --- names -----------------------------------------------------------------------------------------------------


def check_path(path: str) -> str:
    """Return the normal form of an absolute path that exports(5), systemd and a mount can all carry unquoted."""
    parts = [part for part in path.split("/") if part]
    if not _PATH.fullmatch(path) or not parts or {".", ".."} & set(parts):
        raise NfsError(f"path is '{path}': expected an absolute folder of plain letters, such as /srv/models.")
    return "/" + "/".join(parts)


def check_clients(clients: Iterable[str]) -> tuple[str, ...]:
    """Return the networks in the form in which the kernel's table shows them; NfsError for a name or for everybody."""
    found = []
    for text in clients:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise NfsError(
                f"clients names '{text}': expected a network such as 192.168.100.0/24 or an address of the fabric."
            ) from None
        if network.prefixlen == 0:
            raise NfsError(f"clients names '{text}', which is everybody: expected the network of the fabric.")
        found.append(str(network.network_address) if network.num_addresses == 1 else str(network))
    if not found:
        raise NfsError("clients is empty: expected at least one network such as 192.168.100.0/24.")
    return tuple(sorted(set(found)))


def escape_path(path: str) -> str:
    """Return the name that systemd gives the unit of a path, as `systemd-escape --path` does."""
    text = "/".join(part for part in path.split("/") if part) or "/"
    if text == "/":
        return "-"
    escaped = []
    for index, byte in enumerate(text.encode()):
        char = chr(byte)
        if char == "/":
            escaped.append("-")
        elif (char.isascii() and char.isalnum()) or char in ":_" or (char == "." and index):
            escaped.append(char)
        else:
            escaped.append(f"\\x{byte:02x}")
    return "".join(escaped)


def network_of(facts: Mapping[str, Any], address: str) -> str:
    """Return the network of the interface that holds ``address``, with its prefix, according to gathered facts.

    Raises:
        ValueError: no interface holds the address; one sentence.
    """
    for name in facts.get("interfaces") or []:
        # Fact names are made from interface names by this replacement (ansible.module_utils.facts.network.linux).
        interface = facts.get(re.sub(r"[-:]", "_", str(name))) or {}
        for row in (interface.get("ipv4") or {}, *(interface.get("ipv4_secondaries") or [])):
            if row.get("address") == address:
                return str(ipaddress.ip_network(f"{row['network']}/{row['netmask']}", strict=False))
    raise ValueError(
        f"the network of {address} is asked for, but no interface in the gathered facts holds it: gather the "
        "facts of subset network first, and see that the inventory is right"
    )


# --- the server --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Export:
    """The desired state of a server: ``path`` for ``clients``, by ``threads`` threads; times in seconds.

    ``v4_only`` False leaves the machine's other NFS versions and their services as they are.
    """

    path: str
    clients: tuple[str, ...]
    transport: str = "tcp"
    threads: int = 16
    grace: int = 15
    lease: int = 15
    v4_only: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.threads <= 512:
            raise NfsError(f"threads is {self.threads}: expected 1 to 512.")
        # The kernel takes no others (write_leasetime in fs/nfsd/nfsctl.c).
        for name, seconds in (("grace", self.grace), ("lease", self.lease)):
            if not 10 <= seconds <= 3600:
                raise NfsError(f"{name}_seconds is {seconds}: expected 10 to 3600.")

    @property
    def fsid(self) -> str:
        """The identity of the file system for clients: a handle that they hold stays good, even over a new disk's UUID."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"nfs:{self.path}"))

    def options(self) -> tuple[str, ...]:
        """Return the options of the export (exports(5))."""
        return ("ro", "sync", "no_subtree_check", "root_squash", "sec=sys", f"fsid={self.fsid}")

    def exports(self) -> str:
        """Return the text of the file under /etc/exports.d."""
        options = ",".join(self.options())
        clients = " ".join(f"{client}({options})" for client in self.clients)
        return WRITTEN.format(module="nfs_export") + f"{self.path} {clients}\n"

    def conf(self) -> str:
        """Return the text of the file under /etc/nfs.conf.d (nfs.conf(5))."""
        lines = ["vers4=y", "vers4.2=y"]
        if self.v4_only:
            lines = [
                f"threads={self.threads}",
                f"grace-time={self.grace}",
                f"lease-time={self.lease}",
                # The kernel has no version 2 any more, but rpc.mountd listens for it unless told not to.
                *("vers2=n", "vers3=n", "vers4=y", "vers4.0=n", "vers4.1=n", "vers4.2=y"),
            ]
        if self.transport == "rdma":
            lines += ["rdma=y", f"rdma-port={RDMA_PORT}"]
        return WRITTEN.format(module="nfs_export") + "[nfsd]\n" + "\n".join(lines) + "\n"


def parse_exports(text: str) -> list[str]:
    """Return the lines of an exports(5) file that export something, continued ones joined."""
    lines = (line.strip() for line in text.replace("\\\n", " ").splitlines())
    return [" ".join(line.split()) for line in lines if line and not line.startswith("#")]


def other_exports(root: Path = Path("/")) -> dict[str, list[str]]:
    """Return what other files export on this machine, by file."""
    folder = root / "etc/exports.d"
    files = [root / "etc/exports", *(sorted(folder.glob("*.exports")) if folder.is_dir() else [])]
    found = {}
    for path in files:
        if path.name != EXPORTS.name and path.is_file():
            lines = parse_exports(path.read_text(encoding="utf-8", errors="replace"))
            if lines:
                found[str(path)] = lines
    return found


def parse_etab(text: str) -> dict[str, dict[str, frozenset[str]]]:
    """Return the table of exports in force (/var/lib/nfs/etab): path -> client -> options."""
    table: dict[str, dict[str, frozenset[str]]] = {}
    for line in text.splitlines():
        path, _tab, rest = line.partition("\t")
        client, _bracket, options = rest.strip().rpartition("(")
        if client and options.endswith(")"):
            table.setdefault(unescape(path), {})[client] = frozenset(options[:-1].split(","))
    return table


def unescape(text: str) -> str:
    """Return a field of /proc/*/mountinfo or etab with its octal escapes resolved."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def export_differences(export: Export, etab: str) -> list[str]:
    """Return in words how the table in force differs from the desired state."""
    clients = parse_etab(etab).get(export.path, {})
    found = [f"{export.path} is exported to {client}" for client in sorted(set(clients) - set(export.clients))]
    for client in export.clients:
        if client not in clients:
            found.append(f"{export.path} is not exported to {client}")
            continue
        missing = [option for option in export.options() if option not in clients[client]]
        if missing:
            found.append(f"{export.path} is exported to {client} without {', '.join(missing)}")
    return found


@dataclass(frozen=True)
class Nfsd:
    """The kernel's server as it runs: text of the files of /proc/fs/nfsd, empty where it does not run."""

    versions: str = ""
    threads: str = ""
    grace: str = ""
    lease: str = ""
    ports: str = ""

    @classmethod
    def read(cls, root: Path = Path("/")) -> Nfsd:
        """Read the running server."""
        folder = root / "proc/fs/nfsd"
        names = ("versions", "threads", "nfsv4gracetime", "nfsv4leasetime", "portlist")
        return cls(*(read_text(folder / name).strip() for name in names))


def nfsd_differences(export: Export, running: Nfsd) -> list[str]:
    """Return in words how the running server differs from the desired state."""
    if running.threads in ("", "0"):
        return ["nfsd does not run"]
    enabled = {word[1:] for word in running.versions.split() if word.startswith("+")}
    found = [] if "4.2" in enabled else ["NFS 4.2 is off"]
    if export.v4_only:
        found += [f"NFS {version} is on" for version in sorted(enabled - {"4", "4.2"})]
        for name, have, want in (
            ("threads", running.threads, export.threads),
            ("grace time", running.grace, export.grace),
            ("lease time", running.lease, export.lease),
        ):
            if have != str(want):
                found.append(f"{name} is {have or 'unknown'} instead of {want}")
    listening = {line.split()[0] for line in running.ports.splitlines() if line.split()}
    if export.transport not in listening:
        found.append(f"it does not listen by {export.transport}")
    if export.v4_only and export.transport == "tcp" and "rdma" in listening:
        found.append("it listens by rdma")
    return found


# --- the client --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NfsMount:
    """The desired state of a client: ``source`` (server:/path) at ``path``; read-ahead in KiB."""

    source: str
    path: str
    transport: str = "tcp"
    read_ahead_kib: int = 15360
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        server, _colon, folder = self.source.partition(":")
        try:
            ipaddress.IPv4Address(server)
            check_path(folder)
        except (ValueError, NfsError):
            raise NfsError(
                f"source is '{self.source}': expected the server's IPv4 address and a folder there, such as "
                "192.168.100.10:/srv/models."
            ) from None
        if not 4 <= self.read_ahead_kib <= 1048576:
            raise NfsError(f"read_ahead_kib is {self.read_ahead_kib}: expected 4 to 1048576.")
        for option in self.options:
            if not re.fullmatch(r"[A-Za-z0-9_.:=-]+", option) or option in ("rw", "soft", "bg"):
                raise NfsError(f"options names '{option}': expected options of nfs(5) other than rw, soft and bg.")

    @property
    def server(self) -> str:
        """Address of the server."""
        return self.source.partition(":")[0]

    @property
    def mount_unit(self) -> str:
        """Name of the mount unit."""
        return f"{escape_path(self.path)}.mount"

    @property
    def automount_unit(self) -> str:
        """Name of the automount unit."""
        return f"{escape_path(self.path)}.automount"

    def mount_options(self) -> tuple[str, ...]:
        """Return the options of the mount (nfs(5)).

        hard: a dead head freezes a reader instead of handing it an error half-way through a load. actimeo=1: what the head
        has just downloaded is seen at once; a look at a hundred files costs nothing. retry=0: the gates try again, and say why.
        """
        transport = ("proto=tcp",) if self.transport == "tcp" else ("proto=rdma", f"port={RDMA_PORT}")
        fixed = (
            *("nfsvers=4.2", "ro", "noatime", "nodev", "nosuid", "hard", *transport, "nconnect=8"),
            *("rsize=1048576", "wsize=1048576", "timeo=600", "actimeo=1", "retry=0"),
        )
        given = {option.partition("=")[0] for option in self.options}
        return (*(option for option in fixed if option.partition("=")[0] not in given), *self.options)

    def mount_text(self) -> str:
        """Return the mount unit. Its section X-DgxSpark is for the gates; systemd passes over it."""
        unit = [
            ("Description", f"Model weights from {self.server}"),
            # A start that failed often is tried again all the same, or a head that was off for long would never be mounted.
            ("StartLimitIntervalSec", "0"),
        ]
        mount = [
            ("What", self.source),
            ("Where", self.path),
            ("Type", "nfs"),
            ("Options", ",".join(self.mount_options())),
            ("TimeoutSec", str(MOUNT_SECONDS)),
            # Without these a shutdown would wait for a head that is off.
            ("LazyUnmount", "yes"),
            ("ForceUnmount", "yes"),
        ]
        ours = [("ReadAheadKiB", str(self.read_ahead_kib))]
        return WRITTEN.format(module="nfs_mount") + render([("Unit", unit), ("Mount", mount), (_SECTION, ours)])

    def automount_text(self) -> str:
        """Return the automount unit: whoever touches the folder mounts it, and at boot nothing waits for it."""
        unit = [("Description", f"Model weights from {self.server}, when asked for"), ("StartLimitIntervalSec", "0")]
        sections = [
            ("Unit", unit),
            ("Automount", [("Where", self.path)]),
            ("Install", [("WantedBy", "multi-user.target")]),
        ]
        return WRITTEN.format(module="nfs_mount") + render(sections)

    def conf(self, v4_only: bool) -> str:
        """Return the text of the file under /etc/nfs.conf.d: nfs-common's udev rule sets the read-ahead from it at each mount.

        It knows no mount points: the figure counts for every NFS 4 mount of the node. A server that happens to be installed
        here must not ask for the rpcbind that ``v4_only`` masks: its unit would fail at each boot.
        """
        text = WRITTEN.format(module="nfs_mount") + f"[nfsrahead]\nnfs4={self.read_ahead_kib}\n"
        return text + "[nfsd]\nvers2=n\nvers3=n\n" if v4_only else text


def read_mount_unit(path: str, root: Path = Path("/")) -> NfsMount | None:
    """Return what the mount unit of a folder asks for, or None where nfs_mount wrote none."""
    unit = root / str(UNITS / f"{escape_path(path)}.mount").lstrip("/")
    parser = configparser.RawConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(unit.read_text(encoding="utf-8"))
        transport = "rdma" if "proto=rdma" in parser.get("Mount", "Options").split(",") else "tcp"
        return NfsMount(parser.get("Mount", "What"), path, transport, parser.getint(_SECTION, "ReadAheadKiB"))
    except (OSError, ValueError, configparser.Error, NfsError):
        return None


def own_paths(units: Path) -> list[str]:
    """Return the folders whose mount units nfs_mount wrote."""
    found = []
    for unit in sorted(units.glob("*.mount")) if units.is_dir() else []:
        text = read_text(unit)
        where = re.search(r"^Where=(.+)$", text, re.MULTILINE)
        if where and text.startswith(WRITTEN.format(module="nfs_mount")):
            found.append(where[1])
    return found


@dataclass(frozen=True)
class Mounted:
    """One line of /proc/self/mountinfo (proc(5)); ``device`` is major:minor."""

    point: str
    device: str
    kind: str
    source: str
    options: frozenset[str] = field(default_factory=frozenset)


def parse_mountinfo(text: str) -> list[Mounted]:
    """Return the mounts in the kernel's order: of several at one point the last is the one that is seen."""
    found = []
    for line in text.splitlines():
        left, _dash, right = line.partition(" - ")
        fields, rest = left.split(), right.split()
        if len(fields) >= 6 and len(rest) >= 3:
            options = frozenset([*fields[5].split(","), *rest[2].split(",")])
            found.append(Mounted(unescape(fields[4]), fields[2], rest[0], unescape(rest[1]), options))
    return found


def mounts_here(root: Path = Path("/")) -> list[Mounted]:
    """Return the mounts of this process; asks no server."""
    return parse_mountinfo(read_text(root / "proc/self/mountinfo"))


def mounted_at(mounts: Iterable[Mounted], path: str) -> Mounted | None:
    """Return what is seen at a mount point, or None where ``path`` is none."""
    found = [mount for mount in mounts if mount.point == path]
    return found[-1] if found else None


def over_nfs(mounts: Iterable[Mounted], path: str) -> str | None:
    """Return the mount point that ``path`` lies on when touching it could wait for a server, or None."""
    points = [mount for mount in mounts if path == mount.point or path.startswith(mount.point.rstrip("/") + "/")]
    if not points:
        return None
    longest = max(len(mount.point) for mount in points)
    seen = [mount for mount in points if len(mount.point) == longest][-1]
    return seen.point if seen.kind in (*_NFS_TYPES, "autofs") else None


def old_mounts(mounts: Iterable[Mounted]) -> list[Mounted]:
    """Return the mounts of an NFS before version 4, which need rpcbind and rpc.statd."""
    return [mount for mount in mounts if mount.kind == "nfs"]


def is_nfs(mount: Mounted | None) -> bool:
    """Say whether an NFS mount is in force."""
    return mount is not None and mount.kind in _NFS_TYPES


def mount_differences(desired: NfsMount, mount: Mounted | None) -> list[str]:
    """Return in words how the mount in force differs from the desired state.

    rsize, wsize and nconnect are not compared: the server's memory limits the first two, and an older mount from the same
    server decides on the third.
    """
    if mount is None or not is_nfs(mount):
        return [f"{desired.source} is not mounted"]
    found = [] if mount.source == desired.source else [f"{mount.source} is mounted instead of {desired.source}"]
    for option in ("ro", "hard", "vers=4.2", f"proto={desired.transport}"):
        if option not in mount.options:
            found.append(f"it is mounted without {option}")
    return found


def read_ahead_file(mount: Mounted, root: Path = Path("/")) -> Path:
    """Return the file that holds the read-ahead of a mount in KiB."""
    return root / "sys/class/bdi" / mount.device / "read_ahead_kb"


def set_read_ahead(mount: Mounted, kib: int, root: Path = Path("/"), check: bool = False) -> bool:
    """Set the read-ahead of a mount where it differs; return whether it did. Works on a mount that is dead as well."""
    path = read_ahead_file(mount, root)
    have = read_text(path).strip()
    if not have or have == str(kib):
        return False
    if not check:
        path.write_text(f"{kib}\n", encoding="ascii")
    return True


#: What mount.nfs says (nfs-utils 2.6.2, kernel 6.1) and what it means; the first match counts.
_MOUNT_WORDS = (
    ("no such file or directory|access denied", "the server does not export it to this node's address"),
    ("protocol not supported|version or transport protocol", "the server does not offer NFS 4.2 by this transport"),
    ("connection refused", "the server refuses the connection"),
    ("no route to host|network is unreachable|host is down", "no route to host"),
    ("timed out|timeout|no answer within", "the server does not answer"),
    ("unknown filesystem type|no such device", "this node's kernel has no NFS"),
    ("is already a mount point|already mounted|busy", "something else is mounted there"),
)


def mount_reason(words: str) -> str:
    """Return why a mount failed, from what mount.nfs and systemd said: in our words, or in theirs."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("mount.nfs")] or lines or ["no reason given"]
    last = told[-1]
    meaning = next((text for pattern, text in _MOUNT_WORDS if re.search(pattern, last, re.IGNORECASE)), "")
    return f"{meaning}: {last}" if meaning else last


def probe(path: str, run: Runner = run) -> str:
    """Ask the server for the state of the file system at a mount point; return what is wrong, empty when it answers."""
    status, out, err = run(["stat", "--file-system", "--format=%T", path], ANSWER_SECONDS)
    if status == 0:
        return ""
    words = said(out, err)
    return "stale" if "stale" in words.lower() else words or f"exit status {status}"


def start_mount(desired: NfsMount, run: Runner = run) -> str:
    """Mount now, whatever failed before; return why it did not work, or an empty string."""
    heal_automount(desired, run)
    run(["systemctl", "reset-failed", desired.mount_unit], 10)
    # The journal must not answer with the words of an earlier try.
    since = int(time.time())
    status, out, err = run(["systemctl", "start", desired.mount_unit], MOUNT_SECONDS + 10)
    if status == 0:
        return ""
    words = said(out, err)
    if status != GIVEN_UP:
        journal = ["journalctl", f"--unit={desired.mount_unit}", f"--since=@{since}", "--output=cat", "--no-pager"]
        words = run([*journal, "--lines=20"], 10)[1].strip() or words
    return mount_reason(words)


def heal_automount(desired: NfsMount, run: Runner = run) -> None:
    """Bring an automount unit back that failed or was stopped; it cannot start over a mount that is in force."""
    _status, state, _err = run(["systemctl", "show", "--property=ActiveState", "--value", desired.automount_unit], 10)
    if state.strip() in ("failed", "inactive"):
        run(["systemctl", "reset-failed", desired.automount_unit], 10)
        run(["systemctl", "start", desired.automount_unit], 10)


def detach(desired: NfsMount, run: Runner = run, root: Path = Path("/")) -> None:
    """Take a mount away even where its server is gone; readers keep what they opened."""
    run(["systemctl", "stop", desired.mount_unit], MOUNT_SECONDS + 10)
    if is_nfs(mounted_at(mounts_here(root), desired.path)):
        run(["umount", "--lazy", "--force", "--no-canonicalize", desired.path], MOUNT_SECONDS)


# --- both ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """systemd's view of a unit: LoadState, ActiveState and UnitFileState of systemctl(1)."""

    load: str = ""
    active: str = ""
    enabled: str = ""
    need_reload: bool = False


def unit_states(names: Sequence[str], run: Runner = run) -> dict[str, Unit]:
    """Return the states of several units, asked for at once; NfsError where systemd does not answer."""
    if not names:
        return {}
    properties = "--property=LoadState,ActiveState,UnitFileState,NeedDaemonReload"
    status, out, err = run(["systemctl", "show", properties, *names], 20)
    blocks = out.strip().split("\n\n")
    if status or len(blocks) != len(names):
        raise NfsError(
            f"systemctl does not answer on this node ({said(out, err) or status}): NFS needs a running systemd."
        )
    found = {}
    for name, block in zip(names, blocks, strict=True):
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        found[name] = Unit(
            values.get("LoadState", ""),
            values.get("ActiveState", ""),
            values.get("UnitFileState", ""),
            values.get("NeedDaemonReload") == "yes",
        )
    return found


class Changes(files.Changes):
    """What is done to the machine, or would be: files and commands."""

    def __init__(self, check: bool, run: Runner = run) -> None:
        super().__init__(check)
        self.run = run

    def command(self, argv: Sequence[str], action: str = "", seconds: float = 60, why: str = "") -> None:
        """Run a command that changes something; NfsError with ``why`` and its last line where it fails."""
        if action:
            self.actions.append(action)
        if self.check:
            return
        status, out, err = self.run(argv, seconds)
        if status:
            # systemd ends its reason with an advice of its own.
            last = last_line(out, err, f"exit status {status}").partition(" See ")[0].rstrip(".")
            raise NfsError(f"`{' '.join(argv)}` failed: {last}{f'; {why}' if why else ''}.")

    def mask_legacy(self, states: Mapping[str, Unit]) -> None:
        """Keep the services of NFS before version 4 from running, now and at boot."""
        if names := [name for name in LEGACY if states[name].load != "masked"]:
            self.command(["systemctl", "mask", *names], f"masked {', '.join(names)}: NFS 4 needs none of them")
        if names := [name for name in LEGACY if states[name].active in ("active", "activating")]:
            self.command(["systemctl", "stop", *names], f"stopped {', '.join(names)}")

    def unmask_legacy(self, states: Mapping[str, Unit]) -> None:
        """Let them run again; the caller knows that it was this collection that masked them."""
        names = [name for name in LEGACY if states[name].load == "masked"]
        if names:
            self.command(["systemctl", "unmask", *names], f"unmasked {', '.join(names)}")
