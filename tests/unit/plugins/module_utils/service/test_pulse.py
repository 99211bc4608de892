# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""How the nodes hear of each other, over real sockets."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.pulse import (
    REPORT,
    STATE,
    Board,
    PulseServer,
    Report,
)

TOKEN = "the-token-of-the-cluster"
WORKER = "192.168.100.11"


def answer(path: str, body: Any) -> Mapping[str, Any] | None:
    """Stand for the watchdog."""
    if path == REPORT:
        return {"address": Report.from_json(body).address}
    return {"state": "serving"} if path == STATE else None


@pytest.fixture(scope="module")
def server() -> Iterator[PulseServer]:
    found = PulseServer(("127.0.0.1", 0), TOKEN, answer)
    found.start()
    yield found
    found.stop()


def ask(
    server: PulseServer,
    path: str,
    body: bytes | None = None,
    token: str | None = TOKEN,
    length: str | None = None,
    timeout: float = 5.0,
) -> tuple[int, dict[str, Any]]:
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    try:
        line.putrequest("GET" if body is None else "POST", path)
        if token is not None:
            line.putheader("Authorization", f"Bearer {token}")
        if body is not None:
            line.putheader("Content-Length", length or str(len(body)))
        line.endheaders(body)
        told = line.getresponse()
        return told.status, json.loads(told.read())
    finally:
        line.close()


def test_a_report_and_a_question_are_answered(server: PulseServer) -> None:
    assert ask(server, REPORT, json.dumps({"address": WORKER}).encode()) == (200, {"address": WORKER})
    assert ask(server, STATE) == (200, {"state": "serving"})


@pytest.mark.parametrize("token", [None, "", "another", TOKEN + "x", TOKEN[:-1], "ü"])
def test_nobody_is_answered_without_the_token(server: PulseServer, token: str | None) -> None:
    status, said = ask(server, STATE, token=token)
    assert status == 401
    assert TOKEN not in json.dumps(said)


@pytest.mark.parametrize("length", ["65537", "999999999999", "-1"])
def test_a_body_that_is_too_large_is_not_read(server: PulseServer, length: str) -> None:
    # Nothing is sent: who reads it first would wait for it.
    status, said = ask(server, REPORT, b"", length=length)
    assert status == 413
    assert "65536 bytes" in said["error"]


@pytest.mark.parametrize(
    "body", [b"{", b"\xff\xfe", b"null", b"[]", b"3", b'{"address": 3}', b'{"address": "a", "ranks": 7}']
)
def test_what_is_no_report_is_told_in_a_sentence(server: PulseServer, body: bytes) -> None:
    status, said = ask(server, REPORT, body)
    assert status == 400
    assert said["error"]
    # The next one is served as before.
    assert ask(server, STATE)[0] == 200


def test_a_length_that_is_no_number_is_told(server: PulseServer) -> None:
    assert ask(server, REPORT, b"{}", length="many")[0] == 400


def test_an_unknown_path_is_told(server: PulseServer) -> None:
    assert ask(server, "/elsewhere") == (404, {"error": "there is no /elsewhere"})


def test_clients_that_say_nothing_keep_nobody_waiting(server: PulseServer) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(4)]
    silent[0].sendall(b"POST /report HTTP/1.1\r\nAuthorization: ")
    try:
        assert ask(server, STATE, timeout=2.0)[0] == 200
    finally:
        for line in silent:
            line.close()


def test_a_client_that_says_nothing_is_let_go(server: PulseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its own limit, made short: the thread of a silent client must end.
    handler = server._server.RequestHandlerClass
    assert 0 < handler.timeout <= 15  # type: ignore[attr-defined]
    monkeypatch.setattr(handler, "timeout", 0.2)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as line:
        line.sendall(b"POST /report HTTP/1.1\r\n")
        assert line.recv(100) == b""


def test_a_client_that_leaves_is_no_line_in_the_journal(server: PulseServer, capfd: pytest.CaptureFixture[str]) -> None:
    for said in (b"POST /report HT", b"GET /state HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            line.sendall(said)
            # It hangs up with a reset, as a process that is killed does.
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert ask(server, STATE)[0] == 200
    time.sleep(0.2)
    assert capfd.readouterr() == ("", "")


def test_a_port_that_is_taken_is_told(server: PulseServer) -> None:
    with pytest.raises(OSError, match="in use"):
        PulseServer(("127.0.0.1", server.port), TOKEN, answer)


def test_the_board_keeps_the_last_word_of_each_node_and_its_age() -> None:
    now = [100.0]
    board = Board(lambda: now[0])
    assert board.age(WORKER) is None
    assert board.of(WORKER) is None
    board.take(Report(WORKER, ray_age_s=1.0))
    now[0] = 103.0
    board.take(Report(WORKER, ray_age_s=4.0))
    now[0] = 110.5
    assert board.age(WORKER) == 7.5
    assert board.of(WORKER) == Report(WORKER, ray_age_s=4.0)
    assert board.as_facts()[WORKER]["age_s"] == 7.5
    assert json.loads(json.dumps(board.as_facts()))[WORKER]["ray_age_s"] == 4.0


def test_a_report_survives_the_wire() -> None:
    report = Report(WORKER, 3.5, (7, 9), 100.0, 119.7, 0.5, "start", True, ("a line",), "the head was silent")
    assert Report.from_json(json.loads(json.dumps(report.__dict__))) == report
