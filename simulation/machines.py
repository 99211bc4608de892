# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Two virtual machines with a kernel of their own: what the containers cannot show, NFS in the kernel, mounts, boots and power cuts.

QEMU runs them as the calling user, by software emulation where the processor does not offer virtualisation that can be relied on. Each has a management
link (SSH from this machine's loopback, no way out) and one end of the fabric link, a cable between the two: it carries UDP over this machine's
loopback, so that nothing here gets an address of the fabric, and it loses its carrier while the other machine is off, as a cable does.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulation import engine, host, images, keys, settings
from simulation.host import Progress, Report
from simulation.images import MachineDisk
from simulation.settings import USER, SimulationError

# MiB of each machine. Memory that a machine does not touch costs nothing; nfsd reads and writes 1 MiB at a time, as on a Spark, only from 4 GiB on
# (nfsd_get_default_max_blksize in the kernel's fs/nfsd/nfssvc.c).
MEMORY_MIB = 4608
# Bytes; what NVIDIA's set-up guide gives the QSFP ports.
FABRIC_MTU = 9000
# Interfaces as a Spark calls them: the 10 GbE port and the first QSFP port.
MANAGEMENT_INTERFACE = "enP7s7"
FABRIC_INTERFACE = "enp1s0f1np1"

# Seconds until ssh answers (20 were measured on two cores) and until a clean shutdown is over.
BOOT_TIMEOUT = 240.0
SHUTDOWN_TIMEOUT = 180.0

ACCELERATORS = ("kvm", "tcg")


@dataclass(frozen=True)
class Machine:
    """One virtual machine."""

    number: int
    name: str
    """Name and hostname."""
    ssh_port: int
    """Port on this machine's loopback that leads to its sshd."""
    link_port: int
    """UDP port on this machine's loopback of its end of the fabric."""
    fabric_address: str
    outside_address: str
    """Second address on the fabric, in another network: who speaks from there is no neighbour."""

    @property
    def folder(self) -> Path:
        """Its disk, its serial log and its sockets."""
        return state_folder() / self.name


MACHINES = (
    Machine(1, "spark-1", 22351, 22361, "192.168.100.10", "10.99.0.10"),
    Machine(2, "spark-2", 22352, 22362, "192.168.100.11", "10.99.0.11"),
)


@dataclass(frozen=True)
class Architecture:
    """How QEMU is called for a kind of processor."""

    packages: tuple[str, ...]
    """Debian's."""
    command: str
    board: str
    emulated_cpu: str
    console: str


ARCHITECTURES = {
    # Five-level page tables make every emulated memory access slower; nested virtualisation brings a large module.
    "x86_64": Architecture(
        ("qemu-system-x86", "qemu-utils"), "qemu-system-x86_64", "q35", "max,la57=off,svm=off", "ttyS0"
    ),
    "aarch64": Architecture(("qemu-system-arm", "qemu-utils"), "qemu-system-aarch64", "virt", "max", "ttyAMA0"),
}


def machine(name: str) -> Machine:
    """The machine of that name. Raises SimulationError for another name."""
    for known in MACHINES:
        if known.name == name:
            return known
    names = " and ".join(known.name for known in MACHINES)
    raise SimulationError(f"There is no virtual machine '{name}': there are {names}.")


def state_folder() -> Path:
    """Folder of the machines: key, known hosts, disks and logs. `vm down` removes it."""
    return settings.cache_folder() / "machines"


def key_file() -> Path:
    """Private SSH key that the machines accept."""
    return state_folder() / "id_ed25519"


def known_hosts_file() -> Path:
    """Host keys of the machines."""
    return state_folder() / "known_hosts"


def ssh_config_file() -> Path:
    """Settings with which `ssh -F` reaches the machines by name."""
    return state_folder() / "ssh_config"


# --- what a machine is made of -----------------------------------------------------------------------------------------


def accelerator(processor: str, cpuinfo: str, kvm_usable: bool) -> str:
    """`kvm` where it can be relied on, else `tcg` (software emulation).

    processor: as platform.machine() says. cpuinfo: text of /proc/cpuinfo. kvm_usable: whether this user may open /dev/kvm.
    A machine that is virtual itself may have /dev/kvm and still hang in it.
    """
    virtual = processor == "x86_64" and any(
        "hypervisor" in line.split() for line in cpuinfo.splitlines() if line.startswith("flags")
    )
    return "kvm" if kvm_usable and not virtual else "tcg"


def _accelerator_here() -> str:
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return accelerator(platform.machine(), cpuinfo, os.access("/dev/kvm", os.R_OK | os.W_OK))


def _architecture() -> Architecture:
    found = ARCHITECTURES.get(platform.machine())
    if found is None:
        known = " and ".join(ARCHITECTURES)
        raise SimulationError(f"The virtual machines run on {known}; this machine is {platform.machine()}.")
    return found


def mac_address(one: Machine, link: int) -> str:
    """Address of a network card: locally administered, the prefix that QEMU uses. link: 0 management, 1 fabric."""
    return f"52:54:00:5b:{link:02x}:{one.number:02x}"


def qemu_command(one: Machine, peer: Machine, kind: Architecture, accel: str, disk: MachineDisk) -> list[str]:
    """The command that switches a machine on and leaves it running in the background."""
    append = f"console={kind.console} quiet mitigations=off systemd.hostname={one.name} systemd.show_status=true"
    argv = [kind.command, "-name", one.name, "-nodefaults", "-no-user-config", "-display", "none", "-daemonize"]
    argv += ["-machine", f"{kind.board},accel={accel}", "-cpu", "host" if accel == "kvm" else kind.emulated_cpu]
    argv += ["-smp", "2", "-m", f"{MEMORY_MIB}M"]
    argv += ["-kernel", str(disk.kernel), "-initrd", str(disk.initrd), "-append", append]
    # What the machine wrote stays when QEMU is killed, because the file is in this machine's memory; what only its own kernel knew is lost.
    argv += ["-drive", f"file={_escaped(one.folder / 'disk.qcow2')},if=virtio,format=qcow2,cache=unsafe"]
    argv += ["-drive", f"file={_escaped(one.folder / 'seed.tar')},if=virtio,format=raw,readonly=on"]
    argv += ["-device", "virtio-rng-pci"]
    argv += ["-netdev", f"user,id=management,restrict=on,hostfwd=tcp:127.0.0.1:{one.ssh_port}-:22"]
    argv += ["-netdev", f"socket,id=fabric,udp=127.0.0.1:{peer.link_port},localaddr=127.0.0.1:{one.link_port}"]
    for link, name in enumerate(("management", "fabric")):
        argv += ["-device", f"virtio-net-pci,id=card-{name},netdev={name},mac={mac_address(one, link)},romfile="]
    argv += ["-chardev", f"file,id=serial,path={_escaped(one.folder / 'serial.log')},append=on"]
    argv += ["-serial", "chardev:serial"]
    # By a relative name: that of a socket may have 108 characters at most.
    argv += ["-qmp", "unix:qmp.sock,server=on,wait=off", "-pidfile", str(one.folder / "qemu.pid")]
    return argv


def _escaped(path: Path) -> str:
    """A path inside a list that QEMU splits at commas."""
    return str(path).replace(",", ",,")


def network_files(one: Machine) -> dict[str, str]:
    """The machine's links and addresses for systemd-networkd: path -> text."""
    link = "[Match]\nMACAddress={}\n\n[Link]\nName={}\nMTUBytes={}\n"
    network = "[Match]\nName={}\n\n[Link]\nRequiredForOnline={}\n\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    management, fabric = MANAGEMENT_INTERFACE, FABRIC_INTERFACE
    folder = "etc/systemd/network"
    # 10.0.2.15 and 10.0.2.2 are what QEMU's user network expects. A boot does not wait for the other machine's end of the cable.
    return {
        f"{folder}/10-management.link": link.format(mac_address(one, 0), management, 1500),
        f"{folder}/10-fabric.link": link.format(mac_address(one, 1), fabric, FABRIC_MTU),
        f"{folder}/10-management.network": network.format(management, "yes")
        + "Address=10.0.2.15/24\nGateway=10.0.2.2\n",
        f"{folder}/10-fabric.network": network.format(fabric, "no")
        + f"Address={one.fabric_address}/24\nAddress={one.outside_address}/24\n",
    }


def seed(one: Machine, host_key: bytes, host_public_key: str, user_key: str) -> bytes:
    """The tar file that makes a machine itself, read by it as a disk at its first boot."""
    hosts = f"127.0.0.1 localhost\n127.0.1.1 {one.name}\n"
    # Path -> content, mode, owner (1000 is the user of the node image).
    files: dict[str, tuple[str | bytes, int, int]] = {
        **{path: (text, 0o644, 0) for path, text in network_files(one).items()},
        "etc/hostname": (f"{one.name}\n", 0o644, 0),
        "etc/hosts": (hosts, 0o644, 0),
        "etc/ssh/ssh_host_ed25519_key": (host_key, 0o600, 0),
        "etc/ssh/ssh_host_ed25519_key.pub": (f"{host_public_key}\n", 0o644, 0),
        f"home/{USER}/.ssh/authorized_keys": (f"{user_key}\n", 0o600, 1000),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, (content, mode, owner) in sorted(files.items()):
            data = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(path)
            info.size, info.mode, info.uid, info.gid = len(data), mode, owner, owner
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


# --- raising -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    """One command at a time. Raises SimulationError where another one is at work."""
    settings.cache_folder().mkdir(parents=True, exist_ok=True)
    with (settings.cache_folder() / "machines.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SimulationError(
                "Another command is at work on the virtual machines: wait until it is done."
            ) from None
        yield


def up(progress: Progress, machines: Sequence[Machine] = MACHINES, *, accel: str | None = None) -> Report:
    """Make machines exist and run; wait until ssh answers and, where they are new, until all services have started.

    accel: `kvm` or `tcg` (default: kvm where it can be relied on). A machine that was made from another disk or with other options is recreated.
    Raises SimulationError with the reason where that is not possible.
    """
    kind = _architecture()
    keys.require_ssh(progress)
    if not (shutil.which(kind.command) and shutil.which("qemu-img")):
        host.install_packages(kind.packages, "the simulation of machines", progress, recommended=False)
    disk = images.machine_disk_if_built()
    if disk is None:
        engine.ensure(progress)
        disk = images.machine_disk(progress)
    report = Report()
    with _only_one():
        state_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        user_key = keys.public_key(key_file())
        how = accel or _accelerator_here()
        fresh: list[Machine] = []
        started: list[Machine] = []
        for one in machines:
            argv = qemu_command(one, _peer(one), kind, how, disk)
            if settings.read_json(one.folder / "machine.json").get("command") != argv:
                if one.folder.exists():
                    progress(f"{one.name} was made from another disk or with other options: recreating it")
                    _remove(one)
                _create(one, argv, disk, user_key)
                report.changes.append(f"{one.name} created")
                fresh.append(one)
            if _pid(one) is None:
                _start(one)
                words = "by software emulation" if how == "tcg" else "with KVM"
                progress(f"Switched {one.name} on, {words} (its console: {one.folder / 'serial.log'})")
                report.changes.append(f"{one.name} on")
                started.append(one)
        _write_ssh_files()
        _set_carriers()
        for one in started:
            _wait_for_ssh(one)
        for one in fresh:
            _wait_for_services(one)
    return report


def _peer(one: Machine) -> Machine:
    """The machine at the other end of the cable."""
    return next(other for other in MACHINES if other is not one)


def _create(one: Machine, argv: Sequence[str], disk: MachineDisk, user_key: str) -> None:
    """Make a machine's folder: disk, seed, and last the note of how it is switched on."""
    one.folder.mkdir(mode=0o700)
    host_public_key = keys.public_key(one.folder / "ssh_host_ed25519_key")
    host_key = (one.folder / "ssh_host_ed25519_key").read_bytes()
    content = seed(one, host_key, host_public_key, user_key)
    (one.folder / "seed.tar").touch(mode=0o600)
    (one.folder / "seed.tar").write_bytes(content)
    overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(disk.disk)]
    host.run_quietly([*overlay, str(one.folder / "disk.qcow2")], f"The disk of {one.name} could not be made")
    settings.write_json(one.folder / "machine.json", {"command": list(argv)})


def _start(one: Machine) -> None:
    """Switch a machine on. Raises SimulationError with what QEMU says where it does not start."""
    argv = settings.read_json(one.folder / "machine.json").get("command")
    if not argv:
        raise SimulationError(f"There is no virtual machine {one.name}: `python -m simulation vm up` makes it.")
    (one.folder / "qmp.sock").unlink(missing_ok=True)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=one.folder)
    if done.returncode != 0:
        raise SimulationError(f"{one.name} could not be switched on: {host.last_line(done.stderr)}")


def _write_ssh_files() -> None:
    """Host keys and ssh settings of the machines that exist."""
    there = [one for one in MACHINES if (one.folder / "machine.json").exists()]
    lines, hosts = {}, ""
    for one in there:
        public = (one.folder / "ssh_host_ed25519_key.pub").read_text(encoding="ascii")
        lines[f"[127.0.0.1]:{one.ssh_port}"] = [public]
        hosts += f"Host {one.name}\n    HostName 127.0.0.1\n    Port {one.ssh_port}\n"
    known_hosts_file().write_text(keys.merge_known_hosts("", lines), encoding="ascii")
    ssh_config_file().write_text(hosts + keys.common_ssh_config(key_file(), known_hosts_file()), encoding="utf-8")


# --- waiting and asking ------------------------------------------------------------------------------------------------


def ssh_command(one: Machine, *command: str) -> list[str]:
    """The ssh command line to a machine."""
    return ["ssh", "-F", str(ssh_config_file()), one.name, *command]


def run(one: Machine, command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a shell command on a machine by ssh, as the ordinary user. timeout: seconds.

    Raises SimulationError when the machine does not answer in time.
    """
    argv = ssh_command(one, command)
    try:
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise SimulationError(f"{one.name} did not answer by ssh within {timeout:.0f} s.") from None


def _wait_until(condition: Callable[[], bool], one: Machine, timeout: float, failure: str) -> None:
    """Ask until the condition holds; a machine that goes off meanwhile is an error, as is the end of the time (seconds)."""
    deadline = time.monotonic() + timeout
    while not condition():
        log = one.folder / "serial.log"
        if _pid(one) is None:
            raise SimulationError(f"{one.name} went off meanwhile; its console: {log}")
        if time.monotonic() > deadline:
            raise SimulationError(f"{one.name} {failure} (waited {timeout:.0f} s); its console: {log}")
        time.sleep(0.25)


def _has_sshd(one: Machine) -> bool:
    """Whether sshd greets. Cheaper for an emulated machine than a whole handshake; QEMU itself takes the connection at any time."""
    try:
        with socket.create_connection(("127.0.0.1", one.ssh_port), timeout=3) as connection:
            connection.settimeout(3)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _wait_for_ssh(one: Machine) -> None:
    """Wait until the machine lets the user in and sudo works; nothing else proves that Ansible will come in."""

    def entered() -> bool:
        if not _has_sshd(one):
            return False
        with contextlib.suppress(SimulationError):
            return run(one, "sudo -n true", timeout=30).returncode == 0
        return False

    _wait_until(entered, one, BOOT_TIMEOUT, "does not answer by ssh")


def _wait_for_services(one: Machine) -> None:
    """Wait until systemd has started everything. Raises SimulationError that names what failed."""
    done = run(one, "systemctl is-system-running --wait; systemctl --failed --plain --no-legend", timeout=BOOT_TIMEOUT)
    state, *failed = done.stdout.splitlines() or ["unknown"]
    if state != "running":
        units = ", ".join(line.split()[0] for line in failed if line.strip()) or state
        raise SimulationError(
            f"{one.name} booted, but not all is well: {units}; its console: {one.folder / 'serial.log'}"
        )


# --- power -------------------------------------------------------------------------------------------------------------


def on(progress: Progress, machines: Sequence[Machine], *, wait: bool = True) -> Report:
    """Switch machines on again, and wait until ssh answers (wait=False: do not)."""
    report = Report()
    with _only_one():
        for one in machines:
            if _pid(one) is not None:
                progress(f"{one.name} is on already")
                continue
            _start(one)
            progress(f"Switched {one.name} on")
            report.changes.append(f"{one.name} on")
        _set_carriers()
        for one in machines if wait else ():
            _wait_for_ssh(one)
    return report


def off(progress: Progress, machines: Sequence[Machine], *, hard: bool = False) -> Report:
    """Switch machines off: by their power button, which shuts them down cleanly, or (hard) as if the plug were pulled."""
    report = Report()
    with _only_one():
        running = [one for one in machines if _pid(one) is not None]
        for one in machines:
            if one not in running:
                progress(f"{one.name} is off already")
        for one in running:
            if hard:
                _kill(one)
            else:
                _ask_qemu(one, "system_powerdown")
        for one in running:
            _wait_until_off(one)
            progress(f"{'Pulled the plug of' if hard else 'Shut down'} {one.name}")
            report.changes.append(f"{one.name} off")
        _set_carriers()
    return report


def reboot(progress: Progress, machines: Sequence[Machine], *, hard: bool = False) -> Report:
    """Switch machines off, all at the same time, and on again: cleanly, or (hard) by pulling the plug. Returns when ssh answers again.

    By a new QEMU, since an emulated machine that restarts by itself inside the old one takes two to four times as long.
    """
    off(progress, machines, hard=hard)
    on(progress, machines)
    return Report([f"{one.name} rebooted" for one in machines])


def down(progress: Progress) -> Report:
    """Remove the machines, their disks, keys and logs."""
    report = Report()
    with _only_one():
        for one in MACHINES:
            if one.folder.exists():
                _remove(one)
                progress(f"Removed {one.name}")
                report.changes.append(f"{one.name} removed")
        if state_folder().exists():
            shutil.rmtree(state_folder())
            report.changes.append("state removed")
    return report


def status() -> list[dict[str, Any]]:
    """What there is: name, power, whether sshd answers, addresses."""
    return [
        {
            "name": one.name,
            "power": "on" if _pid(one) is not None else "off",
            "ssh": _pid(one) is not None and _has_sshd(one),
            "fabric": one.fabric_address,
        }
        for one in MACHINES
        if (one.folder / "machine.json").exists()
    ]


def _remove(one: Machine) -> None:
    if _pid(one) is not None:
        _kill(one)
        _wait_until_off(one)
    shutil.rmtree(one.folder)


def _kill(one: Machine) -> None:
    pid = _pid(one)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _is_locked(one: Machine) -> bool:
    """Whether a QEMU still has the machine's files: one that is killed loses its command line first, and these once its memory is given back."""
    try:
        with (one.folder / "qemu.pid").open("r+", encoding="ascii") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _wait_until_off(one: Machine) -> None:
    deadline = time.monotonic() + SHUTDOWN_TIMEOUT
    while _pid(one) is not None or _is_locked(one):
        if time.monotonic() > deadline:
            raise SimulationError(
                f"{one.name} did not shut down within {SHUTDOWN_TIMEOUT:.0f} s: see {one.folder / 'serial.log'}, or pull its "
                f"plug with `python -m simulation vm off --hard {one.name}`."
            )
        time.sleep(0.1)


def _pid(one: Machine, proc: Path = Path("/proc")) -> int | None:
    """Process of a running machine; None where it is off. The number alone proves nothing: it may be another program's by now."""
    try:
        pid = int((one.folder / "qemu.pid").read_text(encoding="ascii"))
        argv = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if str(one.folder / "qemu.pid").encode() in argv else None


# --- QEMU's own line ---------------------------------------------------------------------------------------------------


def _set_carriers() -> None:
    """Give each running machine's fabric card a carrier where the machine at the other end is on, and none where it is off."""
    for one in MACHINES:
        if _pid(one) is not None:
            _ask_qemu(one, "set_link", {"name": "card-fabric", "up": _pid(_peer(one)) is not None})


def _ask_qemu(one: Machine, command: str, arguments: Mapping[str, Any] | None = None) -> None:
    """Give QEMU one command by its machine protocol (QMP). Raises SimulationError where it refuses or does not answer."""
    failure = f"QEMU did not do '{command}' for {one.name}"
    try:
        with contextlib.ExitStack() as stack:
            folder = os.open(one.folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, folder)
            connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            connection.settimeout(10)
            # Through the open folder, because the whole path may be longer than a socket's name can be.
            connection.connect(f"/proc/self/fd/{folder}/qmp.sock")
            lines = stack.enter_context(connection.makefile("rb"))
            lines.readline()
            for order in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": dict(arguments or {})}):
                connection.sendall(json.dumps(order).encode() + b"\n")
                answer = _answer(lines)
                if "error" in answer:
                    raise SimulationError(f"{failure}: {answer['error'].get('desc', answer['error'])}")
    except (OSError, ValueError) as error:
        raise SimulationError(f"{failure}: {error}") from error


def _answer(lines: Iterator[bytes]) -> dict[str, Any]:
    """QEMU's answer to an order; what it tells of events in between is not for us."""
    for line in lines:
        said = json.loads(line)
        if isinstance(said, dict) and ("return" in said or "error" in said):
            return said
    raise ValueError("it closed the line")
