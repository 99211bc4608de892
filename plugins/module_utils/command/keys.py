# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""``spark keys``: the gateway's named keys, by the same code as playbooks/keys.yml. A key is shown when it is made and never again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..docker.service_state import UNITS
from ..gateway.keys import Key, KeyProblem, Keys, change
from ..service.gates import API_KEY_FILE
from .cluster import CommandError
from .terminal import Terminal

FOLDER, SOCKET = Path("/etc/dgx-spark/gateway"), Path("/run/spark-gateway/admin.sock")
STATES = {"list": "listed", "add": "present", "rotate": "rotated", "withdraw": "absent"}
HEADS = ("name", "role", "per minute", "at once", "last day", "made")


def table(keys: list[Key]) -> list[str]:
    """Return the keys without themselves as lines."""
    rows = [HEADS]
    for key in keys:
        limits = [str(number) if number else "no limit" for number in (key.per_minute, key.at_once)]
        rows.append((key.name, key.role, limits[0], limits[1], key.ends or "none", key.made or "-"))
    sizes = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    return ["  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=True)).rstrip() for row in rows]


def run(
    what: str,
    name: str,
    given: Mapping[str, Any],
    terminal: Terminal,
    *,
    folder: Path = FOLDER,
    socket: Path = SOCKET,
    server_key: Path = Path(API_KEY_FILE),
    units: Path = UNITS,
) -> int:
    """List, add, rotate or withdraw.

    Raises:
        CommandError: the gateway is not here, or refuses; one sentence.
    """
    if not (units / "spark-gateway.service").exists():
        raise CommandError(
            "keys with names belong to the gateway, which is not on this node: it runs on the head, with gateway_enabled: true and site.yml"
        )
    try:
        keys = Keys(folder, socket, False)
        keys.server(server_key.read_text(encoding="utf-8").strip())
        known = [key.name for key in keys.keys]
        if what == "add" and name in known:
            raise CommandError(
                f"there is a key {name} already: rotate it, or take another name; playbooks/keys.yml changes its limits"
            )
        if what == "withdraw" and name not in known:
            raise CommandError(f"there is no key {name}, known are {', '.join(known) or 'none'}")
        made = change(keys, STATES[what], name, given)
        # What is done to keys; the files that follow from it are nobody's question.
        done = list(keys.actions)
        keys.save()
    except KeyProblem as error:
        raise CommandError(str(error)) from None
    for action in done:
        terminal.say(action)
    if made:
        terminal.say(f"the key of {name}, shown this once: {made}")
    if what == "list":
        for line in table(keys.keys):
            terminal.say(line)
    return 0
