# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""The SSH key made for the simulated nodes, and their host keys. Host key checking stays on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from simulation import host, settings
from simulation.host import Progress
from simulation.settings import Node, SimulationError


def require_ssh(progress: Progress) -> None:
    """Make sure that ssh and ssh-keygen are there (Ansible needs ssh as well). Raises SimulationError where they cannot be."""
    if not (shutil.which("ssh") and shutil.which("ssh-keygen")):
        host.install_packages(["openssh-client"], "reaching the simulated Sparks", progress)


def public_key(key: Path | None = None) -> str:
    """The public key that the nodes accept; the pair is made at the first call. key: file of another pair.

    Raises SimulationError when ssh-keygen fails.
    """
    key = key or settings.key_file()
    public = key.with_suffix(".pub")
    if not (key.exists() and public.exists()):
        key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        key.unlink(missing_ok=True)
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "dgx-spark simulation", "-f", str(key)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SimulationError(f"ssh-keygen could not make {key}: {host.last_line(done.stderr)}")
    return public.read_text(encoding="ascii").strip()


def merge_known_hosts(old: str, keys: Mapping[str, Iterable[str]]) -> str:
    """The known_hosts text with the lines of some addresses replaced.

    old: present text. keys: address -> public host keys (`type base64 [comment]`).
    """
    kept = [line for line in old.splitlines() if line.strip() and line.split()[0] not in keys]
    new = [" ".join([address, *key.split()[:2]]) for address, lines in keys.items() for key in lines if key.strip()]
    return "".join(f"{line}\n" for line in sorted([*kept, *new]))


def update_known_hosts(keys: Mapping[str, Iterable[str]]) -> None:
    """Write the nodes' host keys where Ansible and ssh look for them."""
    path = settings.known_hosts_file()
    old = path.read_text(encoding="ascii") if path.exists() else ""
    new = merge_known_hosts(old, keys)
    if new != old:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(new, encoding="ascii")


def ssh_config(nodes: Iterable[Node]) -> str:
    """Settings for `ssh -F` and for test tools: each node by its name, without any of the user's own settings."""
    hosts = "".join(f"Host {node.name}\n    HostName {node.management_address}\n" for node in nodes)
    return hosts + common_ssh_config(settings.key_file(), settings.known_hosts_file())


def common_ssh_config(key: Path, known_hosts: Path) -> str:
    """What holds for every simulated machine, by its key and its known hosts."""
    return f"""Host *
    User {settings.USER}
    IdentityFile "{key}"
    UserKnownHostsFile "{known_hosts}"
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    IdentitiesOnly yes
    BatchMode yes
    ConnectTimeout 5
    LogLevel ERROR
"""


def write_ssh_config(nodes: Iterable[Node]) -> None:
    """Write them into the state folder."""
    path = settings.ssh_config_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(ssh_config(nodes), encoding="utf-8")


def ssh_command(node: Node, *command: str) -> list[str]:
    """The ssh command line to a node, by its management address."""
    return ["ssh", "-F", str(settings.ssh_config_file()), node.name, *command]


def run(node: Node, *command: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    """Run a command on a node by ssh, as the ordinary user. timeout: seconds.

    Raises SimulationError when the node does not answer in time.
    """
    try:
        return subprocess.run(ssh_command(node, *command), capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise SimulationError(
            f"{node.name} ({node.management_address}) did not answer by ssh within {timeout:.0f} s."
        ) from None
