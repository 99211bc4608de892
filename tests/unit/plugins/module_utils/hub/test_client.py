# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import email.message
import http.server
import itertools
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub import client as hf_hub
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub import fetch
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.client import Hub, HubError, Question
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.store import StoreError

REPO = "org/name"
COMMIT = "0123456789" * 4
SHA = "ab" * 32
FILES = [
    {"type": "directory", "path": "sub", "oid": "1" * 40, "size": 0},
    {"type": "file", "path": "config.json", "size": 3, "oid": "2" * 40},
    {
        "type": "file",
        "path": "sub/a.safetensors",
        "size": 9,
        "oid": "3" * 40,
        "lfs": {"oid": SHA, "size": 900, "pointerSize": 9},
    },
]
# What a request is answered with: status, headers, body (JSON unless bytes).
Answer = tuple[int, dict[str, str], Any]


class Server(http.server.ThreadingHTTPServer):
    """Answers from a table and remembers who asked with which token."""

    daemon_threads = True

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.seen: list[tuple[str, str]] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization") or ""))
        status, headers, body = self.server.answer(self.path)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""


@contextlib.contextmanager
def serving(answer: Callable[[str], Answer], context: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(answer)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def good(path: str) -> Answer:
    """A hub with two files."""
    if "/revision/" in path:
        return 200, {}, {"sha": COMMIT}
    return 200, {}, FILES


def hub_at(server: Server, token: str = "", **options: Any) -> Hub:
    note = "with a token" if token else "no token was sent"
    return Hub(f"http://127.0.0.1:{server.server_port}", token, note, **options)


def test_a_listing() -> None:
    with serving(good) as server:
        listing = hub_at(server).listing(REPO, "refs/pr/1")
    assert listing.commit == COMMIT
    assert [(e.path, e.size, e.sha256, e.git_oid) for e in listing.entries] == [
        ("config.json", 3, "", "2" * 40),
        ("sub/a.safetensors", 900, SHA, ""),
    ]
    assert server.seen[0][0] == "/api/models/org/name/revision/refs%2Fpr%2F1"


def test_pages_are_followed_but_not_to_another_host() -> None:
    links = {"next": ""}

    def paged(path: str) -> Answer:
        if "/revision/" in path:
            return 200, {}, {"sha": COMMIT}
        if "cursor" in path:
            return 200, {}, FILES[2:]
        return 200, {"Link": links["next"]}, FILES[:2]

    with serving(paged) as server:
        links["next"] = f'</x>; rel="prev", </api/models/{REPO}/tree/{COMMIT}?cursor=2>; rel="next"'
        assert len(hub_at(server).listing(REPO, "main").entries) == 2
        links["next"] = '<http://127.0.0.2:9/x>; rel="next"'
        with pytest.raises(HubError, match="another host"):
            hub_at(server).listing(REPO, "main")


@pytest.mark.parametrize(
    ("status", "headers", "kind", "words"),
    [
        (404, {"X-Error-Code": "RepoNotFound"}, "repo", ["org/name", "check repo_id"]),
        (401, {"X-Error-Code": "RepoNotFound"}, "repo", ["no token was sent"]),
        (404, {}, "repo", ["org/name"]),
        (404, {"X-Error-Code": "RevisionNotFound"}, "revision", ["org/name", "no-such", "a branch, a tag"]),
        (403, {"X-Error-Code": "GatedRepo"}, "gated", ["licence", "org/name"]),
        (401, {}, "denied", ["401", "set a token"]),
        (403, {}, "denied", ["403"]),
        (429, {"Retry-After": "3600"}, "busy", ["429", "3600 s"]),
        (500, {}, "broken", ["500", "try again"]),
        (503, {}, "broken", ["503"]),
        (418, {}, "answer", ["418", "check endpoint"]),
    ],
)
def test_every_refusal_is_one_sentence(
    status: int, headers: dict[str, str], kind: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with serving(lambda path: (status, headers, {"error": "x"})) as server:
        with pytest.raises(HubError) as caught:
            hub_at(server).listing(REPO, "no-such")
        tries = len(server.seen)
    told = str(caught.value)
    assert caught.value.kind == kind
    assert all(word in told for word in [*words, f"http://127.0.0.1:{server.server_port}"]), told
    assert "\n" not in told
    assert tries == (3 if kind == "broken" else 1)


def test_a_short_pause_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    answers = iter([(429, {"Retry-After": "7"}, {}), (502, {}, {}), (200, {}, {"sha": COMMIT})])
    with serving(lambda path: next(answers)) as server:
        assert hub_at(server).resolve(REPO, "main") == COMMIT
    assert slept == [7.0, 2]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>login</html>", "not JSON"),
        ({"id": REPO}, "no commit"),
        ({"sha": "../../etc"}, "no commit"),
        ([], "no commit"),
    ],
)
def test_what_is_no_hub_is_told_from_one(body: Any, words: str) -> None:
    with serving(lambda path: (200, {}, body)) as server, pytest.raises(HubError, match=words):
        hub_at(server).resolve(REPO, "main")


@pytest.mark.parametrize(
    "files",
    [
        [{"type": "file", "path": "../../etc/cron.d/x", "size": 1, "oid": "1" * 40}],
        [{"type": "file", "path": "/etc/passwd", "size": 1, "oid": "1" * 40}],
        [{"type": "file", "path": "a", "size": -1, "oid": "1" * 40}],
        [{"type": "file", "path": "a", "size": 1}],
        [{"type": "file", "path": "a", "size": 1, "lfs": {"oid": "nonsense", "size": 1}}],
        [*FILES, FILES[1]],
        ["a"],
        [],
        {},
    ],
)
def test_lists_of_files_that_cannot_be_are_refused(files: Any) -> None:
    with (
        serving(lambda path: (200, {}, {"sha": COMMIT} if "/revision/" in path else files)) as server,
        pytest.raises(StoreError),
    ):
        hub_at(server).listing(REPO, "main")


def test_a_commit_that_is_answered_with_another_one_is_refused() -> None:
    with serving(good) as server, pytest.raises(HubError, match="no revision"):
        hub_at(server).resolve(REPO, "f" * 40)


def test_a_redirect_to_another_host_gets_no_token() -> None:
    with serving(good) as other:
        away = f"http://localhost:{other.server_port}"
        with serving(lambda path: (302, {"Location": away + path}, b"")) as server:
            assert hub_at(server, "hf_secret").resolve(REPO, "main") == COMMIT
            assert server.seen[0][1] == "Bearer hf_secret"
        assert [token for _path, token in other.seen] == [""]


def test_a_redirect_on_the_same_host_keeps_the_token() -> None:
    def moved(path: str) -> Answer:
        if "/org/name/" in path:
            return 307, {"Location": path.replace("/org/name/", "/org/renamed/")}, b""
        return good(path)

    with serving(moved) as server:
        assert hub_at(server, "hf_secret").resolve(REPO, "main") == COMMIT
        assert [token for _path, token in server.seen] == ["Bearer hf_secret"] * 2


def test_a_circle_of_redirects_ends() -> None:
    with serving(lambda path: (302, {"Location": path}, b"")) as server, pytest.raises(HubError):
        hub_at(server).resolve(REPO, "main")


def test_hubs_that_do_not_answer() -> None:
    with serving(good) as server:
        port = server.server_port
    with pytest.raises(HubError, match=rf"http://127.0.0.1:{port} cannot be reached .*refused") as caught:
        Hub(f"http://127.0.0.1:{port}").resolve(REPO, "main")
    assert caught.value.kind == "unreachable"
    with pytest.raises(HubError, match="name is unknown"):
        Hub("http://no-such-host.invalid").resolve(REPO, "main")


def test_a_hub_that_hangs() -> None:
    def hang(path: str) -> Answer:
        time.sleep(0.5)
        return good(path)

    with serving(hang) as server, pytest.raises(HubError, match="did not answer in time"):
        hub_at(server, timeout=0.1).resolve(REPO, "main")


def test_a_private_authority(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(good, context) as server:
        address = f"https://localhost:{server.server_port}"
        with pytest.raises(HubError, match="spark_ca_bundle") as caught:
            Hub(address).resolve(REPO, "main")
        assert caught.value.kind == "tls"
        assert Hub(address, ca_bundle=str(certificate)).resolve(REPO, "main") == COMMIT
    for path, words in ((tmp_path / "none", "cannot be read"), (key, "holds no certificate")):
        with pytest.raises(StoreError, match=words):
            Hub(address, ca_bundle=str(path))


@pytest.mark.parametrize(
    "endpoint",
    ["huggingface.co", "ftp://x", "http://", "http://u:p@x", "http://x?y", "http://x:99999", "http://x y", ""],
)
def test_endpoints_that_cannot_be(endpoint: str) -> None:
    with pytest.raises(StoreError, match="endpoint is"):
        Hub(endpoint)


def test_tokens_are_read_and_never_told(tmp_path: Path) -> None:
    path = tmp_path / "hf_token"
    assert hf_hub.read_token("", "") == ("", "no token was sent")
    assert hf_hub.read_token("", str(path)) == ("", f"no token was sent: {path} does not exist")
    path.write_text("\n")
    assert hf_hub.read_token("", str(path))[0] == ""
    path.write_text("hf_filed\n")
    assert hf_hub.read_token("", str(path)) == ("hf_filed", f"with the token of {path}")
    assert hf_hub.read_token("hf_given", str(path)) == ("hf_given", "with a token")
    path.write_text("hf_one\nhf_two\n")
    for arguments in (("", str(path)), ("hf_one\r\nX: y", ""), ("", str(tmp_path))):
        with pytest.raises(StoreError) as caught:
            hf_hub.read_token(*arguments)
        assert "hf_one" not in str(caught.value)


@pytest.mark.parametrize(("value", "seconds"), [("5", 5), ("", 0), ("soon", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)])
def test_retry_after(value: str, seconds: float) -> None:
    assert hf_hub.retry_after(value) == seconds


def chain(*errors: BaseException) -> Exception:
    """Return the first error with the others as its causes."""
    for outer, inner in itertools.pairwise(errors):
        outer.__cause__ = inner
    assert isinstance(errors[0], Exception)
    return errors[0]


def named(
    name: str, text: str = "text", status: int = 0, headers: dict[str, str] | None = None, *bases: type
) -> Exception:
    """Return an error whose class has the name of one of huggingface_hub's or httpx2's."""
    error: Exception = type(name, bases or (Exception,), {})(text)
    if status:
        message = email.message.Message()
        for key, value in (headers or {}).items():
            message[key] = value
        error.response = type("Response", (), {"status_code": status, "headers": message})()  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (chain(named("LocalEntryNotFoundError"), named("HfHubHTTPError", "429", 429, {"Retry-After": "60"})), ["429", "60 s"]),
        (chain(named("LocalEntryNotFoundError"), named("HfHubHTTPError", "500", 500)), ["status 500"]),
        (named("GatedRepoError", "x", 403, None, type("RepositoryNotFoundError", (Exception,), {})), ["gated"]),
        (named("RepositoryNotFoundError", "x", 401), ["no repository"]),
        (named("RevisionNotFoundError", "x", 404), ["no revision"]),
        (named("RemoteEntryNotFoundError", "x", 404), ["its own list"]),
        (named("HfHubHTTPError", "x", 403), ["refuses", "403"]),
        (chain(named("LocalEntryNotFoundError"), named("ConnectError", "[Errno 111] Connection refused")), ["refused"]),
        (chain(named("X"), named("ConnectError", "[SSL: CERTIFICATE_VERIFY_FAILED]")), ["spark_ca_bundle"]),
        (named("ReadTimeout", "", 0, None, type("TimeoutException", (Exception,), {})), ["in time"]),
        (named("RemoteProtocolError", "peer closed"), ["cutting the connection"]),
        (OSError(28, "No space left on device"), ["disk is full"]),
        (OSError("Consistency check failed: file should be of size 5 but has size 3 (x).\nPlease"), ["of size 5 but has size 3"]),
        (StoreError("one sentence"), ["one sentence"]),
        (named("Odd", "first\nsecond"), ["Odd: first"]),
    ],
)  # fmt: skip
def test_what_the_library_raises_becomes_one_sentence(error: Exception, words: list[str]) -> None:
    told = str(fetch.explain_library_error(error, Question(REPO, "main", "http://hub")))
    assert all(word in told for word in words), told
    assert "\n" not in told
