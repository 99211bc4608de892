# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Read-only questions to a Hugging Face hub: which commit is a revision, and which files does it hold.

Standard library only, so that it runs on a bare node before anything is installed there. Every failure becomes one
sentence (HubError). The protocol is that of huggingface_hub 2.x: ``/api/models/<repo>/revision/<revision>`` and
``/api/models/<repo>/tree/<commit>``, errors by status and by the header ``X-Error-Code``.
"""

from __future__ import annotations

import email.message
import email.utils
import json
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from .store import (
    Digests,
    FileEntry,
    Manifest,
    StoreError,
    check_entries,
    check_path,
    check_repo_id,
    check_revision,
    is_commit,
)

DEFAULT_ENDPOINT = "https://huggingface.co"
#: Argument spec of the modules that ask a hub; doc_fragments/hub.py explains each.
HUB_ARGUMENTS: dict[str, dict[str, Any]] = {
    "repo_id": {"type": "str", "required": True},
    "revision": {"type": "str", "default": "main"},
    "endpoint": {"type": "str", "default": DEFAULT_ENDPOINT},
    "token": {"type": "str", "no_log": True},
    "token_file": {"type": "path", "no_log": False},
    "ca_bundle": {"type": "path"},
    "allow_patterns": {"type": "list", "elements": "str", "default": []},
    "ignore_patterns": {"type": "list", "elements": "str", "default": []},
}
# A tree of ten thousand files is about 3 MiB; more than this is no answer of a hub.
MOST_ANSWER_BYTES = 64 * 1024 * 1024
MOST_PAGES = 1000
# A hub that asks for a longer pause than this gets a sentence instead of a silent wait (seconds).
MOST_PATIENCE = 20
SYSTEM_CA = Path("/etc/ssl/certs/ca-certificates.crt")


class Told(NamedTuple):
    """What a hub's answer means and what to do; a sentence of both is made last."""

    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.found}: {self.remedy}."


class HubError(StoreError):
    """One sentence about a hub; ``kind`` tells programs what it was, ``told`` has what was found and what to do apart.

    Kinds: repo, revision, file, gated, denied, unreachable, timeout, tls, busy, broken, answer.
    """

    def __init__(self, kind: str, told: Told) -> None:
        super().__init__(str(told))
        self.kind = kind
        self.told = told


@dataclass(frozen=True)
class Question:
    """What was asked, as far as a sentence needs it. ``token_note`` says whether a token was sent, never which."""

    repo_id: str
    revision: str
    endpoint: str
    token_note: str = "no token was sent"


def sentence(kind: str, asked: Question, detail: str = "") -> Told:
    """Return what to tell of a kind of failure; ``detail`` is a pause, a status, a file or a reason."""
    where, repo, revision = asked.endpoint, asked.repo_id, asked.revision
    told = {
        "repo": Told(
            f"{where} knows no repository '{repo}' ({asked.token_note})",
            "check repo_id; where the repository is private, the token must belong to a user who may read it",
        ),
        "revision": Told(
            f"'{repo}' has no revision '{revision}' at {where}",
            "check revision; it is a branch, a tag or a full commit of that repository",
        ),
        "file": Told(
            f"{where} does not serve the file '{detail}' of '{repo}' at '{revision}' although its own list names it",
            "the repository changed or is broken; try again, or choose another revision",
        ),
        "gated": Told(
            f"'{repo}' is gated at {where} ({asked.token_note})",
            f"accept its licence on {where}/{repo} with your account, and set that account's token",
        ),
        "denied": Told(
            f"{where} refuses '{repo}' with status {detail} ({asked.token_note})", "set a token that may read it"
        ),
        "unreachable": Told(
            f"the hub {where} cannot be reached from this node ({detail})",
            "check endpoint, the node's network and name service, or a proxy",
        ),
        "timeout": Told(f"the hub {where} did not answer in time ({detail})", "check the node's network and try again"),
        "tls": Told(
            f"the certificate of {where} is not trusted ({detail})",
            "behind a TLS-intercepting proxy, or for a hub with its own certificate authority, set spark_ca_bundle to that authority's certificate file",
        ),
        "busy": Told(
            f"the hub {where} answers 429, too many requests{detail}", "run again after that; a token raises the limit"
        ),
        "broken": Told(
            f"the hub {where} failed{detail} while asked for '{repo}'", "nothing is wrong here; try again later"
        ),
        "answer": Told(f"{where} does not answer like a Hugging Face hub ({detail})", "check endpoint"),
    }
    return told[kind]


def read_token(token: str, token_file: str) -> tuple[str, str]:
    """Return the token to send and a note for sentences; a token file that does not exist means none.

    The token is never part of the note. StoreError where the file is there but unusable.
    """
    if token:
        return check_token(token, "token"), "with a token"
    if not token_file:
        return "", "no token was sent"
    try:
        text = Path(token_file).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return "", f"no token was sent: {token_file} does not exist"
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not plain ASCII text"
        raise StoreError(f"token_file '{token_file}' cannot be read ({reason}): expected a token in it.") from None
    if not text:
        return "", f"no token was sent: {token_file} is empty"
    return check_token(text, f"token_file '{token_file}'"), f"with the token of {token_file}"


def check_token(token: str, name: str) -> str:
    """Return the token when it can stand in a header, else raise StoreError without showing it."""
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise StoreError(f"{name} holds blanks, line ends or letters that no token has: expected one like 'hf_...'.")
    return token


def check_endpoint(endpoint: str) -> str:
    """Return the endpoint without a trailing slash; StoreError where it is no http(s) address."""
    try:
        parts = urllib.parse.urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or "@" in endpoint or parts.query or parts.fragment or not endpoint.isprintable() or " " in endpoint:
        raise StoreError(f"endpoint is '{endpoint}': expected an address such as {DEFAULT_ENDPOINT}, without a user.")
    return endpoint.rstrip("/")


def combined_ca(ca_bundle: str) -> bytes:
    """Return the system's certificates followed by those of ``ca_bundle``, as one file's content (PEM)."""
    path = Path(ca_bundle)
    try:
        extra = path.read_bytes()
    except OSError as error:
        raise StoreError(f"ca_bundle '{ca_bundle}' cannot be read ({error.strerror}): expected a PEM file.") from None
    if b"-----BEGIN CERTIFICATE-----" not in extra:
        raise StoreError(f"ca_bundle '{ca_bundle}' holds no certificate: expected a PEM file.")
    return (SYSTEM_CA.read_bytes() + b"\n" if SYSTEM_CA.is_file() else b"") + extra


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of an address."""
    parts = urllib.parse.urlsplit(url)
    default = 443 if parts.scheme == "https" else 80
    return parts.scheme, (parts.hostname or "").lower(), parts.port or default


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects; the token goes along only where scheme, host and port stay the same."""

    max_redirections = 5

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and origin(req.full_url) == origin(newurl):
            for name, value in req.unredirected_hdrs.items():
                new.add_unredirected_header(name, value)
        return new


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows nothing: a redirect comes back as an HTTPError with its status."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        return None


@dataclass(frozen=True)
class Listing:
    """All files of a repository at a commit; a source that has the finished manifest hands it over as it is."""

    commit: str
    entries: tuple[FileEntry, ...]
    manifest: Manifest | None = None


class Arrived(Protocol):
    """Called for each file that arrived, from any thread; it may move the file away.

    ``seen``: the digests where the bytes were already read on their way in.
    """

    def __call__(self, entry: FileEntry, path: Path, seen: Digests | None = None) -> None: ...


class Hub:
    """A hub at ``endpoint``; ``timeout`` in seconds for each wait on the network."""

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        token: str = "",
        token_note: str = "no token was sent",
        ca_bundle: str = "",
        timeout: float = 10.0,
        attempts: int = 3,
    ) -> None:
        self.endpoint = check_endpoint(endpoint)
        self.token = token
        self.token_note = token_note
        self.timeout = timeout
        self.attempts = attempts
        context = ssl.create_default_context()
        if ca_bundle:
            try:
                context.load_verify_locations(cadata=combined_ca(ca_bundle).decode("ascii", "ignore"))
            except ssl.SSLError as error:
                raise StoreError(f"ca_bundle '{ca_bundle}' is no usable PEM file ({error.reason}).") from None
        secure = urllib.request.HTTPSHandler(context=context)
        self._opener = urllib.request.build_opener(_Redirects(), secure)
        self._straight = urllib.request.build_opener(_NoRedirects(), secure)

    def question(self, repo_id: str, revision: str) -> Question:
        """Return what sentences need to know."""
        return Question(repo_id, revision, self.endpoint, self.token_note)

    def resolve(self, repo_id: str, revision: str) -> str:
        """Return the commit of a branch, tag or commit; HubError where the hub does not know it."""
        check_repo_id(repo_id)
        asked = self.question(repo_id, check_revision(revision))
        url = f"{self.endpoint}/api/models/{repo_id}/revision/{urllib.parse.quote(revision, safe='')}"
        data, _headers = self._json(url, asked)
        commit = data.get("sha") if isinstance(data, dict) else None
        if not isinstance(commit, str) or not is_commit(commit):
            raise HubError("answer", sentence("answer", asked, "no commit in its answer"))
        if is_commit(revision) and commit != revision:
            raise HubError("revision", sentence("revision", asked))
        return commit

    def listing(self, repo_id: str, revision: str) -> Listing:
        """Return the commit of ``revision`` and all its files."""
        commit = self.resolve(repo_id, revision)
        asked = self.question(repo_id, revision)
        url = f"{self.endpoint}/api/models/{repo_id}/tree/{commit}?recursive=true&expand=false"
        entries: list[FileEntry] = []
        for _page in range(MOST_PAGES):
            data, headers = self._json(url, asked)
            if not isinstance(data, list):
                raise HubError("answer", sentence("answer", asked, "its list of files is no list"))
            entries += [parse_entry(item) for item in data if not isinstance(item, dict) or item.get("type") == "file"]
            following = next_link(headers.get("Link") or "")
            if not following:
                break
            url = urllib.parse.urljoin(url, following)
            if origin(url) != origin(self.endpoint):
                raise HubError("answer", sentence("answer", asked, "its list of files goes on at another host"))
        if not entries:
            raise HubError(
                "answer", Told(f"'{repo_id}' at {commit[:12]} holds no files at {self.endpoint}", "check revision")
            )
        return Listing(commit, check_entries(entries))

    def probe(self, repo_id: str, commit: str, path: str) -> None:
        """Ask for the head of one file; HubError where this hub would not give it out."""
        url = f"{self.endpoint}/{repo_id}/resolve/{commit}/{urllib.parse.quote(path)}"
        request = self._request(url, "HEAD")
        try:
            # A redirect to where the content lies is a yes; nothing is read there.
            with self._straight.open(request, timeout=self.timeout):
                return
        except urllib.error.HTTPError as error:
            with error:
                if error.code >= 400:
                    failure = status_error(error.code, error.headers, self.question(repo_id, commit))
                    raise failure.error if isinstance(failure, _TryLater) else failure from None
        except OSError as error:
            raise network_error(error, self.question(repo_id, commit)) from None

    def _request(self, url: str, method: str = "GET") -> urllib.request.Request:
        headers = {"User-Agent": "dgx_spark.vllm", "Accept": "application/json" if method == "GET" else "*/*"}
        request = urllib.request.Request(url, headers=headers, method=method)
        if self.token:
            # Unredirected: urllib would otherwise hand the token to whatever host a redirect names.
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        return request

    def _json(self, url: str, asked: Question) -> tuple[Any, email.message.Message]:
        """Return the decoded answer and its headers; a hub that stumbles is asked again a few times."""
        for attempt in range(1, self.attempts + 1):
            try:
                body, headers = self._get(url, asked)
                try:
                    return json.loads(body), headers
                except (ValueError, RecursionError):
                    raise HubError("answer", sentence("answer", asked, "not JSON")) from None
            except _TryLater as later:
                if attempt == self.attempts or later.pause > MOST_PATIENCE:
                    raise later.error from None
                time.sleep(later.pause or attempt)
        raise AssertionError("unreachable")

    def _get(self, url: str, asked: Question) -> tuple[bytes, email.message.Message]:
        try:
            with self._opener.open(self._request(url), timeout=self.timeout) as answer:
                body = answer.read(MOST_ANSWER_BYTES + 1)
                if len(body) > MOST_ANSWER_BYTES:
                    raise HubError("answer", sentence("answer", asked, "an endless answer"))
                return body, answer.headers
        except urllib.error.HTTPError as error:
            with error:
                raise status_error(error.code, error.headers, asked) from None
        except (OSError, ValueError) as error:
            raise network_error(error, asked) from None
        except HubError:
            raise
        except Exception as error:  # http.client's own errors share no base with OSError
            if type(error).__module__ != "http.client":
                raise
            raise network_error(ConnectionError(type(error).__name__), asked) from None


class _TryLater(Exception):
    """A failure that may pass: ``pause`` seconds were asked for (0: not said)."""

    def __init__(self, error: HubError, pause: float) -> None:
        super().__init__(str(error))
        self.error = error
        self.pause = pause


def status_error(status: int, headers: email.message.Message, asked: Question) -> HubError | _TryLater:
    """Return the error for an answer with a bad status (HubError, or _TryLater around one)."""
    code = headers.get("X-Error-Code") or ""
    if code == "GatedRepo":
        return HubError("gated", sentence("gated", asked))
    if code == "RepoNotFound":
        return HubError("repo", sentence("repo", asked))
    if code == "RevisionNotFound":
        return HubError("revision", sentence("revision", asked))
    if status == 429:
        pause = retry_after(headers.get("Retry-After") or "")
        detail = f" (it asks for a pause of {pause:.0f} s)" if pause else ""
        return _TryLater(HubError("busy", sentence("busy", asked, detail)), pause)
    if status >= 500:
        return _TryLater(HubError("broken", sentence("broken", asked, f" with status {status}")), 0)
    if status in (401, 403):
        return HubError("denied", sentence("denied", asked, str(status)))
    if status == 404:
        return HubError("repo", sentence("repo", asked))
    return HubError("answer", sentence("answer", asked, f"status {status}"))


def network_error(error: Exception, asked: Question) -> HubError:
    """Return the error for a hub that did not answer at all."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return HubError("tls", sentence("tls", asked, reason.verify_message or "not verified"))
    if isinstance(reason, ssl.SSLError):
        return HubError("unreachable", sentence("unreachable", asked, f"TLS failed: {reason.reason or reason}"))
    if isinstance(reason, TimeoutError):
        return HubError("timeout", sentence("timeout", asked, "timed out"))
    if isinstance(reason, socket.gaierror):
        return HubError("unreachable", sentence("unreachable", asked, f"its name is unknown: {reason.strerror}"))
    if isinstance(reason, OSError):
        return HubError("unreachable", sentence("unreachable", asked, reason.strerror or str(reason)))
    return HubError("unreachable", sentence("unreachable", asked, str(reason)))


def retry_after(value: str) -> float:
    """Return the pause in seconds that a Retry-After header asks for (RFC 9110, 10.2.3), 0 where it says nothing."""
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


def next_link(header: str) -> str:
    """Return the address marked rel="next" in a Link header (RFC 8288), or an empty string."""
    match = re.search(r'<([^>]*)>\s*;[^,]*\brel="?next"?', header)
    return match.group(1) if match else ""


def parse_entry(item: object) -> FileEntry:
    """Return one file of a hub's tree; StoreError where the hub says something that cannot be."""
    if not isinstance(item, dict):
        raise StoreError(f"the hub's list of files holds {item!r} where a file was expected.")
    path = check_path(item.get("path"))
    lfs = item.get("lfs")
    if isinstance(lfs, dict):
        return FileEntry.load({"path": path, "size": lfs.get("size"), "sha256": lfs.get("oid") or "-"})
    return FileEntry.load({"path": path, "size": item.get("size"), "git_oid": item.get("oid") or "-"})
