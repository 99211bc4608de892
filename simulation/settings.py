# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Names, addresses and places of the simulation: every constant that more than one file needs.

`inventory/simulation/hosts.yml` repeats the node addresses, because an inventory is read without this code; a unit test
compares the two.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
"""Root of the checkout."""

LABEL = "dgx-spark-sim"
"""Docker label that marks everything of the simulation; its value says what the object is."""
LABEL_SPECIFICATION = "dgx-spark-sim.specification"
"""Docker label with the digest of the options that a container was made with."""

USER = "spark"
"""Ordinary user with sudo that Ansible comes in as."""
API_PORT = 8235
"""Public port of the endpoint, published on the loopback of this machine for the first node."""

HUB_NAME = "spark-hub"
HUB_CDN_NAME = "spark-cdn"
"""Second name of the hub's container: a redirect to it is a redirect to another host."""
HUB_ADDRESS = "172.31.235.2"
HUB_PORT = 8080
HUB_MODEL = "dgx-spark/tiny-qwen3-moe"

API_KEY_ON_NODE = "/etc/dgx-spark/secrets/api_key"

# Mount points inside a node.
NODE_IMAGES_FOLDER = "/opt/simulation/images"
NODE_WHEELS_FOLDER = "/opt/simulation/wheels"


class SimulationError(Exception):
    """The simulation cannot go on. The message is one sentence for the user: what, which value, what to do."""


@dataclass(frozen=True)
class Network:
    """One Docker network of the simulation."""

    key: str
    """Name that a user says, `management` or `fabric`."""
    name: str
    """Name in Docker."""
    bridge: str
    """Name of the bridge device on this machine (15 characters at most)."""
    subnet: str
    gateway: str
    mtu: int
    """Bytes."""
    internal: bool
    """Without a way out: the direct link between two Sparks has no gateway either."""


MANAGEMENT = Network("management", "spark-management", "br-spark-mgmt", "172.31.235.0/24", "172.31.235.1", 1500, False)
# 9000 is the MTU that NVIDIA's set-up guide gives the QSFP ports.
FABRIC = Network("fabric", "spark-fabric", "br-spark-fabric", "192.168.100.0/24", "192.168.100.1", 9000, True)
NETWORKS = (MANAGEMENT, FABRIC)


@dataclass(frozen=True)
class Node:
    """One simulated Spark."""

    name: str
    """Name of the container and hostname."""
    management_address: str
    fabric_address: str
    published_port: int | None = None
    """Port of the node that 127.0.0.1 of this machine forwards to, or None."""

    def address(self, network: Network) -> str:
        """The node's address in a network."""
        return self.management_address if network is MANAGEMENT else self.fabric_address


NODES = (
    Node("spark-1", "172.31.235.11", "192.168.100.10", published_port=API_PORT),
    Node("spark-2", "172.31.235.12", "192.168.100.11"),
)
HEAD = NODES[0]


def node(name: str) -> Node:
    """The node of that name.

    `spark-<n>` beyond the two of the demo exist as well (n up to 100), for tests that want more or other nodes.
    Raises SimulationError for any other name.
    """
    for known in NODES:
        if known.name == name:
            return known
    number = name.removeprefix("spark-")
    if name.startswith("spark-") and number.isdecimal() and number == str(int(number)) and 1 <= int(number) <= 100:
        return Node(name, f"172.31.235.{10 + int(number)}", f"192.168.100.{9 + int(number)}")
    raise SimulationError(f"There is no simulated node '{name}': nodes are called spark-1 to spark-100.")


def network(key: str) -> Network:
    """The network that a user calls `management` or `fabric`. Raises SimulationError for another word."""
    for known in NETWORKS:
        if key in (known.key, known.name):
            return known
    raise SimulationError(f"There is no network '{key}': the networks are {' and '.join(n.key for n in NETWORKS)}.")


def cache_folder() -> Path:
    """Folder of everything the simulation keeps on this machine."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "dgx-spark-vllm"


def state_folder() -> Path:
    """Folder of the running simulation: key, known hosts, state and logs. `down` removes it."""
    return cache_folder() / "simulation"


def key_file() -> Path:
    """Private SSH key that the nodes accept."""
    return state_folder() / "id_ed25519"


def known_hosts_file() -> Path:
    """Host keys of the nodes, as the nodes themselves gave them."""
    return state_folder() / "known_hosts"


def ssh_config_file() -> Path:
    """Settings with which `ssh -F` reaches the nodes by name."""
    return state_folder() / "ssh_config"


def api_key_file() -> Path:
    """Copy of the endpoint's key for the user's curl line, readable by the user alone."""
    return state_folder() / "api_key"


def run_log() -> Path:
    """Everything that Ansible said in the last runs of the demo."""
    return state_folder() / "run.log"


def durations_file() -> Path:
    """Seconds that each step of the demo took here; outlives `down`."""
    return cache_folder() / "demo-durations.json"


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where the file is missing or damaged (nothing kept there is irreplaceable)."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Replace a file by a JSON object, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(path)


def state() -> dict[str, Any]:
    """What the simulation remembers: `form` (how nodes are run), `owner` (who started it)."""
    return read_json(state_folder() / "state.json")


def remember(**values: Any) -> None:
    """Add to what the simulation remembers."""
    write_json(state_folder() / "state.json", {**state(), **values})
