# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A person at a terminal, and nobody at all: the whole program, its Ansible included. Only ssh, sudo and their like are stand-ins.

The stand-in of ssh runs what it is given on this machine, so that every node looks like it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
import yaml

ROOT = Path(__file__).parents[3]
PROGRAMS = {
    # Says what a file `refused` holds in the place of an answer; knows a node whose key was never seen.
    "ssh": """
first=$1
while [ $# -gt 0 ]; do
  case $1 in
    -o|-F|-i|-l|-p|-S) shift 2 ;;
    -G) printf 'port 22\\nidentityfile %s/id_ed25519\\nuserknownhostsfile %s/known_hosts\\n' "$WORLD" "$WORLD"; exit 0 ;;
    -*) shift ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || exit 255
if [ -e "$WORLD/refused" ]; then cat "$WORLD/refused" >&2; exit 255; fi
if [ ! -e "$WORLD/known_hosts" ]; then echo 'Host key verification failed.' >&2; exit 255; fi
if [ ! -e "$WORLD/authorized" ]; then echo 'you@node: Permission denied (publickey,password).' >&2; exit 255; fi
shift
exec sh -c "$*"
""",
    "ssh-keyscan": 'printf \'%s \' "$7"; cat "$WORLD/host.pub"',
    "ssh-copy-id": """
printf "you@10.99.0.1's password: " >/dev/tty
read -r said </dev/tty
[ "$said" = secret ] && touch "$WORLD/authorized"
""",
    "sudo": """
if [ "$1" = -n ]; then [ -e "$WORLD/sudo_asks" ] || exit 0; cat "$WORLD/sudo_asks" >&2; exit 1; fi
printf '[sudo] password for you: ' >/dev/tty; read -r said </dev/tty; [ "$said" = secret ]
""",
    "id": "echo 1000",
}
KNOWN = "sudo: a password is required\n"


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder with the stand-ins and with what they show; no node is known yet, none takes a key."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}")
        (programs / name).chmod(0o755)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "host"], check=True)
    return tmp_path


def entered(world: Path) -> None:
    """Let the node be known and take the key."""
    (world / "known_hosts").touch()
    (world / "authorized").touch()


def environment(world: Path) -> dict[str, str]:
    return {**os.environ, "WORLD": str(world), "PATH": f"{world / 'bin'}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}


def command(world: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "setup_wizard", "--inventory", str(world / "mine"), *options]


def alone(world: Path, answers: str, *options: str) -> tuple[int, str, str]:
    """Run it with nobody there; return status, output, errors."""
    (world / "answers.yml").write_text(answers)
    argv = command(world, "--answers", str(world / "answers.yml"), "--yes", *options)
    done = subprocess.run(
        argv, cwd=ROOT, env=environment(world), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def person(world: Path, *options: str) -> pexpect.spawn:
    argv = command(world, *options)
    return pexpect.spawn(
        argv[0],
        argv[1:],
        cwd=str(ROOT),
        env=environment(world),
        encoding="utf-8",
        timeout=90,
        dimensions=(50, 200),
        # Tests that a shell started in the background have Ctrl-C ignored, and hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_a_person_answers_from_the_first_question_to_the_next_command(world: Path) -> None:
    (world / "sudo_asks").write_text(KNOWN)
    said = person(world)
    said.expect("Address of Spark 1, the head: ")
    said.sendline("10.99.0.300")
    said.expect("'10.99.0.300' is no address")
    said.expect("Address of Spark 1")
    said.sendline("10.99.0.1")
    said.expect("Address of Spark 2 .empty: no more.: ")
    said.sendline("")
    said.expect("User for SSH, who may use sudo ")
    said.sendline("you")
    said.expect("does not know 10.99.0.1 yet")
    said.expect("SHA256:")
    said.expect("Is it the right machine")
    said.sendline("y")
    said.expect("There is no SSH key here. Make one")
    said.sendline("y")
    said.expect("Copy .*id_ed25519.pub there")
    said.sendline("y")
    said.expect("password: ")
    said.sendline("secret")
    said.expect("sudo asks you for a password on spark-1")
    said.expect("password for you: ")
    said.sendline("secret")
    said.expect("sudo asks for a password: -K")
    said.expect("one Spark: no link to configure")
    said.expect("Folder of the weights, on each node")
    said.sendline("models")
    said.expect("full path like /srv/models")
    said.sendline("/srv/models")
    said.expect("gpt-oss-120b .*Model .gpt-oss-120b.: ")
    said.sendline("qwen3-235b-awq")
    said.expect("whose weights take 2 Sparks")
    said.sendline("")
    said.expect("ansible_host: 10.99.0.1")
    said.expect("Write .*mine. .Y/n.: ")
    assert not (world / "mine").exists()
    said.sendline("y")
    said.expect("Run the report now")
    said.sendline("n")
    said.expect("Next: .*ansible-playbook -i .*mine site.yml -K")
    said.expect(pexpect.EOF)
    said.close()
    assert said.exitstatus == 0
    hosts = yaml.safe_load((world / "mine" / "hosts.yml").read_text())["sparks"]
    assert hosts["vars"] == {"ansible_user": "you"}
    assert "10.99.0.1 ssh-ed25519 " in (world / "known_hosts").read_text()
    assert not [path for path in (world / "mine").rglob("*") if path.is_file() and "secret" in path.read_text()]


def test_control_c_leaves_nothing(world: Path) -> None:
    entered(world)
    said = person(world)
    said.expect("Address of Spark 1")
    said.sendline("10.99.0.1")
    said.expect("Address of Spark 2")
    # Python may miss one that comes between the prompt and the read; a person presses it again.
    for _press in range(20):
        said.sendintr()
        if said.expect(["Stopped: nothing was written", pexpect.TIMEOUT], timeout=5) == 0:
            break
    said.expect(pexpect.EOF)
    said.close()
    assert said.exitstatus == 130 and not (world / "mine").exists()


def test_a_host_key_that_is_not_agreed_to_is_not_kept(world: Path) -> None:
    (world / "answers.yml").write_text("nodes: [10.99.0.1]\nuser: you\n")
    said = person(world, "--answers", str(world / "answers.yml"))
    said.expect("Is it the right machine. .y/N.: ")
    said.sendline("")
    said.expect("ERROR: the host key of 10.99.0.1 is not trusted")
    said.expect(pexpect.EOF)
    assert not (world / "known_hosts").exists() and not (world / "mine").exists()


ONE = "nodes: [10.99.0.1]\nuser: you\nstore: /data/models\n"


def test_nobody_there_writes_once_and_then_only_where_it_is_told_to(world: Path) -> None:
    entered(world)
    assert alone(world, ONE, "--no-report")[0] == 0
    settings = world / "mine" / "group_vars" / "all.yml"
    assert yaml.safe_load(settings.read_text())["spark_store_path"] == "/data/models"
    status, said, _errors = alone(world, ONE, "--no-report")
    assert status == 0 and "says all of this already" in said
    other = ONE.replace("/data", "/srv")
    status, said, errors = alone(world, other, "--no-report")
    assert status == 1 and "+spark_store_path: /srv/models" in said and "is in use and would change" in errors
    assert "/data/models" in settings.read_text()
    assert alone(world, other, "--no-report", "--replace")[0] == 0
    assert "/srv/models" in settings.read_text()


def test_settings_that_are_not_sound_are_not_written(world: Path) -> None:
    entered(world)
    assert alone(world, ONE, "--no-report")[0] == 0
    settings = world / "mine" / "group_vars" / "all.yml"
    settings.write_text(settings.read_text() + "spark_modell: x\n")
    before = settings.read_text()
    status, _said, errors = alone(world, ONE.replace("/data", "/srv"), "--no-report", "--replace")
    assert status == 1 and "nothing was written" in errors and "spark_modell" in errors
    assert settings.read_text() == before


def test_one_machine_twice(world: Path) -> None:
    entered(world)
    status, _said, errors = alone(world, "nodes: [10.99.0.1, 10.99.0.2]\nuser: you\n")
    assert status == 1 and "10.99.0.1 and 10.99.0.2 are the same machine: give each Spark once" in errors
    status, _said, errors = alone(world, "nodes: [127.0.0.1, localhost]\nuser: you\n")
    assert status == 1 and "are the same machine, this one" in errors


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        ("ssh: connect to host 10.99.0.1 port 22: Connection refused", "Connection refused.*sshd runs"),
        ("ssh: Could not resolve hostname spark: Name or service not known", "correct ansible_host"),
        ("ssh: connect to host 10.99.0.1 port 22: Connection timed out", "see that the machine is up"),
        ("you@10.99.0.1: Permission denied (publickey).", "ssh-copy-id"),
        ("Host key verification failed.", "ssh-keygen -R 10.99.0.1"),
    ],
)
def test_a_node_that_does_not_let_in_is_told_in_one_sentence(world: Path, refused: str, said: str) -> None:
    (world / "refused").write_text(refused)
    status, _said, errors = alone(world, ONE)
    assert status == 1 and len(errors.strip().splitlines()) == 1 and not (world / "mine").exists()
    assert re.search(said, errors), errors


def test_a_user_without_sudo(world: Path) -> None:
    entered(world)
    (world / "sudo_asks").write_text("you is not in the sudoers file.\n")
    status, _said, errors = alone(world, ONE)
    assert status == 1 and "user you may not use sudo: add it to the group sudo" in errors


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ("nodes: [10.0.0.300]", "'10.0.0.300' is no address"),
        ("nodes: [10.0.0.5, 10.0.0.5]", "named already"),
        ("user: you", "nodes has no default"),
        ("nodes: [10.99.0.1]\nuser: a b", "'a b' is no name of a user"),
        ("nodes: [", "is no YAML"),
        ("pass: x", "'pass' is unknown"),
    ],
)
def test_bad_answers(world: Path, answers: str, said: str) -> None:
    status, _said, errors = alone(world, answers)
    assert status == 1 and said in errors and errors.count("ERROR") == 1
