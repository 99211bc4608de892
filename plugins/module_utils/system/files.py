# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The one way to write a file: whole or not at all, with its mode from the first moment; and only where it differs."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any

FILE_MODE, FOLDER_MODE = 0o644, 0o755


def read_text(path: Path) -> str:
    """Return the text of a small file, or an empty string where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file, or None where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents with mode 0755, whatever the umask."""
    if not path.is_dir():
        make_folder(path.parent)
        # Another thread may have made the same parent a moment ago.
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            path.chmod(FOLDER_MODE)


def sync(path: Path, *, forget: bool = False) -> None:
    """Bring a file's or folder's content to the disk; ``forget`` then frees the memory that caches it.

    On unified memory a page cache full of weights is memory that the GPU does not get.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        if forget:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def write_atomic(path: Path, content: bytes | str, mode: int = FILE_MODE, owner: tuple[int, int] | None = None) -> None:
    """Write a small file so that after a kill or a power cut either the old or the new content is there, whole.

    It never has more rights than ``mode``, not for a moment, and lies with its ``owner`` (user and group id) before it gets its name.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            if owner is not None:
                os.fchown(stream.fileno(), *owner)
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


class Changes:
    """What is done to a machine's files, or would be in check mode: in words, with the difference of each file."""

    def __init__(self, check: bool) -> None:
        self.check = check
        self.actions: list[str] = []
        self.diff: list[dict[str, str]] = []

    def folder(self, path: Path) -> None:
        """Make a folder where it is missing."""
        if not path.is_dir():
            self.actions.append(f"made folder {path}")
            if not self.check:
                make_folder(path)

    def write(self, path: Path, text: str, mode: int = FILE_MODE) -> bool:
        """Write a file where text or mode differ; return whether they did."""
        before = read_text(path)
        if path.is_file() and before == text and path.stat().st_mode & 0o777 == mode:
            return False
        self.note(f"wrote {path}", path, before, text)
        if not self.check:
            write_atomic(path, text, mode)
        return True

    def remove(self, path: Path) -> bool:
        """Remove a file where it is there; return whether it was."""
        if not path.exists():
            return False
        self.note(f"removed {path}", path, read_text(path), "")
        if not self.check:
            path.unlink()
        return True

    def note(self, action: str, path: Path, before: str, after: str) -> None:
        """Say that something is done, with the difference of a file."""
        self.actions.append(action)
        self.diff.append({"before": before, "after": after, "before_header": str(path), "after_header": str(path)})
