# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What it takes to stop other people's containers and units so that they stay stopped, and to bring them back."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..docker.cli import DOCKER, DockerError, inspect_container
from ..docker.service import DIGEST_LABEL
from ..system.units import ORDER
from .occupants import OURS, protected
from .requirements import Runner


class TakeoverError(Exception):
    """One sentence for the user."""


@dataclass(frozen=True)
class Step:
    """One thing to stop: its name in words, the commands that stop it, and those that bring it back."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    undo: tuple[str, ...]


def plan(run: Runner, containers: Sequence[str], units: Sequence[str]) -> list[Step]:
    """Return what has to be done; empty where nothing of it runs or would come back.

    Raises:
        TakeoverError: something is ours or must not be stopped, or cannot be looked at; nothing has been done then.
    """
    for name in [*containers, *units]:
        if name in ORDER or (name in units and name.startswith(OURS)):
            raise TakeoverError(f"{name} is of this collection: stop the cluster with playbooks/stop.yml instead")
        if not name or name.startswith("-"):
            raise TakeoverError(f"{name!r} is no name of a container or a unit")
    for name in units:
        if protected(name):
            raise TakeoverError(f"{name} is part of the system and is not stopped: remove it from the list")
        if "." not in name:
            raise TakeoverError(f"unit {name!r} has no suffix: write it as {name}.service")
    return [
        *(step for name in dict.fromkeys(containers) for step in _container(run, name)),
        *(step for name in dict.fromkeys(units) for step in _unit(run, name)),
    ]


def _container(run: Runner, name: str) -> Iterator[Step]:
    try:
        document = inspect_container(run, name)
    except DockerError as error:
        raise TakeoverError(f"container {name} cannot be inspected: {error}") from None
    if document is None:
        return
    if DIGEST_LABEL in ((document.get("Config") or {}).get("Labels") or {}):
        raise TakeoverError(f"{name} is of this collection: stop the cluster with playbooks/stop.yml instead")
    running = bool(document["State"]["Running"])
    # As --restart takes it: on-failure may have a number behind a colon.
    policy = document["HostConfig"].get("RestartPolicy") or {}
    restart = str(policy.get("Name") or "no")
    if restart == "on-failure" and policy.get("MaximumRetryCount"):
        restart = f"on-failure:{policy['MaximumRetryCount']}"
    returns = restart != "no"
    if not running and not returns:
        return
    quoted = shlex.quote(name)
    commands: list[tuple[str, ...]] = [(DOCKER, "update", "--restart=no", name)] if returns else []
    undo = [f"docker update --restart={restart} {quoted}"] if returns else []
    if running:
        commands.append((DOCKER, "stop", name))
        undo.append(f"docker start {quoted}")
    yield Step(f"container {name}", tuple(commands), tuple(undo))


def _unit(run: Runner, name: str) -> Iterator[Step]:
    status, out, err = run(["systemctl", "show", name, "--property=LoadState,ActiveState,UnitFileState"])
    if status != 0:
        raise TakeoverError(
            f"unit {name} cannot be inspected: {' '.join((err or out).split())}; is systemd running on this node?"
        )
    state = dict(line.partition("=")[::2] for line in out.splitlines())
    if state.get("LoadState") == "not-found":
        return
    active = state.get("ActiveState") in {"active", "activating", "reloading"}
    enabled = state.get("UnitFileState") == "enabled"
    if not active and not enabled:
        return
    commands: list[tuple[str, ...]] = [("systemctl", "disable", name)] if enabled else []
    undo = [f"sudo systemctl enable {shlex.quote(name)}"] if enabled else []
    if active:
        commands.append(("systemctl", "stop", name))
        undo.append(f"sudo systemctl start {shlex.quote(name)}")
    yield Step(name, tuple(commands), tuple(undo))
