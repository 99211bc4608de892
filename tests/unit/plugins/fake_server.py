# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A server on 127.0.0.1 that answers as a test tells it to, over real sockets, and notes what it was asked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Chunks = list[dict[str, Any] | str]


@dataclass
class Reply:
    """One answer: JSON (``body`` not text), plain text, or a stream of ``chunks`` (text goes out as it is)."""

    body: Any = None
    status: int = 200
    chunks: Chunks | None = None
    done: bool = True
    location: str | None = None


@dataclass
class Asked:
    """One request that arrived."""

    method: str
    path: str
    authorization: str | None
    body: dict[str, Any] | None


Route = Reply | Callable[[Asked], Reply]


@dataclass
class FakeServer:
    """Routes by ``METHOD path``; with ``key`` set, paths under /v1 ask for it, as vLLM's do."""

    url: str
    routes: dict[str, Route] = field(default_factory=dict)
    key: str | None = None
    asked: list[Asked] = field(default_factory=list)

    def reply(self, asked: Asked) -> Reply:
        """Note the request and find its answer."""
        self.asked.append(asked)
        if self.key and asked.path.startswith("/v1") and asked.authorization != f"Bearer {self.key}":
            return Reply({"error": "Unauthorized"}, status=401)
        route = self.routes.get(f"{asked.method} {asked.path}")
        if route is None:
            return Reply({"detail": "Not Found"}, status=404)
        return route if isinstance(route, Reply) else route(asked)


class _Handler(BaseHTTPRequestHandler):
    fake: FakeServer

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the output of tests quiet."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length) if length else b""
        asked = Asked(self.command, self.path, self.headers.get("Authorization"), json.loads(raw) if raw else None)
        reply = self.fake.reply(asked)
        self.send_response(reply.status)
        if reply.location:
            self.send_header("Location", reply.location)
        if reply.chunks is not None:
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.end_headers()
            for chunk in reply.chunks:
                text = chunk if isinstance(chunk, str) else f"data: {json.dumps(chunk)}\n\n"
                self.wfile.write(text.encode())
                self.wfile.flush()
            if reply.done:
                self.wfile.write(b"data: [DONE]\n\n")
            return
        text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
        self.send_header("Content-Type", "text/plain" if isinstance(reply.body, str) else "application/json")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = _answer


@contextmanager
def fake_server(routes: dict[str, Route] | None = None, key: str | None = None) -> Iterator[FakeServer]:
    """Run a server until the end of the block."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    fake = FakeServer(f"http://127.0.0.1:{server.server_address[1]}", routes or {}, key)
    handler.fake = fake  # type: ignore[attr-defined]
    # A short poll lets the server end at once.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- answers in vLLM's form ----------------------------------------------------------------------------------


def completion(content: str | None, finish: str | None = "stop", tokens: int = 7, **message: Any) -> Reply:
    """An answer of /v1/chat/completions."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": tokens, "total_tokens": 12 + tokens},
    }
    return Reply(body)


def tool_calls(*calls: tuple[str, str]) -> list[dict[str, Any]]:
    """The field tool_calls of a message."""
    return [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for number, (name, arguments) in enumerate(calls)
    ]


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """One chunk of a stream."""
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def text_stream(*parts: str, finish: str | None = "stop", done: bool = True) -> Reply:
    """A stream of text, with the role first and the usage last, as vLLM sends it."""
    chunks: Chunks = [chunk(role="assistant", content=""), *(chunk(content=part) for part in parts)]
    if finish:
        chunks.append(chunk(finish=finish))
    chunks.append({"object": "chat.completion.chunk", "choices": [], "usage": {"completion_tokens": len(parts)}})
    return Reply(chunks=chunks, done=done)


def call_stream(name: str, *arguments: str, finish: str = "tool_calls") -> Reply:
    """A stream of one tool call: its name first, then its arguments in pieces."""
    first = {"index": 0, "id": "call_0", "type": "function", "function": {"name": name, "arguments": ""}}
    chunks: Chunks = [chunk(role="assistant", content=""), chunk(tool_calls=[first])]
    chunks += [chunk(tool_calls=[{"index": 0, "function": {"arguments": part}}]) for part in arguments]
    chunks.append(chunk(finish=finish))
    chunks.append({"choices": [], "usage": {"completion_tokens": 20}})
    return Reply(chunks=chunks)


def chat_route(
    text: Reply | None = None,
    stream: Reply | None = None,
    call: Reply | None = None,
    call_streamed: Reply | None = None,
) -> Route:
    """A healthy /v1/chat/completions, with each of its four answers replaceable."""

    def answer(asked: Asked) -> Reply:
        body = asked.body or {}
        if body.get("tools"):
            if body.get("stream"):
                return call_streamed or call_stream("calculate", '{"expression": ', '"factorial(127)"}')
            return call or completion(
                None, "tool_calls", 20, tool_calls=tool_calls(("calculate", '{"expression": "factorial(127)"}'))
            )
        if body.get("stream"):
            return stream or text_stream("I am ", "a model", ".")
        return text or completion("I am a model.")

    return answer
