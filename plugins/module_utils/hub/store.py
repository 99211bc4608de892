# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The store of model weights on a node: names, manifest, stamp, proof by content, lock.

Layout, plain files only (a symbolic link could dangle over a mount)::

    <store>/<org>--<name>/<commit>/<files>         the snapshot, mode 0644, folders 0755
    <store>/<org>--<name>/<commit>.manifest.json   path, size and sha256 of every file
    <store>/<org>--<name>/<commit>.verified        the stamp: written last, after the proof; names the manifest's sha256
    <store>/<org>--<name>/refs/<revision>          the commit that a branch or tag was resolved to
    <store>/<org>--<name>/.staging/<commit>/       what is still being fetched
    <store>/<org>--<name>/.lock                    held while a run writes

A folder that exists is not a complete model: only the stamp says so, and only as long as every file still is what
the stamp saw (size, modification and change time).

Standard library only: the same file runs inside Ansible modules and inside services on the node.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import fnmatch
import hashlib
import json
import os
import re
import shutil
import stat
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..system.files import FILE_MODE, FOLDER_MODE, make_folder, sync, write_atomic
from ..system.progress import gib

FORMAT = 1
READ_SIZE = 4 * 1024 * 1024
# How much a proof is worth: a stamp made by a weaker method than the one asked for does not count.
METHODS: tuple[str, ...] = ("none", "size", "sha256")
INDEX_SUFFIX = ".safetensors.index.json"
#: Of pickles, which a server reads where there are no safetensors.
PICKLE_INDEX = "pytorch_model.bin.index.json"

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# huggingface_hub's own rule for names, less what no hub gives out.
_REPO_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*")


class StoreError(Exception):
    """One sentence for the person who runs the tool: what is wrong, with which value, and what to do."""


class StoreBusy(StoreError):
    """Another run is working on the same repository."""


# ---------------------------------------------------------------------------------------------------------------
# names


def is_commit(revision: str) -> bool:
    """Say whether ``revision`` is a full commit (40 hexadecimal digits), which never moves."""
    return _COMMIT.fullmatch(revision) is not None


def is_sha256(text: object) -> bool:
    """Say whether ``text`` is a sha256 in 64 lower-case hexadecimal digits."""
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def check_repo_id(repo_id: str) -> str:
    """Return ``repo_id`` when it has the form ``organisation/name``, else raise StoreError."""
    if not _REPO_ID.fullmatch(repo_id) or ".." in repo_id or "--" in repo_id:
        raise StoreError(
            f"repo_id is '{repo_id}': expected 'organisation/name' as it stands in the address of the model's page, "
            "for example 'QuantTrio/Qwen3-235B-A22B-Instruct-2507-AWQ'."
        )
    return repo_id


def check_revision(revision: str) -> str:
    """Return ``revision`` when it can be a branch, a tag or a commit, else raise StoreError."""
    bad = not revision or revision.startswith(("-", "/", ".")) or ".." in revision or len(revision) > 200
    if bad or not revision.isprintable() or any(char.isspace() or char in "?#%\\" for char in revision):
        raise StoreError(f"revision is '{revision}': expected a branch, a tag or a commit of 40 hexadecimal digits.")
    return revision


def check_path(path: object) -> str:
    """Return a file's path inside a repository when it stays inside, else raise StoreError.

    The names come from a server: none may be absolute, climb out with '..', or hide control characters.
    """
    if not isinstance(path, str):
        raise StoreError(f"the list of files names {path!r}, which is no file name: refusing the whole list.")
    parts = path.split("/")
    unsafe = any(part in ("", ".", "..") or len(part.encode("utf-8", "surrogatepass")) > 255 for part in parts)
    if unsafe or not path.isprintable() or "\\" in path:
        raise StoreError(f"the list of files names {path!r}, which would leave the model's folder: refusing the list.")
    if parts[:2] == [".cache", "huggingface"]:
        raise StoreError(f"the list of files names {path!r}, where downloads keep their own notes: refusing the list.")
    return path


def escape_pattern(path: str) -> str:
    """Return a pattern for fnmatch that matches exactly ``path``."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def matches(path: str, allow: Sequence[str], ignore: Sequence[str]) -> bool:
    """Say whether the patterns choose ``path``, by huggingface_hub's rules (a pattern 'dir/' means 'dir/*')."""

    def hit(patterns: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(path, f"{p}*" if p.endswith("/") else p) for p in patterns)

    return (not allow or hit(allow)) and not hit(ignore)


# ---------------------------------------------------------------------------------------------------------------
# manifest and stamp


@dataclass(frozen=True)
class FileEntry:
    """One file of a snapshot: ``size`` in bytes; ``sha256`` and ``git_oid`` are empty where not known.

    A hub states the sha256 of large (LFS) files and git's blob id, a sha1, of the small ones.
    """

    path: str
    size: int
    sha256: str = ""
    git_oid: str = ""

    @classmethod
    def load(cls, data: object) -> FileEntry:
        """Return the entry that was read from JSON; StoreError where it is not one."""
        if not isinstance(data, dict):
            raise StoreError(f"the list of files holds {data!r} where a file was expected.")
        path, size = check_path(data.get("path")), data.get("size")
        sha256, git_oid = data.get("sha256", ""), data.get("git_oid", "")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise StoreError(f"the list of files gives {size!r} as the size of '{path}': expected a number of bytes.")
        if (sha256 and not is_sha256(sha256)) or (git_oid and not is_commit(str(git_oid))):
            raise StoreError(f"the list of files gives no usable checksum for '{path}'.")
        return cls(path, size, str(sha256), str(git_oid))

    def dump(self) -> dict[str, Any]:
        """Return what goes into JSON."""
        data: dict[str, Any] = {"path": self.path, "size": self.size}
        if self.sha256:
            data["sha256"] = self.sha256
        if self.git_oid:
            data["git_oid"] = self.git_oid
        return data


def check_entries(entries: Iterable[FileEntry]) -> tuple[FileEntry, ...]:
    """Return the entries sorted by path; StoreError where a name comes twice or is both file and folder."""
    ordered = tuple(sorted(entries, key=lambda entry: entry.path))
    names = {entry.path for entry in ordered}
    if len(names) != len(ordered):
        raise StoreError("the list of files names a file twice: refusing the list.")
    for name in names:
        for end in (i for i, char in enumerate(name) if char == "/"):
            if name[:end] in names:
                raise StoreError(f"the list of files names '{name[:end]}' both as file and as folder: refusing it.")
    return ordered


@dataclass(frozen=True)
class Manifest:
    """What a snapshot holds (``files``), and what the commit has besides that was not chosen (``skipped``).

    The same snapshot has the same bytes as manifest on every node: no time and no address goes in.
    """

    repo_id: str
    commit: str
    files: tuple[FileEntry, ...]
    skipped: tuple[FileEntry, ...] = ()

    @property
    def bytes_total(self) -> int:
        """Bytes of all files of the snapshot."""
        return sum(entry.size for entry in self.files)

    @property
    def everything(self) -> tuple[FileEntry, ...]:
        """All files of the commit, chosen or not."""
        return check_entries(self.files + self.skipped)

    def encode(self) -> bytes:
        """Return the manifest's bytes; the digest inside shows damage to the manifest itself."""
        body = {
            "format": FORMAT,
            "repo_id": self.repo_id,
            "commit": self.commit,
            "files": [entry.dump() for entry in self.files],
            "skipped": [entry.dump() for entry in self.skipped],
        }
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        return (json.dumps({**body, "digest": digest}, indent=1) + "\n").encode()

    @property
    def sha256(self) -> str:
        """The sha256 of the manifest's bytes: one name for the content of the whole snapshot."""
        return hashlib.sha256(self.encode()).hexdigest()

    @classmethod
    def decode(cls, raw: bytes, repo_id: str, commit: str) -> Manifest:
        """Return the manifest in ``raw``; StoreError where it is damaged or speaks of something else."""
        try:
            data = json.loads(raw)
            body = {key: value for key, value in data.items() if key != "digest"}
            digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
            names = (data["format"], data["repo_id"], data["commit"])
            if digest != data["digest"] or names != (FORMAT, repo_id, commit):
                raise ValueError("its digest or its name differs")
            files = check_entries(FileEntry.load(item) for item in data["files"])
            skipped = check_entries(FileEntry.load(item) for item in data["skipped"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(f"the manifest of {repo_id} at {commit} is damaged ({error}).") from error
        if not all(is_sha256(entry.sha256) for entry in files):
            raise StoreError(f"the manifest of {repo_id} at {commit} lacks the sha256 of a file.")
        return cls(repo_id, commit, files, skipped)


# size in bytes, modification time and change time in ns: any write, rename or back-dating alters one of them.
Mark = tuple[int, int, int]


@dataclass(frozen=True)
class Stamp:
    """The proof that a snapshot was complete and right: by which ``method``, of which manifest, in which state."""

    method: str
    manifest_sha256: str
    marks: Mapping[str, Mark]
    time: str = ""

    def encode(self) -> bytes:
        """Return the stamp's bytes."""
        data = {
            "format": FORMAT,
            "time": self.time,
            "method": self.method,
            "manifest_sha256": self.manifest_sha256,
            "files": {path: list(mark) for path, mark in sorted(self.marks.items())},
        }
        return (json.dumps(data, indent=1) + "\n").encode()

    @classmethod
    def decode(cls, raw: bytes) -> Stamp | None:
        """Return the stamp in ``raw``; None where it is damaged: an unreadable proof is none."""
        try:
            data = json.loads(raw)
            marks = {str(path): (int(m[0]), int(m[1]), int(m[2])) for path, m in data["files"].items()}
            stamp = cls(data["method"], data["manifest_sha256"], marks, str(data["time"]))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            return None
        return stamp if stamp.method in METHODS and is_sha256(stamp.manifest_sha256) else None

    def proves(self, manifest: Manifest, method: str) -> bool:
        """Say whether this stamp proves ``manifest`` by ``method`` or a stronger one."""
        return self.manifest_sha256 == manifest.sha256 and METHODS.index(self.method) >= METHODS.index(method)


# ---------------------------------------------------------------------------------------------------------------
# files


def explain(error: OSError, what: str) -> str:
    """Return one sentence for an error of the file system while doing ``what`` ('write the store /srv/models')."""
    name = f" ('{error.filename}')" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"cannot {what}: the disk is full{name}; free some space and run again, what is there is kept."
    if error.errno == errno.EROFS:
        return f"cannot {what}: it is mounted read-only{name}; run this on the node that owns the store."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"cannot {what}: user id {os.geteuid()} may not{name}; run with become, or give this user the store."
    if error.errno == errno.EIO:
        return f"cannot {what}: the disk reports an input/output error{name}; look at `dmesg` before trusting it."
    return f"cannot {what}: {error.strerror or error}{name}."


def nearest(path: Path) -> Path:
    """Return ``path``, or the closest folder above it that exists: what holds it when it is created."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def free_bytes(path: Path) -> int:
    """Return the free bytes of the file system that holds ``path``, or would when it is created."""
    usage = os.statvfs(nearest(path))
    return usage.f_bavail * usage.f_frsize


def check_space(store: Path, needed: int) -> None:
    """Raise StoreError when the file system of ``store`` has less than ``needed`` bytes free."""
    free = free_bytes(store)
    if needed > free:
        raise StoreError(
            f"needs {gib(needed)} more in {store}, {gib(free)} free: "
            f"free {gib(needed - free)} there, or set spark_store_path to a larger disk."
        )


@dataclass(frozen=True)
class Digests:
    """What the content of a file is: bytes, sha256 and, where asked for, git's blob id."""

    size: int
    sha256: str
    git_oid: str = ""


def digest_file(path: Path, git: bool = False) -> Digests:
    """Read a file once and return its digests; hashlib lets other threads run meanwhile."""
    sha256, size = hashlib.sha256(), 0
    buffer = memoryview(bytearray(READ_SIZE))
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(handle, "rb", buffering=0) as stream:
        # git's blob id is no security here: it is what a hub states for small files (object format of git).
        sha1 = hashlib.sha1(b"blob %d\0" % os.fstat(handle).st_size, usedforsecurity=False) if git else None
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while count := stream.readinto(buffer):
            sha256.update(buffer[:count])
            if sha1:
                sha1.update(buffer[:count])
            size += count
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    return Digests(size, sha256.hexdigest(), sha1.hexdigest() if sha1 else "")


def compare(entry: FileEntry, seen: Digests) -> str:
    """Return what is wrong with a file whose content is ``seen``, or an empty string."""
    if seen.size != entry.size:
        return f"{entry.path} has {seen.size} bytes instead of {entry.size}"
    if entry.sha256 and seen.sha256 != entry.sha256:
        return f"{entry.path} has another content (sha256 {seen.sha256[:12]} instead of {entry.sha256[:12]})"
    if not entry.sha256 and entry.git_oid and seen.git_oid != entry.git_oid:
        return f"{entry.path} has another content (git blob {seen.git_oid[:12]} instead of {entry.git_oid[:12]})"
    return ""


def digest_many(folder: Path, entries: Iterable[FileEntry], workers: int = 0) -> dict[str, Digests]:
    """Read files in parallel, ``workers`` at a time (0: one for each core); return their digests by path.

    A file that cannot be read at all is left out.
    """

    def one(entry: FileEntry) -> tuple[str, Digests | None]:
        try:
            return entry.path, digest_file(folder / entry.path, git=not entry.sha256)
        except OSError:
            return entry.path, None

    # The largest first, so that no core idles while the last big shard is read.
    ordered = sorted(entries, key=lambda entry: entry.size, reverse=True)
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        return {path: seen for path, seen in pool.map(one, ordered) if seen is not None}


def mark_of(path: Path) -> Mark:
    """Return size, modification and change time of a file, links not followed."""
    status = path.lstat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass
class Survey:
    """What a look at a snapshot's folder shows, without reading any file.

    missing: no such file. damaged: path -> why (size, or no plain file). unproven: right size, but not as the stamp
    saw it. extra: files and links that do not belong there. modes: files and folders that others cannot read, or
    may write.
    """

    missing: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    unproven: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    modes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """True where nothing differs."""
        return not (self.missing or self.damaged or self.unproven or self.extra or self.modes)


def survey(folder: Path, entries: Iterable[FileEntry], marks: Mapping[str, Mark] | None = None) -> Survey:
    """Compare a folder with what it should hold; ``marks`` are those of a stamp that counts."""
    found: dict[str, os.stat_result] = {}
    result = Survey()
    for root, folders, files in os.walk(folder):
        base = Path(root)
        if stat.S_IMODE(base.lstat().st_mode) != FOLDER_MODE:
            result.modes.append(str(base.relative_to(folder)))
        # os.walk lists a link to a folder among the folders and does not enter it: it is no part of a snapshot.
        for name in files + [name for name in folders if (base / name).is_symlink()]:
            path = base / name
            found[str(path.relative_to(folder))] = path.lstat()
    for entry in entries:
        status = found.pop(entry.path, None)
        if status is None:
            result.missing.append(entry.path)
        elif not stat.S_ISREG(status.st_mode):
            result.damaged[entry.path] = f"{entry.path} is not a plain file"
        elif status.st_size != entry.size:
            result.damaged[entry.path] = f"{entry.path} has {status.st_size} bytes instead of {entry.size}"
        else:
            mark = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if marks is None or marks.get(entry.path) != mark:
                result.unproven.append(entry.path)
            if stat.S_IMODE(status.st_mode) != FILE_MODE:
                result.modes.append(entry.path)
    result.extra = sorted(found)
    return result


def is_index(name: str) -> bool:
    """Say whether a file is an index of shards that a server reads: one in the snapshot's own folder."""
    return (name.endswith(INDEX_SUFFIX) or name == PICKLE_INDEX) and "/" not in name


def check_indexes(folder: Path, entries: Iterable[FileEntry]) -> None:
    """Raise StoreError when an index of shards names a shard that the snapshot does not hold.

    The server would find out only after minutes of loading. An index in a folder below is none of the server's, which reads the
    snapshot's own folder only.
    """
    names = {entry.path for entry in entries}
    safetensors = any(name.endswith(".safetensors") and "/" not in name for name in names)
    for name in sorted(names):
        if not is_index(name) or (name == PICKLE_INDEX and safetensors):
            continue
        try:
            weights = json.loads((folder / name).read_bytes())["weight_map"]
            shards = {str(shard) for shard in weights.values()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise StoreError(f"'{name}' is no index of shards (JSON with 'weight_map'): it cannot load.") from None
        absent = sorted(shards - names)
        if absent:
            raise StoreError(
                f"'{name}' names the shard '{absent[0]}' ({len(absent)} of {len(shards)} shards) that the snapshot does "
                "not hold: the repository is incomplete at this commit, or the allow or ignore patterns leave it out."
            )


def remove_file(folder: Path, name: str) -> None:
    """Remove one file of a snapshot, and the folders that it leaves empty."""
    path = folder / name
    path.unlink(missing_ok=True)
    for parent in path.parents:
        if parent == folder:
            break
        try:
            parent.rmdir()
        except OSError:
            break


# ---------------------------------------------------------------------------------------------------------------
# the store


@dataclass(frozen=True)
class Local:
    """What the store says about a revision without asking anybody: None where it does not know."""

    commit: str | None
    manifest: Manifest | None
    stamp: Stamp | None


class Store:
    """One folder with the models of a node."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_absolute() or ".." in self.root.parts or self.root == Path("/"):
            raise StoreError(f"the store is '{root}': expected an absolute folder such as /srv/models.")

    def repo(self, repo_id: str) -> Path:
        """Return the folder of a repository."""
        return self.root / check_repo_id(repo_id).replace("/", "--")

    def snapshot(self, repo_id: str, commit: str) -> Path:
        """Return the folder of the files of one commit."""
        return self.repo(repo_id) / commit

    def staging(self, repo_id: str, commit: str) -> Path:
        """Return the folder of what is still being fetched."""
        return self.repo(repo_id) / ".staging" / commit

    def manifest_path(self, repo_id: str, commit: str) -> Path:
        """Return the path of the manifest."""
        return self.repo(repo_id) / f"{commit}.manifest.json"

    def stamp_path(self, repo_id: str, commit: str) -> Path:
        """Return the path of the stamp."""
        return self.repo(repo_id) / f"{commit}.verified"

    def ref_path(self, repo_id: str, revision: str) -> Path:
        """Return the path of a ref; a '/' in a branch's name is written %2F."""
        return self.repo(repo_id) / "refs" / urllib.parse.quote(check_revision(revision), safe="")

    def resolve(self, repo_id: str, revision: str) -> str | None:
        """Return the commit of a revision as far as this store knows."""
        if is_commit(revision):
            return revision
        try:
            commit = self.ref_path(repo_id, revision).read_text(encoding="ascii").strip()
        except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
            return None
        return commit if is_commit(commit) else None

    def local(self, repo_id: str, revision: str) -> Local:
        """Return what the store knows; a damaged manifest or stamp counts as none."""
        commit = self.resolve(repo_id, revision)
        if commit is None:
            return Local(None, None, None)
        manifest, stamp = None, None
        try:
            manifest = Manifest.decode(self.manifest_path(repo_id, commit).read_bytes(), repo_id, commit)
            stamp = Stamp.decode(self.stamp_path(repo_id, commit).read_bytes())
        except (StoreError, FileNotFoundError, NotADirectoryError):
            pass
        return Local(commit, manifest, stamp)

    def write_ref(self, repo_id: str, revision: str, commit: str) -> bool:
        """Note that ``revision`` is ``commit``; return whether that was news."""
        if is_commit(revision) or self.resolve(repo_id, revision) == commit:
            return False
        write_atomic(self.ref_path(repo_id, revision), f"{commit}\n".encode())
        return True

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest where it differs from the one on disk."""
        path, content = self.manifest_path(manifest.repo_id, manifest.commit), manifest.encode()
        if not path.is_file() or path.read_bytes() != content:
            write_atomic(path, content)

    def stamp(self, manifest: Manifest, method: str) -> None:
        """Write the stamp; the caller has proven every file by ``method`` and holds the lock."""
        folder = self.snapshot(manifest.repo_id, manifest.commit)
        marks = {entry.path: mark_of(folder / entry.path) for entry in manifest.files}
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write_atomic(
            self.stamp_path(manifest.repo_id, manifest.commit), Stamp(method, manifest.sha256, marks, now).encode()
        )

    def drop_stamp(self, repo_id: str, commit: str) -> None:
        """Take the proof away before anything in the snapshot is touched."""
        path = self.stamp_path(repo_id, commit)
        if path.exists():
            path.unlink()
            sync(path.parent)

    def restamp(self, repo_id: str, inodes: set[tuple[int, int]]) -> None:
        """Renew the marks of files among ``inodes`` (device, number) in all stamps of a repository.

        Making or removing a hard link alters the change time of the file behind all its names, and nothing else of it. The
        caller holds the lock and did just that; size and modification time must be as stamped.
        """
        for path in self.repo(repo_id).glob("*.verified"):
            stamp = Stamp.decode(path.read_bytes())
            if stamp is None:
                continue
            marks = dict(stamp.marks)
            for name, mark in stamp.marks.items():
                with contextlib.suppress(OSError):
                    file = path.with_suffix("") / name
                    status = file.lstat()
                    if (status.st_dev, status.st_ino) in inodes and mark_of(file)[:2] == mark[:2]:
                        marks[name] = mark_of(file)
            if marks != dict(stamp.marks):
                write_atomic(path, replace(stamp, marks=marks).encode())

    def verified(self, repo_id: str, revision: str, method: str = "sha256") -> tuple[bool, str]:
        """Say whether the snapshot is stamped and still as the stamp saw it, with a sentence; nothing is read.

        This is what a gate in front of a service asks. Works through a read-only mount.
        """
        known = self.local(repo_id, revision)
        where = f"{repo_id} at {(known.commit or revision)[:12]} in {self.root}"
        if known.commit is None or known.manifest is None:
            return False, f"{where} is not there, or was never completed."
        if known.stamp is None or not known.stamp.proves(known.manifest, method):
            return False, f"{where} is not verified by {method}."
        look = survey(self.snapshot(repo_id, known.commit), known.manifest.files, known.stamp.marks)
        wrong = look.missing + sorted(look.damaged) + look.unproven
        if wrong:
            return False, f"{where} has changed since it was verified: {name_some(wrong)}."
        return True, f"{where} is verified by {known.stamp.method} ({known.stamp.time})."

    @contextlib.contextmanager
    def lock(self, repo_id: str, patience: float = 2.0) -> Iterator[None]:
        """Hold the repository's lock; StoreBusy when another run holds it for ``patience`` seconds.

        The kernel frees the lock of a process that dies, so none is ever stale.
        """
        folder = self.repo(repo_id)
        make_folder(folder)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            deadline = time.monotonic() + patience
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        holder = os.pread(handle, 200, 0).decode("ascii", "replace").strip() or "unknown"
                        raise StoreBusy(
                            f"another run ({holder}) is working on {repo_id} in {self.root}: wait until it has ended, "
                            "or watch it with hf_model_info."
                        ) from None
                    time.sleep(0.1)
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S %Z')}".encode(), 0)
            yield
        finally:
            os.close(handle)

    def locked(self, repo_id: str) -> bool:
        """Say whether a run is working on the repository right now."""
        try:
            handle = os.open(self.repo(repo_id) / ".lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(handle)
        return False

    def staged_bytes(self, repo_id: str, commit: str = "") -> int:
        """Return the bytes on disk in the staging folder of a commit (of all of them), half files included."""
        total = 0
        for root, _folders, files in os.walk(self.staging(repo_id, commit)):
            for name in files:
                # A file may be moved into place while we look.
                with contextlib.suppress(OSError):
                    total += (Path(root) / name).lstat().st_blocks * 512
        return total

    def remove_orphans(self, repo_id: str, keep_commit: str) -> int:
        """Remove what dead runs left: half-written small files, and the staging of other commits; return bytes.

        The caller holds the lock, so nobody else is writing.
        """
        freed = 0
        folder = self.repo(repo_id)
        for path in [*folder.glob(".*.tmp"), *folder.glob("refs/.*.tmp")]:
            freed += path.lstat().st_size
            path.unlink()
        staging = folder / ".staging"
        if staging.is_dir():
            for path in staging.iterdir():
                if path.name != keep_commit:
                    freed += self.staged_bytes(repo_id, path.name)
                    remove_tree(path)
        return freed

    def remove(self, repo_id: str, commit: str) -> int:
        """Remove one commit and the refs to it; return the bytes of its files. The caller holds the lock.

        The stamp goes first and the refs last: a run that dies half-way leaves nothing that looks complete, and the
        next one finds the rest.
        """
        folder = self.repo(repo_id)
        snapshot = self.snapshot(repo_id, commit)
        files = [p.lstat() for p in snapshot.rglob("*") if p.is_file()] if snapshot.is_dir() else []
        size = sum(status.st_size for status in files if status.st_nlink == 1)
        self.drop_stamp(repo_id, commit)
        remove_tree(snapshot)
        self.restamp(repo_id, {(status.st_dev, status.st_ino) for status in files if status.st_nlink > 1})
        remove_tree(self.staging(repo_id, commit))
        self.manifest_path(repo_id, commit).unlink(missing_ok=True)
        for ref in self.refs(repo_id):
            if self.resolve(repo_id, ref) == commit:
                self.ref_path(repo_id, ref).unlink()
        with contextlib.suppress(OSError):
            (folder / ".staging").rmdir()
            (folder / "refs").rmdir()
        return size

    def refs(self, repo_id: str) -> list[str]:
        """Return the branches and tags that were resolved."""
        folder = self.repo(repo_id) / "refs"
        names = [urllib.parse.unquote(path.name) for path in folder.iterdir()] if folder.is_dir() else []
        return sorted(name for name in names if not name.startswith("."))

    def ready(self, repo_id: str, commit: str) -> str:
        """Return why a service must not start on a snapshot yet, in words; empty when it may. Reads no weights.

        The stamp must prove the manifest, and every file must have the size and modification time that the stamp saw. The
        change time does not count here: removing another link to a file alters it, and no machine must fail to start of that.
        """
        where = self.snapshot(repo_id, commit)
        known = self.local(repo_id, commit)
        if known.manifest is None:
            return f"the weights {where} are not there yet"
        if known.stamp is None or not known.stamp.proves(known.manifest, METHODS[0]):
            return f"the weights {where} are not verified yet"
        wrong = []
        for entry in known.manifest.files:
            try:
                mark = mark_of(where / entry.path)
            except (FileNotFoundError, NotADirectoryError):
                wrong.append(f"{entry.path} is missing")
                continue
            if mark[0] != entry.size or mark[:2] != tuple(known.stamp.marks.get(entry.path, ()))[:2]:
                wrong.append(f"{entry.path} changed size or modification time")
        return (
            f"the weights {where} changed since they were verified ({name_some(wrong)}): run site.yml" if wrong else ""
        )


def weights_bytes(folder: Path) -> int | None:
    """Return the bytes of the weights in a snapshot's folder by its manifest; None where it has none.

    What lies in folders below is in another format, and vLLM does not read it.
    """
    try:
        manifest = Store(folder.parent.parent).local(folder.parent.name.replace("--", "/", 1), folder.name).manifest
    except (StoreError, OSError):
        return None
    if manifest is None:
        return None
    sizes = {entry.path: entry.size for entry in manifest.files if "/" not in entry.path}
    return sum(size for path, size in sizes.items() if path.endswith(".safetensors")) or None


def remove_tree(path: Path) -> None:
    """Remove a folder with all in it, or the file or link that stands in its place; nothing there is fine."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def name_some(names: Sequence[str], most: int = 3) -> str:
    """Return the first names of a list for a sentence, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
