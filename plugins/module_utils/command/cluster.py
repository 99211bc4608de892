# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a node knows of its cluster without asking the controller: the record that role node_tools writes, without any secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from ..system.files import read_json

RECORD = Path("/etc/dgx-spark/cluster.json")


class CommandError(Exception):
    """One sentence for the person who gave the command."""


@dataclass(frozen=True)
class Cluster:
    """What the settings say.

    Attributes:
        node: inventory name of this node.
        head: inventory name of the head.
        addresses: fabric addresses by inventory name.
        gpus: GPUs of all nodes together.
        ray: whether the ranks run under Ray.
        model: name under which the model is served.
        endpoint: where clients reach it.
        server_url: of vLLM, on the head itself.
        dashboard_url: of Ray, on the head itself.
        store: folder of the weights.
        repo_id, revision: of the weights.
        reserve_gib: GiB of available memory at which processes are ended.
        watchdog: whether it runs.
        gateway: whether it runs.
        start_s: seconds that a start may take.
        drain_s: seconds that requests get to end before a stop.
    """

    node: str
    head: str
    addresses: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0
    ray: bool = True
    model: str = ""
    endpoint: str = ""
    server_url: str = ""
    dashboard_url: str = ""
    store: str = "/"
    repo_id: str = ""
    revision: str = ""
    reserve_gib: float = 0.0
    watchdog: bool = True
    gateway: bool = False
    start_s: int = 3600
    drain_s: int = 0

    @property
    def on_head(self) -> bool:
        """Whether this node is the head."""
        return self.node == self.head

    @property
    def others(self) -> list[str]:
        """The names of the other nodes."""
        return [name for name in self.addresses if name != self.node]


def load(path: Path = RECORD) -> Cluster:
    """Return what is recorded on this node.

    Raises:
        CommandError: nothing usable is; one sentence.
    """
    found = read_json(path)
    if found is None:
        raise CommandError(
            f"{path} is missing or no JSON, so that nothing is known of the cluster: run site.yml, which writes it"
        )
    try:
        return Cluster(**{each.name: found[each.name] for each in fields(Cluster) if each.name in found})
    except TypeError:
        raise CommandError(f"{path} does not name node and head: run site.yml, which writes it") from None
