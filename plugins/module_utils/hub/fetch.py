# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Fetching files from a hub through huggingface_hub: the one place that talks to that library.

The library is imported late, after its environment is set, and only when something must be fetched.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from ..system.files import make_folder
from ..system.progress import gib
from .client import Arrived, Hub, HubError, Listing, Question, Told, combined_ca, retry_after, sentence
from .parts import Flush, Part, Stopped, by_content, flush, open_part, open_parts, part_name
from .store import Digests, FileEntry, StoreError, escape_pattern, explain, remove_tree

# Subclasses before their parents: a gated repository is also a repository that is not found.
LIBRARY_ERRORS = {
    "GatedRepoError": "gated",
    "RevisionNotFoundError": "revision",
    "RemoteEntryNotFoundError": "file",
    "RepositoryNotFoundError": "repo",
}
# Bytes that a worker may lose with a kill, and 50 GB: huggingface_hub's own limit for plain HTTP (constants.MAX_HTTP_DOWNLOAD_SIZE).
CHUNK = 1024 * 1024
MOST_HTTP_BYTES = 50 * 1000**3
# A hub that fails in one of these ways may be well again; seconds to wait each time while no byte comes.
PASSING = ("broken", "timeout", "unreachable")
PAUSES = (1.0, 2.0, 4.0, 8.0)
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


def library_missing() -> str:
    """Return a sentence when this interpreter cannot import huggingface_hub, else an empty string."""
    if importlib.util.find_spec("huggingface_hub") is not None:
        return ""
    return (
        f"the Python of this task on the node ({sys.executable}) has no huggingface_hub: run the role node_tools, "
        "which makes /opt/dgx-spark/venv, and set ansible_python_interpreter to /opt/dgx-spark/venv/bin/python."
    )


class HubSource:
    """Files of one repository from a hub, by plain HTTP (``http``) or as huggingface_hub chooses (``xet``).

    ``http``: each file is a part that a later run goes on with; huggingface_hub's own function fetches it. ``xet``: the
    library's snapshot_download, which starts every unfinished file over (docs/decisions/0008).
    """

    def __init__(
        self, hub: Hub, repo_id: str, ca_bundle: str = "", max_workers: int = 8, transport: str = "http"
    ) -> None:
        self.hub = hub
        self.repo_id = repo_id
        self.ca_bundle = ca_bundle
        self.max_workers = max_workers
        self.transport = transport

    def ready(self) -> str:
        """Return why nothing can be fetched on this node, or an empty string."""
        return library_missing()

    def listing(self, revision: str) -> Listing:
        """Return the commit of a revision and its files."""
        return self.hub.listing(self.repo_id, revision)

    def probe(self, listing: Listing) -> None:
        """Raise HubError where the hub lists the files but does not give them out, as with a gated repository."""
        self.hub.probe(self.repo_id, listing.commit, min(listing.entries, key=lambda entry: entry.size).path)

    def fetch(self, commit: str, entries: Sequence[FileEntry], staging: Path, arrived: Arrived) -> None:
        """Fetch ``entries`` into ``staging`` and report each one as soon as it is whole.

        ``arrived`` may move the file away. Raises HubError or StoreError with one sentence; what arrived before stays
        with the caller.
        """
        set_environment(staging / "home", self.ca_bundle)
        if self.transport == "xet":
            self.fetch_snapshot(commit, entries, staging, arrived)
        else:
            self.fetch_parts(commit, entries, staging, arrived)

    def fetch_parts(self, commit: str, entries: Sequence[FileEntry], staging: Path, arrived: Arrived) -> None:
        """Fetch files by plain HTTP, several at once, going on behind what an earlier run left."""
        from huggingface_hub import constants

        # The library writes whole chunks only: 10 MiB for each worker would be lost with a kill.
        constants.DOWNLOAD_CHUNK_SIZE = CHUNK
        parts = open_parts(staging, entries)
        stop = threading.Event()
        # Each file is proven while the next ones still arrive: its bytes are then still in the page cache.
        with (
            ThreadPoolExecutor(len(os.sched_getaffinity(0))) as provers,  # outlives the loaders, who give it work
            ThreadPoolExecutor(self.max_workers) as loaders,
        ):
            proofs: list[Future[None]] = []

            def prove(entry: FileEntry, path: Path, seen: Digests | None) -> None:
                try:
                    arrived(entry, path, seen)
                except BaseException:
                    stop.set()
                    raise

            def group(members: list[FileEntry]) -> None:
                for entry in members:
                    path = parts / part_name(entry)
                    seen = self.fetch_part(commit, entry, path, stop, lambda handle: provers.submit(flush, handle))
                    proof = provers.submit(prove, entry, path, seen)
                    proofs.append(proof)
                    if len(members) > 1:
                        # The next file of the same content takes the same part.
                        wait([proof])

            runs = [loaders.submit(group, members) for members in by_content(entries)]
            wait(runs, return_when=FIRST_EXCEPTION)
            if not all(run.done() and run.exception() is None for run in runs):
                stop.set()
                for run in runs:
                    run.cancel()
        failures = [one.exception() for one in [*runs, *proofs] if not one.cancelled()]
        for error in failures:
            if error is not None and not isinstance(error, Stopped):
                raise error

    def fetch_part(
        self, commit: str, entry: FileEntry, path: Path, stop: threading.Event, flushing: Flush
    ) -> Digests | None:
        """Bring one file to ``path``; a hub that stumbles is asked again as long as bytes come.

        Returns its digests where every byte was seen on its way. Raises HubError or StoreError with one sentence, or Stopped.
        """
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        asked = self.hub.question(self.repo_id, commit)
        if entry.size > MOST_HTTP_BYTES:
            raise StoreError(
                f"'{entry.path}' of '{self.repo_id}' has {gib(entry.size)}, and hubs give files above 50 GB out by Xet "
                "only: set model_download_transport to xet."
            )
        headers = build_hf_headers(token=self.hub.token or False, library_name="dgx_spark.vllm")
        # A body that is compressed on the way can be resumed by nobody.
        headers["Accept-Encoding"] = "identity"
        url = hf_hub_url(self.repo_id, entry.path, revision=commit, endpoint=self.hub.endpoint)
        pauses = iter(PAUSES)
        with open_part(path) as stream:
            part = Part(stream, entry, stop, flushing)
            # Small files come whole or not at all: git's blob id begins with the size, and nothing is saved.
            if not entry.sha256 or os.fstat(stream.fileno()).st_size > entry.size:
                stream.truncate(0)
            held = part.resume()
            while held < entry.size:
                if stop.is_set():
                    raise Stopped
                try:
                    http_get(url, part, resume_size=held, headers=headers, expected_size=entry.size)
                    break
                except Stopped:
                    raise
                except Exception as error:
                    failure = explain_library_error(error, asked)
                    before, held = held, stream.seek(0, os.SEEK_END)
                    if http_status(error) == 416:
                        # The hub's file ends before this part does: what is here is no beginning of it.
                        stream.seek(0)
                        part.truncate()
                    kind = failure.kind if isinstance(failure, HubError) else ""
                    if held > before:
                        pauses = iter(PAUSES)
                    pause = next(pauses, None) if kind in PASSING else None
                    if pause is None:
                        raise failure from None
                    stop.wait(pause)
            return part.digests()

    def fetch_snapshot(self, commit: str, entries: Sequence[FileEntry], staging: Path, arrived: Arrived) -> None:
        """Fetch files by huggingface_hub's snapshot_download, which takes Xet where the hub offers it."""
        from huggingface_hub import snapshot_download

        target = staging / "files"
        # Nothing in there can be resumed: the library takes a new random name for every attempt.
        remove_tree(target / ".cache")
        make_folder(target)
        asked = self.hub.question(self.repo_id, commit)

        def download() -> None:
            snapshot_download(
                self.repo_id,
                revision=commit,
                local_dir=target,
                endpoint=self.hub.endpoint,
                # False: never fall back to a token that lies in somebody's home.
                token=self.hub.token or False,
                max_workers=self.max_workers,
                allow_patterns=[escape_pattern(entry.path) for entry in entries],
                library_name="dgx_spark.vllm",
            )

        waiting = {entry.path: entry for entry in entries}
        with ThreadPoolExecutor(1) as loader, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as provers:
            download_run = loader.submit(download)
            proofs = []
            while True:
                ended = download_run.done()  # asked before the look: what lands in between is seen by the next look
                for path in [path for path in waiting if (target / path).is_file()]:
                    entry = waiting.pop(path)
                    proofs.append(provers.submit(arrived, entry, target / path))
                if ended:
                    break
                time.sleep(0.05)
            for proof in proofs:
                proof.result()
            error = download_run.exception()
        if error is not None:
            if not isinstance(error, Exception):
                raise error
            raise explain_library_error(error, asked) from None
        if waiting:
            raise HubError("file", sentence("file", asked, sorted(waiting)[0]))


def set_environment(home: Path, ca_bundle: str) -> None:
    """Set huggingface_hub's environment; constants are read at import, so this comes before it.

    HF_HUB_DISABLE_XET and the HF_XET_* knobs are left to the user.
    """
    make_folder(home)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HF_TOKEN_PATH", "HF_ENDPOINT"):
        os.environ.pop(name, None)
    os.environ.update(
        HF_HOME=str(home),
        HF_HUB_OFFLINE="0",
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        HF_HUB_DISABLE_UPDATE_CHECK="1",
        HF_HUB_VERBOSITY="error",
    )
    if ca_bundle:
        bundle = home / "ca.pem"
        bundle.write_bytes(combined_ca(ca_bundle))
        os.environ.update(SSL_CERT_FILE=str(bundle), REQUESTS_CA_BUNDLE=str(bundle))


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it, outermost first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def http_status(error: BaseException) -> int:
    """Return the HTTP status behind an error, 0 where there is none."""
    for link in causes(error):
        status = getattr(getattr(link, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return 0


def explain_library_error(error: Exception, asked: Question) -> StoreError:
    """Return one sentence for what huggingface_hub raised.

    The library wraps (a 429 comes as LocalEntryNotFoundError), so the whole chain is looked through; classes are known
    by name because httpx2 and huggingface_hub are not to be imported here.
    """
    chain = list(causes(error))
    for link in chain:
        names = {cls.__name__ for cls in type(link).__mro__}
        if isinstance(link, StoreError):
            return link
        for name, kind in LIBRARY_ERRORS.items():
            if name in names:
                # httpx2's error has the address as text only once its request is forgotten.
                address = re.search(r"url:? (\S+)", str(link))
                name = address.group(1).rstrip(".").rpartition("/")[2] if address else "one of its files"
                return HubError(kind, sentence(kind, asked, name))
        if isinstance(link, OSError) and link.errno in DISK_ERRORS:
            return StoreError(explain(link, f"write what {asked.endpoint} sends"))
        response = getattr(link, "response", None)
        status = getattr(response, "status_code", None)
        if isinstance(status, int):
            if status == 429:
                pause = retry_after(str(getattr(response, "headers", {}).get("Retry-After") or ""))
                detail = f" (it asks for a pause of {pause:.0f} s)" if pause else ""
                return HubError("busy", sentence("busy", asked, detail))
            if status in (401, 403):
                return HubError("denied", sentence("denied", asked, str(status)))
            if status == 416:
                told = f"the hub {asked.endpoint} ends a file of '{asked.repo_id}' before the size that it announced"
                return HubError("answer", Told(told, "the repository is broken or a proxy cuts; try again"))
            if status >= 500:
                return HubError("broken", sentence("broken", asked, f" with status {status}"))
        if "TimeoutException" in names or isinstance(link, TimeoutError):
            return HubError("timeout", sentence("timeout", asked, "timed out"))
        if "RemoteProtocolError" in names or "ReadError" in names:
            return HubError("broken", sentence("broken", asked, " by cutting the connection again and again"))
        if "ConnectError" in names or isinstance(link, ConnectionError):
            if "CERTIFICATE_VERIFY_FAILED" in str(link):
                return HubError("tls", sentence("tls", asked, "not verified"))
            return HubError("unreachable", sentence("unreachable", asked, str(link) or "connection failed"))
        if "Consistency check failed" in str(link):
            first = str(link).splitlines()[0].removeprefix("Consistency check failed: ")
            told = f"the hub {asked.endpoint} sent a file of '{asked.repo_id}' with another size than it announced"
            return HubError("answer", Told(f"{told} ({first})", "the repository is broken or a proxy cuts; try again"))
    last = chain[-1]
    return StoreError(f"huggingface_hub could not fetch '{asked.repo_id}': {type(last).__name__}: {first_line(last)}")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, at most 300 characters."""
    return (str(error).splitlines() or ["no reason given"])[0][:300]
