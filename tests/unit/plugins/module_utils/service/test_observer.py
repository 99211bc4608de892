# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the watchdog sees of a server that answers, hangs and refuses, over real sockets; systemd and the journal are stand-ins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import observer as module
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.observer import Observer, Probe, progress

from tests.unit.plugins.fake_server import Asked, FakeServer, Reply, closed_port, fake_server

PATH = "POST /v1/completions"
RIGHT = Reply({"choices": [{"text": " Paris"}]})
METRICS = """# HELP vllm:num_requests_running x
vllm:num_requests_running{engine="0"} %d
vllm:num_requests_waiting{engine="0"} 0
vllm:generation_tokens_total{engine="0"} 12
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:cache_config_info{block_size="16",num_gpu_blocks="1000",engine="0"} 1
"""


class World:
    """A server and a clock."""

    def __init__(self, server: FakeServer, folder: Path) -> None:
        self.now = 1000.0
        self.server = server
        self.key = folder / "key"
        self.key.write_text("the-key")
        self.probe = Probe(server.url, "m", str(self.key), 30.0, 8192, lambda: self.now)

    def ask(self) -> None:
        """Let the next completion be due, and wait for its end."""
        self.now += 30.0
        self.probe.idle()
        self.wait(lambda: self.probe.asked is None)

    @staticmethod
    def wait(done: Callable[[], bool]) -> None:
        end = time.monotonic() + 5
        while not done():
            assert time.monotonic() < end
            time.sleep(0.005)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with fake_server({PATH: RIGHT}, key="the-key") as server:
        yield World(server, tmp_path)


def test_an_answer_is_one_token_of_a_known_prompt(world: World) -> None:
    world.ask()
    (asked,) = world.server.asked
    assert asked.authorization == "Bearer the-key"
    assert asked.body is not None
    assert (asked.body["max_tokens"], asked.body["prompt"]) == (1, module.PROMPT)
    assert (world.probe.answered, world.probe.refused, world.probe.asked) == (1, "", None)


def test_it_is_asked_no_more_often_than_told(world: World) -> None:
    world.ask()
    for _look in range(14):
        world.now += 2.0
        world.probe.idle()
    time.sleep(0.05)
    assert len(world.server.asked) == 1
    world.now += 2.0
    world.probe.idle()
    world.wait(lambda: len(world.server.asked) == 2)


def test_a_server_whose_requests_are_gone_is_asked_at_once_and_only_once(world: World) -> None:
    # An engine that stops between two requests never reports the next ones: its figures say idle for ever.
    world.ask()
    world.now += 6.0
    world.probe.busy()
    for _look in range(2):
        world.now += 2.0
        world.probe.idle()
    assert len(world.server.asked) == 1
    world.now += 2.0
    world.probe.idle()
    world.wait(lambda: len(world.server.asked) == 2 and world.probe.asked is None)
    # Its own completion may show as a request that runs: that is no reason for the next.
    for _look in range(7):
        world.now += 2.0
        (world.probe.busy if _look == 0 else world.probe.idle)()
    time.sleep(0.05)
    assert len(world.server.asked) == 2


def test_one_that_hangs_is_seen_with_its_age_and_no_second_is_sent(world: World) -> None:
    go_on = threading.Event()

    def hang(_asked: Asked) -> Reply:
        go_on.wait(10)
        return RIGHT

    world.server.routes[PATH] = hang
    world.probe.idle()
    for _look in range(50):
        world.now += 2.0
        world.probe.idle()
    assert world.probe.asked == 100.0
    world.wait(lambda: len(world.server.asked) == 1)
    go_on.set()
    world.wait(lambda: world.probe.asked is None)
    assert len(world.server.asked) == 1
    assert world.probe.refused == ""


def test_two_failures_in_a_row_are_a_refusal_and_an_answer_ends_it(world: World) -> None:
    world.server.routes[PATH] = Reply({"error": {"message": "EngineDeadError"}}, status=500)
    world.ask()
    assert world.probe.refused == ""
    world.ask()
    assert "500" in world.probe.refused
    assert world.probe.answered == 0
    world.server.routes[PATH] = RIGHT
    world.ask()
    assert world.probe.refused == ""


@pytest.mark.parametrize("status", [400, 401, 404, 429])
def test_what_the_server_does_not_take_says_nothing_of_the_engine(world: World, status: int) -> None:
    world.server.routes[PATH] = Reply({"error": {"message": "no"}}, status=status)
    for _time in range(3):
        world.ask()
    assert world.probe.refused == ""


def test_a_key_that_was_changed_and_one_that_is_gone(world: World) -> None:
    world.key.write_text("another")
    for _time in range(3):
        world.ask()
    assert world.probe.refused == ""
    world.key.unlink()
    for _time in range(2):
        world.ask()
    assert "key" in world.probe.refused


@pytest.mark.parametrize(("reply", "words"), [(Reply({}), "no choice"), (Reply("no JSON"), "not JSON")])
def test_an_answer_that_is_none_is_a_failure(world: World, reply: Reply, words: str) -> None:
    world.server.routes[PATH] = reply
    world.ask()
    world.ask()
    assert words in world.probe.refused


def test_nothing_that_listens_is_a_failure(world: World) -> None:
    world.probe.url = f"http://127.0.0.1:{closed_port()}"
    world.ask()
    world.ask()
    assert world.probe.refused


def test_the_second_completion_measures_prefill_once(world: World) -> None:
    def slow(_asked: Asked) -> Reply:
        world.now += 2.0
        return RIGHT

    world.server.routes[PATH] = slow
    world.ask()
    assert world.probe.prefill is None
    world.ask()
    world.ask()
    first, second, third = [(asked.body or {})["prompt"] for asked in world.server.asked]
    assert first == third == module.PROMPT
    assert len(second) == 4096
    assert all(300 <= token < 900 for token in second)
    assert world.probe.prefill == pytest.approx(4096 / 2.0)


@pytest.mark.parametrize(("context", "tokens"), [(1000, 500), (0, 1024), (131072, 4096)])
def test_a_prompt_that_measures_fits_the_context(world: World, context: int, tokens: int) -> None:
    world.probe.context = context
    world.ask()
    world.ask()
    assert len((world.server.asked[1].body or {})["prompt"]) == tokens


def test_a_model_that_refuses_token_ids_is_not_asked_again(world: World) -> None:
    def picky(asked: Asked) -> Reply:
        return RIGHT if isinstance((asked.body or {})["prompt"], str) else Reply({"error": "no"}, status=400)

    world.server.routes[PATH] = picky
    world.probe.prefill = 1700.0
    for _time in range(4):
        world.ask()
    assert [isinstance((asked.body or {})["prompt"], str) for asked in world.server.asked] == [True, False, True, True]
    assert (world.probe.prefill, world.probe.refused) == (1700.0, "")


def test_what_a_server_that_is_gone_answers_later_is_not_counted(world: World) -> None:
    go_on, ended = threading.Event(), threading.Event()

    def late(_asked: Asked) -> Reply:
        go_on.wait(10)
        ended.set()
        return Reply({"error": "gone"}, status=500)

    world.server.routes[PATH] = late
    world.probe.idle()
    world.wait(lambda: len(world.server.asked) == 1)
    world.probe.prefill = 1700.0
    world.probe.reset()
    assert world.probe.asked is None
    # The next server is asked at once.
    world.server.routes[PATH] = RIGHT
    world.probe.idle()
    world.wait(lambda: world.probe.answered == 1)
    go_on.set()
    assert ended.wait(5)
    time.sleep(0.1)
    assert (world.probe.answered, world.probe._failures, world.probe.asked) == (1, 0, None)
    # The rate is the machine's, not the server's.
    assert world.probe.prefill == 1700.0


class Node:
    """Commands of a node, by their first words."""

    def __init__(self) -> None:
        self.said: dict[str, tuple[int, str, str]] = {
            "systemctl": (0, self.unit("active", "running"), ""),
            "journalctl": (0, "", ""),
            "nvidia-smi": (0, "61.5\n", ""),
        }
        self.asked: list[str] = []

    @staticmethod
    def unit(active: str, sub: str, result: str = "success", since_us: int = 900_000_000) -> str:
        times = f"ActiveEnterTimestampMonotonic={since_us}\nInvocationID=5ca1ab1e\nNRestarts=2\n"
        return f"ActiveState={active}\nSubState={sub}\nResult={result}\n{times}"

    def run(self, argv: Sequence[str], _seconds: float | None = None, /, **_more: Any) -> tuple[int, str, str]:
        self.asked.append(argv[0])
        return self.said[argv[0]]


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def observer(world: World, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Observer:
    monkeypatch.setattr(module, "STOP_FLAG", str(tmp_path / "stopped"))
    monkeypatch.setattr(module, "HOLDS", str(tmp_path / "holds"))
    world.server.routes["GET /metrics"] = Reply(METRICS % 0)
    return Observer("spark-vllm", world.server.url, world.probe, node.run, 2048, lambda: world.now)


def test_an_idle_server_is_asked_and_seen(world: World, observer: Observer, node: Node) -> None:
    sample = observer.look(False)
    assert (sample.active, sample.sub, sample.result, sample.up_s) == ("active", "running", "success", 100.0)
    assert (sample.start, sample.restarts) == ("5ca1ab1e", 2)
    assert (sample.running, sample.kv_tokens, sample.step_tokens) == (0, 16000, 2048)
    assert sample.watts is None
    assert "nvidia-smi" not in node.asked
    world.wait(lambda: PATH.split()[1] in [asked.path for asked in world.server.asked])


def test_a_server_that_works_is_not_asked_and_its_power_is_read(world: World, observer: Observer) -> None:
    world.server.routes["GET /metrics"] = Reply(METRICS % 3)
    sample = observer.look(True)
    assert (sample.running, sample.watts, sample.compiling, sample.asked) == (3, 61.5, True, None)
    assert [asked.path for asked in world.server.asked] == ["/metrics"]


def test_requests_that_come_and_go_between_two_looks_are_seen_by_their_counts(world: World, observer: Observer) -> None:
    def asked() -> int:
        return sum(one.path == PATH.split()[1] for one in world.server.asked)

    observer.look(False)
    world.wait(lambda: asked() == 1 and world.probe.asked is None)
    world.now += 6.0
    world.server.routes["GET /metrics"] = Reply(METRICS.replace("} 12\n", "} 40\n") % 0)
    for _look in range(3):
        observer.look(False)
        world.now += 2.0
    assert asked() == 1
    observer.look(False)
    world.wait(lambda: asked() == 2)


@pytest.mark.parametrize(
    ("said", "watts"),
    [((0, "22.0\n61.5\n", ""), 61.5), ((0, "[N/A]\n", ""), None), ((0, "", ""), None), ((9, "", "no driver"), None)],
)
def test_power_that_cannot_be_read_is_none(
    world: World, observer: Observer, node: Node, said: tuple[int, str, str], watts: float | None
) -> None:
    world.server.routes["GET /metrics"] = Reply(METRICS % 3)
    node.said["nvidia-smi"] = said
    assert observer.look(False).watts == watts


@pytest.mark.parametrize("reply", [Reply("x", status=500), Reply("", status=404)])
def test_a_page_that_does_not_come_is_none_and_no_answer_is_asked_for(
    world: World, observer: Observer, reply: Reply
) -> None:
    world.server.routes["GET /metrics"] = reply
    assert observer.look(False).metrics is None
    assert [asked.path for asked in world.server.asked] == ["/metrics"]


def test_a_gate_is_seen_in_the_last_line_alone(observer: Observer, node: Node, world: World) -> None:
    node.said["systemctl"] = (0, node.unit("activating", "start-pre"), "")
    node.said["journalctl"] = (0, "waiting: 192.168.100.11 has not reported yet\n\n", "")
    sample = observer.look(False)
    assert (sample.active, sample.waits_for) == ("activating", "192.168.100.11 has not reported yet")
    assert sample.metrics is None
    assert world.server.asked == []
    for last in ("no longer waiting", "INFO waiting: for the other rank"):
        node.said["journalctl"] = (0, f"waiting: a peer\n{last}\n", "")
        assert observer.look(False).waits_for == ""


def test_a_systemd_that_gives_no_answer_is_unknown(observer: Observer, node: Node) -> None:
    for said in ((124, "", "given up"), (1, node.unit("active", "running"), ""), (0, "", "")):
        node.said["systemctl"] = said
        assert observer.look(False).active == "unknown"


def test_stop_flag_and_hold_are_read(observer: Observer, tmp_path: Path) -> None:
    sample = observer.look(False)
    assert (sample.stop_flag, sample.held) == (False, "")
    (tmp_path / "stopped").touch()
    (tmp_path / "holds").mkdir()
    (tmp_path / "holds" / "spark-vllm").write_text("held after 3 failures\n")
    sample = observer.look(False)
    assert (sample.stop_flag, sample.held) == (True, "held after 3 failures")


def test_a_start_forgets_what_was_asked_of_the_server_before(world: World, observer: Observer, node: Node) -> None:
    world.probe.refused, world.probe.answered, world.probe.prefill = "500", 3, 1700.0
    node.said["systemctl"] = (0, node.unit("activating", "start-post"), "")
    sample = observer.look(False)
    assert (sample.refused, sample.asked, sample.prefill) == ("", None, 1700.0)
    assert world.probe.answered == 0


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", ""),
        ("nothing of the kind", ""),
        ("(EngineCore pid=9) INFO Initializing a V1 LLM engine (v0.23.0) with config: x", "the engine starts"),
        (
            "Loading safetensors checkpoint shards:  50% Completed | 12/24 [00:30<00:30,  2.51s/it]",
            "weights read: 50 % (12/24 files)",
        ),
        (
            "Loading safetensors checkpoint shards: 100% Completed | 24/24 [01:00<00:00]\n"
            "INFO Model loading took 57.8 GiB memory and 180.0 seconds",
            "weights loaded: 57.8 GiB a rank; measuring memory",
        ),
        ("Model loading took 57.8 GiB\ntorch.compile takes 41.20 s in total", "compiled in 41.20 s"),
        ("GPU KV cache size: 1,234,567 tokens\nsome line", "KV cache of 1,234,567 tokens made; warming up"),
        (
            "GPU KV cache size: 9 tokens\nCapturing CUDA graphs (mixed prefill-decode, PIECEWISE):  37%|###   | 25/67",
            "CUDA graphs captured: 37 %",
        ),
    ],
)
def test_the_progress_of_a_start_is_what_its_log_says_last(log: str, said: str) -> None:
    assert progress(log) == said
