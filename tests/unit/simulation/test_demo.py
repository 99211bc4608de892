# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""What the demo says: steps, the playbook's lines, the answers."""

from __future__ import annotations

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from simulation import keys
from simulation.chat import Endpoint, parse_tool_call, stream_texts
from simulation.demo import available_memory_gib, closing_words, inventories, refuse_others
from simulation.playbook import View, message_of
from simulation.progress import Step, Steps, human, human_left
from simulation.settings import NODES, SimulationError, node


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Never the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (130, "2 min 10 s"), (1500, "25 min"), (3900, "1 h 5 min")],
)
def test_human(seconds: float, words: str) -> None:
    assert human(seconds) == words


def test_human_left() -> None:
    assert [human_left(seconds) for seconds in (10, 50, 400)] == [
        "less than a minute left",
        "about 1 min left",
        "about 7 min left",
    ]


def test_steps_number_and_remember() -> None:
    def steps(out: io.StringIO) -> Steps:
        return Steps([Step("a", "One", 600, 1, False), Step("b", "Two", 60, 1, True)], out)

    out = io.StringIO()
    first = steps(out)
    assert first.left() == 601
    with first.step("a"):
        first.say("working")
    assert out.getvalue().splitlines()[:2] == ["[1/2] One  (about 10 min left in all)", "      working"]
    assert steps(io.StringIO()).expected("a") < 5


def event(kind: str, stdout: str = "", **data: Any) -> dict[str, Any]:
    return {"event": kind, "stdout": stdout, "event_data": data}


def test_playbook_is_shown_a_line_a_task() -> None:
    said: list[str] = []
    doing: list[str] = []
    log = io.StringIO()
    view = View(said.append, doing.append, log)
    for one in [
        event("playbook_on_play_start", "PLAY [The machines]", name="The machines"),
        event("playbook_on_task_start", "TASK [Read]", name="Read"),
        event("runner_on_ok", "ok: [spark-1]", host="spark-1", task="Read", res={"changed": False}),
        event(
            "runner_on_ok", "\x1b[0;33mchanged: [spark-2]\x1b[0m", host="spark-2", task="Read", res={"changed": True}
        ),
        event("playbook_on_task_start", "TASK [Only elsewhere]", name="Only elsewhere"),
        event("runner_on_skipped", host="spark-1", res={}),
        event("playbook_on_task_start", "TASK [Wait]", name="Wait"),
        event("runner_retry", host="spark-1", res={"msg": "3 of 7 files\nmore"}),
        event("runner_retry", host="spark-1", res={"msg": "3 of 7 files\nmore"}),
        event("runner_on_failed", host="spark-1", task="Wait", res={"msg": "The hub at\nhttp://x does not answer."}),
        event(
            "playbook_on_stats", processed={"spark-1": 1, "spark-2": 1}, changed={"spark-2": 1}, failures={"spark-1": 1}
        ),
    ]:
        view.handle(one)
    assert said == [
        "-- The machines",
        "   changed (spark-2); ok (spark-1) Read",
        "   waiting  spark-1: 3 of 7 files",
        "   spark-1: The hub at http://x does not answer.",
        "   FAILED   Wait",
        "   = FAILED 1, changed 1, ok 1, skipped 1 in 0 s",
    ]
    assert doing == ["Read", "Only elsewhere", "Wait"]
    assert view.summary.changed == {"spark-1": 0, "spark-2": 1}
    assert view.summary.failures == ["spark-1, task 'Wait': The hub at http://x does not answer."]
    assert view.summary.recap == "spark-1 changed=0, spark-2 changed=1"
    assert "\nchanged: [spark-2]\n" in log.getvalue()


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"msg": "It is so."}, "It is so."),
        ({"msg": ["a", "b"]}, "a; b"),
        ({"msg": "", "stderr": "first\nlast\n"}, "last"),
        ({"results": [{"failed": False, "msg": "x"}, {"failed": True, "msg": "the one"}], "msg": ""}, "the one"),
        ({}, "no message"),
    ],
)
def test_message_of(result: dict[str, Any], words: str) -> None:
    assert message_of(result) == words


def test_stream() -> None:
    def chunk(text: str | None) -> bytes:
        return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n"

    lines = [b": comment\n", chunk(None), chunk("Pa"), b"\n", chunk("ris"), b"data: [DONE]\n", chunk("never")]
    assert list(stream_texts(lines)) == ["Pa", "ris"]
    with pytest.raises(SimulationError, match="out of tokens"):
        list(stream_texts([b'data: {"error": {"message": "out of tokens"}}\n']))


def test_tool_call() -> None:
    def answer(**message: Any) -> dict[str, Any]:
        return {"choices": [{"message": message}]}

    call = {"function": {"name": "calculate", "arguments": '{"expression": "127!"}'}}
    assert parse_tool_call(answer(tool_calls=[call])) == ("calculate", {"expression": "127!"})
    with pytest.raises(SimulationError, match="parser does not fit"):
        parse_tool_call(answer(content="<tool_call>{}</tool_call>", tool_calls=None))
    with pytest.raises(SimulationError, match="not JSON"):
        parse_tool_call(answer(tool_calls=[{"function": {"name": "calculate", "arguments": "{"}}]))


class Server(BaseHTTPRequestHandler):
    """An endpoint of three answers, for those who have the key."""

    def do_GET(self) -> None:
        self.answer({"data": [{"id": "tiny"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body.get("stream"):
            self.send_response(200)
            self.end_headers()
            for text in ("The capital ", "is Paris."):
                self.wfile.write(b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n")
            self.wfile.write(b"data: [DONE]\n\n")
            return
        assert body["tool_choice"] == "auto"
        name = body["tools"][0]["function"]["name"]
        call = {"function": {"name": name, "arguments": '{"expression": "factorial(127)"}'}}
        self.answer({"choices": [{"message": {"tool_calls": [call]}}]})

    def answer(self, data: dict[str, Any]) -> None:
        self.send_response(200 if self.headers["Authorization"] == "Bearer right" else 401)
        self.end_headers()
        self.wfile.write(json.dumps(data).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_endpoint() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    pieces: list[str] = []
    try:
        endpoint = Endpoint(url, "right")
        assert endpoint.model() == "tiny"
        assert endpoint.stream("tiny", "Where?", pieces.append) == "The capital is Paris."
        assert pieces == ["The capital ", "is Paris."]
        assert endpoint.call_tool("tiny", "127!") == ("calculate", {"expression": "factorial(127)"})
        with pytest.raises(SimulationError, match="HTTP 401"):
            Endpoint(url, "wrong").model()
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(SimulationError, match="does not answer"):
        Endpoint(url, "right").model()


def test_closing_words_hold_no_key(cache: Path) -> None:
    text = closing_words("tiny", 61)
    assert "http://127.0.0.1:8235/v1" in text
    assert "http://192.168.100.10:8235/v1" in text
    assert f"$(cat {cache}/dgx-spark-vllm/simulation/api_key)" in text
    assert "make demo-down" in text


def test_available_memory() -> None:
    assert available_memory_gib("MemTotal: 9 kB\nMemAvailable:    6291456 kB\n") == 6.0
    assert available_memory_gib("") == 0.0


def test_known_hosts_are_replaced_by_address() -> None:
    old = "10.0.0.1 ssh-ed25519 OLD\n10.0.0.2 ssh-ed25519 KEPT\n"
    new = keys.merge_known_hosts(old, {"10.0.0.1": ["ssh-ed25519 NEW root@spark-1", "ssh-rsa OTHER"]})
    assert new == "10.0.0.1 ssh-ed25519 NEW\n10.0.0.1 ssh-rsa OTHER\n10.0.0.2 ssh-ed25519 KEPT\n"


def test_ssh_never_skips_the_host_key() -> None:
    from simulation.settings import HEAD, NODES

    text = keys.ssh_config(NODES)
    assert "StrictHostKeyChecking yes" in text
    assert f"Host {HEAD.name}\n    HostName {HEAD.management_address}\n" in text
    assert keys.ssh_command(HEAD, "true")[-2:] == [HEAD.name, "true"]


def test_two_nodes_are_the_simulation_as_it_is() -> None:
    (folder,) = inventories(2)
    assert folder.parts[-2:] == ("inventory", "simulation")


@pytest.mark.parametrize(("count", "example"), [(1, "one"), (3, "three"), (4, "four")])
def test_another_number_runs_its_example_with_the_values_of_the_simulation(
    cache: Path, count: int, example: str
) -> None:
    first, second = inventories(count)
    assert first.name == example and second.is_relative_to(cache)
    groups = json.loads((second / "hosts.json").read_text())["sparks"]["children"]
    hosts = {name: host for group in groups.values() for name, host in group["hosts"].items()}
    assert list(hosts) == [f"spark-{number}" for number in range(1, count + 1)]
    # The same names in the same groups as in the example, so that every address of it is replaced.
    shipped = yaml.safe_load((first / "hosts.yml").read_text())["sparks"]["children"]
    assert {name: list(group["hosts"]) for name, group in shipped.items()} == {
        name: list(group["hosts"]) for name, group in groups.items()
    }
    # One node has no link: its own address.
    assert hosts["spark-1"]["spark_fabric_address"] == ("172.31.235.11" if count == 1 else "192.168.100.10")
    assert (second / "group_vars" / "all.yml").read_text() == (inventories(2)[0] / "group_vars" / "all.yml").read_text()


def test_nodes_of_a_larger_demo_are_in_the_way_and_those_of_a_smaller_are_not() -> None:
    refuse_others(NODES[:1], NODES)
    with pytest.raises(SimulationError, match="spark-2 and spark-3 of a larger demo are there"):
        refuse_others([*NODES, node("spark-3")], NODES[:1])
