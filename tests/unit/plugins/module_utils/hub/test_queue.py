# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Orders that a node carries out by itself: asked for, joined, failed, taken up again. The unit itself runs in molecule/model_download."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub import queue as hf_download
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.queue import (
    Order,
    Queue,
    preview_under_way,
    start,
    unit_text,
    watch,
    work,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.store import StoreError

from tests.unit.plugins.module_utils.hub.world import REPO, SHARDS, World, open_world

pytest.importorskip("huggingface_hub")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "downloads")


def order(world: World, **asked: object) -> Order:
    return Order(
        **{"repo_id": REPO, "revision": "main", "dest": str(world.store().root), "endpoint": world.endpoint} | asked
    )  # type: ignore[arg-type]


class Systemd:
    """Stands in for systemctl: remembers what it was told, and says that the unit is as the test wants it."""

    def __init__(self, runs: bool = True, code: int = 0) -> None:
        self.runs = runs
        self.code = code
        self.told: list[str] = []

    def __call__(self, argv: Sequence[str]) -> tuple[int, str, str]:
        self.told.append(" ".join(argv))
        if argv[1] == "is-active":
            return 0, "active\n" if self.runs else "inactive\n", ""
        return self.code, "", "System has not been booted with systemd as init system\n" if self.code else ""


def test_an_order_comes_back_as_it_was_and_a_damaged_one_is_told(world: World) -> None:
    asked = order(world, revision="refs/pr/1", allow_patterns=("*.json",), environment={"https_proxy": "http://p"})
    assert Order.decode(asked.encode()) == asked
    assert asked.name == "tests--tiny-model@refs%2Fpr%2F1"
    for raw in (b"", b"[]", b"{}", asked.encode()[:-20]):
        with pytest.raises(StoreError, match="a queued download is damaged"):
            Order.decode(raw)


def test_orders_are_carried_out_and_gone(world: World, queue: Queue) -> None:
    assert queue.put(order(world)) is True
    assert queue.put(order(world)) is False
    assert stat.S_IMODE(queue.order_path(order(world).name).stat().st_mode) == 0o600
    other = order(world, revision=world.commit, dest=str(world.store("second").root))
    queue.put(other)
    work(queue)
    assert world.same()
    assert world.same("second")
    assert queue.names() == []
    assert queue.state(other.name) == (False, "")


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"gated": {"token": "hf_right"}}, "is gated at"),
        ({"corrupt": {"path": SHARDS[0]}}, "another content"),
        ({"fail": {"path": "<info>", "status": 404, "error_code": "RevisionNotFound"}}, "has no revision 'main'"),
    ],
)
def test_what_cannot_pass_by_itself_fails_at_once(
    world: World, queue: Queue, rules: dict[str, object], words: str
) -> None:
    world.faults(**rules)
    queue.put(order(world))
    work(queue, sleep=lambda seconds: pytest.fail("it waited"))
    name = order(world).name
    assert queue.state(name)[0]
    assert words in queue.state(name)[1]
    assert not queue.pending(name)
    seen, error = watch(world.store(), REPO, "main", "none", queue, Systemd(runs=False))
    assert not seen.running
    assert words in error
    # A new order forgets how the old one ended.
    world.hub.faults.clear()
    queue.put(order(world))
    assert watch(world.store(), REPO, "main", "none", queue, Systemd())[1] == ""


def test_a_hub_that_is_away_is_asked_again_and_comes_back(world: World, queue: Queue) -> None:
    world.faults(fail={"path": "<info>", "status": 503})
    queue.put(order(world))
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        seen, error = watch(world.store(), REPO, "main", "none", queue, Systemd())
        assert (seen.running, error) == (True, "")
        assert f"trying again in {seconds:.0f} s: the hub" in seen.msg
        if len(pauses) == 2:
            world.hub.faults.clear()

    work(queue, sleep=sleep)
    assert pauses == [15, 30]
    assert world.same()


def test_a_hub_that_stays_away_is_given_up_with_its_reason(
    world: World, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_download, "PAUSES", (1.0,))
    world.faults(fail={"path": "<info>", "status": 503})
    queue.put(order(world))
    work(queue, sleep=lambda seconds: None)
    assert queue.names() == []
    failed, text = queue.state(order(world).name)
    assert failed
    assert "failed with status 503" in text
    assert "trying again" not in text


def test_another_run_is_waited_for(world: World, queue: Queue) -> None:
    queue.put(order(world))
    lock = world.store().lock(REPO)
    lock.__enter__()
    work(queue, sleep=lambda seconds: lock.__exit__(None, None, None) and None)
    assert world.same()


def test_asking_writes_the_unit_once_and_joins_what_runs(world: World, queue: Queue, tmp_path: Path) -> None:
    launcher, units = tmp_path / "spark-model-download", tmp_path / "units"
    with pytest.raises(StoreError, match="run the role node_tools"):
        start(order(world), Systemd(), queue, units, launcher)
    launcher.touch()
    first = Systemd()
    assert start(order(world), first, queue, units, launcher) is True
    assert "systemctl daemon-reload" in first.told
    assert (units / hf_download.UNIT).read_text() == unit_text(launcher, queue.folder)
    second = Systemd()
    assert start(order(world), second, queue, units, launcher) is False
    assert "systemctl daemon-reload" not in second.told
    assert hf_download.under_way(order(world), second, queue)
    assert not hf_download.under_way(order(world), Systemd(runs=False), queue)
    assert not hf_download.under_way(order(world, max_workers=2), second, queue)
    assert start(order(world, max_workers=2), second, queue, units, launcher) is True
    with pytest.raises(StoreError, match="detached download needs systemd"):
        start(order(world), Systemd(code=1), queue, units, launcher)


def test_a_unit_that_does_not_run_is_told(world: World, queue: Queue) -> None:
    queue.put(order(world))
    seen, error = watch(world.store(), REPO, "main", "none", queue, Systemd(runs=False))
    assert not seen.running
    assert "is queued, but spark-model-download.service does not run" in error


def test_the_preflight_needs_no_hub_while_a_download_is_under_way(world: World, queue: Queue) -> None:
    request = order(world).request
    assert preview_under_way(world.store(), request, queue, Systemd()) is None
    queue.put(order(world))
    found = preview_under_way(world.store(), request, queue, Systemd())
    assert found is not None
    assert found.msg.startswith("a download is under way: ")
    assert world.asked() == []
    # An order that nobody carries out is no download.
    assert preview_under_way(world.store(), request, queue, Systemd(runs=False)) is None


def test_the_unit_starts_where_an_order_is_left_and_goes_before_what_serves() -> None:
    lines = unit_text().splitlines()
    assert "ConditionDirectoryNotEmpty=/var/lib/dgx-spark/downloads/queue" in lines
    assert "WantedBy=multi-user.target" in lines
    assert "OOMScoreAdjust=500" in lines
    assert "Restart=on-failure" in lines


def test_a_token_is_never_part_of_an_order(world: World, queue: Queue, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("hf_secret\n")
    world.faults(private={"repository": REPO, "token": "hf_secret"})
    asked = order(world, token_file=str(token))
    queue.put(asked)
    assert "hf_secret" not in queue.order_path(asked.name).read_text()
    work(queue)
    assert world.same()
