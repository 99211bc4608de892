# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Repositories of the hub: folders of plain files, each content being one commit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

# Files that the real hub keeps in large file storage: their ETag is a SHA-256, and they may come from another host.
LFS_PATTERNS = ("*.safetensors", "tokenizer.json", "*.bin", "*.gguf")
BLOCK = 1024 * 1024


@dataclass(frozen=True)
class File:
    """One file of a commit."""

    path: str
    """Path inside the repository, with slashes."""
    location: Path
    size: int
    """Bytes."""
    sha256: str
    git_oid: str
    """SHA-1 as git names the content."""
    lfs: bool

    @property
    def etag(self) -> str:
        """What the hub calls the content."""
        return self.sha256 if self.lfs else self.git_oid

    def tree_entry(self) -> dict[str, Any]:
        """The file as the hub's tree lists it."""
        entry: dict[str, Any] = {"type": "file", "path": self.path, "size": self.size, "oid": self.git_oid}
        if self.lfs:
            # The real hub's oid of a large file is that of its pointer; nothing checks it, but it never is the content's.
            pointer = (
                f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()
            )
            entry["oid"] = hashlib.sha1(b"blob %d\0" % len(pointer) + pointer, usedforsecurity=False).hexdigest()
            entry["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": len(pointer)}
        return entry

    def sibling(self, blobs: bool) -> dict[str, Any]:
        """The file as the hub's model info lists it."""
        if not blobs:
            return {"rfilename": self.path}
        entry = self.tree_entry()
        sibling = {"rfilename": self.path, "size": self.size, "blobId": entry["oid"]}
        if self.lfs:
            sibling["lfs"] = {"sha256": self.sha256, "size": self.size, "pointerSize": entry["lfs"]["pointerSize"]}
        return sibling


@dataclass(frozen=True)
class Commit:
    """One content of a repository."""

    sha: str
    """40 hexadecimal digits, derived from the names and contents alone."""
    files: dict[str, File]


@dataclass
class Repository:
    """A repository with its branches."""

    name: str
    """`owner/name`."""
    branches: dict[str, Path] = field(default_factory=dict)
    """Branch or tag -> folder with its files."""
    commits: dict[str, Commit] = field(default_factory=dict)
    """Commit -> content, earlier ones included."""
    heads: dict[str, str] = field(default_factory=dict)
    """Branch or tag -> commit."""

    def scan(self) -> None:
        """Read the folders again. Contents of earlier commits stay known for as long as their files are there."""
        for branch, folder in self.branches.items():
            commit = read_commit(folder)
            self.commits[commit.sha] = commit
            self.heads[branch] = commit.sha

    def find(self, revision: str) -> Commit | None:
        """The commit of a branch, a tag or a full or abbreviated hash; None where there is none."""
        sha = self.heads.get(revision.removeprefix("refs/heads/"), revision)
        if sha in self.commits:
            return self.commits[sha]
        matching = [commit for known, commit in self.commits.items() if len(sha) >= 7 and known.startswith(sha)]
        return matching[0] if len(matching) == 1 else None


def read_commit(folder: Path) -> Commit:
    """Hash everything below a folder. Raises OSError where it cannot be read."""
    files = {file.path: file for file in _files(folder)}
    digest = hashlib.sha1(usedforsecurity=False)
    for path in sorted(files):
        digest.update(f"{path}\0{files[path].sha256}\n".encode())
    return Commit(digest.hexdigest(), files)


def _files(folder: Path) -> Iterator[File]:
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    for location in sorted(folder.rglob("*")):
        relative = location.relative_to(folder)
        if not location.is_file() or any(part.startswith(".") and part != ".gitattributes" for part in relative.parts):
            continue
        size = location.stat().st_size
        sha256 = hashlib.sha256()
        git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        with location.open("rb") as source:
            while block := source.read(BLOCK):
                sha256.update(block)
                git.update(block)
        lfs = any(fnmatch(location.name, pattern) for pattern in LFS_PATTERNS)
        yield File(relative.as_posix(), location, size, sha256.hexdigest(), git.hexdigest(), lfs)
