# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Bringing one snapshot into the store: look, plan, fetch what differs, prove it, stamp it.

The same steps serve a download from a hub and a copy from another node; a Source knows how to list and to fetch.
Order on disk, so that a run killed at any moment leaves nothing that looks complete:

1. the stamp goes away before the first change inside the snapshot,
2. each file arrives in the staging folder, is proven, reaches the disk and is then renamed into the snapshot,
3. the manifest is written, then the stamp, then the ref, then the staging folder goes away.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from ..system.files import FILE_MODE, FOLDER_MODE, make_folder, sync
from ..system.progress import gib
from .client import Arrived, Listing
from .parts import open_parts, parts_bytes
from .progress import Meter, Watch, read_watch
from .reuse import candidates, check_places, held_at_other_commits, linkable, take
from .served import unread
from .store import (
    METHODS,
    Digests,
    FileEntry,
    Local,
    Manifest,
    Store,
    StoreError,
    Survey,
    check_entries,
    check_indexes,
    check_repo_id,
    check_revision,
    check_space,
    compare,
    digest_file,
    digest_many,
    explain,
    free_bytes,
    is_index,
    matches,
    name_some,
    nearest,
    remove_file,
    remove_tree,
    survey,
)

# A file that arrives with a wrong content is asked for once more: a broken proxy cache deserves no third try.
ROUNDS = 2
# In the staging folder of a commit: what the run there brings.
WATCH = "run.json"


class NotReady(StoreError):
    """Something must be fetched, and this interpreter cannot."""


class Source(Protocol):
    """Where files come from."""

    def ready(self) -> str:
        """Return why nothing can be fetched on this node, or an empty string."""

    def listing(self, revision: str) -> Listing:
        """Return the commit of a revision and all its files."""

    def probe(self, listing: Listing) -> None:
        """Raise StoreError where the listed files would not be given out."""

    def fetch(self, commit: str, entries: Sequence[FileEntry], staging: Path, arrived: Arrived) -> None:
        """Bring the files below ``staging`` and call ``arrived`` for each one, from any thread."""


@dataclass(frozen=True)
class Request:
    """What is wanted.

    ``reverify`` reads every byte again; ``update`` asks where a branch points now; ``manifest_sha256`` names the very
    manifest that is wanted, so that patterns play no part; ``note`` is a branch or tag to note as the commit where
    ``revision`` is the commit itself; ``places`` are folders of this machine that may hold files of the repository already.
    """

    repo_id: str
    revision: str
    allow: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    verify: str = "sha256"
    reverify: bool = False
    update: bool = False
    manifest_sha256: str = ""
    note: str = ""
    places: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """The name that the store notes for the commit."""
        return self.note or self.revision


@dataclass
class Outcome:
    """What is there now (or would be, in check mode), and what was done for it."""

    commit: str
    path: str
    files: int
    bytes_total: int
    bytes_downloaded: int = 0
    bytes_imported: int = 0
    verified: bool = False
    changed: bool = False
    manifest_sha256: str = ""
    actions: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    msg: str = ""


@dataclass
class Plan:
    """What differs between the request and the store: found by looking, and by reading only what is in doubt."""

    manifest: Manifest  # what shall be there; a small file's sha256 may still be unknown
    look: Survey
    fetch: dict[str, str]  # path -> why
    proven: dict[str, str]  # path -> sha256 of what was read just now
    stamped: bool  # the stamp on disk counts
    settled: bool  # the manifest on disk is the wanted one
    ref: bool  # the ref on disk is right
    listing: Listing | None = None  # what the source said, where it was asked

    @property
    def idle(self) -> bool:
        """True where nothing at all has to be written."""
        return self.stamped and self.settled and self.ref and self.look.clean and not self.fetch


def choose(entries: Sequence[FileEntry], request: Request) -> tuple[tuple[FileEntry, ...], tuple[FileEntry, ...]]:
    """Split a commit's files into those that are wanted and the rest; StoreError where none is wanted.

    Without patterns of what to take, weights that a server does not read are left out.
    """
    chosen = tuple(entry for entry in entries if matches(entry.path, request.allow, request.ignore))
    if not request.allow:
        gone = unread(entry.path for entry in chosen)
        chosen = tuple(entry for entry in chosen if entry.path not in gone)
    if not chosen:
        raise StoreError(
            f"the patterns choose none of the {len(entries)} files of '{request.repo_id}' "
            f"(allow_patterns {list(request.allow)}, ignore_patterns {list(request.ignore)}): check the patterns."
        )
    names = {entry.path for entry in chosen}
    return chosen, tuple(entry for entry in entries if entry.path not in names)


def look_up(
    store: Store, request: Request, source: Source, listing: Listing | None
) -> tuple[Manifest, Local, Listing | None]:
    """Return the manifest that shall be there, what the store holds of it, and the listing where one was needed.

    The source is asked only for what the store cannot know; ``listing`` is an answer from before.
    """
    known = trusted(store, request.repo_id, request.revision)
    old = known.manifest
    if request.manifest_sha256:
        if old is not None and old.sha256 == request.manifest_sha256:
            return old, known, None
        listing = listing or source.listing(request.revision)
        if listing.manifest is None or listing.manifest.sha256 != request.manifest_sha256:
            raise StoreError(f"the source of '{request.repo_id}' holds another manifest than the one asked for.")
        return listing.manifest, known, listing
    if old is not None and not (request.update and old.commit != request.revision):
        commit, entries = old.commit, old.everything
    else:
        listing = listing or source.listing(request.revision)
        commit, entries = listing.commit, listing.entries
        known = trusted(store, request.repo_id, commit)
        # The hub knows a small file by git's id only; the sha256 that was proven here is in the manifest.
        sums = {entry.path: entry for entry in known.manifest.files} if known.manifest else {}
        entries = tuple(merge(entry, sums.get(entry.path)) for entry in entries)
    chosen, skipped = choose(entries, request)
    return Manifest(request.repo_id, commit, chosen, skipped), known, listing


def trusted(store: Store, repo_id: str, revision: str) -> Local:
    """Return what the store knows, less a manifest that its own stamp contradicts, or a stamp without a manifest."""
    known = store.local(repo_id, revision)
    if known.manifest is None:
        return replace(known, stamp=None)
    if known.stamp is not None and known.stamp.manifest_sha256 != known.manifest.sha256:
        return replace(known, manifest=None, stamp=None)
    return known


def make_plan(
    store: Store, request: Request, source: Source, read: bool = True, listing: Listing | None = None
) -> Plan:
    """Look at the store and say what differs.

    Files whose state the stamp vouches for are not read; with ``read`` false no file is, and those in doubt stay so.
    """
    wanted, known, listing = look_up(store, request, source, listing)
    settled = known.manifest is not None and known.manifest.sha256 == wanted.sha256
    # The stamp speaks of the files of the old manifest: with other patterns it still vouches for what both hold.
    stamp = known.stamp
    stamped = stamp is not None and METHODS.index(stamp.method) >= METHODS.index(request.verify)
    folder = store.snapshot(request.repo_id, wanted.commit)
    look = survey(folder, wanted.files, stamp.marks if stamp and stamped and not request.reverify else None)
    fetch = {path: f"{path} is missing" for path in look.missing} | look.damaged
    proven: dict[str, str] = {}
    unproven = set(look.unproven)
    # Small files are read even where no proof is wanted: the manifest needs their sha256.
    doubtful = [e for e in wanted.files if e.path in unproven and (request.verify == "sha256" or not e.sha256)]
    if read and doubtful:
        seen = digest_many(folder, doubtful)
        for entry in doubtful:
            digests = seen.get(entry.path)
            if digests is None:
                fetch[entry.path] = f"{entry.path} cannot be read"
            elif wrong := compare(entry, digests):
                fetch[entry.path] = wrong
            else:
                proven[entry.path] = digests.sha256
    ref = store.resolve(request.repo_id, request.ref) == wanted.commit
    return Plan(wanted, look, fetch, proven, stamped, settled, ref, listing)


def merge(entry: FileEntry, known: FileEntry | None) -> FileEntry:
    """Return a hub's entry with the sha256 that the manifest holds for the same content."""
    if known is not None and not entry.sha256 and entry.git_oid == known.git_oid and entry.size == known.size:
        return known
    return entry


def describe(plan: Plan) -> list[str]:
    """Return what has to be done, one line each."""
    lines = [f"fetch: {why}" for _path, why in sorted(plan.fetch.items())]
    lines += [f"remove: {path} is no part of the snapshot" for path in plan.look.extra]
    lines += [f"set the mode of {path}" for path in plan.look.modes]
    if not plan.fetch and not plan.stamped:
        lines.append("verify the files and stamp the snapshot")
    elif not plan.fetch and not plan.settled:
        lines.append("rewrite the manifest")
    if not plan.ref:
        lines.append(f"record the revision as {plan.manifest.commit}")
    return lines


def present(store: Store, request: Request, source: Source, check: bool = False, read: bool = True) -> Outcome:
    """Make sure that the snapshot is in the store, complete and proven; return what was done.

    With ``check`` nothing is written, and with ``read`` false no file is read for it either. Raises StoreError (HubError,
    NotReady) with one sentence; what was fetched stays, and the next run goes on from there.
    """
    check_repo_id(request.repo_id)
    check_revision(request.revision)
    check_places(request.places)
    if request.verify not in METHODS:
        raise StoreError(f"verify is '{request.verify}': expected one of {', '.join(METHODS)}.")
    try:
        # The first look reads nothing: doubts are settled once, under the lock (or in check mode, which only reads).
        plan = make_plan(store, request, source, read=check and read)
        outcome = start_outcome(store, plan)
        if plan.idle:
            return idle_outcome(outcome, request)
        if plan.fetch and plan.listing is not None:
            source.probe(plan.listing)
        if check:
            check_room(store, plan, request)
            outcome.bytes_imported = sum(entry.size for entry in local_files(store, request, plan))
            wanted = to_fetch(plan)
            here = outcome.bytes_imported + parts_bytes(store.staging(request.repo_id, outcome.commit), wanted)
            outcome.bytes_downloaded = sum(entry.size for entry in wanted) - here
            outcome.changed = bool(outcome.actions) or (not read and bool(plan.look.unproven))
            outcome.msg = f"{foreseen(outcome, plan)}: {summary(outcome)}."
            return outcome if outcome.changed else idle_outcome(outcome, request)
        if plan.fetch and (missing := source.ready()):
            raise NotReady(missing)
        with store.lock(request.repo_id):
            # Another run may have finished the work while this one waited for the lock.
            plan = make_plan(store, request, source, listing=plan.listing)
            if plan.idle:
                return idle_outcome(start_outcome(store, plan), request)
            if plan.fetch and (missing := source.ready()):
                raise NotReady(missing)
            return Work(store, request, source, plan).run()
    except OSError as error:
        raise StoreError(explain(error, f"keep '{request.repo_id}' in {store.root}")) from error


def start_outcome(store: Store, plan: Plan) -> Outcome:
    """Return the outcome as the plan foresees it."""
    manifest = plan.manifest
    held = [entry for entry in manifest.files if entry.path not in plan.fetch]
    return Outcome(
        commit=manifest.commit,
        path=str(store.snapshot(manifest.repo_id, manifest.commit)),
        files=len(manifest.files),
        bytes_total=manifest.bytes_total,
        manifest_sha256=manifest.sha256 if all(entry.sha256 for entry in manifest.files) else "",
        actions=describe(plan),
        before=sorted([f"{entry.path} {entry.size}" for entry in held] + plan.look.extra),
        after=sorted(f"{entry.path} {entry.size}" for entry in manifest.files),
    )


def summary(outcome: Outcome) -> str:
    """Return what the snapshot is, in a few words."""
    return f"{outcome.files} files, {gib(outcome.bytes_total)}, of commit {outcome.commit[:12]} in {outcome.path}"


def left_out(manifest: Manifest) -> str:
    """Return how much of the repository is not taken, for a sentence; empty where that is nothing to speak of."""
    size = sum(entry.size for entry in manifest.skipped)
    return f"{len(manifest.skipped)} files ({gib(size)}) left out, " if size else ""


def foreseen(outcome: Outcome, plan: Plan) -> str:
    """Return what a run would do, in a few words."""
    if plan.fetch:
        local = f", {gib(outcome.bytes_imported)} of them from this machine" if outcome.bytes_imported else ""
        total = outcome.bytes_downloaded + outcome.bytes_imported
        return f"would fetch {len(plan.fetch)} of {outcome.files} files ({gib(total)}{local})"
    return f"would {'; '.join(outcome.actions[:3]) or 'read changed files again'}"


def idle_outcome(outcome: Outcome, request: Request) -> Outcome:
    """Return the outcome of a run that found everything in place."""
    outcome.verified = request.verify != "none"
    outcome.msg = f"in place{' and verified' if outcome.verified else ''}: {summary(outcome)}."
    return outcome


def staged_whole(store: Store, plan: Plan) -> dict[str, Path]:
    """Return files to fetch that an earlier run left whole, to judge by their size, in the staging folder."""
    folder = store.staging(plan.manifest.repo_id, plan.manifest.commit) / "files"
    found = {}
    for entry in plan.manifest.files:
        path = folder / entry.path
        if entry.path in plan.fetch and path.is_file() and path.lstat().st_size == entry.size:
            found[entry.path] = path
    return found


def to_fetch(plan: Plan) -> list[FileEntry]:
    """Return the files that the plan fetches, the largest first."""
    wanted = [entry for entry in plan.manifest.files if entry.path in plan.fetch]
    return sorted(wanted, key=lambda entry: entry.size, reverse=True)


def local_files(store: Store, request: Request, plan: Plan) -> dict[FileEntry, list[Path]]:
    """Return the files to fetch that this machine seems to have, each with where to look; nothing is read yet."""
    wanted = to_fetch(plan)
    if not wanted:
        return {}
    held = held_at_other_commits(store, request.repo_id, plan.manifest.commit)
    places = check_places(request.places)
    found: dict[FileEntry, list[Path]] = {}
    for entry in wanted:
        name = entry.sha256 or entry.git_oid
        paths = [held[name]] if name in held else []
        paths += candidates(entry, places, request.repo_id)
        if paths:
            found[entry] = paths
    return found


def bytes_needed(store: Store, request: Request, plan: Plan) -> int:
    """Return the bytes that the disk must still take.

    All that lies in the staging folder counts as room: it is either used for this snapshot or removed first. A file that
    can be linked takes none.
    """
    root = nearest(store.root)
    linked = [entry for entry, paths in local_files(store, request, plan).items() if linkable(paths[0], root)]
    wanted = sum(entry.size for entry in to_fetch(plan)) - sum(entry.size for entry in linked)
    return max(0, wanted - store.staged_bytes(plan.manifest.repo_id))


def check_room(store: Store, plan: Plan, request: Request) -> None:
    """Raise StoreError where the disk cannot take what is to come."""
    # A file is replaced only after its successor is proven, so damaged files give no room.
    needed = bytes_needed(store, request, plan)
    if needed:
        try:
            check_space(store.root, needed)
        except StoreError as error:
            raise StoreError(f"'{request.repo_id}' {error}") from None


class Work:
    """One run that writes; the caller holds the lock."""

    def __init__(self, store: Store, request: Request, source: Source, plan: Plan) -> None:
        self.store = store
        self.request = request
        self.source = source
        self.plan = plan
        self.repo_id, self.commit = request.repo_id, plan.manifest.commit
        self.folder = store.snapshot(self.repo_id, self.commit)
        self.staging = store.staging(self.repo_id, self.commit)
        self.sums = dict(plan.proven)  # path -> sha256, as read on this node
        self.todo = {entry.path: entry for entry in plan.manifest.files if entry.path in plan.fetch}
        self.rejected: dict[str, str] = {}
        self.bytes_imported = 0
        self.guard = threading.Lock()

    def run(self) -> Outcome:
        """Do all the plan says; return the outcome."""
        outcome = start_outcome(self.store, self.plan)
        open_parts(self.staging, self.todo.values())
        self.store.remove_orphans(self.repo_id, self.commit)
        check_room(self.store, self.plan, self.request)
        touched = bool(self.todo or self.plan.look.extra)
        if touched or not self.plan.stamped or not self.plan.settled:
            self.store.drop_stamp(self.repo_id, self.commit)
        with Meter(self.staging / WATCH, self.request.ref, self.plan.manifest.bytes_total, self.bytes_here):
            for name, path in staged_whole(self.store, self.plan).items():
                self.accept(self.todo[name], path)
            remove_tree(self.staging / "files")
            self.bring_local()
            self.rejected.clear()
            wanted = list(self.todo.values())
            coming = sum(entry.size for entry in wanted) - parts_bytes(self.staging, wanted)
            self.bring_indexes()
            for _round in range(ROUNDS):
                if not self.todo:
                    break
                self.rejected.clear()
                self.source.fetch(self.commit, list(self.todo.values()), self.staging, self.accept)
        if self.todo:
            wrong = [self.rejected.get(path, f"{path} was not received") for path in sorted(self.todo)]
            raise StoreError(
                f"what came for '{self.repo_id}' at {self.commit[:12]} differs from its own list of files, {ROUNDS} "
                f"times: {name_some(wrong)}; it was discarded: the source is damaged, or something on the way alters files."
            )
        self.settle()
        outcome.bytes_downloaded, outcome.bytes_imported = coming, self.bytes_imported
        outcome.changed = bool(outcome.actions)
        outcome.verified = self.request.verify != "none"
        outcome.manifest_sha256 = self.manifest.sha256
        local = f", {gib(self.bytes_imported)} taken from this machine" if self.bytes_imported else ""
        done = f"renewed {len(self.plan.fetch)} of {outcome.files} files ({gib(coming)} fetched{local})"
        outcome.msg = f"{done if self.plan.fetch else name_some(outcome.actions) or 'read again'}: {summary(outcome)}, "
        outcome.msg += left_out(self.plan.manifest)
        outcome.msg += f"verified by {self.request.verify}." if outcome.verified else "not verified, as set."
        return outcome

    def bytes_here(self) -> int:
        """Return the bytes of the snapshot that are on this disk by now, half files included."""
        todo = list(self.todo.values())
        whole = self.plan.manifest.bytes_total - sum(entry.size for entry in todo)
        return whole + parts_bytes(self.staging, todo) + folder_bytes(self.staging / "files")

    def bring_indexes(self) -> None:
        """Fetch the indexes of shards before the first shard, and see whether these can be complete at all."""
        first = [entry for entry in self.todo.values() if is_index(entry.path)]
        if first:
            # In a folder of its own: what an earlier run left of the shards stays where it is.
            self.source.fetch(self.commit, first, self.staging / "indexes", self.accept)
        entries = self.plan.manifest.files
        there = [entry for entry in entries if not (is_index(entry.path) and entry.path in self.todo)]
        check_indexes(self.folder, there)

    def bring_local(self) -> None:
        """Take what this machine already has, each file proven by its content whatever ``verify`` says."""
        folder = self.staging / "local"
        remove_tree(folder)
        make_folder(folder)

        def one(number: int, entry: FileEntry, paths: list[Path]) -> None:
            path = folder / str(number)
            for source in paths:
                try:
                    take(source, path)
                    seen = digest_file(path, git=not entry.sha256)
                except OSError as error:
                    if error.errno in (errno.ENOSPC, errno.EDQUOT):
                        raise
                    continue
                if not compare(entry, seen):
                    self.accept(entry, path, seen)
                    with self.guard:
                        self.bytes_imported += entry.size
                    return
            path.unlink(missing_ok=True)

        found = {
            e: paths for e, paths in local_files(self.store, self.request, self.plan).items() if e.path in self.todo
        }
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for run in [pool.submit(one, number, *item) for number, item in enumerate(found.items())]:
                run.result()
        remove_tree(folder)
        # A link changes its file's change time, by which the stamp of the other commit knows it.
        links = (path.lstat() for path in self.folder.rglob("*"))
        self.store.restamp(self.repo_id, {(status.st_dev, status.st_ino) for status in links if status.st_nlink > 1})

    def accept(self, entry: FileEntry, path: Path, seen: Digests | None = None) -> None:
        """Prove a file that arrived and move it into the snapshot; throw it away where it is wrong."""
        sha256, wrong = entry.sha256, ""
        if self.request.verify == "sha256" or not entry.sha256:
            seen = seen or digest_file(path, git=not entry.sha256)
            sha256, wrong = seen.sha256, compare(entry, seen)
        elif self.request.verify == "size" and path.lstat().st_size != entry.size:
            wrong = f"{entry.path} has {path.lstat().st_size} bytes instead of {entry.size}"
        if wrong:
            path.unlink()
            with self.guard:
                self.rejected[entry.path] = wrong
            return
        target = self.folder / entry.path
        self.clear_way(target)
        # A file that is linked has this mode already: changing it would touch the folder that it was taken from.
        if path.stat().st_mode & 0o7777 != FILE_MODE:
            path.chmod(FILE_MODE)
        sync(path, forget=True)
        path.replace(target)
        with self.guard:
            self.sums[entry.path] = sha256
            del self.todo[entry.path]

    def clear_way(self, target: Path) -> None:
        """Make the folders of a file; what stands there as a file, link or folder in the wrong place goes."""
        with self.guard:
            for parent in reversed(target.relative_to(self.folder).parents):
                inside = self.folder / parent
                if parent.parts and (inside.is_symlink() or inside.is_file()):
                    inside.unlink()
            make_folder(target.parent)
            if target.is_dir() and not target.is_symlink():
                remove_tree(target)

    @property
    def manifest(self) -> Manifest:
        """The manifest with every sha256 that is known by now."""
        files = [replace(entry, sha256=self.sums.get(entry.path, entry.sha256)) for entry in self.plan.manifest.files]
        return replace(self.plan.manifest, files=check_entries(files))

    def settle(self) -> None:
        """Remove what does not belong there, set modes, and write manifest, stamp and ref, in this order."""
        entries = self.plan.manifest.files
        for name in survey(self.folder, entries).extra:
            remove_file(self.folder, name)
        for name in survey(self.folder, entries).modes:
            path = self.folder / name
            path.chmod(FOLDER_MODE if path.is_dir() else FILE_MODE)
        last = survey(self.folder, entries)
        if last.missing or (last.damaged and self.request.verify != "none"):
            gone = [f"{path} is missing" for path in last.missing] + sorted(last.damaged.values())
            raise StoreError(f"files of {self.folder} were altered during the run: {name_some(gone)}; run again.")
        check_indexes(self.folder, entries)
        for folder in {(self.folder / entry.path).parent for entry in entries} | {self.folder}:
            sync(folder)
        manifest = self.manifest
        self.store.write_manifest(manifest)
        self.store.stamp(manifest, self.request.verify)
        self.store.write_ref(self.repo_id, self.request.ref, self.commit)
        remove_tree(self.staging)


def absent(store: Store, repo_id: str, revision: str, check: bool = False) -> Outcome:
    """Remove a snapshot, its manifest, stamp and refs; nothing there is no change."""
    check_revision(revision)
    commit = store.resolve(repo_id, revision)
    places = []
    if commit is not None:
        candidates = (
            store.snapshot(repo_id, commit),
            store.manifest_path(repo_id, commit),
            store.stamp_path(repo_id, commit),
            store.staging(repo_id, commit),
        )
        places = [path for path in candidates if path.exists()]
        places += [store.ref_path(repo_id, ref) for ref in store.refs(repo_id) if store.resolve(repo_id, ref) == commit]
    outcome = Outcome(commit or "", str(store.snapshot(repo_id, commit)) if commit else "", 0, 0)
    outcome.before = [str(path) for path in places]
    outcome.changed = bool(places)
    outcome.actions = [f"remove: {path}" for path in places]
    if not places or commit is None:
        outcome.msg = f"'{repo_id}' at '{revision}' is not in {store.root}."
        return outcome
    if check:
        outcome.msg = f"would remove '{repo_id}' at {commit[:12]} from {store.root}."
        return outcome
    try:
        with store.lock(repo_id):
            size = store.remove(repo_id, commit)
    except OSError as error:
        raise StoreError(explain(error, f"remove '{repo_id}' from {store.root}")) from error
    outcome.msg = f"removed '{repo_id}' at {commit[:12]} from {store.root}, {gib(size)} freed."
    return outcome


@dataclass(frozen=True)
class Preview:
    """What a download would take, found out without writing anything; with ``path`` and ``manifest_sha256`` of what is there verified."""

    local: bool
    commit: str
    files: int
    bytes_total: int
    bytes_missing: int
    bytes_free: int
    msg: str
    path: str = ""
    manifest_sha256: str = ""


def preview(source: Source, request: Request, store: Store | None) -> Preview:
    """Say what a revision is and whether it fits; no request where ``store`` holds it verified.

    Only names and sizes count here, nothing is read. Raises StoreError where the disk is too small.
    """
    check_repo_id(request.repo_id)
    check_revision(request.revision)
    try:
        if store is not None:
            held, _why = store.verified(request.repo_id, request.revision, request.verify)
            known = store.local(request.repo_id, request.revision)
            manifest = known.manifest
            if held and manifest is not None and choose(manifest.everything, request)[0] == manifest.files:
                total, free = manifest.bytes_total, free_bytes(store.root)
                told = f"'{request.repo_id}' at '{request.revision}' is in place and verified, {gib(total)}"
                place = str(store.snapshot(request.repo_id, manifest.commit))
                told += f" in {place}."
                digest = manifest.sha256 if all(entry.sha256 for entry in manifest.files) else ""
                return Preview(True, manifest.commit, len(manifest.files), total, 0, free, told, place, digest)
        listing = source.listing(request.revision)
        chosen, _skipped = choose(listing.entries, request)
        total = sum(entry.size for entry in chosen)
        told = f"'{request.repo_id}' at '{request.revision}' is commit {listing.commit[:12]}, "
        told += f"{len(chosen)} files, {gib(total)}"
        if store is None:
            source.probe(listing)
            return Preview(False, listing.commit, len(chosen), total, total, 0, f"{told}.")
        look = survey(store.snapshot(request.repo_id, listing.commit), chosen)
        fetch = dict.fromkeys(look.missing, "missing") | look.damaged
        plan = Plan(Manifest(request.repo_id, listing.commit, chosen), look, fetch, {}, False, False, False)
        check_room(store, plan, request)
        if fetch:
            source.probe(listing)
        needed, free = bytes_needed(store, request, plan), free_bytes(store.root)
        told += f", {gib(needed)} still to fetch, {gib(free)} free in {store.root}."
        return Preview(False, listing.commit, len(chosen), total, needed, free, told)
    except OSError as error:
        raise StoreError(explain(error, f"look into the store {store.root if store else ''}")) from error


@dataclass(frozen=True)
class Inspection:
    """What the store holds of a snapshot.

    ``rate``: bytes per second that this look read, 0 where nothing was read. ``download_rate``: bytes per second that a run
    brings; ``seconds_left``: what that takes for the rest, None where nothing runs or nothing comes.
    """

    complete: bool
    stamped: bool
    running: bool
    commit: str
    path: str
    files: int
    bytes: int
    bytes_total: int
    missing: list[str]
    corrupt: list[str]
    extra: list[str]
    rate: int
    seconds: float
    msg: str
    download_rate: int = 0
    seconds_left: int | None = None
    manifest_sha256: str = ""


def inspect(store: Store, repo_id: str, revision: str, verify: str) -> Inspection:
    """Compare a snapshot with its manifest; reads all of it with ``verify`` sha256, never writes, asks nobody."""
    began = time.monotonic()
    check_repo_id(repo_id)
    check_revision(revision)
    try:
        known = trusted(store, repo_id, revision)
        running = store.locked(repo_id)
        commit, run = run_of(store, repo_id, revision, known.commit)
        if commit is None:
            told = f"'{repo_id}' at '{revision}' is not in {store.root}."
            return Inspection(False, False, running, "", "", 0, 0, 0, [], [], [], 0, 0.0, told)
        if known.manifest is None:
            seen = inspect_unlisted(store, repo_id, commit, run, running)
        else:
            seen = inspect_listed(store, repo_id, known, known.manifest, run, running, verify)
    except OSError as error:
        raise StoreError(explain(error, f"read '{repo_id}' in {store.root}")) from error
    return replace(seen, seconds=elapsed(began))


def run_of(store: Store, repo_id: str, revision: str, commit: str | None) -> tuple[str | None, Watch | None]:
    """Return the commit that is looked at, and what a run that brings it noted; a commit nobody knows may be one that a run began."""
    run = None
    for candidate in [commit] if commit else staged_commits(store, repo_id):
        noted = read_watch(store.staging(repo_id, candidate) / WATCH)
        if noted is not None and (commit or noted.revision == revision):
            commit, run = candidate, noted
    return commit, run


def inspect_unlisted(store: Store, repo_id: str, commit: str, run: Watch | None, running: bool) -> Inspection:
    """Look at a snapshot that has no manifest yet: all that can be said is how many bytes are there."""
    folder, staging = store.snapshot(repo_id, commit), store.staging(repo_id, commit)
    held = folder_bytes(folder) + folder_bytes(staging / "parts") + folder_bytes(staging / "files")
    total = run.bytes_total if run else 0
    told = f"'{repo_id}' at {commit[:12]} in {store.root} is incomplete: "
    if running and run:
        run = replace(run, bytes=held)
        told += f"{run.describe()}."
    else:
        told += f"{gib(held)} of {gib(total) if run else 'an unknown size'} there, "
        told += "a run fetches the rest." if running else "no run works on it."
    seen = Inspection(False, False, running, commit, str(folder), 0, held, total, [], [], [], 0, 0.0, told)
    return with_progress(seen, run)


def inspect_listed(
    store: Store, repo_id: str, known: Local, manifest: Manifest, run: Watch | None, running: bool, verify: str
) -> Inspection:
    """Compare the files of a snapshot with its manifest."""
    folder = store.snapshot(repo_id, manifest.commit)
    look = survey(folder, manifest.files, known.stamp.marks if known.stamp else None)
    whole = [e for e in manifest.files if e.path not in look.damaged and e.path not in set(look.missing)]
    corrupt, rate = dict(look.damaged) if verify != "none" else {}, 0
    if verify == "sha256":
        wrong, rate = read_all(folder, whole)
        corrupt |= wrong
    stamped = known.stamp is not None and not (look.missing or look.damaged or look.unproven)
    complete = not (look.missing or corrupt)
    held = sum(entry.size for entry in whole) + parts_bytes(store.staging(repo_id, manifest.commit), manifest.files)
    told = f"'{repo_id}' at {manifest.commit[:12]} in {store.root}: "
    if complete:
        how = {"none": "all files there", "size": "all sizes right", "sha256": f"all content right, {gib(rate)}/s"}
        told += f"{how[verify]}, {'stamped as verified' if stamped else 'not stamped as verified'}."
    else:
        wrongs = [f"{path} is missing" for path in look.missing] + sorted(corrupt.values())
        told += f"{name_some(wrongs)}; run site.yml, which fetches just that."
    if running and run:
        run = replace(run, bytes=held)
        told += f" A run works on it: {run.describe()}."
    seen = Inspection(
        complete, stamped, running, manifest.commit, str(folder), len(manifest.files), held, manifest.bytes_total,
        look.missing, sorted(corrupt.values()), look.extra, rate, 0.0, told, manifest_sha256=manifest.sha256,
    )  # fmt: skip
    return with_progress(seen, run)


def read_all(folder: Path, entries: Sequence[FileEntry]) -> tuple[dict[str, str], int]:
    """Read files and compare their content; return what is wrong by path, and the bytes per second that were read."""
    start = time.monotonic()
    seen = digest_many(folder, entries)
    wrong = {}
    for entry in entries:
        digests = seen.get(entry.path)
        told = compare(entry, digests) if digests else f"{entry.path} cannot be read"
        if told:
            wrong[entry.path] = told
    return wrong, round(sum(entry.size for entry in entries) / max(time.monotonic() - start, 1e-6))


def with_progress(seen: Inspection, run: Watch | None) -> Inspection:
    """Return the inspection with what a run notes of itself while it works."""
    if not seen.running or run is None:
        return seen
    return replace(seen, download_rate=run.rate, seconds_left=run.seconds_left)


def folder_bytes(folder: Path) -> int:
    """Return the bytes of the files below a folder."""
    total = 0
    for root, _folders, files in os.walk(folder):
        for name in files:
            # A file may be moved into place while we look.
            with contextlib.suppress(OSError):
                total += (Path(root) / name).lstat().st_size
    return total


def elapsed(began: float) -> float:
    """Return the seconds since ``began``, to the millisecond."""
    return round(time.monotonic() - began, 3)


def staged_commits(store: Store, repo_id: str) -> list[str]:
    """Return the commits that runs began to bring."""
    folder = store.staging(repo_id, "")
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
