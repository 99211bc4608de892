# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""The virtual machines as far as no QEMU is needed: how it is called, what a machine is told, who is who."""

from __future__ import annotations

import io
import itertools
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from simulation import __main__ as command
from simulation import engine, host, images, machines, settings
from simulation.host import Report
from simulation.machines import ARCHITECTURES, MACHINES, Machine
from simulation.settings import SimulationError

ONE, TWO = MACHINES
DISK = images.MachineDisk(Path("/c/disk.raw"), Path("/c/vmlinuz"), Path("/c/initrd"))


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "dgx-spark-vllm"


# --- names -------------------------------------------------------------------------------------------------------------


def test_the_machines_are_called_as_the_containers() -> None:
    assert [one.name for one in MACHINES] == [node.name for node in settings.NODES]
    assert [one.fabric_address for one in MACHINES] == [node.fabric_address for node in settings.NODES]


def test_their_inventory_says_what_the_code_says() -> None:
    text = (settings.REPOSITORY / "molecule" / "nfs" / "inventory" / "hosts.yml").read_text(encoding="utf-8")
    groups = yaml.safe_load(text)["sparks"]["children"]
    found = {**groups["head"]["hosts"], **groups["workers"]["hosts"]}
    assert found == {
        one.name: {
            "ansible_host": "127.0.0.1",
            "ansible_port": one.ssh_port,
            "spark_fabric_address": one.fabric_address,
        }
        for one in MACHINES
    }


def test_another_name_is_refused_in_one_sentence() -> None:
    with pytest.raises(SimulationError, match="There is no virtual machine 'spark-3': there are spark-1 and spark-2"):
        machines.machine("spark-3")


# --- QEMU's command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("processor", "flags", "usable", "expected"),
    [
        ("x86_64", "fpu vmx", True, "kvm"),
        ("x86_64", "fpu vmx", False, "tcg"),
        ("x86_64", "fpu hypervisor vmx", True, "tcg"),
        ("aarch64", "", True, "kvm"),
        ("aarch64", "", False, "tcg"),
    ],
)
def test_kvm_only_where_it_can_be_relied_on(processor: str, flags: str, usable: bool, expected: str) -> None:
    cpuinfo = f"processor\t: 0\nmodel name\t: no hypervisor\nflags\t\t: {flags}\n"
    assert machines.accelerator(processor, cpuinfo, usable) == expected


def _value(argv: list[str], option: str, start: str) -> str:
    return next(text for name, text in itertools.pairwise(argv) if name == option and text.startswith(start))


def test_the_two_ends_of_the_cable_meet() -> None:
    kind = ARCHITECTURES["x86_64"]
    first = _value(machines.qemu_command(ONE, TWO, kind, "tcg", DISK), "-netdev", "socket")
    second = _value(machines.qemu_command(TWO, ONE, kind, "tcg", DISK), "-netdev", "socket")
    assert first == "socket,id=fabric,udp=127.0.0.1:22362,localaddr=127.0.0.1:22361"
    assert second == "socket,id=fabric,udp=127.0.0.1:22361,localaddr=127.0.0.1:22362"


@pytest.mark.parametrize(
    ("processor", "accel", "machine", "cpu", "console"),
    [
        ("x86_64", "tcg", "q35,accel=tcg", "max,la57=off,svm=off", "ttyS0"),
        ("x86_64", "kvm", "q35,accel=kvm", "host", "ttyS0"),
        ("aarch64", "tcg", "virt,accel=tcg", "max", "ttyAMA0"),
        ("aarch64", "kvm", "virt,accel=kvm", "host", "ttyAMA0"),
    ],
)
def test_the_board_follows_the_processor(processor: str, accel: str, machine: str, cpu: str, console: str) -> None:
    argv = machines.qemu_command(ONE, TWO, ARCHITECTURES[processor], accel, DISK)
    assert _value(argv, "-machine", "") == machine
    assert _value(argv, "-cpu", "") == cpu
    assert f"console={console} " in _value(argv, "-append", "")


def test_ssh_comes_in_by_the_loopback_only_and_nothing_goes_out() -> None:
    argv = machines.qemu_command(ONE, TWO, ARCHITECTURES["x86_64"], "tcg", DISK)
    assert _value(argv, "-netdev", "user") == "user,id=management,restrict=on,hostfwd=tcp:127.0.0.1:22351-:22"


def test_a_comma_in_a_path_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/a,b")
    argv = machines.qemu_command(ONE, TWO, ARCHITECTURES["x86_64"], "tcg", DISK)
    assert _value(argv, "-drive", "file=/a,,b/dgx-spark-vllm/machines/spark-1/disk.qcow2,if=virtio")


def test_qemu_is_installed_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[tuple[str, ...], bool]] = []

    def install(packages: tuple[str, ...], why: str, progress: object, *, recommended: bool) -> None:
        asked.append((packages, recommended))
        raise SimulationError("no apt-get")

    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(shutil, "which", lambda name: None if name.startswith("qemu") else f"/usr/bin/{name}")
    monkeypatch.setattr(host, "install_packages", install)
    with pytest.raises(SimulationError, match="no apt-get"):
        machines.up(print)
    assert asked == [(("qemu-system-arm", "qemu-utils"), False)]


def test_another_processor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(SimulationError, match="run on x86_64 and aarch64; this machine is riscv64"):
        machines.up(print)


def test_two_commands_at_once_are_refused() -> None:
    with machines._only_one(), pytest.raises(SimulationError, match="Another command is at work"):
        machines.down(print)


# --- what a machine is told --------------------------------------------------------------------------------------------


def test_the_seed_makes_a_machine_itself() -> None:
    with tarfile.open(
        fileobj=io.BytesIO(machines.seed(TWO, b"PRIVATE\n", "ssh-ed25519 HOST", "ssh-ed25519 USER"))
    ) as tar:
        members = {member.name: member for member in tar.getmembers()}
        texts = {name: (tar.extractfile(name) or io.BytesIO()).read().decode() for name in members}
    assert texts["etc/hostname"] == "spark-2\n"
    assert texts["etc/hosts"] == "127.0.0.1 localhost\n127.0.1.1 spark-2\n"
    assert texts["home/spark/.ssh/authorized_keys"] == "ssh-ed25519 USER\n"
    assert (members["home/spark/.ssh/authorized_keys"].mode, members["home/spark/.ssh/authorized_keys"].uid) == (
        0o600,
        1000,
    )
    assert (members["etc/ssh/ssh_host_ed25519_key"].mode, members["etc/ssh/ssh_host_ed25519_key"].uid) == (0o600, 0)
    # A folder in it would change the owner or mode of the machine's own.
    assert all(member.isfile() for member in members.values())


def test_a_boot_does_not_wait_for_the_cable() -> None:
    files = machines.network_files(ONE)
    fabric = files["etc/systemd/network/10-fabric.network"]
    assert "RequiredForOnline=no\n" in fabric
    assert "Address=192.168.100.10/24\nAddress=10.99.0.10/24\n" in fabric
    assert "Gateway" not in fabric
    assert "RequiredForOnline=yes\n" in files["etc/systemd/network/10-management.network"]
    assert "MACAddress=52:54:00:5b:01:01\n" in files["etc/systemd/network/10-fabric.link"]
    assert len({machines.mac_address(one, link) for one in MACHINES for link in (0, 1)}) == 4


def test_ssh_reaches_each_machine_by_its_port(cache: Path) -> None:
    for one in MACHINES:
        one.folder.mkdir(parents=True)
        (one.folder / "machine.json").write_text("{}", encoding="ascii")
        (one.folder / "ssh_host_ed25519_key.pub").write_text(f"ssh-ed25519 KEY{one.number} comment\n", encoding="ascii")
    machines._write_ssh_files()
    assert machines.known_hosts_file().read_text(encoding="ascii") == (
        "[127.0.0.1]:22351 ssh-ed25519 KEY1\n[127.0.0.1]:22352 ssh-ed25519 KEY2\n"
    )
    text = machines.ssh_config_file().read_text(encoding="utf-8")
    assert "Host spark-2\n    HostName 127.0.0.1\n    Port 22352\n" in text
    assert f'IdentityFile "{cache / "machines" / "id_ed25519"}"' in text


# --- power -------------------------------------------------------------------------------------------------------------


def test_a_number_in_a_pid_file_is_no_proof(tmp_path: Path) -> None:
    ONE.folder.mkdir(parents=True)
    proc = tmp_path / "proc"
    (proc / "7").mkdir(parents=True)
    assert machines._pid(ONE, proc) is None
    (ONE.folder / "qemu.pid").write_text("7\n", encoding="ascii")
    assert machines._pid(ONE, proc) is None
    (proc / "7" / "cmdline").write_bytes(b"vi\0qemu.pid\0")
    assert machines._pid(ONE, proc) is None
    # What is left of a process that nobody waited for has no command line.
    (proc / "7" / "cmdline").write_bytes(b"")
    assert machines._pid(ONE, proc) is None
    (proc / "7" / "cmdline").write_bytes(f"qemu\0-pidfile\0{ONE.folder / 'qemu.pid'}\0".encode())
    assert machines._pid(ONE, proc) == 7


def test_a_machine_whose_files_are_still_held_is_not_off() -> None:
    assert machines._is_locked(ONE) is False, "there is no such file"
    ONE.folder.mkdir(parents=True)
    file = ONE.folder / "qemu.pid"
    file.write_text("7\n", encoding="ascii")
    script = "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", script, str(file)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert machines._is_locked(ONE) is True
        holder.communicate()
    assert machines._is_locked(ONE) is False


def test_a_machine_that_was_never_made_cannot_be_switched_on() -> None:
    with pytest.raises(SimulationError, match="There is no virtual machine spark-1: `python -m simulation vm up`"):
        machines.on(print, [ONE])


def test_what_qemu_says_is_told() -> None:
    ONE.folder.mkdir(parents=True)
    settings.write_json(
        ONE.folder / "machine.json", {"command": ["sh", "-c", "echo 'Port 22351 is taken' >&2; exit 1"]}
    )
    with pytest.raises(SimulationError, match="spark-1 could not be switched on: Port 22351 is taken"):
        machines.on(print, [ONE])


@pytest.fixture
def monitor() -> Iterator[list[dict[str, Any]]]:
    """QEMU's end of the line, which tells of an event before each answer and knows no command 'wrong'."""
    ONE.folder.mkdir(parents=True)
    orders: list[dict[str, Any]] = []
    # By a relative name, as QEMU does: the whole path may be too long for a socket.
    here = Path.cwd()
    os.chdir(ONE.folder)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("qmp.sock")
    os.chdir(here)
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb") as lines:
            lines.write(b'{"QMP": {}}\n')
            lines.flush()
            for line in lines:
                orders.append(json.loads(line))
                answer = {"error": {"desc": "not known"}} if orders[-1]["execute"] == "wrong" else {"return": {}}
                lines.write(b'{"event": "RESET"}\n' + json.dumps(answer).encode() + b"\n")
                lines.flush()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield orders
    thread.join(10)
    listener.close()


def test_qemu_is_asked(monitor: list[dict[str, Any]]) -> None:
    machines._ask_qemu(ONE, "set_link", {"name": "card-fabric", "up": False})
    assert monitor == [
        {"execute": "qmp_capabilities"},
        {"execute": "set_link", "arguments": {"name": "card-fabric", "up": False}},
    ]


def test_what_qemu_refuses_is_told(monitor: list[dict[str, Any]]) -> None:
    with pytest.raises(SimulationError, match="QEMU did not do 'wrong' for spark-1: not known"):
        machines._ask_qemu(ONE, "wrong")


def test_no_qemu_at_the_other_end_is_told() -> None:
    ONE.folder.mkdir(parents=True)
    with pytest.raises(SimulationError, match="QEMU did not do 'system_powerdown' for spark-1: "):
        machines._ask_qemu(ONE, "system_powerdown")


def test_the_cable_has_a_carrier_only_while_both_are_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, object]] = []
    monkeypatch.setattr(machines, "_pid", lambda one: 7 if one in running else None)
    monkeypatch.setattr(machines, "_ask_qemu", lambda one, what, given: asked.append((one.name, given["up"])))
    running = [ONE]
    machines._set_carriers()
    running = [ONE, TWO]
    machines._set_carriers()
    assert asked == [("spark-1", False), ("spark-1", True), ("spark-2", True)]


# --- the disk ----------------------------------------------------------------------------------------------------------


def test_a_disk_that_is_there_needs_no_docker(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert images.machine_disk_if_built() is None
    folder = cache / "machine" / images.machine_hash()
    folder.mkdir(parents=True)
    monkeypatch.setattr(images, "node_image", lambda progress: pytest.fail("asked Docker"))
    assert images.machine_disk(print).kernel == folder / "vmlinuz"


# --- the command line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "name", "given", "options"),
    [
        ("vm up", "up", MACHINES, {"accel": None}),
        ("vm up spark-2 --accel tcg", "up", [TWO], {"accel": "tcg"}),
        ("vm on spark-1 --no-wait", "on", [ONE], {"wait": False}),
        ("vm off --hard spark-1", "off", [ONE], {"hard": True}),
        ("vm off", "off", MACHINES, {"hard": False}),
        ("vm reboot spark-2 spark-1", "reboot", [TWO, ONE], {"hard": False}),
    ],
)
def test_commands(
    monkeypatch: pytest.MonkeyPatch, line: str, name: str, given: list[Machine], options: dict[str, Any]
) -> None:
    done: list[Any] = []
    for known in ("up", "on", "off", "reboot"):
        monkeypatch.setattr(
            machines,
            known,
            lambda progress, named, known=known, **more: done.append((known, named, more)) or Report(),
        )
    assert command.main(line.split()) == 0
    assert done == [(name, given, options)]


def test_with_the_cache_the_machines_go(monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[str] = []
    monkeypatch.setattr(machines, "down", lambda progress: gone.append("machines") or Report())
    monkeypatch.setattr(engine, "ask", lambda: engine.Answer.NO)
    assert command.main(["down"]) == 0
    assert gone == []
    assert command.main(["down", "--cache"]) == 0
    assert gone == ["machines"]


def test_status_tells_of_machines_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    ONE.folder.mkdir(parents=True)
    (ONE.folder / "machine.json").write_text("{}", encoding="ascii")
    assert command.main(["vm", "status"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"name": "spark-1", "power": "off", "ssh": False, "fabric": "192.168.100.10"}
    ]
