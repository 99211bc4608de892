# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A small HTTP client for JSON and server-sent events, standard library only.

It talks to the services that this collection runs (Ray's dashboard, vLLM's API) and keeps three promises: every failure
is one :class:`HttpError` with one sentence, a secret never leaves for another address (redirects are not followed), and
a proxy from the environment is never asked for an address of a private network, because it could not reach it.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import IO, Any
from urllib.parse import urlsplit

# More than any answer that we ask for; a stranger on the port must not fill the memory of the node.
MAX_BODY_BYTES = 64 * 1024 * 1024

# Enough of an answer to recognise it in a sentence.
_EXCERPT_CHARACTERS = 300


class HttpError(Exception):
    """One request failed; ``str()`` is one sentence for a person.

    Attributes:
        status: the HTTP status, or None when there was no usable answer (refused, timed out, no JSON).
        refused: True when there was no connection: refused, no route, unknown name, timed out.
        detail: the server's own words, or an empty string.
    """

    def __init__(self, message: str, *, status: int | None = None, refused: bool = False, detail: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.refused = refused
        self.detail = detail


@dataclass(frozen=True)
class Answer:
    """A successful answer: its HTTP status, its raw text, and the seconds from sending to the last byte."""

    status: int
    text: str
    seconds: float

    def json(self, what: str) -> Any:
        """Return the body as JSON; ``what`` names the request in the error."""
        try:
            return json.loads(self.text)
        except ValueError as error:
            raise HttpError(
                f"{what} answered {self.status} with something that is not JSON ({excerpt(self.text)!r}): "
                "another service may be listening on this port",
                detail=self.text,
            ) from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: urllib would send the Authorization header along, to whatever host the answer names."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def excerpt(text: str, limit: int = _EXCERPT_CHARACTERS) -> str:
    """Return ``text`` on one line, cut to ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def is_local_host(host: str) -> bool:
    """Say whether every address of ``host`` lies outside the public internet (private, loopback, link-local, shared).

    A name that does not resolve counts as public: the connection will then say what is wrong with it.
    """
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and not any(ipaddress.ip_address(address.split("%")[0]).is_global for address in found)


def error_detail(body: str) -> str:
    """Return the sentence in a JSON error body, in the forms of vLLM, FastAPI and Ray, else the start of the body."""
    try:
        data = json.loads(body)
    except ValueError:
        return excerpt(body)
    if isinstance(data, dict):
        error = data.get("error")
        if isinstance(error, dict) and error.get("message"):
            return excerpt(str(error["message"]))
        for key in ("error", "message", "msg", "detail"):
            if data.get(key):
                return excerpt(data[key] if isinstance(data[key], str) else json.dumps(data[key]))
    return excerpt(body)


class HttpClient:
    """Requests against one base address.

    Args:
        base_url: ``http://host:port`` or ``https://...``, with or without a path; no trailing slash needed.
        token: sent as ``Authorization: Bearer``; None or empty sends none.
        timeout: seconds; for each wait on the network, and for a whole stream.

    Raises:
        ValueError: the address is not one, or the token cannot be sent in a header.
    """

    def __init__(self, base_url: str, *, token: str | None = None, timeout: float = 30.0) -> None:
        try:
            parts = urlsplit(base_url)
            host, _port = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"address {base_url!r} is not usable ({error}): expected http://<host>:<port>") from error
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError(f"address {base_url!r} is not usable: expected http://<host>:<port>")
        if parts.username is not None or parts.password is not None:
            raise ValueError(f"address of host {host!r} carries a user or password: give the key in its own parameter")
        if token and not (token.isascii() and token.isprintable()):
            raise ValueError(
                "the key holds a line break or another character that a header cannot carry: write it on one line"
            )
        if timeout <= 0:
            raise ValueError(f"timeout {timeout} is not usable: expected a number of seconds above 0")
        self.base_url = base_url.rstrip("/")
        self.token = token or None
        self.timeout = timeout
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if is_local_host(host):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def without_token(self) -> HttpClient:
        """Return a client for the same address that sends no key."""
        return HttpClient(self.base_url, timeout=self.timeout)

    def get(self, path: str) -> Answer:
        """Return the answer to ``GET path``; raises HttpError for any status but 2xx."""
        return self._read(self._request("GET", path, None))

    def get_json(self, path: str) -> Any:
        """Return the JSON that ``GET path`` answers with."""
        return self.get(path).json(f"GET {self.base_url}{path}")

    def post_json(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the JSON that ``POST path`` answers with."""
        return self._read(self._request("POST", path, body)).json(f"POST {self.base_url}{path}")

    def post_stream(self, path: str, body: Mapping[str, Any]) -> Iterator[tuple[float, str]]:
        """Yield (seconds since sending, data) for each server-sent event of the answer to ``POST path``.

        The data of one event is yielded as text: the caller knows its end marker and its JSON.
        """
        request = self._request("POST", path, body)
        what = f"POST {self.base_url}{path}"
        started = time.monotonic()
        with self._open(request) as response:
            kind = response.headers.get_content_type()
            if kind != "text/event-stream":
                raise HttpError(f"{what} answered with {kind} where a stream (text/event-stream) was asked for")
            data: list[str] = []
            lines = self._lines(response, what, started)
            for line in lines:
                if line.startswith("data:"):
                    data.append(line[5:].removeprefix(" "))
                elif not line and data:
                    yield time.monotonic() - started, "\n".join(data)
                    data = []
            if data:
                yield time.monotonic() - started, "\n".join(data)

    def _lines(self, response: http.client.HTTPResponse, what: str, started: float) -> Iterator[str]:
        total = 0
        while True:
            if time.monotonic() - started > self.timeout:
                raise HttpError(
                    f"{what} was still streaming after {self.timeout:g} s: raise the timeout or ask for fewer tokens"
                )
            try:
                raw = response.readline(MAX_BODY_BYTES)
            except TimeoutError as error:
                raise HttpError(f"{what} stopped in mid-stream: nothing for {self.timeout:g} s") from error
            except (OSError, http.client.HTTPException) as error:
                raise HttpError(f"{what} broke off in mid-stream ({_reason(error)})") from error
            total += len(raw)
            if total > MAX_BODY_BYTES:
                raise HttpError(f"{what} sent more than {MAX_BODY_BYTES} bytes")
            if not raw:
                return
            yield raw.decode("utf-8", "replace").rstrip("\r\n")

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> urllib.request.Request:
        headers = {"Accept": "application/json, text/event-stream, text/plain"}
        data = None
        if body is not None:
            data = json.dumps(body).encode("utf-8")
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self.base_url + path, data=data, method=method, headers=headers)
        if self.token:
            # "unredirected" keeps the key away from a proxy's CONNECT as well.
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        return request

    def _read(self, request: urllib.request.Request) -> Answer:
        started = time.monotonic()
        what = f"{request.get_method()} {request.full_url}"
        with self._open(request) as response:
            try:
                raw = response.read(MAX_BODY_BYTES + 1)
            except TimeoutError as error:
                raise HttpError(f"{what} stopped answering half-way: nothing for {self.timeout:g} s") from error
            except (OSError, http.client.HTTPException) as error:
                raise HttpError(f"{what} broke off half-way ({_reason(error)})") from error
            if len(raw) > MAX_BODY_BYTES:
                raise HttpError(f"{what} sent more than {MAX_BODY_BYTES} bytes")
            if response.length:
                # http.client reports a short body only to a read without a limit.
                raise HttpError(f"{what} broke off half-way ({response.length} bytes are missing)")
            return Answer(response.status, raw.decode("utf-8", "replace"), time.monotonic() - started)

    def _open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        what = f"{request.get_method()} {request.full_url}"
        try:
            response: http.client.HTTPResponse = self._opener.open(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            with error:
                detail = _error_body(error)
            location = error.headers.get("Location") if 300 <= error.code < 400 else None
            tail = (
                f", a redirect to {location}: give that address itself" if location else f": {detail}" if detail else ""
            )
            raise HttpError(
                f"{what} answered {error.code} {error.reason}{tail}", status=error.code, detail=detail
            ) from error
        except urllib.error.URLError as error:
            raise HttpError(f"{what} failed: {_reason(error.reason)}", refused=True) from error
        except TimeoutError as error:
            raise HttpError(f"{what} got no answer within {self.timeout:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise HttpError(f"{what} failed: {_reason(error)}", refused=isinstance(error, ConnectionError)) from error
        return response


def _error_body(error: urllib.error.HTTPError) -> str:
    """Return the server's words from an error answer; a body that cannot be read is no error of its own."""
    try:
        return error_detail(error.read(65536).decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException):
        return ""


def _reason(error: object) -> str:
    """Return the plain words of a network error: 'Connection refused', not '[Errno 111] Connection refused'."""
    if isinstance(error, TimeoutError):
        return "no connection in time"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def read_secret_file(path: str) -> str:
    """Return the key that the file at ``path`` holds, without surrounding white space.

    Raises:
        ValueError: the file is missing, unreadable or empty; one sentence that names it.
    """
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - the modules of this collection take plain paths
            secret = file.read(65536).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ValueError(f"key file {path} cannot be read on this node: {reason}") from error
    if not secret:
        raise ValueError(f"key file {path} is empty on this node: write the key into it, on one line")
    return secret


def secret_or_reason(text: str | None, path: str | None) -> tuple[str | None, str]:
    """Return a secret given as text or as a file, and why the file gave none (with a leading ``; ``), for modules that only look."""
    if not path:
        return text, ""
    try:
        return read_secret_file(path), ""
    except ValueError as error:
        return text, f"; {error}"
