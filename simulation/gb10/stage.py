# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Puts a variant on a running simulated node, or takes the stand-ins away (`python -m simulation gb10 NODE VARIANT`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import docker

from simulation import nodes, settings
from simulation.gb10.variants import VARIANTS, Variant
from simulation.gb10.world import FOLDER, World, healthy
from simulation.host import Progress
from simulation.settings import Node, SimulationError

HEALTHY = "healthy"
OFF = "off"


def names() -> list[str]:
    """What can be put on a node."""
    return [HEALTHY, *(slug(entry.name) for entry in VARIANTS), OFF]


def slug(name: str) -> str:
    """A variant's name as one word of a command line."""
    return name.replace("'", "").replace(",", "").replace(" ", "-")


def find(name: str) -> Variant:
    """The variant of that name. Raises SimulationError for a word that is none."""
    for entry in VARIANTS:
        if name in (entry.name, slug(entry.name)):
            return entry
    raise SimulationError(f"There is no variant '{name}' of a GB10: {', '.join(names())}.")


def world(node: Node, variants: Sequence[Variant] = ()) -> World:
    """The world of a node: healthy, or sick in these ways."""
    found = healthy(node, other(node))
    for variant in variants:
        variant.sicken(found)
    return found


def other(node: Node) -> Node:
    """The node at the other end of the cable."""
    return next(entry for entry in settings.NODES if entry.name != node.name)


def named(name: str) -> list[Variant] | None:
    """What a word of the command line stands for; None to take the stand-ins away. Raises SimulationError for another word."""
    return None if name == OFF else [] if name == HEALTHY else [find(name)]


def show(client: docker.DockerClient, progress: Progress, node: Node, variants: Sequence[Variant] | None) -> None:
    """Put variants on a node in the place of those before; None takes the stand-ins away. Raises SimulationError where it cannot be."""
    word = OFF if variants is None else json.dumps(world(node, variants).document())
    nodes.execute(client, node, ["python3", "-c", (FOLDER / "node.py").read_text(encoding="utf-8"), word], "be a GB10")
    if variants is None:
        progress(f"{node.name}: the stand-ins are gone.")
    else:
        progress(f"{node.name}: a GB10, {', '.join(one.name for one in variants) or HEALTHY}.")


def off(client: docker.DockerClient, progress: Progress, among: Iterable[Node]) -> None:
    """Take the stand-ins away from nodes."""
    for node in among:
        show(client, progress, node, None)
