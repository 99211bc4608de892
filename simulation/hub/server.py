# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""The HTTP side of the hub: model information, trees, files with ranges, errors as the real hub words them."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .faults import BadRule, Faults, parse
from .repository import BLOCK, Commit, File, Repository

CONTROL = "/__control"
CONTENT = "/__content"
# Requests that are remembered for tests; a run of the whole test suite makes some thousands.
LOG_LENGTH = 20000


@dataclass
class Request:
    """One answered request, for tests to look at. Tokens are not kept, only whether there was one."""

    time: float
    """Seconds since 1970."""
    method: str
    path: str
    host: str
    range: str | None
    authorization: bool
    status: int
    bytes: int
    """Bytes of content sent."""


class Hub(ThreadingHTTPServer):
    """The server with its repositories, its faults and its log of requests."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A peer that is killed in the middle of an answer is what tests are for; anything else is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def __init__(self, address: tuple[str, int], repositories: dict[str, dict[str, Path]]) -> None:
        """address: where to listen; port 0 takes a free one. repositories: name -> branch -> folder.

        Raises OSError where the address is taken or a folder cannot be read.
        """
        self.repositories = {name: Repository(name, dict(branches)) for name, branches in repositories.items()}
        for repository in self.repositories.values():
            repository.scan()
        self.faults = Faults()
        self.log: list[Request] = []
        self.lock = threading.Lock()
        super().__init__(address, Handler)

    def remember(self, request: Request) -> None:
        """Add a request to the log."""
        with self.lock:
            self.log.append(request)
            del self.log[:-LOG_LENGTH]


@contextlib.contextmanager
def running(repositories: dict[str, dict[str, Path]], address: str = "127.0.0.1", port: int = 0) -> Iterator[Hub]:
    """A hub in a thread of its own, stopped at the end of the block."""
    hub = Hub((address, port), repositories)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


class Refusal(Exception):
    """An answer that is an HTTP error, as the real hub gives it."""

    def __init__(self, status: int, code: str | None, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: Hub
    server_version = "simulated-hub"
    sys_version = ""
    # Small answers go out as one packet, and a client that hangs does not hold a thread for ever.
    wbufsize = -1
    timeout = 120

    # --- verbs ---------------------------------------------------------------------------------------------------------

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.sent_status = 0
        self.sent_bytes = 0
        url = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(url.path)
        self.query = urllib.parse.parse_qs(url.query)
        if path == CONTROL or path.startswith(CONTROL + "/"):
            self._control(path)
            return
        try:
            self._route(path)
        except Refusal as refusal:
            self._refuse(refusal)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True
        finally:
            request = Request(
                time=time.time(),
                method=self.command,
                path=path,
                host=self.headers.get("Host", ""),
                range=self.headers.get("Range"),
                authorization="Authorization" in self.headers,
                status=self.sent_status,
                bytes=self.sent_bytes,
            )
            self.server.remember(request)

    def log_message(self, format: str, *args: Any) -> None:
        """One line a request on standard error would drown what matters: the log is at /__control/requests."""

    # --- routes --------------------------------------------------------------------------------------------------------

    def _route(self, path: str) -> None:
        body = self._body()
        parts = path.strip("/").split("/")
        if path == "/api/whoami-v2":
            if not self._token():
                raise Refusal(401, None, "Invalid username or password.")
            self._json({"type": "user", "name": "simulation", "orgs": []})
        elif parts[:2] == ["api", "models"] and len(parts) >= 4:
            self._api("/".join(parts[2:4]), parts[4:], body)
        elif parts[0] == CONTENT.strip("/") and len(parts) >= 5:
            repository = self._repository("/".join(parts[1:3]), "*", check=False)
            commit = self._commit(repository, parts[3])
            self._file(repository, commit, "/".join(parts[4:]), content=True)
        elif len(parts) >= 5 and parts[2] == "resolve":
            repository = self._repository("/".join(parts[:2]), "/".join(parts[4:]))
            self._file(repository, self._commit(repository, parts[3]), "/".join(parts[4:]))
        else:
            raise Refusal(404, None, "Sorry, we can't find the page you are looking for.")

    def _api(self, name: str, rest: list[str], body: bytes) -> None:
        kind = rest[0] if rest else "revision"
        where = {"tree": "<tree>", "paths-info": "<tree>"}.get(kind, "<info>")
        repository = self._repository(name, where)
        if kind == "refs":
            branches = [
                {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": sha}
                for branch, sha in sorted(repository.heads.items())
            ]
            self._json({"branches": branches, "tags": [], "converts": []})
            return
        if kind not in ("revision", "tree", "paths-info"):
            raise Refusal(404, None, "Sorry, we can't find the page you are looking for.")
        commit = self._commit(repository, rest[1] if len(rest) > 1 else "main")
        if kind == "revision":
            self._json(self._information(repository, commit))
            return
        entries = [self._tree_entry(file) for file in commit.files.values()]
        if kind == "paths-info":
            wanted = self._wanted_paths(body)
            entries = [entry for entry in entries if entry["path"] in wanted]
        elif below := "/".join(rest[2:]):
            entries = [entry for entry in entries if entry["path"].startswith(below + "/")]
            if not entries:
                raise Refusal(404, "EntryNotFound", f"{below} does not exist on {rest[1]}")
        self._json(entries)

    def _wanted_paths(self, body: bytes) -> set[str]:
        if self.headers.get("Content-Type", "").startswith("application/json"):
            return set(json.loads(body or b"{}").get("paths", []))
        return set(urllib.parse.parse_qs(body.decode()).get("paths", []))

    def _information(self, repository: Repository, commit: Commit) -> dict[str, Any]:
        blobs = self.query.get("blobs", [""])[0].lower() in ("1", "true")
        gated = self.server.faults.strike("gated", repository=repository.name) is not None
        return {
            "_id": commit.sha[:24],
            "id": repository.name,
            "modelId": repository.name,
            "author": repository.name.partition("/")[0],
            "sha": commit.sha,
            "lastModified": "2026-01-01T00:00:00.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "private": False,
            "gated": "manual" if gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": ["safetensors", "qwen3_moe", "text-generation"],
            "pipeline_tag": "text-generation",
            "library_name": "transformers",
            "siblings": [file.sibling(blobs) for file in commit.files.values()],
            "usedStorage": sum(file.size for file in commit.files.values()),
        }

    def _tree_entry(self, file: File) -> dict[str, Any]:
        entry = file.tree_entry()
        if lie := self.server.faults.strike("size", file.path):
            entry["size"] = lie["bytes"]
            if "lfs" in entry:
                entry["lfs"]["size"] = lie["bytes"]
        return entry

    # --- who and what --------------------------------------------------------------------------------------------------

    def _token(self) -> str | None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if scheme == "Bearer" and token else None

    def _repository(self, name: str, path: str, check: bool = True) -> Repository:
        """The repository of that name, after the faults that strike before anything is said about it."""
        if delay := self.server.faults.strike("delay", path, method=self.command, repository=name):
            time.sleep(delay["seconds"])
        if fail := self.server.faults.strike("fail", path, method=self.command, repository=name):
            status = int(fail["status"])
            words = fail.get("message") or HTTPStatus(status).phrase
            raise Refusal(status, fail.get("error_code"), words, fail.get("retry_after"))
        repository = self.server.repositories.get(name)
        unknown = Refusal(404 if self._token() else 401, "RepoNotFound", "Repository not found")
        if repository is None:
            raise unknown
        if not check:
            return repository
        private = self.server.faults.strike("private", repository=name)
        if private is not None and self._token() != private.get("token", ""):
            raise unknown
        gate = self.server.faults.strike("gated", repository=name)
        # As with the real hub, the names of a gated repository's files can be read, its files cannot.
        if gate is not None and not path.startswith("<") and self._token() != gate.get("token", ""):
            if self._token() is None:
                raise Refusal(
                    401, "GatedRepo", f"Access to model {name} is restricted. You must be authenticated to access it."
                )
            raise Refusal(
                403, "GatedRepo", f"Access to model {name} is restricted and you are not in the authorized list."
            )
        return repository

    def _commit(self, repository: Repository, revision: str) -> Commit:
        commit = repository.find(revision)
        if commit is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    # --- files ---------------------------------------------------------------------------------------------------------

    def _file(self, repository: Repository, commit: Commit, path: str, content: bool = False) -> None:
        """Answer for a file. content: the request came to the content server, whose answers say nothing of commits."""
        file = commit.files.get(path)
        if file is None:
            raise Refusal(404, "EntryNotFound", f"Entry not found: {path}")
        faults = self.server.faults
        size = file.size
        if lie := faults.strike("size", path, method=self.command):
            size = int(lie["bytes"])
        headers = {"ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
        if not content:
            headers["X-Repo-Commit"] = commit.sha
            if file.lfs:
                headers["X-Linked-Etag"] = f'"{file.sha256}"'
                headers["X-Linked-Size"] = str(size)
            redirect = faults.strike("redirect", path, method=self.command) if file.lfs else None
            if redirect:
                quoted = urllib.parse.quote(f"{CONTENT}/{repository.name}/{commit.sha}/{path}")
                headers["Location"] = f"http://{redirect['host']}{quoted}"
                headers["Content-Length"] = "0"
                self._head(302, headers)
                return
        start, end = self._range(file.size)
        if start is None:
            self._head(416, {"Content-Range": f"bytes */{file.size}", "Content-Length": "0"})
            return
        partial = "Range" in self.headers
        if partial:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        if not partial and size != file.size:
            end = min(end, size)
        length = end - start
        if cut := faults.strike("truncate", path, method=self.command):
            length = max(0, min(length, int(cut["bytes"]) - start))
        headers["Content-Length"] = str(size if self.command == "HEAD" and not partial else length)
        headers["Content-Type"] = "application/octet-stream"
        self._head(206 if partial else 200, headers)
        if self.command == "GET":
            self._send(commit, file, start, length)

    def _range(self, size: int) -> tuple[int | None, int]:
        """First byte and the byte after the last one that are asked for; None where the range cannot be satisfied."""
        wanted = self.headers.get("Range", "")
        if not wanted.startswith("bytes=") or "," in wanted:
            return 0, size
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        if not first.isdecimal():
            return (max(0, size - int(last)), size) if last.isdecimal() and int(last) else (None, 0)
        start = int(first)
        end = min(size, int(last) + 1) if last.isdecimal() else size
        return (start, end) if start < size and start < end else (None, 0)

    def _send(self, commit: Commit, file: File, start: int, length: int) -> None:
        """Send a part of a file, with what the faults make of it."""
        faults = self.server.faults
        source = file
        if swap := faults.strike("swap", file.path):
            source = commit.files.get(swap["with"], file)
        wrong = range(0)
        if corrupt := faults.strike("corrupt", file.path):
            offset = int(corrupt.get("offset", file.size // 2))
            wrong = range(offset, offset + int(corrupt.get("bytes", 1)))
        drop = faults.strike("drop", file.path)
        slow = faults.strike("slow", file.path)
        until = start + (min(length, int(drop["bytes"])) if drop else length)
        block = min(BLOCK, max(1, int(slow["rate"] / 10))) if slow else BLOCK
        position = start
        with source.location.open("rb") as stream:
            stream.seek(position)
            while position < until:
                wanted = min(block, until - position)
                data = bytearray(stream.read(wanted))
                data += bytes(wanted - len(data))
                for index in range(max(position, wrong.start), min(position + wanted, wrong.stop)):
                    data[index - position] ^= 0xFF
                self.wfile.write(data)
                self.sent_bytes += wanted
                position += wanted
                if slow:
                    self.wfile.flush()
                    time.sleep(wanted / float(slow["rate"]))
        if drop:
            self.wfile.flush()
            self.close_connection = True

    # --- answers -------------------------------------------------------------------------------------------------------

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        return self.rfile.read(int(length)) if length.isdecimal() else b""

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.sent_status = status
        self.send_response_only(status)
        self.send_header("Date", formatdate(usegmt=True))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _json(self, data: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(data).encode()
        self._head(status, {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)
            self.sent_bytes += len(body)

    def _refuse(self, refusal: Refusal) -> None:
        headers = {"X-Error-Message": refusal.message}
        if refusal.code:
            headers["X-Error-Code"] = refusal.code
        if refusal.retry_after is not None:
            headers["Retry-After"] = f"{refusal.retry_after:g}"
        self._json({"error": refusal.message}, refusal.status, headers)

    # --- control -------------------------------------------------------------------------------------------------------

    def _control(self, path: str) -> None:
        """The tests' side: faults, the log, and reading the folders again."""
        hub = self.server
        body = self._body()
        what = path.removeprefix(CONTROL).strip("/")
        if what == "requests" and self.command == "GET":
            with hub.lock:
                self._json([asdict(request) for request in hub.log])
        elif what == "requests" and self.command == "DELETE":
            with hub.lock:
                hub.log.clear()
            self._json({})
        elif what == "scan" and self.command == "POST":
            for repository in hub.repositories.values():
                repository.scan()
            self._json(self._described())
        elif what == "" and self.command == "GET":
            self._json(self._described())
        elif what == "" and self.command == "DELETE":
            hub.faults.clear()
            self._json(self._described())
        elif what == "" and self.command == "POST":
            try:
                hub.faults.add(parse(json.loads(body)))
            except (BadRule, ValueError) as error:
                self._json({"error": str(error)}, 400)
                return
            self._json(self._described())
        else:
            self._json({"error": f"{self.command} {path} is nothing that can be asked of the hub"}, 404)

    def _described(self) -> dict[str, Any]:
        hub = self.server
        return {
            "repositories": {name: repository.heads for name, repository in hub.repositories.items()},
            "rules": hub.faults.described(),
            "requests": len(hub.log),
        }
