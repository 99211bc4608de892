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
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .hf_hub import Arrived, Hub, HubError, Listing, Question, combined_ca, retry_after, sentence
from .hf_store import FileEntry, StoreError, escape_pattern, explain, make_folder, remove_tree

# Subclasses before their parents: a gated repository is also a repository that is not found.
LIBRARY_ERRORS = {
    "GatedRepoError": "gated",
    "RevisionNotFoundError": "revision",
    "RemoteEntryNotFoundError": "file",
    "RepositoryNotFoundError": "repo",
}
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
    """Files of one repository from a hub."""

    def __init__(self, hub: Hub, repo_id: str, ca_bundle: str = "", max_workers: int = 8) -> None:
        self.hub = hub
        self.repo_id = repo_id
        self.ca_bundle = ca_bundle
        self.max_workers = max_workers

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
        target = staging / "files"
        # Nothing in there can be resumed: the library takes a new random name for every attempt.
        remove_tree(target / ".cache")
        make_folder(target)
        set_environment(staging / "home", self.ca_bundle)
        from huggingface_hub import snapshot_download

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
        # Each file is proven while the next ones still arrive: its bytes are then still in the page cache.
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
            return HubError("answer", f"{told} ({first}): the repository is broken or a proxy cuts; try again.")
    last = chain[-1]
    return StoreError(f"huggingface_hub could not fetch '{asked.repo_id}': {type(last).__name__}: {first_line(last)}")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, at most 300 characters."""
    return (str(error).splitlines() or ["no reason given"])[0][:300]
