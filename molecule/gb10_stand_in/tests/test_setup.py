# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""`make setup` against two machines as they come out of the box: real SSH, a password, real sudo, and the ports of a GB10."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
import yaml
from testinfra.host import Host

from simulation import settings

ROOT = Path(__file__).resolve().parents[3]
FIRST, SECOND = settings.NODES
USER, PASSWORD = "owner", "out-of-the-box"
LETS_IN = "Match User owner\n    PasswordAuthentication yes\n    AllowUsers owner\n"


@pytest.fixture(scope="module")
def owner(host: Host, worker: Host) -> Iterator[str]:
    """A user with a password and sudo on both nodes, as the first start of a Spark makes one."""
    for node in (host, worker):
        with node.sudo():
            node.check_output(f"useradd --create-home --shell /bin/bash --groups sudo {USER}")
            node.check_output(f"echo {USER}:{PASSWORD} | chpasswd")
            node.check_output(f"printf '{LETS_IN}' >/etc/ssh/sshd_config.d/owner.conf && systemctl reload ssh")
    yield USER
    for node in (host, worker):
        with node.sudo():
            node.check_output(
                f"rm /etc/ssh/sshd_config.d/owner.conf && systemctl reload ssh && userdel --force --remove {USER}"
            )


def command(folder: Path, answers: dict[str, object], *options: str) -> list[str]:
    """The wizard's command line, with a file of answers."""
    (folder / "answers.yml").write_text(yaml.safe_dump(answers))
    return [
        sys.executable,
        "-m",
        "setup_wizard",
        "--answers",
        f"{folder}/answers.yml",
        "--inventory",
        f"{folder}/mine",
        *options,
    ]


def alone(
    folder: Path, *, addresses: list[str], options: tuple[str, ...] = ("--no-report",)
) -> subprocess.CompletedProcess[str]:
    """Run it with nobody there, as the user of the simulation."""
    answers = {"nodes": addresses, "user": settings.USER, "ssh_args": f"-F {settings.ssh_config_file()}"}
    argv = command(folder, answers, "--yes", *options)
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def put(node: settings.Node, variant: str) -> None:
    """Make a node look like a variant of a Spark."""
    subprocess.run([sys.executable, "-m", "simulation", "gb10", node.name, variant], cwd=ROOT, check=True)


def test_an_owner_sets_two_sparks_up(owner: str, tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    config.write_text(
        f"Host *\n    IdentityFile {tmp_path}/id_ed25519\n    UserKnownHostsFile {tmp_path}/known_hosts\n"
        "    GlobalKnownHostsFile /dev/null\n    IdentitiesOnly yes\n"
    )
    argv = command(tmp_path, {"ssh_args": f"-F {config}", "model": "qwen3-235b-awq"})
    said = pexpect.spawn(
        argv[0], argv[1:], cwd=str(ROOT), env=dict(os.environ), encoding="utf-8", timeout=120, dimensions=(50, 200)
    )
    said.expect("Address of Spark 1")
    said.sendline(FIRST.management_address)
    said.expect("Address of Spark 2")
    said.sendline(SECOND.management_address)
    said.expect("Address of Spark 3")
    said.sendline("")
    said.expect("User for SSH")
    said.sendline(owner)
    for node in (FIRST, SECOND):
        said.expect(f"{node.name} at {node.management_address}")
        said.expect("SHA256:")
        said.expect("Is it the right machine")
        said.sendline("y")
        if node is FIRST:
            said.expect("There is no SSH key here")
            said.sendline("y")
        said.expect("does not take your key")
        said.sendline("y")
        said.expect("password: ")
        said.sendline(PASSWORD)
        said.expect("sudo asks owner for a password")
        said.expect("password for owner: ")
        said.sendline(PASSWORD)
        said.expect("answers; sudo asks for a password: -K")
    said.expect("1 cable, in the same port of each node: enp1s0f1np1, enP2p1s0f1np1; they have their addresses already")
    said.expect("Address of spark-1 on the link .192.168.200.10.")
    said.sendline("")
    said.expect("Address of spark-2 on the link .192.168.200.11.")
    said.sendline("192.168.200.10")
    said.expect("is the address of another node")
    said.sendline("")
    said.expect("Folder of the weights")
    said.sendline("")
    said.expect("Write .*mine")
    said.sendline("y")
    said.expect("Run the report now")
    said.sendline("y")
    said.expect("BECOME password: ")
    said.sendline(PASSWORD)
    said.expect("Next.*site.yml -K")
    said.expect(pexpect.EOF)
    inventory = (tmp_path / "mine" / "hosts.yml").read_text()
    assert "spark_fabric_address: 192.168.200.11" in inventory
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and PASSWORD in path.read_text(errors="replace")]


def test_a_pair_without_questions_is_written_once(tmp_path: Path) -> None:
    addresses = [FIRST.management_address, SECOND.management_address]
    done = alone(tmp_path, addresses=addresses)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sudo asks for no password" in done.stdout
    again = alone(tmp_path, addresses=addresses)
    assert again.returncode == 0 and "says all of this already" in again.stdout


def test_one_machine_at_two_addresses(tmp_path: Path) -> None:
    # The fabric's address leads to the same machine; its host key is known under both.
    known = settings.known_hosts_file().read_text(encoding="ascii")
    lines = [line for line in known.splitlines() if line.startswith(f"{FIRST.management_address} ")]
    (tmp_path / "known_hosts").write_text(
        known + "".join(f"{FIRST.fabric_address} {line.split(' ', 1)[1]}\n" for line in lines)
    )
    config = settings.ssh_config_file().read_text(encoding="utf-8")
    (tmp_path / "ssh_config").write_text(config.replace(str(settings.known_hosts_file()), f"{tmp_path}/known_hosts"))
    answers = {
        "nodes": [FIRST.management_address, FIRST.fabric_address],
        "user": settings.USER,
        "ssh_args": f"-F {tmp_path}/ssh_config",
    }
    done = subprocess.run(
        command(tmp_path, answers, "--yes"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 1 and "are the same machine" in done.stderr and not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("variant", "said"),
    [("cable-out", "no QSFP port of this node has a link"), ("no-port-at-all", "no ConnectX port is on")],
)
def test_a_cable_that_is_not_there(tmp_path: Path, variant: str, said: str) -> None:
    put(SECOND, variant)
    try:
        done = alone(tmp_path, addresses=[FIRST.management_address, SECOND.management_address])
    finally:
        put(SECOND, "healthy")
    assert done.returncode == 1 and said in done.stderr and not (tmp_path / "mine").exists()
