# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Reaches the nodes: ssh for the first contact, Ansible for everything that is read. No password passes through here: ssh and sudo ask for theirs."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible_runner
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node.reach import judge_reach

from setup_wizard import inventory
from setup_wizard.console import Console, Refusal
from setup_wizard.proposal import Link, Look, Node, look_of, probes

ROOT = Path(__file__).resolve().parents[1]
#: Seconds for a node to answer.
PATIENCE = 10
#: Says on a node whether its user is root or becomes it without a password.
MAY_BECOME_ROOT = '[ "$(id -u)" = 0 ] || sudo -n true'


@dataclass(frozen=True)
class Shell:
    """How commands get to the nodes."""

    user: str
    ssh_args: str = ""

    def argv(self, node: Node, *command: str, options: Sequence[str] = ()) -> list[str]:
        """The command line that runs a command on a node."""
        if node.local:
            return ["sh", "-c", " ".join(command)]
        return ["ssh", *shlex.split(self.ssh_args), *options, f"{self.user}@{node.address}", *command]

    def run(self, node: Node, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on a node without asking anybody for anything."""
        options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", f"ConnectTimeout={PATIENCE}"]
        argv = self.argv(node, *command, options=options)
        environment = {**os.environ, "LC_ALL": "C"}
        try:
            return subprocess.run(
                argv,
                capture_output=True,
                text=True,
                check=False,
                timeout=3 * PATIENCE,
                env=environment,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(argv, 255, "", "Connection timed out")
        except FileNotFoundError:
            raise Refusal(f"there is no {argv[0]} on this machine: install openssh-client") from None

    def setting(self, node: Node, name: str) -> list[str]:
        """The values that ssh itself would use for a node, such as identityfile."""
        done = subprocess.run(
            ["ssh", *shlex.split(self.ssh_args), "-G", f"{self.user}@{node.address}"],
            capture_output=True,
            text=True,
            check=False,
        )
        return [line.partition(" ")[2] for line in done.stdout.splitlines() if line.startswith(f"{name} ")]


# --- this machine -------------------------------------------------------------------------------------------------


def is_here(address: str) -> bool:
    """Whether an address is one of this machine: only then can something listen there."""
    try:
        found = socket.getaddrinfo(address, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    family, kind, protocol, _name, where = found[0]
    with socket.socket(family, kind, protocol) as probe:
        try:
            probe.bind(where)
        except OSError:
            return False
    return True


def own_address(toward: str) -> str:
    """The address of this machine on the way to another; empty where there is no way. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((toward, 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def placed(addresses: Sequence[str]) -> list[Node]:
    """The nodes of these addresses. Loopback names this machine; the others reach it at another address. Raises Refusal for one machine twice."""
    here = {address for address in addresses if is_here(address)}
    if len(here) > 1:
        raise Refusal(f"{' and '.join(sorted(here))} are the same machine, this one: give each Spark once")
    # A documentation address stands for any far one: the way there is the default route.
    toward = next((address for address in addresses if address not in here), "192.0.2.1")
    nodes = []
    for place, address in enumerate(addresses, 1):
        name = address
        if address in here and (address == "localhost" or address.startswith("127.") or address == "::1"):
            name = own_address(toward)
            if not name or name.startswith("127."):
                raise Refusal(
                    f"{address} is this machine, and no address was found at which the others reach it: give that one"
                )
        nodes.append(Node(f"spark-{place}", name, address in here))
    return nodes


# --- first contact --------------------------------------------------------------------------------------------------


def enter(shell: Shell, node: Node, console: Console) -> None:
    """See that a node lets this user in with a key. Raises Refusal with the reason where it does not, and that cannot be helped."""
    if node.local:
        return
    for _attempt in range(3):
        done = shell.run(node, "true")
        said = done.stderr.strip().lower()
        if done.returncode == 0:
            return
        reason = _reason(node, shell, done.stderr)
        if "host key verification failed" in said and "has changed" not in said and not console.unattended:
            trust(shell, node, console)
        elif "permission denied" in said and not console.unattended:
            copy_key(shell, node, console, reason)
        else:
            raise Refusal(reason)
    raise Refusal(reason)


def _reason(node: Node, shell: Shell, said: str) -> str:
    result = {"unreachable": True, "msg": said or "ssh says nothing"}
    found = judge_reach(result, node.name, {"ansible_host": node.address, "ansible_user": shell.user})
    return found.sentence() if found else f"{node.address} does not answer"


def trust(shell: Shell, node: Node, console: Console) -> None:
    """Show the fingerprint of a machine that ssh does not know, and remember its key if a person agrees."""
    port = (shell.setting(node, "port") or ["22"])[0]
    scanned = subprocess.run(
        ["ssh-keyscan", "-T", str(PATIENCE), "-p", port, "-t", "ed25519,ecdsa,rsa", node.address],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    lines = [line for line in scanned.splitlines() if line and not line.startswith("#")]
    shown = subprocess.run(
        ["ssh-keygen", "-lf", "-"], input=scanned, capture_output=True, text=True, check=False
    ).stdout
    if not lines or not shown:
        raise Refusal(
            f"the host key of {node.address} could not be read: log in once with ssh {shell.user}@{node.address}"
        )
    console.say(
        f"  This machine does not know {node.address} yet. Its fingerprint, as `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows it there:"
    )
    for line in shown.splitlines():
        console.say(f"    {line}")
    if not console.yes("  Is it the right machine?", default=False):
        raise Refusal(f"the host key of {node.address} is not trusted: nothing was written")
    known = Path(
        (shell.setting(node, "userknownhostsfile") or ["~/.ssh/known_hosts"])[0].split()[0].strip('"')
    ).expanduser()
    known.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with known.open("a", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in lines)


def copy_key(shell: Shell, node: Node, console: Console, reason: str) -> None:
    """Offer to make a key, where there is none, and to copy it; ssh-copy-id asks for the node's password itself."""
    keys = [Path(name).expanduser() for name in shell.setting(node, "identityfile")]
    key = next((path for path in keys if path.is_file()), None)
    if key is None:
        key = next((path for path in keys if path.name == "id_ed25519"), Path("~/.ssh/id_ed25519").expanduser())
        if not console.yes(f"  There is no SSH key here. Make one ({key}, without a passphrase)?"):
            raise Refusal(reason)
        key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=False).returncode:
            raise Refusal(f"ssh-keygen could not make {key}: make a key by hand")
    if not console.yes(
        f"  {node.address} does not take your key. Copy {key}.pub there (it asks for the password of {shell.user} once)?"
    ):
        raise Refusal(reason)
    # ssh-copy-id works in that folder, wherever the key is, and ends where it is missing. It gets none of the options with which ssh asks nobody.
    (Path.home() / ".ssh").mkdir(mode=0o700, exist_ok=True)
    argv = ["ssh-copy-id", "-i", f"{key}.pub", *shlex.split(shell.ssh_args), f"{shell.user}@{node.address}"]
    if subprocess.run(argv, check=False).returncode:
        raise Refusal(
            f"ssh-copy-id could not copy {key}.pub to {shell.user}@{node.address}: copy it by hand, then run this again"
        )


def asks_for_sudo(shell: Shell, node: Node, console: Console) -> bool:
    """Return whether sudo asks for a password on a node. Raises Refusal where its user may not use sudo at all."""
    done = shell.run(node, MAY_BECOME_ROOT if node.local else shlex.join(["sh", "-c", MAY_BECOME_ROOT]))
    if done.returncode == 0:
        return False
    said = done.stderr.strip()
    found = judge_reach({"msg": said}, node.name, {"ansible_host": node.address, "ansible_user": shell.user})
    reason = found.sentence() if found else f"{node.name}: sudo does not work"
    if "a password is required" not in said and "a terminal is required" not in said:
        raise Refusal(reason)
    if console.unattended:
        return True
    console.say(
        f"  sudo asks {shell.user} for a password on {node.name}. It is asked for now, by sudo on the node, to see that it works; it is not kept."
    )
    if subprocess.run(shell.argv(node, "sudo", "-v", options=["-t", "-q"]), check=False).returncode:
        raise Refusal(
            f"{shell.user} did not get root's rights on {node.name} by sudo: take the right password, or add that user to the group sudo"
        )
    return True


# --- what is read -------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """How a play ended: results by task and host, and a sentence for each host that failed."""

    results: dict[tuple[str, str], list[dict[str, Any]]]
    failures: list[str]


def play(book: str | list[dict[str, Any]], folder: Path) -> Outcome:
    """Run a playbook with the inventory in a folder; nothing of it is shown or kept."""
    outcome = Outcome({}, [])

    def handle(event: Mapping[str, Any]) -> bool:
        data = event.get("event_data") or {}
        result = data.get("res") or {}
        if event["event"] in ("runner_on_ok", "runner_item_on_ok"):
            outcome.results.setdefault((str(data["task"]), str(data["host"])), []).append(result)
        elif event["event"] in ("runner_on_failed", "runner_on_unreachable") and not data.get("ignore_errors"):
            names = {"ansible_host": data.get("host"), "ansible_user": ""}
            unreachable = event["event"] == "runner_on_unreachable"
            found = (
                judge_reach({**result, "unreachable": unreachable}, str(data["host"]), names) if unreachable else None
            )
            said = str(result.get("msg") or result.get("module_stderr") or "it failed").strip()
            outcome.failures.append(found.sentence() if found else said)
        return False

    programs = Path(sys.executable).parent
    with tempfile.TemporaryDirectory(prefix="dgx-spark-setup-") as private:
        done = ansible_runner.run(
            private_data_dir=private,
            playbook=book,
            inventory=str(folder),
            event_handler=handle,
            # The configuration is named, because Ansible ignores the one in a folder that everybody may write to.
            envvars={
                "PATH": f"{programs}:{os.environ.get('PATH', '')}",
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            },
            quiet=True,
        )
        if done.status == "canceled":
            raise KeyboardInterrupt
        if done.status != "successful" and not outcome.failures:
            said = Path(done.config.artifact_dir, "stdout").read_text(encoding="utf-8", errors="replace").split("ERROR")
            outcome.failures.append(" ".join(said[-1].split())[:400] or "ansible-playbook ended before its first task")
    return outcome


def looks(nodes: Sequence[Node], shell: Shell) -> tuple[list[Look], list[tuple[str, str, str, str]]]:
    """What the nodes show, read without root's rights, and which of their ends answered (see `proposal.probes`). Raises Refusal where one cannot be read."""
    with tempfile.TemporaryDirectory(prefix="dgx-spark-setup-") as name:
        folder = Path(name)
        link = Link(tuple("192.168.100.10" for _ in nodes))
        hosts = inventory.hosts_text(nodes, link, shell.user, shell.ssh_args, False)
        (folder / inventory.HOSTS).write_text(hosts, encoding="utf-8")
        read = play([_look_play()], folder)
        if read.failures:
            raise Refusal(read.failures[0])
        found = [
            look_of(
                node.name,
                read.results["Gather facts", node.name][0]["ansible_facts"],
                read.results["Read the link", node.name][0]["fabric"],
            )
            for node in nodes
        ]
        asked = probes(found)
        rows: list[dict[str, Any]] = []
        if asked:
            answers = play([_ping_play(nodes[0].name, [address for _way, address, _name, _far in asked])], folder)
            rows = answers.results.get(("Ask the other end", nodes[0].name), [])
    arrived = {str(row["_ansible_item_label"]) for row in rows if row.get("rc") == 0 and "_ansible_item_label" in row}
    return found, [entry for entry in asked if entry[1] in arrived]


def _look_play() -> dict[str, Any]:
    return {
        "hosts": "sparks",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Gather facts",
                "ansible.builtin.setup": {
                    "gather_subset": ["!all", "!min", "network", "hardware", "platform"],
                    "gather_timeout": 20,
                },
            },
            {
                "name": "Read the link",
                "dgx_spark.vllm.fabric_info": {"address": "{{ spark_fabric_address }}", "judge": False},
            },
        ],
    }


def _ping_play(host: str, addresses: Sequence[str]) -> dict[str, Any]:
    argv = ["ping", "-6", "-n", "-q", "-c", "1", "-W", "1", "{{ item }}"]
    return {
        "hosts": host,
        "gather_facts": False,
        "tasks": [
            {
                "name": "Ask the other end",
                "ansible.builtin.command": {"argv": argv},
                "loop": list(addresses),
                "changed_when": False,
                "failed_when": False,
            }
        ],
    }


def problems_of(files: Mapping[str, str], folder: Path) -> list[str]:
    """What the check of site.yml says against an inventory before it is written. Other files of the folder count with it."""
    with tempfile.TemporaryDirectory(prefix="dgx-spark-setup-") as name:
        trial = Path(name) / folder.name
        if folder.is_dir():
            shutil.copytree(folder, trial)
        inventory.write(trial, files)
        return play(str(ROOT / "playbooks" / "settings.yml"), trial).failures
