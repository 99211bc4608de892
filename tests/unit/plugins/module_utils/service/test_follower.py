# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A further node that follows its head. The head is a real server; Docker and the clock are ours."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import follower as module
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.follower import CacheKeeper, Follower
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.pulse import Order, PulseServer

from tests.unit.plugins.fake_server import closed_port

TOKEN, WORKER, CONTAINER = "the-token", "192.168.100.11", "spark-ray-worker"


class Node:
    """A node with a follower whose head answers as told."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.ended: list[str] = []
        self.dropped = 0
        self.cache_gib = 0.0
        self.ray_age: float | None = 500.0
        self.order = Order(ray_age_s=500.0)
        self.raw: Any = None
        self.reports: list[dict[str, Any]] = []
        token = folder / "token"
        token.write_text(TOKEN)
        for name, value in {
            "ranks": lambda: (4711,),
            "memory": lambda: (60.0, 120.0, 0.5),
            "compiling": lambda: True,
            "kernel_log": lambda _run: "[1.0] NVRM: Xid (PCI:000f:01:00): 119, pid=1",
            "container_age": lambda _run, _name: self.ray_age,
            "end_container": self.end,
        }.items():
            monkeypatch.setattr(module, name, value)
        monkeypatch.setattr(module.page_cache, "drop_page_cache", self.drop)
        monkeypatch.setattr(module.page_cache, "page_cache_gib", lambda _text: self.cache_gib)
        self.head = PulseServer(("127.0.0.1", 0), TOKEN, self.answer)
        self.head.start()
        self.follower = Follower(
            WORKER,
            ("127.0.0.1", self.head.port),
            CONTAINER,
            True,
            closed_port(),
            15.0,
            token_file=str(token),
            run=lambda *_asked, **_more: (0, "", ""),
            clock=lambda: self.now,
            cache=CacheKeeper(lambda: self.now),
            evidence=folder / "evidence",
        )

    def answer(self, _path: str, body: Any) -> Mapping[str, Any]:
        self.reports.append(body)
        return dataclasses.asdict(self.order) if self.raw is None else self.raw

    def end(self, _run: Any, name: str) -> str:
        self.ended.append(name)
        self.ray_age = None
        return ""

    def drop(self) -> str:
        self.dropped += 1
        return ""

    def silence(self) -> None:
        self.follower.head = ("127.0.0.1", closed_port())

    def speak(self) -> None:
        self.follower.head = ("127.0.0.1", self.head.port)

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 2.0
            self.follower.round()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    found = Node(tmp_path, monkeypatch)
    yield found
    found.head.stop()


def test_it_says_what_the_node_is(node: Node) -> None:
    node.follower.round()
    (report,) = node.reports
    assert (report["address"], report["ray_age_s"], report["ranks"]) == (WORKER, 500.0, [4711])
    assert (report["available_gib"], report["total_gib"], report["swap_used_gib"]) == (60.0, 120.0, 0.5)
    assert report["compiling"] is True
    assert "119" in report["warnings"][0]
    assert TOKEN not in json.dumps(report)
    assert node.ended == []


def test_the_kernels_log_is_not_read_each_round(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[float] = []
    monkeypatch.setattr(module, "kernel_log", lambda _run: read.append(node.now) or "")
    node.pass_time(60)
    assert 2 <= len(read) <= 3


def test_without_ray_its_age_is_not_asked_for(node: Node) -> None:
    node.follower.with_ray = False
    node.order = Order(ray_age_s=1.0)
    node.follower.round()
    assert node.reports[0]["ray_age_s"] is None
    assert node.ended == []


def test_a_silent_head_is_left_once_and_not_before_its_time(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.pass_time(4)
    node.silence()
    node.pass_time(8)
    assert node.ended == []
    node.pass_time(6)
    assert node.ended == [CONTAINER]
    node.pass_time(600)
    assert node.ended == [CONTAINER]
    assert node.follower.left.startswith("the head has been silent for 1")
    said = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("the head is silent") for line in said) == 1
    assert f"ending {CONTAINER}: {node.follower.left}" in said


def test_a_head_that_comes_back_and_goes_again_is_left_again(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.silence()
    node.pass_time(20)
    node.speak()
    node.pass_time(4)
    assert "the head answers again" in capsys.readouterr().out
    assert "silent" in node.reports[-1]["left"]
    node.silence()
    node.pass_time(8)
    assert len(node.ended) == 1
    node.pass_time(6)
    assert len(node.ended) == 2


def test_short_silences_do_not_add_up(node: Node) -> None:
    for _time in range(5):
        node.silence()
        node.pass_time(8)
        node.speak()
        node.pass_time(2)
    assert node.ended == []


def test_a_watchdog_that_is_away_while_ray_answers_is_no_silence(node: Node) -> None:
    node.silence()
    node.pass_time(4)
    node.follower.alive_port = node.head.port
    node.pass_time(300)
    assert node.ended == []
    # Ray is gone now too: the time counts from here.
    node.follower.alive_port = closed_port()
    node.pass_time(8)
    assert node.ended == []
    node.pass_time(6)
    assert node.ended == [CONTAINER]


def test_evidence_is_kept_once_beside_the_reports_and_told(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(module, "collect", lambda *given: asked.append(given))
    for name in ("20261126T120000Z-hung", "20261126T120000Z-hung", "", "../../etc", "20261126T130000Z-mute"):
        node.order = Order(collect=name)
        node.pass_time(4)
        for thread in threading.enumerate():
            if thread.name == "evidence":
                thread.join(10)
    node.pass_time(2)
    assert [given[1] for given in asked] == ["20261126T120000Z-hung", "20261126T130000Z-mute"]
    assert asked[0][2:4] == ((CONTAINER, "spark-follower"), (CONTAINER,))
    assert node.reports[-1]["collected"] == "20261126T130000Z-mute"


@pytest.mark.parametrize(
    ("head", "here", "leaves"),
    [(100.0, 500.0, True), (100.0, 104.0, False), (500.0, 100.0, False), (None, 500.0, False), (100.0, None, False)],
)
def test_ray_that_is_older_than_the_heads_is_left(
    node: Node, head: float | None, here: float | None, leaves: bool
) -> None:
    node.order, node.ray_age = Order(ray_age_s=head), here
    node.follower.round()
    assert node.ended == ([CONTAINER] if leaves else [])
    assert ("a cluster that is gone" in node.follower.left) is leaves


def test_it_makes_itself_ready_for_each_start_once(node: Node) -> None:
    node.order = Order(prepare="one")
    node.pass_time(10)
    assert node.dropped == 1
    assert node.reports[0]["prepared"] == ""
    assert node.reports[-1]["prepared"] == "one"
    node.order = Order(prepare="two")
    node.pass_time(10)
    assert node.dropped == 2
    node.order = Order()
    node.pass_time(10)
    assert node.dropped == 2


def test_while_the_model_is_loaded_the_cache_is_kept_small(node: Node) -> None:
    node.order = Order(prepare="one", loading=True)
    node.pass_time(60)
    assert node.dropped == 1
    node.cache_gib = 30.0
    node.pass_time(60)
    assert 5 <= node.dropped - 1 <= 7
    node.order = Order(prepare="one")
    before = node.dropped
    node.pass_time(60)
    assert node.dropped == before


def test_told_not_to_it_leaves_the_cache_alone(node: Node) -> None:
    node.follower.drop_cache = False
    node.cache_gib = 30.0
    node.order = Order(prepare="one", loading=True)
    node.pass_time(60)
    assert node.dropped == 0
    assert node.follower.prepared == "one"


def test_why_the_cache_cannot_be_dropped_is_said_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.page_cache, "drop_page_cache", lambda: "read-only")
    keeper = CacheKeeper()
    keeper.drop()
    keeper.drop()
    assert capsys.readouterr().out == "read-only\n"


@pytest.mark.parametrize("order", [{}, {"ray_age_s": 499.0, "newer": True}])
def test_a_head_of_another_version_is_followed(node: Node, order: dict[str, Any]) -> None:
    node.raw = order
    node.pass_time(60)
    assert node.ended == []


@pytest.mark.parametrize("order", [[], {"ray_age_s": "young"}])
def test_a_stranger_on_the_port_is_a_silent_head(node: Node, order: Any, capsys: pytest.CaptureFixture[str]) -> None:
    node.raw = order
    node.pass_time(20)
    assert "the head is silent (the head's answer " in capsys.readouterr().out
    assert node.ended == [CONTAINER]


def test_a_head_that_refuses_the_report_is_told_once_and_not_left(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    token = Path(node.follower.token_file)
    for _time in range(2):
        token.write_text("another")
        node.pass_time(60)
        assert node.ended == []
        said = capsys.readouterr().out
        assert said.count("the head refuses the report") == 1
        assert "the cluster's token is needed" in said
        token.write_text(TOKEN)
        node.pass_time(4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "is missing or no JSON: run playbooks/site.yml"),
        ("{", "is missing or no JSON"),
        ("[]", "is missing or no JSON"),
        ("{}", "failed: "),
        (
            '{"address": "a", "head": "b", "container": "c", "ray": true, "alive_port": 6379, "leave_after_s": "soon"}',
            "soon",
        ),
        (
            '{"address": "a", "head": "b", "container": "c", "ray": true, "alive_port": 6379, "leave_after_s": null}',
            "failed: ",
        ),
    ],
)
def test_a_bad_configuration_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, words: str
) -> None:
    path = tmp_path / "watchdog.json"
    if text is not None:
        path.write_text(text)
    assert module.main(["--config", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("failed: ")
    assert words in out
    assert out.count("\n") == 1
    assert err == ""
