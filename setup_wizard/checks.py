# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Checks of what was answered. Each returns the value, or raises ValueError with a sentence (no full stop)."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Collection, Mapping
from typing import Any

#: Sparks that an inventory of this project is tested for, by the settings check at least.
MOST_NODES = 4
#: Keys of a file of answers, with what each holds.
ANSWERS = {
    "nodes": "addresses of the Sparks, the head first",
    "user": "the user for SSH, who may use sudo",
    "ssh_args": "further options of ssh, as on its command line",
    "fabric_addresses": "an address on the QSFP link for each node",
    "store": "folder of the weights",
    "model": "a file of models/, without .yml",
}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*\.?")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}\$?")


def address(text: str, taken: Collection[str] = ()) -> str:
    """An address at which SSH reaches a machine."""
    if "@" in text:
        raise ValueError(f"{text!r} holds a user: give the address alone, the user is asked for next")
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        # What looks like numbers is a mistyped address, which a name server should not be asked for.
        if not _HOST.fullmatch(text) or len(text) > 253 or re.fullmatch(r"[\d.]+", text):
            raise ValueError(f"{text!r} is no address: expected one like 10.0.0.5, or a host name") from None
        name = text.rstrip(".").lower()
    else:
        if found.is_unspecified or found.is_multicast or str(found) == "255.255.255.255":
            raise ValueError(f"{text!r} is no address of one machine: expected one like 10.0.0.5")
        name = str(found)
    if name in taken:
        raise ValueError(f"{name} is named already: give each Spark once")
    return name


def user(text: str) -> str:
    """Name of a user on the nodes."""
    if not _USER.fullmatch(text):
        raise ValueError(f"{text!r} is no name of a user")
    return text


def ssh_args(text: str) -> str:
    """Further options of ssh."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"ssh_args {text!r} cannot be read ({error})") from None
    if words and not words[0].startswith("-"):
        raise ValueError(f"ssh_args {text!r} do not begin with an option: expected such as -o ProxyJump=gate")
    return text


def fabric_address(text: str, others: Collection[str] = (), prefix: int = 24) -> str:
    """An address on the link, beside those of the nodes before it."""
    try:
        found = ipaddress.IPv4Interface(f"{text}/{prefix}")
    except ValueError:
        raise ValueError(f"{text!r} is no IPv4 address: expected one like 192.168.100.10") from None
    network = found.network
    if "/" in text or found.ip in (network.network_address, network.broadcast_address) or found.is_loopback:
        raise ValueError(f"{text!r} is no address of a node in {network}: expected one like {network[10]}")
    for other in others:
        if other == str(found.ip):
            raise ValueError(f"{text} is the address of another node: give each its own")
        if ipaddress.IPv4Address(other) not in network:
            raise ValueError(f"{text} is not in the subnet of {other} (/{prefix}): the nodes of a link share one")
    return str(found.ip)


def store(text: str) -> str:
    """Folder of the weights."""
    if not re.fullmatch(r"/[A-Za-z0-9._/-]+", text) or ".." in text.split("/") or not text.strip("/"):
        raise ValueError(f"{text!r} is no folder for weights: expected a full path like /srv/models, without spaces")
    return text.rstrip("/")


def answers(raw: Any, path: str) -> dict[str, Any]:
    """The mapping of a file of answers, once its keys and types are known."""
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise ValueError(f"{path} holds no mapping: expected lines like `user: you`")
    for key, value in raw.items():
        if key not in ANSWERS:
            raise ValueError(f"{path}: {key!r} is unknown: known are {', '.join(ANSWERS)}")
        many = key in ("nodes", "fabric_addresses")
        if many and not (isinstance(value, list) and value and all(isinstance(entry, str) for entry in value)):
            raise ValueError(f"{path}: {key} is {value!r}, expected a list: {ANSWERS[key]}")
        if not many and not isinstance(value, str):
            raise ValueError(f"{path}: {key} is {value!r}, expected a text: {ANSWERS[key]}")
    if len(raw.get("nodes") or []) > MOST_NODES:
        raise ValueError(f"{path}: nodes are {len(raw['nodes'])}, expected at most {MOST_NODES}")
    return dict(raw)
