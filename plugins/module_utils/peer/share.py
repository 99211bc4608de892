# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A read-only HTTP server on the fabric that hands weights and the serving image to the other nodes, and its client.

It runs only while a peer needs something, on the fabric address only, and ends by itself when nobody asks any more::

    PYTHONPATH=/opt/dgx-spark/lib python3 -m dgx_spark_node.peer.share serve --address 192.168.100.10 \\
        --store /srv/models --token-file /etc/dgx-spark/secrets/cluster_token

    GET /status                 {"store": ...}
    GET /files/<path in store>  a file of a model, with Range, by sendfile
    GET /image/<image>          `docker save` of an image, chunked: a stream that breaks off never looks complete

Whoever asks must show a token derived from the cluster's token. The link itself is not encrypted: what comes over it
is proven by digests that came over SSH.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import http.client
import http.server
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ..docker.cli import DOCKER, DockerError, inspect_image
from ..hub.store import StoreError
from ..system.run import run

DEFAULT_PORT = 8236
DEFAULT_IDLE = 600
CHUNK = 1024 * 1024
# Seconds that either end waits for the other one while bytes should flow.
PATIENCE = 60
# A Docker reference or id; no leading dash, so that it can never be read as an option.
IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")


def say(text: str) -> None:
    """Write a line to the unit's journal, at once."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def share_token(cluster_token: str) -> str:
    """Return the token of the share for a cluster token: knowing one does not give the other away."""
    return hashlib.sha256(f"fabric-share:{cluster_token}".encode()).hexdigest()


def read_share_token(token_file: str) -> str:
    """Return the token of the share from the file with the cluster's token; StoreError where that cannot be read."""
    try:
        text = Path(token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise StoreError(
            f"the cluster token {token_file} cannot be read ({reason}): run the whole site.yml, which writes it."
        ) from None
    if not text:
        raise StoreError(f"the cluster token {token_file} is empty: remove it and run site.yml.")
    return share_token(text)


def locate(store: Path, name: str) -> Path | None:
    """Return the file of a model that ``name`` stands for, or None where it is none that is given out.

    Only plain files below ``<store>/<repository>/<not hidden>/`` and manifests are: no staging, no lock, nothing
    behind a link that leads out of the store.
    """
    parts = name.split("/")
    if len(parts) < 2 or any(part in ("", ".", "..") or "\0" in part for part in parts):
        return None
    if parts[0].startswith(".") or parts[1].startswith("."):
        return None
    path = store.joinpath(*parts)
    try:
        inside = path.resolve(strict=True).is_relative_to(store.resolve(strict=True))
        return path if inside and stat.S_ISREG(path.lstat().st_mode) else None
    except (OSError, RuntimeError):
        return None


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return (first byte, number of bytes) for a Range header; None where it cannot be satisfied.

    One range is understood ('bytes=5-', 'bytes=5-9', 'bytes=-4'); anything else means the whole file, as RFC 9110 has
    it for units that a server does not know.
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", (header or "").strip())
    if not match or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(size - 1, int(last)) if first and last else size - 1
    return (start, end - start + 1) if start <= end else None


class ShareServer(http.server.ThreadingHTTPServer):
    """The server; ``idle`` seconds without a request end it."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: str, port: int, store: Path, token: str, idle: float) -> None:
        self.store = store
        self.token = token
        self.idle = idle
        self.active = 0
        self.last = time.monotonic()
        self.guard = threading.Lock()
        if ":" in address:
            self.address_family = socket.AF_INET6
        super().__init__((address, port), ShareHandler)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count a request that is being answered."""
        with self.guard:
            self.active += 1
        try:
            yield
        finally:
            with self.guard:
                self.active -= 1
                self.last = time.monotonic()

    def service_actions(self) -> None:
        """End when nobody has asked for long; called by serve_forever twice a second."""
        with self.guard:
            idle = not self.active and time.monotonic() - self.last > self.idle
        if idle:
            # shutdown() waits for the loop that calls us.
            threading.Thread(target=self.shutdown, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that hangs up is told in one line."""
        say(f"{client_address[0]} was cut off: {type(sys.exc_info()[1]).__name__}")


class ShareHandler(http.server.BaseHTTPRequestHandler):
    """Answers one connection."""

    server: ShareServer
    protocol_version = "HTTP/1.1"
    server_version = "dgx-spark-share"
    sys_version = ""
    timeout = PATIENCE

    def do_HEAD(self) -> None:
        """As GET, without a body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer one request."""
        with self.server.busy():
            shown = self.headers.get("Authorization") or ""
            if not hmac.compare_digest(shown.encode(), f"Bearer {self.server.token}".encode()):
                self.refuse(401, "the token is missing or wrong")
                return
            kind, _slash, name = urllib.parse.urlsplit(self.path).path.removeprefix("/").partition("/")
            name = urllib.parse.unquote(name, errors="surrogateescape")
            if kind == "status" and not name:
                self.small(200, {"store": str(self.server.store)})
            elif kind == "files":
                self.send_file(name)
            elif kind == "image":
                self.send_image(name)
            else:
                self.refuse(404, "not found")

    def small(self, status: int, data: dict[str, Any]) -> None:
        """Send a short JSON answer."""
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, reason: str) -> None:
        """Send an error in one sentence."""
        self.small(status, {"error": reason})

    def send_file(self, name: str) -> None:
        """Send a file of the store, or the range of it that was asked for."""
        path = locate(self.server.store, name)
        if path is None:
            self.refuse(404, f"the store has no file '{name}' to give out")
            return
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            part = parse_range(self.headers.get("Range"), size)
            if part is None:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start, count = part
            whole = count == size
            self.send_response(200 if whole else 206)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(count))
            if not whole:
                self.send_header("Content-Range", f"bytes {start}-{start + count - 1}/{size}")
            self.end_headers()
            if self.command != "HEAD" and count:
                self.wfile.flush()
                # A file cut short meanwhile ends the body early: the connection must then end too, or the peer waits.
                if self.connection.sendfile(stream, start, count) != count:
                    self.close_connection = True

    def send_image(self, image: str) -> None:
        """Send `docker save` of an image as it comes."""
        if not IMAGE.fullmatch(image):
            self.refuse(404, f"'{image}' is no name of an image")
            return
        try:
            known = inspect_image(run, image)
        except DockerError as error:
            self.refuse(500, str(error))
            return
        if known is None:
            self.refuse(404, f"this node has no image '{image}' to give out")
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/x-tar")
        self.send_header("X-Image-Id", str(known.get("Id") or ""))
        # Before compression and without the archive's own headers: near enough to tell how long it takes.
        self.send_header("X-Image-Bytes", str(known.get("Size") or 0))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command == "HEAD":
            return
        with subprocess.Popen([DOCKER, "save", image], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as saving:
            if saving.stdout is None:  # for the type checker: a pipe was asked for
                return
            try:
                while block := saving.stdout.read(CHUNK):
                    self.wfile.write(b"%x\r\n" % len(block))
                    self.wfile.write(block)
                    self.wfile.write(b"\r\n")
            except OSError:
                # The peer is gone: without this `docker save` would wait for it for ever.
                saving.terminate()
                raise
        if saving.returncode == 0:
            self.wfile.write(b"0\r\n\r\n")
        else:
            # No last chunk: the peer sees a stream that broke off.
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """One line a request for the journal; no header, so no token."""
        say(f"{self.client_address[0]} {format % args}")


# ---------------------------------------------------------------------------------------------------------------
# the client


class ShareClient:
    """Asks the share of another node. Errors come as StoreError with one sentence."""

    def __init__(self, address: str, port: int, token: str, timeout: float = PATIENCE) -> None:
        self.address = address
        self.port = port
        self.token = token
        self.timeout = timeout

    @property
    def where(self) -> str:
        """The address for sentences."""
        return f"{self.address}:{self.port}"

    @contextmanager
    def get(self, path: str, start: int = 0) -> Iterator[http.client.HTTPResponse]:
        """Open ``path`` from byte ``start`` on; the answer is a stream.

        Raises StoreError for a refusal, OSError or http.client.HTTPException where the connection fails.
        """
        headers = {"Authorization": f"Bearer {self.token}"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with closing(http.client.HTTPConnection(self.address, self.port, timeout=self.timeout)) as connection:
            connection.request("GET", urllib.parse.quote(path, errors="surrogateescape"), headers=headers)
            answer = connection.getresponse()
            if answer.status not in (200, 206):
                raise self.refusal(answer)
            yield answer

    def refusal(self, answer: http.client.HTTPResponse) -> StoreError:
        """Return the sentence for an answer that is none."""
        if answer.status == 401:
            return StoreError(
                f"the share on {self.where} refuses this node's token: the cluster token differs between the nodes; "
                "run the whole site.yml, which writes the same one everywhere."
            )
        try:
            reason = str(json.loads(answer.read(CHUNK))["error"])
        except (ValueError, KeyError, TypeError):
            reason = f"status {answer.status}"
        return StoreError(f"the share on {self.where} says: {reason}.")

    def status(self) -> dict[str, Any]:
        """Return what the share says of itself; StoreError where it does not answer."""
        try:
            with self.get("/status") as answer:
                data = json.loads(answer.read(CHUNK))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self.unreachable(error) from None
        return data if isinstance(data, dict) else {}

    def unreachable(self, error: Exception) -> StoreError:
        """Return the sentence for a share that does not answer."""
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return StoreError(
            f"the share on {self.where} cannot be reached ({reason}): check that the fabric link is up on both nodes, "
            f"and `systemctl status spark-fabric-share` on the node that shares."
        )

    @contextmanager
    def image(self, image: str) -> Iterator[http.client.HTTPResponse]:
        """Open the stream of `docker save` of an image; header X-Image-Id names it.

        A stream that breaks off raises http.client.IncompleteRead while it is read.
        """
        try:
            with self.get(f"/image/{image}") as answer:
                yield answer
        except ConnectionError as error:
            raise self.unreachable(error) from None


# ---------------------------------------------------------------------------------------------------------------
# the program


def serve(address: str, port: int, store: str, token_file: str, idle: float) -> None:
    """Serve until nobody asks for ``idle`` seconds, or until SIGTERM; StoreError where it cannot start."""
    root = Path(store)
    if not root.is_absolute():
        raise StoreError(f"the store is '{store}': expected an absolute folder such as /srv/models.")
    token = read_share_token(token_file)
    try:
        server = ShareServer(address, port, root, token, idle)
    except OSError as error:
        raise StoreError(
            f"cannot listen on {address}:{port} ({error.strerror or error}): the address must be this node's on the "
            "fabric, and the port free."
        ) from None
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown, daemon=True).start())
    say(f"sharing {root} on {address}:{server.server_address[1]}")
    with server:
        server.serve_forever()
    say("ends: no more requests, or it was stopped")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; errors go to stderr as one sentence."""
    parser = argparse.ArgumentParser(
        prog="fabric_share", description="Share weights and images on the fabric, read-only."
    )
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "serve", help="serve until no more requests come"
    )
    command.add_argument("--address", required=True, help="this node's address on the fabric")
    command.add_argument("--port", type=int, default=DEFAULT_PORT)
    command.add_argument("--store", required=True, help="folder with the models")
    command.add_argument("--token-file", required=True, help="file with the cluster's token")
    command.add_argument("--idle-timeout", type=float, default=DEFAULT_IDLE, help="seconds without a request")
    args = parser.parse_args(arguments)
    try:
        serve(args.address, args.port, args.store, args.token_file, args.idle_timeout)
    except StoreError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
