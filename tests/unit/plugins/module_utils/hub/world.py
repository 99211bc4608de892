# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A small model, a hub that serves it, and a store: what the tests of the weights stand on."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.client import Hub
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.fetch import HubSource
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.snapshot import Outcome, Request, present
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.store import Store

from simulation.hub.faults import parse
from simulation.hub.server import Hub as FakeHub
from simulation.hub.server import running

REPO = "tests/tiny-model"
SHARDS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]


def make_model(folder: Path, size: int = 200_000) -> Path:
    """Write a model of three shards of about ``size`` bytes each; return its folder."""
    dice = random.Random(7)
    (folder / "extra").mkdir(parents=True)
    for number, shard in enumerate(SHARDS):
        (folder / shard).write_bytes(dice.randbytes(size + number))
    index = {"metadata": {}, "weight_map": {f"layer.{number}": shard for number, shard in enumerate(SHARDS)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text('{"architectures": ["TinyForCausalLM"]}')
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    (folder / "extra" / "notes[1].txt").write_text("a name with a bracket\n")
    (folder / "empty.txt").touch()
    return folder


class World:
    """A hub on loopback with one repository, and stores below one folder."""

    def __init__(self, hub: FakeHub, folder: Path) -> None:
        self.hub = hub
        self.folder = folder
        self.model = folder / "model"

    @property
    def commit(self) -> str:
        """The commit of branch main."""
        return str(self.hub.repositories[REPO].heads["main"])

    @property
    def endpoint(self) -> str:
        """The address of the hub."""
        return f"http://127.0.0.1:{self.hub.server_port}"

    def store(self, name: str = "store") -> Store:
        """Return a store."""
        return Store(self.folder / name)

    def source(self, token: str = "") -> HubSource:
        """Return the hub as a source."""
        return HubSource(Hub(self.endpoint, token, "with a token" if token else "no token was sent"), REPO)

    def bring(self, name: str = "store", token: str = "", check: bool = False, **asked: Any) -> Outcome:
        """Bring the snapshot into a store."""
        asked.setdefault("revision", "main")
        return present(self.store(name), Request(REPO, **asked), self.source(token), check)

    def snapshot(self, name: str = "store") -> Path:
        """Return the folder of the snapshot."""
        return self.store(name).snapshot(REPO, self.commit)

    def same(self, name: str = "store") -> bool:
        """Say whether the snapshot holds exactly the model."""

        def content(folder: Path) -> dict[str, bytes]:
            return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

        return content(self.snapshot(name)) == content(self.model)

    def faults(self, **rules: Any) -> None:
        """Make the hub do something wrong."""
        self.hub.faults.add(parse(rules))

    def asked(self) -> list[Any]:
        """Return the requests since the last call."""
        with self.hub.lock:
            log = list(self.hub.log)
            self.hub.log.clear()
        return log

    def fetched(self) -> list[str]:
        """Return the names of files whose content was asked for since the last call."""
        return sorted(r.path.partition("/resolve/")[2].partition("/")[2] for r in self.asked()
                      if r.method == "GET" and "/resolve/" in r.path)  # fmt: skip


@contextlib.contextmanager
def open_world(folder: Path, size: int = 200_000) -> Iterator[World]:
    """Run a hub for a while."""
    make_model(folder / "model", size)
    with running({REPO: {"main": folder / "model"}}) as hub:
        yield World(hub, folder)
