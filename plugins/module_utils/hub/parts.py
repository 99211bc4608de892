# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Half-fetched files: one part for each content, kept between runs, so that a killed run costs only what was in flight.

A part is named for the content that it shall have: the same shard of another commit goes on where this one stopped, and
a part can never be taken for another file. Whether its bytes are right is found out when it is whole.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..system.files import make_folder
from .store import READ_SIZE, Digests, FileEntry, StoreError

# Bytes of a part that are written before they are brought to the disk.
FLUSH_BYTES = 64 * 1024 * 1024

# Takes an open handle, flushes and closes it, now or later.
Flush = Callable[[int], object]


class Stopped(Exception):
    """Another file's failure ended the run; what came so far stays."""


def part_name(entry: FileEntry) -> str:
    """Return the name of the part of a file: its sha256, or git's blob id where a hub states no other."""
    return f"{entry.sha256 or f'git-{entry.git_oid}'}.part"


def open_parts(staging: Path, entries: Iterable[FileEntry]) -> Path:
    """Return the folder of the parts, rid of those that none of ``entries`` needs.

    Parts that a run for another commit of the same repository left come along where they are needed here.
    """
    folder = staging / "parts"
    make_folder(folder)
    wanted = {part_name(entry) for entry in entries}
    for path in folder.iterdir():
        if path.name not in wanted:
            path.unlink()
    for path in staging.parent.glob("*/parts/*.part"):
        if path.name in wanted and not (folder / path.name).exists():
            path.replace(folder / path.name)
    return folder


def by_content(entries: Iterable[FileEntry]) -> list[list[FileEntry]]:
    """Return the files in groups of equal content, which share one part; the largest first, so that no stream idles."""
    groups: dict[str, list[FileEntry]] = {}
    for entry in sorted(entries, key=lambda entry: entry.size, reverse=True):
        groups.setdefault(part_name(entry), []).append(entry)
    return list(groups.values())


def open_part(path: Path) -> io.FileIO:
    """Open a part for reading and writing where it stands, unbuffered: what was written survives a kill."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644), "r+b", buffering=0)


def write_all(stream: io.FileIO, block: bytes | memoryview) -> None:
    """Write a whole block to an unbuffered file, which may take less at once."""
    rest = memoryview(block)
    while len(rest):
        rest = rest[stream.write(rest) :]


class Part:
    """A part as a downloader writes it: never longer than announced, stoppable from another thread, and read only once.

    What is written is hashed on its way and brought to the disk piece by piece, so that a proof at the end costs nothing and
    the memory that caches weights stays small.
    """

    def __init__(self, stream: io.FileIO, entry: FileEntry, stop: threading.Event, flush: Flush) -> None:
        self.stream = stream
        self.entry = entry
        self.stop = stop
        self.flush = flush
        self.unflushed = 0
        self.sha256 = hashlib.sha256()
        self.hashed = 0

    def resume(self) -> int:
        """Read what an earlier run left and go behind it; return its bytes."""
        self.restart()
        self.stream.seek(0)
        buffer = memoryview(bytearray(READ_SIZE))
        while count := self.stream.readinto(buffer):
            self.sha256.update(buffer[:count])
            self.hashed += count
        return self.hashed

    def restart(self) -> None:
        """Forget what was hashed."""
        self.sha256, self.hashed = hashlib.sha256(), 0

    def write(self, block: bytes) -> int:
        """Write a block; StoreError where the file would become longer than announced, Stopped where the run ended."""
        if self.stop.is_set():
            raise Stopped
        if self.stream.tell() + len(block) > self.entry.size:
            raise StoreError(
                f"more than the announced {self.entry.size} bytes come for '{self.entry.path}': the repository is "
                "broken, or something on the way alters files; try again, or choose another revision."
            )
        write_all(self.stream, block)
        self.sha256.update(block)
        self.hashed += len(block)
        self.unflushed += len(block)
        if self.unflushed >= FLUSH_BYTES:
            self.unflushed = 0
            self.flush(os.dup(self.stream.fileno()))
        return len(block)

    def tell(self) -> int:
        """Return the position, which is the number of bytes that are there."""
        return self.stream.tell()

    def seek(self, position: int) -> int:
        """Go to a position."""
        return self.stream.seek(position)

    def truncate(self) -> int:
        """Cut the part at the position, which is where a download starts over."""
        size = self.stream.truncate()
        self.restart()
        return size

    def digests(self) -> Digests | None:
        """Return the digests of the whole part where every byte of it went through here, else None."""
        size = os.fstat(self.stream.fileno()).st_size
        return Digests(size, self.sha256.hexdigest()) if self.hashed == size and self.entry.sha256 else None


def flush(handle: int) -> None:
    """Bring what was written so far to the disk, free the memory that caches it, and close the handle."""
    try:
        os.fdatasync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def parts_bytes(staging: Path, entries: Sequence[FileEntry]) -> int:
    """Return the bytes that the parts of ``entries`` hold."""
    total = 0
    for name in {part_name(entry) for entry in entries}:
        try:
            total += (staging / "parts" / name).stat().st_size
        except OSError:
            continue
    return total
