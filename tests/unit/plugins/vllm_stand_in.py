# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A small server that speaks /v1/completions as vLLM does, and misbehaves on demand: other text, no numbers, a hang, a crash."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class StandIn:
    """How it behaves.

    Attributes:
        behaviour: ``fine``, ``tie`` (parts from the others where two tokens are nearly as likely), ``text`` (another token, one
            that was not considered), ``stutter``, ``nan``, ``hang`` (no answer), ``hang in stream``, ``crash`` (breaks off), ``error``.
        after: requests that are answered well before it misbehaves.
        look: says the behaviour for each request, instead of both.
    """

    url: str = ""
    behaviour: str = "fine"
    after: int = 0
    asked: int = 0
    streams: int = 0
    longest: int = 0
    look: Callable[[], str] | None = None
    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> str:
        """Count a request and return how it is to be answered."""
        with self.lock:
            self.asked += 1
            if self.look:
                return self.look()
            return self.behaviour if self.asked > self.after else "fine"


def tokens_for(prompt: str, count: int, behaviour: str) -> tuple[list[str], list[dict[str, float]]]:
    """Return tokens and the likeliest ones; at the third place of each answer the second choice is 0.2 nats behind."""
    first = sum(prompt.encode()) % 50
    tokens = [f"token_id:{first + place}" for place in range(count)]
    likeliest = [{token: -0.1, "token_id:900": -7.0} for token in tokens]
    if count > 2:
        likeliest[2]["token_id:901"] = -0.3
    if behaviour == "tie" and count > 2:
        tokens[2:] = ["token_id:901"] * 1 + [f"token_id:{700 + place}" for place in range(count - 3)]
    if behaviour == "text":
        tokens[0] = "token_id:999"
    if behaviour == "stutter":
        tokens = ["token_id:0"] * count
    if behaviour == "nan":
        likeliest = [{token: float("nan")} for token in tokens]
    return tokens, likeliest


class _Handler(BaseHTTPRequestHandler):
    stand_in: StandIn

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the output of tests quiet."""

    def do_GET(self) -> None:
        self._send({"status": "ok"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.stand_in
        how = server.now()
        with server.lock:
            server.longest = max(server.longest, int(body["max_tokens"]))
            server.streams += bool(body.get("stream"))
        if how == "hang":
            server.released.wait(20)
            return
        if how == "crash":
            self.close_connection = True
            return
        if how == "error":
            self._send({"error": {"message": "EngineCore encountered an issue", "code": 500}}, 500)
            return
        tokens, likeliest = tokens_for(body["prompt"], int(body["max_tokens"]), how)
        if body.get("stream"):
            self._stream(tokens, how)
            return
        said = {"tokens": tokens, "top_logprobs": likeliest}
        self._send({"choices": [{"text": " ".join(tokens), "logprobs": said, "finish_reason": "length"}]})

    def _stream(self, tokens: list[str], how: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.end_headers()
        for number, token in enumerate(tokens):
            if how == "hang in stream" and number == 1:
                self.stand_in.released.wait(20)
                return
            self.wfile.write(f"data: {json.dumps({'choices': [{'text': token}]})}\n\n".encode())
            self.wfile.flush()
            if len(tokens) > 100:
                time.sleep(0.001)
        self.wfile.write(b"data: [DONE]\n\n")

    def _send(self, document: Any, status: int = 200) -> None:
        text = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of what is tested."""


@contextmanager
def stand_in(behaviour: str = "fine", after: int = 0) -> Iterator[StandIn]:
    """Run one until the end of the block."""
    found = StandIn(behaviour=behaviour, after=after)
    handler = type("Handler", (_Handler,), {"stand_in": found})
    server: socketserver.BaseServer = _Server(("127.0.0.1", 0), handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
