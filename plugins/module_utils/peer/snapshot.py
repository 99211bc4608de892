# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Files of a snapshot from another node's share, in parallel streams that go on where they broke off.

What comes is not trusted: the manifest must have the sha256 that the caller knows (it came over SSH from the node that
made it), and each file must have the sha256 that the manifest names.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from ..hub.client import Arrived, Listing
from ..hub.parts import by_content, open_part, open_parts, part_name, write_all
from ..hub.progress import read_watch
from ..hub.snapshot import WATCH, Outcome, Request, foreseen, idle_outcome, make_plan, start_outcome, summary
from ..hub.store import READ_SIZE, Digests, FileEntry, Manifest, Store, StoreError, explain
from ..system.progress import EVERY, Progress
from .share import CHUNK, ShareClient

# A stream that brings nothing this many times in a row ends the run; each try waits one second longer.
TRIES = 4
# What the own disk reports, in contrast to the network.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)


class PeerSource:
    """One snapshot from the share of another node."""

    def __init__(self, client: ShareClient, repo_id: str, commit: str, manifest_sha256: str, streams: int = 4) -> None:
        self.client = client
        self.repo_id = repo_id
        self.commit = commit
        self.manifest_sha256 = manifest_sha256
        self.streams = streams

    def ready(self) -> str:
        """Nothing beyond the standard library is needed."""
        return ""

    def address(self, name: str) -> str:
        """Return the path of a file in the share."""
        return f"/files/{self.repo_id.replace('/', '--')}/{name}"

    def listing(self, revision: str) -> Listing:
        """Return the manifest of the other node; StoreError where it is not the one that was announced."""
        try:
            with self.client.get(self.address(f"{self.commit}.manifest.json")) as answer:
                raw = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self.client.unreachable(error) from None
        if hashlib.sha256(raw).hexdigest() != self.manifest_sha256:
            raise StoreError(
                f"the manifest of '{self.repo_id}' on {self.client.where} is not the one that was announced for "
                f"{self.commit[:12]}: somebody changed the store there meanwhile; run site.yml again."
            )
        manifest = Manifest.decode(raw, self.repo_id, self.commit)
        return Listing(self.commit, manifest.everything, manifest)

    def probe(self, listing: Listing) -> None:
        """What the manifest names is given out with the same token."""

    def fetch(self, commit: str, entries: Sequence[FileEntry], staging: Path, arrived: Arrived) -> None:
        """Fetch the files, the largest first, several at a time."""
        parts = open_parts(staging, entries)

        def group(members: list[FileEntry]) -> None:
            for entry in members:
                path = parts / part_name(entry)
                arrived(entry, path, self.fetch_file(entry, path))

        with ThreadPoolExecutor(self.streams) as pool:
            runs = [pool.submit(group, members) for members in by_content(entries)]
            try:
                for run in runs:
                    run.result()
            except BaseException:
                # One sentence is enough: what runs ends with its file, what waits does not begin.
                pool.shutdown(cancel_futures=True)
                raise

    def fetch_file(self, entry: FileEntry, path: Path) -> Digests:
        """Bring one file to ``path``, going on behind what is there; return the digests of all of it."""
        sha256, size = hashlib.sha256(), 0
        buffer = memoryview(bytearray(max(CHUNK, READ_SIZE)))
        with open_part(path) as stream:
            if os.fstat(stream.fileno()).st_size > entry.size:
                stream.truncate(0)
            while count := stream.readinto(buffer):
                sha256.update(buffer[:count])
                size += count
            failures = 0
            while size < entry.size:
                before = size
                error: Exception = ConnectionError("the connection ended early")
                try:
                    with self.client.get(self.address(f"{self.commit}/{entry.path}"), size) as answer:
                        self.check_size(entry, size, answer)
                        # No more than announced, whatever the peer sends.
                        while count := answer.readinto(buffer[: entry.size - size]):
                            write_all(stream, buffer[:count])
                            sha256.update(buffer[:count])
                            size += count
                except (ConnectionError, TimeoutError, http.client.HTTPException) as caught:
                    error = caught
                except OSError as caught:
                    if caught.filename or caught.errno in DISK_ERRORS:
                        raise
                    error = caught
                failures = 0 if size > before else failures + 1
                if failures >= TRIES:
                    raise self.client.unreachable(error)
                if size < entry.size:
                    time.sleep(failures)
        return Digests(size, sha256.hexdigest())

    def check_size(self, entry: FileEntry, start: int, answer: http.client.HTTPResponse) -> None:
        """Raise StoreError where the other node's file has another size than the manifest says."""
        total = start + (answer.length or 0)
        if (start > 0) != (answer.status == 206) or total != entry.size:
            raise StoreError(
                f"the copy of '{entry.path}' on {self.client.where} has {total} bytes instead of {entry.size}: it was "
                "damaged after the download; run site.yml again, which repairs it there first."
            )


class NotHere(Exception):
    """The question needs the other node."""


class Nobody:
    """A source that must not be asked."""

    def ready(self) -> str:
        """Nothing is fetched."""
        return ""

    def listing(self, revision: str) -> Listing:
        """Say that this node alone cannot know."""
        raise NotHere

    def probe(self, listing: Listing) -> None:
        """Nothing is asked."""

    def fetch(self, commit: str, entries: Sequence[FileEntry], staging: Path, arrived: Arrived) -> None:
        """Say that this node alone cannot have it."""
        raise NotHere


def look_here(store: Store, request: Request) -> tuple[Outcome, bool]:
    """Return what this node holds and would need, and whether the other node must be asked; contacts nobody.

    Only files that changed since the stamp are read; without a stamp nothing is, and the other node is to stand by.
    """
    try:
        known = store.local(request.repo_id, request.revision)
        plan = make_plan(store, request, Nobody(), read=known.stamp is not None)
    except NotHere:
        folder = str(store.snapshot(request.repo_id, request.revision))
        told = f"this node has no copy of '{request.repo_id}' at {request.revision[:12]}"
        outcome = Outcome(request.revision, folder, 0, 0, changed=True, actions=[f"fetch: {told}"], msg=f"{told}.")
        return outcome, True
    except OSError as error:
        raise StoreError(explain(error, f"read '{request.repo_id}' in {store.root}")) from error
    outcome = start_outcome(store, plan)
    if plan.idle:
        return idle_outcome(outcome, request), False
    sizes = {entry.path: entry.size for entry in plan.manifest.files}
    outcome.bytes_downloaded = sum(sizes[path] for path in plan.fetch)
    outcome.changed = bool(outcome.actions)
    outcome.msg = f"{foreseen(outcome, plan)}: {summary(outcome)}."
    return outcome, bool(plan.fetch) or known.stamp is None


@contextmanager
def telling(progress: Progress, what: str, store: Store, request: Request) -> Iterator[None]:
    """Note how far the fetch of a snapshot is, as long as the ``with`` block lasts; ``what`` names it in words."""
    ended = threading.Event()
    note = store.staging(request.repo_id, request.revision) / WATCH

    def tell() -> None:
        while not ended.wait(EVERY):
            if (watch := read_watch(note)) is not None:
                progress.note(what, watch.bytes, watch.bytes_total)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()
