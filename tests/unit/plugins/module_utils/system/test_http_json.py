# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The HTTP client, over real sockets."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system import http_json
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.http_json import (
    HttpClient,
    HttpError,
    error_detail,
    is_local_host,
    read_secret_file,
)

from tests.unit.plugins.fake_server import Chunks, Reply, closed_port, fake_server


def test_get_and_post_carry_json_and_the_key() -> None:
    with fake_server({"GET /a": Reply({"x": 1}), "POST /b": Reply({"y": 2})}) as fake:
        client = HttpClient(fake.url + "/", token="secret")
        assert client.get_json("/a") == {"x": 1}
        assert client.post_json("/b", {"q": "ä"}) == {"y": 2}
    assert [asked.authorization for asked in fake.asked] == ["Bearer secret"] * 2
    assert fake.asked[1].body == {"q": "ä"}


def test_without_token_sends_no_key() -> None:
    with fake_server({"GET /a": Reply({})}) as fake:
        HttpClient(fake.url, token="secret").without_token().get("/a")
    assert fake.asked[0].authorization is None


def test_refused_connection_is_one_sentence() -> None:
    port = closed_port()
    with pytest.raises(HttpError, match=f"GET http://127.0.0.1:{port}/a failed: Connection refused") as caught:
        HttpClient(f"http://127.0.0.1:{port}").get("/a")
    assert caught.value.refused
    assert caught.value.status is None


def test_status_and_the_servers_words_are_kept() -> None:
    with (
        fake_server({"GET /a": Reply({"error": {"message": "no such model"}}, status=404)}) as fake,
        pytest.raises(HttpError, match="answered 404 Not Found: no such model") as caught,
    ):
        HttpClient(fake.url).get("/a")
    assert caught.value.status == 404
    assert caught.value.detail == "no such model"
    assert not caught.value.refused


def test_a_page_where_json_was_expected() -> None:
    with (
        fake_server({"GET /a": Reply("<html>hello</html>")}) as fake,
        pytest.raises(HttpError, match=r"not JSON \('<html>hello</html>'\): another service"),
    ):
        HttpClient(fake.url).get_json("/a")


def test_a_redirect_is_refused_so_that_the_key_stays_here() -> None:
    with fake_server({"GET /a": Reply({})}) as elsewhere:
        with (
            fake_server({"GET /a": Reply({}, status=302, location=elsewhere.url + "/a")}) as fake,
            pytest.raises(HttpError, match=f"a redirect to {elsewhere.url}/a: give that address itself"),
        ):
            HttpClient(fake.url, token="secret").get("/a")
        assert elsewhere.asked == []


def test_a_proxy_of_the_environment_is_not_asked_for_a_private_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with fake_server({"GET /a": Reply({"x": 1})}) as fake:
        assert HttpClient(fake.url).get_json("/a") == {"x": 1}


def test_a_proxy_is_asked_for_a_public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_server({"GET http://192.0.2.1/a": Reply({"x": "by proxy"})}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.setattr(http_json, "is_local_host", lambda host: False)
        assert HttpClient("http://192.0.2.1").get_json("/a") == {"x": "by proxy"}


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("192.168.100.10", True),
        ("10.1.2.3", True),
        ("100.64.0.1", True),
        ("169.254.1.1", True),
        ("8.8.8.8", False),
        ("localhost", True),
        ("no-such-host.invalid", False),
        ("a" * 70 + ".invalid", False),
    ],
)
def test_which_hosts_are_local(host: str, local: bool) -> None:
    assert is_local_host(host) is local


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("192.168.1.1:8235", "expected http://<host>:<port>"),
        ("http://", "expected http://<host>:<port>"),
        ("http://host:port", "expected http://<host>:<port>"),
        ("ftp://host", "expected http://<host>:<port>"),
        ("http://user:secret@host", "give the key in its own parameter"),
    ],
)
def test_unusable_addresses(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        HttpClient(url)
    assert "secret" not in str(caught.value)


def test_a_key_that_no_header_carries_is_not_shown() -> None:
    with pytest.raises(ValueError, match="on one line") as caught:
        HttpClient("http://127.0.0.1", token="se\ncret")
    assert "cret" not in str(caught.value).replace("secret", "")


def test_timeout_must_be_positive() -> None:
    with pytest.raises(ValueError, match="timeout 0"):
        HttpClient("http://127.0.0.1", timeout=0)


def test_a_silent_server_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(HttpError, match=r"got no answer within 0.2 s") as caught:
            HttpClient(f"http://127.0.0.1:{port}", timeout=0.2).get("/a")
    assert not caught.value.refused


def _raw_server(payload: bytes, linger: threading.Event | None = None) -> tuple[socket.socket, str]:
    """A server that sends these bytes to whoever comes first, then closes (or waits)."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(payload)
            if linger:
                linger.wait(5)

    threading.Thread(target=serve, daemon=True).start()
    return server, f"http://127.0.0.1:{server.getsockname()[1]}"


def test_an_answer_that_breaks_off() -> None:
    server, url = _raw_server(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"a"')
    with server, pytest.raises(HttpError, match="broke off half-way"):
        HttpClient(url).get("/a")


def test_an_answer_that_is_not_http() -> None:
    server, url = _raw_server(b"SSH-2.0-OpenSSH_9.2\r\n")
    with server, pytest.raises(HttpError, match=r"failed: SSH-2\.0"):
        HttpClient(url).get("/a")


def test_a_connection_closed_without_an_answer() -> None:
    server, url = _raw_server(b"")
    with server, pytest.raises(HttpError, match="closed without an answer"):
        HttpClient(url).get("/a")


def test_a_body_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_json, "MAX_BODY_BYTES", 10)
    with fake_server({"GET /a": Reply("x" * 11)}) as fake, pytest.raises(HttpError, match="more than 10 bytes"):
        HttpClient(fake.url).get("/a")


def test_events_of_a_stream() -> None:
    chunks: Chunks = [
        ": comment\n\n",
        {"a": 1},
        "event: x\ndata: one\ndata: two\n\n",
        "data:tight\r\n\r\n",
        "data: unfinished",
    ]
    with fake_server({"POST /s": Reply(chunks=chunks, done=False)}) as fake:
        events = list(HttpClient(fake.url).post_stream("/s", {}))
    assert [data for _, data in events] == ['{"a": 1}', "one\ntwo", "tight", "unfinished"]
    times = [seconds for seconds, _ in events]
    assert times == sorted(times)


def test_a_stream_that_is_none() -> None:
    with (
        fake_server({"POST /s": Reply({"a": 1})}) as fake,
        pytest.raises(HttpError, match="application/json where a stream"),
    ):
        list(HttpClient(fake.url).post_stream("/s", {}))


def test_a_stream_that_falls_silent() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"
    linger = threading.Event()
    server, url = _raw_server(head, linger)
    with server, pytest.raises(HttpError, match=r"stopped in mid-stream: nothing for 0.2 s"):
        list(HttpClient(url, timeout=0.2).post_stream("/s", {}))
    linger.set()


def test_a_stream_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(http_json.time, "monotonic", lambda: float(next(clock)))
    chunks: Chunks = [{"n": number} for number in range(50)]
    with (
        fake_server({"POST /s": Reply(chunks=chunks)}) as fake,
        pytest.raises(HttpError, match="still streaming after 60 s"),
    ):
        list(HttpClient(fake.url, timeout=60).post_stream("/s", {}))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"error": {"message": "m"}}', "m"),
        ('{"error": "Unauthorized"}', "Unauthorized"),
        ('{"object": "error", "message": "old form"}', "old form"),
        ('{"detail": [{"loc": ["body"], "msg": "missing"}]}', '[{"loc": ["body"], "msg": "missing"}]'),
        ("Unauthorized:\n Missing token", "Unauthorized: Missing token"),
        ("[1]", "[1]"),
        ("", ""),
    ],
)
def test_error_detail(body: str, words: str) -> None:
    assert error_detail(body) == words


def test_read_secret_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("abc\n")
    assert read_secret_file(str(path)) == "abc"
    path.write_text(" \n")
    with pytest.raises(ValueError, match="is empty"):
        read_secret_file(str(path))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_secret_file(str(path))
    with pytest.raises(ValueError, match="cannot be read on this node: No such file"):
        read_secret_file(str(tmp_path / "none"))
