# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The gateway as role gateway configures it: a real HAProxy in front of a stand-in that answers as vLLM is documented to.

It does not prove anything of vLLM itself: that its answers pass unchanged is for the scenario.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gateway.certificate import judged
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gateway.keys import OPERATOR, Key, KeyProblem, Keys, digest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.metrics import key_failures
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.files import write_atomic
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.run import run

from tests.unit.plugins.module_utils.gateway.test_certificate import made

ROLE = Path(__file__).parents[2] / "roles" / "gateway"
HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed here: apt install haproxy")
KEY, CHIEF, INTERNAL = "sk-the-key-of-alice", "sk-the-key-of-the-operator", "the-internal-key"
CHAT = "/v1/chat/completions"
ROUTES = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["gateway_routes"]
HEALTH = ROUTES["health"]
USER: dict[str, list[str]] = ROUTES["user"]
OPERATOR_ROUTES: dict[str, list[str]] = ROUTES["operator"]


def free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


@dataclass
class Server:
    """A stand-in for vLLM: what reached it, and answers as long or as slow as the body asks for."""

    port: int = field(default_factory=free_port)
    seen: list[tuple[str, str, Mapping[str, str], bytes]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    busy: float = 0

    def start(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                time.sleep(outer.busy)
                if self.path != HEALTH:
                    outer.seen.append((self.command, self.path, dict(self.headers.items()), b""))
                self.reply(b"{}")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.seen.append((self.command, self.path, dict(self.headers.items()), body))
                asked = json.loads(body or b"{}")
                time.sleep(asked.get("wait", 0))
                if not asked.get("stream"):
                    return self.reply(b"{}")
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                with contextlib.suppress(OSError):
                    for number in range(asked["stream"]):
                        self.chunk(f"data: {number}\n\n")
                        time.sleep(asked.get("gap", 0.05))
                    self.chunk("data: [DONE]\n\n")
                    self.wfile.write(b"0\r\n\r\n")
                    return None
                outer.ended.append("the client left")
                self.close_connection = True
                return None

            def chunk(self, text: str) -> None:
                self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())
                self.wfile.flush()

            def reply(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, request: Any, client_address: Any) -> None:
                """The gateway's checks hang up as soon as they know the status."""

        self.server = Quiet(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@dataclass
class Gateway:
    """An HAProxy with the role's configuration in front of the stand-in."""

    folder: Path
    server: Server
    settings: dict[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    # As the unit runs it: a master takes reloads. Without one there is one process to end.
    master: bool = False

    def render(self) -> Path:
        defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text()) or {}
        # The socket's name has to fit into 108 bytes (unix(7)).
        given = {
            **defaults,
            "gateway_routes": ROUTES,
            "gateway_addresses": ["127.0.0.1"],
            "gateway_port": self.port,
            # What an ordinary user may open here.
            "gateway_max_connections": 2000,
            "gateway_max_connections_each": 1000,
            "gateway_server": f"127.0.0.1:{self.server.port}",
            "gateway_folder": str(self.folder),
            "gateway_socket": str(self.folder / "a.sock"),
            "gateway_user": "",
            "gateway_metrics": "",
            "ansible_managed": "test",
            **self.settings,
        }
        loader = jinja2.Environment(
            loader=jinja2.FileSystemLoader(ROLE / "templates"),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            keep_trailing_newline=True,
        )
        path = self.folder / "haproxy.cfg"
        path.write_text(loader.get_template("haproxy.cfg.j2").render(given))
        return path

    def keys(self) -> Keys:
        return Keys(self.folder, self.folder / "a.sock", check=False)

    def start(self) -> None:
        keys = self.keys()
        keys.keys = [Key("alice", digest(KEY)), Key("chief", digest(CHIEF), OPERATOR)]
        keys.server_key = INTERNAL
        keys.save()
        self.start_again()

    def start_again(self) -> None:
        self.log = (self.folder / "log").open("wb")
        self.process = subprocess.Popen(
            [str(HAPROXY), *(["-W"] if self.master else []), "-f", str(self.render())],
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        self.wait(lambda: self.ask("GET", HEALTH)[0] in (200, 503))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()

    @staticmethod
    def wait(done: Callable[[], bool], seconds: float = 15) -> None:
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError):
                if done():
                    return
            assert time.monotonic() < end
            time.sleep(0.05)

    def ask(
        self, method: str, path: str, body: Any = None, key: str = "", headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], str]:
        """Return status, headers (in lower case) and text of one answer."""
        line = (
            http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=ssl._create_unverified_context())
            if self.settings.get("gateway_tls", "off") != "off"
            else http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        )
        given = {**({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
        try:
            line.request(method, path, None if body is None else json.dumps(body), given)
            answer = line.getresponse()
            text = answer.read().decode()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text
        finally:
            line.close()

    def raw(self, data: bytes, seconds: float = 8.0) -> bytes:
        """Send bytes as they are; return all that comes back until the gateway hangs up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as line:
            answer = b""
            with contextlib.suppress(OSError):
                line.sendall(data)
            with contextlib.suppress(OSError):
                while block := line.recv(65536):
                    answer += block
            return answer


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def make(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Gateway]]:
    made: list[Gateway] = []

    def new(behind: Server = server, **settings: Any) -> Gateway:
        made.append(Gateway(tmp_path_factory.mktemp("gw"), behind, settings))
        made[-1].start()
        return made[-1]

    yield new
    for gateway in made:
        gateway.stop()


@pytest.fixture(scope="module")
def gateway(make: Callable[..., Gateway]) -> Gateway:
    made = make(gateway_client_timeout=2, gateway_max_body_mib=1)
    made.wait(lambda: made.ask("GET", HEALTH)[0] == 200)
    return made


def in_openai_form(status: int, text: str) -> None:
    error = json.loads(text)["error"]
    assert error["code"] == status
    assert error["message"] and error["type"]


def test_a_request_passes_with_the_servers_own_key_and_an_id(gateway: Gateway, server: Server) -> None:
    status, headers, _text = gateway.ask("POST", CHAT, {"messages": []}, KEY, {"X-Request-ID": "mine-1"})
    assert (status, headers["x-request-id"]) == (200, "mine-1")
    method, path, given, body = server.seen[-1]
    assert (method, path, json.loads(body)) == ("POST", CHAT, {"messages": []})
    assert given["authorization"] == f"Bearer {INTERNAL}"
    assert given["x-request-id"] == "mine-1"
    # Without one, or with one that a log could not bear, it makes its own.
    for odd in ({}, {"X-Request-ID": "a b"}, {"X-Request-ID": "x" * 65}):
        assert len(gateway.ask("GET", "/v1/models", key=KEY, headers=odd)[1]["x-request-id"]) == 36


METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
#: Paths of vLLM that nobody needs from outside; every one reached it without a key, or with any.
SHUT = (
    "/docs",
    "/invocations",
    "/openapi.json",
    "/ping",
    "/pooling",
    "/reset_prefix_cache",
    "/sleep",
    "/v1/load_lora_adapter",
    "/v1/messages",
    "/",
)


@pytest.mark.parametrize("key", ["", KEY, CHIEF], ids=["no key", "user", "operator"])
@pytest.mark.parametrize("method", METHODS)
def test_only_what_is_listed_is_open(gateway: Gateway, server: Server, method: str, key: str) -> None:
    level = {"": 0, KEY: 1, CHIEF: 2}[key]
    listed = {path for paths in (*USER.values(), *OPERATOR_ROUTES.values()) for path in paths}
    for path in sorted({*listed, *SHUT}):
        needs = 1 if path in USER.get(method, ()) else 2 if path in OPERATOR_ROUTES.get(method, ()) else 3
        before = len(server.seen)
        status, _headers, text = gateway.ask(method, path, {} if method == "POST" else None, key)
        expected = 200 if level >= needs else 404 if needs == 3 or level else 401
        assert status == expected, (method, path)
        assert (len(server.seen) > before) == (status == 200), (method, path)
        if status != 200 and method != "HEAD":
            in_openai_form(status, text)


def test_health_is_one_word_without_a_key(gateway: Gateway) -> None:
    status, _headers, text = gateway.ask("GET", HEALTH)
    assert (status, text) == (200, "ok")


@pytest.mark.parametrize("key", ["sk-wrong", KEY[:-1], KEY + "x", KEY.upper(), "", " ", "null", digest(KEY)])
def test_a_wrong_key_is_refused_as_openai_does(gateway: Gateway, server: Server, key: str) -> None:
    before = len(server.seen)
    status, headers, text = gateway.ask("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    in_openai_form(401, text)
    assert len(server.seen) == before


def hostile() -> list[tuple[str, bytes]]:
    """Return requests that are no good, each with the user's key, by what is wrong."""
    auth = f"Authorization: Bearer {KEY}\r\n".encode()
    get = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + auth
    post = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + auth

    def path(text: str) -> bytes:
        return f"GET {text} HTTP/1.1\r\nHost: x\r\n".encode() + auth + b"Connection: close\r\n\r\n"

    return [
        *(
            (f"path {text}", path(text))
            for text in (
                "//v1/models",
                "/v1//models",
                "/v1/models/",
                "/v1/../v1/models",
                "/x/../v1/models",
                "/v1/./models",
                "/v1/models;a=b",
                "/V1/MODELS",
                "/%76%31/models",
                "/v1%2fmodels",
                "/v1%252fmodels",
                "/v1/models%00",
                "/v1/models%0d%0aX:%20y",
                "/v1/models#a",
                "/..%2finvocations",
                "/metrics",
                "/%6detrics",
                "*",
                "v1/models",
                "/v1/chat/completions",
            )
        ),
        ("absolute URI of another host", path("http://127.0.0.1:22/metrics")),
        ("CONNECT", b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n" + auth + b"\r\n"),
        ("TRACE", b"TRACE /v1/models HTTP/1.1\r\nHost: x\r\n" + auth + b"\r\n"),
        ("a method of its own", b"GET\x00 /v1/models HTTP/1.1\r\nHost: x\r\n" + auth + b"\r\n"),
        (
            "length and chunks",
            post
            + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        ),
        ("two lengths", post + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}"),
        ("a list of lengths", post + b"Content-Length: 2, 40\r\n\r\n{}"),
        ("a negative length", post + b"Content-Length: -1\r\n\r\n{}"),
        ("a length that is no number", post + b"Content-Length: 0x2\r\n\r\n{}"),
        ("a length beyond 64 bits", post + b"Content-Length: 99999999999999999999999\r\n\r\n{}"),
        *(
            (
                f"a length of {length}, which is small in 32 bits",
                post + f"Content-Length: {length}\r\n\r\n{{}}".encode(),
            )
            for length in (2**31, 2**32 + 1, 2**64 - 2**32)
        ),
        ("two keys", get + b"Authorization: Bearer other\r\n\r\n"),
        ("no length", post + b"\r\n"),
        ("chunks without end", post + b"Transfer-Encoding: chunked\r\n\r\n" + b"5\r\nhello\r\n" * 100),
        ("chunks in disguise", post + b"Transfer-Encoding: xchunked\r\nContent-Length: 2\r\n\r\n{}"),
        ("a space before the colon", post + b"Transfer-Encoding : chunked\r\nContent-Length: 2\r\n\r\n{}"),
        ("a folded header", get + b"X-A: b\r\n c\r\n" + b"Upgrade: x\r\n\r\n"),
        ("a bare line feed in a header", b"GET /v1/models HTTP/1.1\nHost: x\nAuthorization: Bearer a\n\n"),
        (
            "an upgrade to websocket",
            get + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n\r\n",
        ),
        (
            "an upgrade to HTTP/2",
            get + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        ),
        ("HTTP/2 at once", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n"),
        ("HTTP/0.9", b"GET /v1/models\r\n\r\n"),
        ("another version", b"GET /v1/models HTTP/9.9\r\nHost: x\r\n" + auth + b"\r\n"),
        ("two hosts", get + b"Host: y\r\n\r\n"),
        ("a head that is too long", get + b"X-A: " + b"a" * 40_000 + b"\r\n\r\n"),
        ("too many headers", get + b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"\r\n"),
        ("a key with a line break", b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\rb\r\n\r\n"),
        (
            "a key of 10 MB",
            b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"a" * 10_000_000 + b"\r\n\r\n",
        ),
        ("a body that is too large", post + b"Content-Length: 1048577\r\n\r\n"),
        ("a body that never comes", post + b"Content-Length: 100\r\n\r\n{"),
        ("a head that never ends", get + b"X-A: b\r\n"),
        ("a header's name with an underscore that hides another", get + b"X_Forwarded_For: a\r\nUpgrade: x\r\n\r\n"),
    ]


@pytest.fixture(scope="module")
def words(gateway: Gateway) -> Iterator[list[bytes]]:
    """Let another client's stream flow, and yield what it has got so far."""
    got: list[bytes] = []
    line = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    line.request("POST", CHAT, json.dumps({"stream": 100_000, "gap": 0.05}), {"Authorization": f"Bearer {KEY}"})
    answer = line.getresponse()

    def read() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, AttributeError, ValueError):
            while word := answer.readline():
                got.append(word)

    threading.Thread(target=read, daemon=True).start()
    yield got
    line.close()


@pytest.mark.parametrize("data", [data for _what, data in hostile()], ids=[what for what, _data in hostile()])
def test_a_hostile_request_ends_in_a_clean_refusal(
    gateway: Gateway, server: Server, words: list[bytes], data: bytes
) -> None:
    gateway.wait(lambda: len(words) > 0)
    before = len(server.seen)
    answer = gateway.raw(data)
    # Nothing of what was smuggled behind it was answered otherwise.
    assert set(re.findall(rb"HTTP/1\.1 (\d)", answer)) == {b"4"}, answer[:80]
    head, _blank, text = answer.partition(b"\r\n\r\n")
    if b"text/html" in head:
        # HAProxy's parser refuses it before it is a request, in its own words.
        assert head[9:12] in (b"400", b"408") and b"</html>" in text
    else:
        in_openai_form(int(head[9:12]), text.decode().partition("HTTP/1.1 4")[0])
    assert len(server.seen) == before
    # And another's stream flows on.
    seen = len(words)
    gateway.wait(lambda: len(words) > seen)


def test_others_streams_flow_on_while_hundreds_of_connections_idle(gateway: Gateway) -> None:
    line = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    line.request("POST", CHAT, json.dumps({"stream": 30, "gap": 0.1}), {"Authorization": f"Bearer {KEY}"})
    answer = line.getresponse()
    idle = []
    with contextlib.ExitStack() as stack:
        for _connection in range(400):
            idle.append(stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=5)))
        for _name, data in hostile()[:10]:
            gateway.raw(data)
        assert gateway.ask("GET", "/v1/models", key=KEY)[0] == 200
        assert answer.read().decode().endswith("data: [DONE]\n\n")
    line.close()


def test_one_client_cannot_hold_all_connections(make: Callable[..., Gateway]) -> None:
    small = make(gateway_max_connections=100, gateway_max_connections_each=50)
    small.wait(lambda: small.ask("GET", HEALTH)[0] == 200)
    with contextlib.ExitStack() as stack:
        for _connection in range(200):
            # Another address of this machine: a neighbour in the network, who needs no key for it.
            with contextlib.suppress(ConnectionError):
                idle = socket.create_connection(("127.0.0.1", small.port), timeout=5, source_address=("127.0.0.2", 0))
                stack.enter_context(idle)
        assert small.ask("POST", CHAT, {}, KEY)[0] == 200
        assert small.ask("GET", "/v1/models", key=KEY)[0] == 200


def test_a_line_of_the_log_is_json_whatever_the_path(gateway: Gateway) -> None:
    gateway.raw(b'GET /x\\"y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')

    def paths() -> list[str]:
        lines = (gateway.folder / "log").read_text().splitlines()
        return [json.loads(line)["path"] for line in lines if line.startswith("{")]

    gateway.wait(lambda: '/x\\"y' in paths())


def test_a_stream_that_is_silent_for_longer_than_a_client_may_be_is_not_cut(gateway: Gateway) -> None:
    status, _headers, text = gateway.ask("POST", CHAT, {"stream": 2, "gap": 3}, KEY)
    assert (status, text.count("data:")) == (200, 3)
    assert gateway.ask("POST", CHAT, {"wait": 3}, KEY)[0] == 200


def test_a_client_that_leaves_frees_its_slot(gateway: Gateway, server: Server) -> None:
    ended = len(server.ended)
    line = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    line.request("POST", CHAT, json.dumps({"stream": 200, "gap": 0.1}), {"Authorization": f"Bearer {KEY}"})
    line.getresponse().read(10)
    line.close()
    gateway.wait(lambda: len(server.ended) > ended)


def test_keys_change_while_a_stream_flows(gateway: Gateway) -> None:
    line = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    line.request("POST", CHAT, json.dumps({"stream": 20, "gap": 0.1}), {"Authorization": f"Bearer {KEY}"})
    answer = line.getresponse()
    keys = gateway.keys()
    bob = keys.add(Key("bob", "", at_once=1))
    keys.save()
    assert gateway.ask("GET", "/v1/models", key=bob)[0] == 200
    keys = gateway.keys()
    newer = keys.rotate("bob")
    keys.save()
    assert [gateway.ask("GET", "/v1/models", key=key)[0] for key in (bob, newer)] == [401, 200]
    keys = gateway.keys()
    keys.limit("bob", ends="2020-01-31")
    keys.save()
    assert gateway.ask("GET", "/v1/models", key=newer)[0] == 401
    keys = gateway.keys()
    keys.withdraw("bob")
    keys.save()
    assert gateway.ask("GET", "/v1/models", key=newer)[0] == 401
    assert answer.read().decode().endswith("data: [DONE]\n\n")
    line.close()
    again = gateway.keys()
    again.save()
    assert again.actions == []


@pytest.mark.parametrize(
    "key", ["100%-of-it", "50%[src]-12", "a\"b#c'd 12", "a\\\\b\\ c;show info", "$HOME${HOME}", "#12345678"]
)
def test_any_key_of_the_server_reaches_it_as_it_is(gateway: Gateway, server: Server, key: str) -> None:
    def sent() -> str:
        assert gateway.ask("GET", "/v1/models", key=KEY)[0] == 200
        return server.seen[-1][2]["authorization"]

    # Told through the socket, and read from the file by a gateway that starts.
    for value in (key, INTERNAL):
        keys = gateway.keys()
        keys.server(value)
        keys.save()
        assert sent() == f"Bearer {value}"
        again = gateway.keys()
        again.server(value)
        again.save()
        assert again.actions == []


@pytest.mark.parametrize("key", ["100%-of-it", "a\"b#c'd 12", "a\\\\b\\ c;show info", "#12345678"])
def test_any_key_of_the_server_is_read_at_the_start(make: Callable[..., Gateway], server: Server, key: str) -> None:
    fresh = make()
    fresh.stop()
    keys = fresh.keys()
    keys.server(key)
    keys.save()
    fresh.start_again()
    fresh.wait(lambda: fresh.ask("GET", "/v1/models", key=KEY)[0] == 200)
    assert server.seen[-1][2]["authorization"] == f"Bearer {key}"


def test_a_gateway_that_hangs_is_told_when_keys_change(make: Callable[..., Gateway]) -> None:
    stuck = make()
    stuck.process.send_signal(signal.SIGSTOP)
    try:
        keys = stuck.keys()
        keys.admin.seconds = 0.5
        keys.withdraw("alice")
        with pytest.raises(KeyProblem, match="still takes the earlier ones: restart spark-gateway"):
            keys.save()
    finally:
        stuck.process.send_signal(signal.SIGCONT)
    # The next run tells what that one could not.
    keys = stuck.keys()
    keys.save()
    assert keys.actions
    assert stuck.ask("GET", "/v1/models", key=KEY)[0] == 401


def test_limits_of_a_key_are_its_own(gateway: Gateway, server: Server) -> None:
    keys = gateway.keys()
    narrow, often = keys.add(Key("narrow", "", at_once=1)), keys.add(Key("often", "", per_minute=3))
    keys.save()
    running = threading.Thread(target=gateway.ask, args=("POST", CHAT, {"wait": 6}, narrow))
    arrived = len(server.seen)
    running.start()
    gateway.wait(lambda: len(server.seen) > arrived)
    status, headers, text = gateway.ask("POST", CHAT, {}, narrow)
    assert (status, headers["retry-after"]) == (429, "1")
    in_openai_form(429, text)
    assert gateway.ask("POST", CHAT, {}, KEY)[0] == 200
    running.join()
    # A client has its answer a moment before HAProxy gives the slot back.
    gateway.wait(lambda: gateway.ask("POST", CHAT, {}, narrow)[0] == 200)
    assert [gateway.ask("GET", "/v1/models", key=often)[0] for _time in range(4)] == [200, 200, 200, 429]


def test_more_requests_than_the_server_takes_are_told_to_come_again(
    make: Callable[..., Gateway], server: Server
) -> None:
    small = make(gateway_max_requests=1)
    small.wait(lambda: small.ask("GET", HEALTH)[0] == 200)
    running = threading.Thread(target=small.ask, args=("POST", CHAT, {"wait": 6}, KEY))
    arrived = len(server.seen)
    running.start()
    small.wait(lambda: len(server.seen) > arrived)
    assert small.ask("POST", CHAT, {}, CHIEF)[0] == 429
    running.join()
    small.wait(lambda: small.ask("POST", CHAT, {}, CHIEF)[0] == 200)


def test_while_the_server_is_away_it_says_so_at_once(make: Callable[..., Gateway]) -> None:
    behind = Server()
    away = make(behind)
    status, headers, text = away.ask("POST", CHAT, {}, KEY)
    assert (status, headers["retry-after"]) == (503, "15")
    in_openai_form(503, text)
    assert away.ask("GET", HEALTH)[::2] == (503, "away")
    behind.start()
    away.wait(lambda: away.ask("POST", CHAT, {}, KEY)[0] == 200)
    behind.stop()


def test_a_server_that_is_busy_for_seconds_is_not_away(make: Callable[..., Gateway]) -> None:
    behind = Server()
    behind.start()
    front = make(behind)
    front.wait(lambda: front.ask("GET", HEALTH)[0] == 200)
    # A prompt of a full context holds vLLM's event loop.
    behind.busy = 3
    end = time.monotonic() + 5
    while time.monotonic() < end:
        assert front.ask("POST", CHAT, {}, KEY)[0] == 200
        time.sleep(0.3)
    behind.stop()


def test_requests_are_held_until_the_server_is_back_where_that_was_chosen(make: Callable[..., Gateway]) -> None:
    behind = Server()
    holds = make(behind, gateway_hold_seconds=20)
    threading.Timer(3, behind.start).start()
    begun = time.monotonic()
    assert holds.ask("POST", CHAT, {}, KEY)[0] == 200
    assert time.monotonic() - begun >= 2
    assert len(behind.seen) == 1
    behind.stop()


def test_without_keys_everybody_asks_but_a_wrong_key_is_told(make: Callable[..., Gateway]) -> None:
    open_door = make(gateway_keyless=True)
    open_door.wait(lambda: open_door.ask("GET", HEALTH)[0] == 200)
    assert open_door.ask("GET", "/v1/models")[0] == 200
    assert open_door.ask("GET", "/v1/models", key="sk-wrong")[0] == 401
    assert open_door.ask("GET", "/metrics")[0] == 404


def test_the_log_has_neither_prompts_nor_keys(gateway: Gateway) -> None:
    gateway.ask("POST", f"{CHAT}?secret=in-the-query", {"messages": ["a-secret-prompt"]}, KEY)
    gateway.ask("POST", CHAT, {"messages": ["a-secret-prompt"]}, KEY)
    gateway.wait(lambda: "alice" in (gateway.folder / "log").read_text())
    text = (gateway.folder / "log").read_text()
    for word in ("a-secret-prompt", "in-the-query", KEY, INTERNAL, digest(KEY)):
        assert word not in text
    rows = [json.loads(line) for line in text.splitlines() if line.startswith('{"client"')]
    assert {
        "client",
        "key",
        "id",
        "method",
        "path",
        "status",
        "bytes",
        "waited_ms",
        "first_ms",
        "total_ms",
        "end",
    } == set(rows[-1])


def test_files_with_keys_are_for_root_alone(gateway: Gateway) -> None:
    for path in (gateway.folder / "keys.json", *gateway.folder.glob("*.map")):
        assert path.stat().st_mode & 0o777 == 0o600
        assert KEY not in path.read_text()


def test_a_renewed_certificate_is_served_while_a_stream_flows(server: Server, tmp_path: Path) -> None:
    def renew() -> str:
        folder = tmp_path / "made"
        shutil.rmtree(folder, ignore_errors=True)
        certificate, key = made(folder)
        write_atomic(tmp_path / "tls.pem", judged(certificate, key, run), 0o600)
        return certificate

    def served() -> str:
        return ssl.get_server_certificate(("127.0.0.1", front.port), timeout=5)

    front = Gateway(tmp_path, server, {"gateway_tls": "files"}, master=True)
    first = renew()
    front.start()
    try:
        assert served().split() == first.split()
        trust = ssl.create_default_context(cadata=first)
        trust.check_hostname = False
        line = http.client.HTTPSConnection("127.0.0.1", front.port, timeout=30, context=trust)
        front.wait(lambda: front.ask("GET", HEALTH)[0] == 200)
        line.request("POST", CHAT, json.dumps({"stream": 40, "gap": 0.1}), {"Authorization": f"Bearer {KEY}"})
        answer = line.getresponse()
        second = renew()
        front.process.send_signal(signal.SIGUSR2)
        front.wait(lambda: served().split() == second.split())
        assert answer.read().decode().endswith("data: [DONE]\n\n")
        line.close()
    finally:
        front.process.terminate()
        front.process.wait()
        front.log.close()


def test_figures_are_given_at_their_own_door_and_refused_keys_are_counted(make: Callable[..., Gateway]) -> None:
    port = free_port()
    gateway = make(gateway_metrics=f"127.0.0.1:{port}")
    gateway.wait(lambda: gateway.ask("GET", HEALTH)[0] == 200)
    admin = str(gateway.folder / "a.sock")
    assert key_failures(admin) == 0
    assert gateway.ask("GET", "/v1/models", key=KEY)[0] == 200
    for key in ("wrong", ""):
        assert gateway.ask("GET", "/v1/models", key=key)[0] == 401
    assert key_failures(admin) == 2
    figures = Gateway(gateway.folder, gateway.server, port=port)
    status, _headers, text = figures.ask("GET", "/metrics")
    assert status == 200
    assert 'haproxy_frontend_http_responses_total{proxy="gateway",code="4xx"} 2' in text
    assert KEY not in text and "alice" not in text
    assert figures.ask("GET", "/v1/models", key=KEY)[0] == 404
