# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Files of a snapshot that this machine already has: in Hugging Face caches, in plain folders, at another commit of the store.

A file is looked for by its content's name (blobs of a cache are named by sha256 or by git's blob id) and by its path, and is
never trusted: whoever takes it proves it like a file that came over the network.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..system.files import FILE_MODE
from .store import FileEntry, Manifest, Store, StoreError

# ioctl of Linux that makes one file share another's blocks until either is written (include/uapi/linux/fs.h: _IOW(0x94, 9, int)).
FICLONE = 0x40049409


def check_places(places: Sequence[str]) -> tuple[Path, ...]:
    """Return the folders to look in; StoreError where one is no absolute path. One that does not exist holds nothing."""
    for place in places:
        if not place.startswith("/"):
            raise StoreError(f"import_from names '{place}': expected an absolute folder on the node.")
    return tuple(Path(place) for place in places)


def roots(place: Path, repo_id: str) -> list[Path]:
    """Return the folders below ``place`` that may hold files of a repository.

    ``place`` may be HF_HOME, its folder ``hub``, one repository of it, or a folder of plain files as ``--local-dir`` makes.
    """
    name = f"models--{repo_id.replace('/', '--')}"
    return [folder for folder in (place / "hub" / name, place / name, place) if folder.is_dir()]


def candidates(entry: FileEntry, places: Sequence[Path], repo_id: str) -> Iterator[Path]:
    """Yield plain files of the right size that may be ``entry``, the likeliest first; links are followed to their file."""
    seen: set[Path] = set()
    for place in places:
        for root in roots(place, repo_id):
            names = [root / "blobs" / oid for oid in (entry.sha256, entry.git_oid) if oid]
            snapshots = root / "snapshots"
            if snapshots.is_dir():
                names += [folder / entry.path for folder in sorted(snapshots.iterdir())]
            for path in [*names, root / entry.path]:
                with contextlib.suppress(OSError, RuntimeError):
                    real = path.resolve(strict=True)
                    status = real.lstat()
                    if real not in seen and stat.S_ISREG(status.st_mode) and status.st_size == entry.size:
                        seen.add(real)
                        yield real


def held_at_other_commits(store: Store, repo_id: str, commit: str) -> dict[str, Path]:
    """Return content's name -> file of the verified snapshots that the store holds of the same repository at other commits.

    A file is there under its sha256, and under git's blob id where the hub states that one.
    """
    found: dict[str, Path] = {}
    for note in sorted(store.repo(repo_id).glob("*.manifest.json")):
        other = note.name.removesuffix(".manifest.json")
        if other == commit or not store.verified(repo_id, other)[0]:
            continue
        with contextlib.suppress(StoreError, OSError):
            manifest = Manifest.decode(note.read_bytes(), repo_id, other)
            for entry in manifest.files:
                path = store.snapshot(repo_id, other) / entry.path
                found |= {name: path for name in (entry.sha256, entry.git_oid) if name}
    return found


def linkable(path: Path, folder: Path) -> bool:
    """Say whether ``path`` may become a file of the store by a hard link: same file system, and of the store's own mode.

    Any other mode would have to be changed, and with it the file of the folder that it is taken from: a link is one file with two
    names. Such a file is copied instead, and so is one that others may not read.
    """
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    return status.st_dev == folder.stat().st_dev and mode == FILE_MODE


def take(source: Path, target: Path) -> str:
    """Bring ``source`` to ``target`` and return how: cloned, linked or copied; ``source`` stays as it is.

    A clone shares blocks until one side is written and is independent otherwise; a hard link is one file with two names.
    """
    target.unlink(missing_ok=True)
    with source.open("rb") as reading, target.open("wb") as writing:
        try:
            fcntl.ioctl(writing.fileno(), FICLONE, reading.fileno())
        except OSError:
            pass
        else:
            return "cloned"
    target.unlink()
    if linkable(source, target.parent):
        try:
            os.link(source, target)
        except OSError:
            pass
        else:
            return "linked"
    shutil.copyfile(source, target)
    return "copied"
