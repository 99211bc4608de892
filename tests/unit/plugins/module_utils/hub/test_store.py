# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import threading
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub import store as hf_store
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.store import (
    Digests,
    FileEntry,
    Manifest,
    Stamp,
    Store,
    StoreError,
    weights_bytes,
)

REPO = "org/name"
COMMIT = "0123456789" * 4
SHA = hashlib.sha256(b"weights").hexdigest()


def entry(path: str = "a.safetensors", size: int = 7, sha256: str = SHA, git_oid: str = "") -> FileEntry:
    return FileEntry(path, size, sha256, git_oid)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "./a",
        "a/.",
        "a\\b",
        "a\nb",
        "a\0b",
        "x" * 256,
        ".cache/huggingface/x",
        None,
        7,
        "a/",
    ],
)
def test_names_that_leave_the_folder_are_refused(path: object) -> None:
    with pytest.raises(StoreError, match="refusing"):
        hf_store.check_path(path)


@pytest.mark.parametrize("path", ["a", ".gitattributes", "a/b/c", "a..b", "notes[1].txt", "größe.txt", "a b"])
def test_ordinary_names_pass(path: str) -> None:
    assert hf_store.check_path(path) == path


@pytest.mark.parametrize("repo_id", ["name", "a/b/c", "../b", "a/..", "a/b--c", "-a/b", "a/b c", "", "a/.b"])
def test_repository_names_that_cannot_be(repo_id: str) -> None:
    with pytest.raises(StoreError, match="repo_id is"):
        hf_store.check_repo_id(repo_id)


@pytest.mark.parametrize("revision", ["", "a b", "../x", "-x", "a?b", "a#b", "/a", "a\\b", "%2e", "x" * 201, "a\n"])
def test_revisions_that_cannot_be(revision: str) -> None:
    with pytest.raises(StoreError, match="revision is"):
        hf_store.check_revision(revision)


@pytest.mark.parametrize("root", ["models", "/", "/srv/../etc", ""])
def test_a_store_must_be_an_absolute_folder(root: str) -> None:
    with pytest.raises(StoreError, match="absolute folder"):
        Store(root)


@pytest.mark.parametrize(
    ("path", "allow", "ignore", "chosen"),
    [
        ("a.bin", [], [], True),
        ("a.bin", ["*.safetensors"], [], False),
        ("a.safetensors", ["*.safetensors"], [], True),
        ("sub/a.txt", ["sub/"], [], True),
        ("a.bin", [], ["*.bin"], False),
        ("A.BIN", [], ["*.bin"], True),
        ("a.bin", ["*"], ["a*"], False),
    ],
)
def test_patterns(path: str, allow: list[str], ignore: list[str], chosen: bool) -> None:
    assert hf_store.matches(path, allow, ignore) is chosen


@pytest.mark.parametrize("path", ["notes[1].txt", "a*b", "a?b", "plain", "[x]"])
def test_an_escaped_name_matches_itself_only(path: str) -> None:
    pattern = hf_store.escape_pattern(path)
    assert hf_store.matches(path, [pattern], [])
    assert not hf_store.matches(path.replace("1", "2") + "x", [pattern], [])


@pytest.mark.parametrize(
    "names", [["a", "a"], ["a", "a/b"], ["x/y", "x/y/z", "b"]], ids=["twice", "file and folder", "deeper"]
)
def test_lists_that_cannot_be_laid_out(names: list[str]) -> None:
    with pytest.raises(StoreError, match="refusing"):
        hf_store.check_entries(entry(name) for name in names)


@pytest.mark.parametrize(
    "data",
    [
        {"path": "a", "size": -1},
        {"path": "a", "size": True},
        {"path": "a", "size": "7"},
        {"path": "a", "size": 1, "sha256": "short"},
        {"path": "a", "size": 1, "git_oid": SHA},
        {"size": 1},
        "a",
    ],
)
def test_entries_that_cannot_be(data: object) -> None:
    with pytest.raises(StoreError):
        FileEntry.load(data)


def test_a_manifest_survives_the_way_to_disk_and_is_the_same_everywhere() -> None:
    manifest = Manifest(REPO, COMMIT, (entry(),), (FileEntry("b", 1, "", "1" * 40),))
    again = Manifest.decode(manifest.encode(), REPO, COMMIT)
    assert again == manifest
    assert again.sha256 == manifest.sha256
    assert again.bytes_total == 7


@pytest.mark.parametrize("harm", ["edit", "cut", "other", "list", "empty"])
def test_a_damaged_manifest_is_known_by_itself(harm: str) -> None:
    raw = Manifest(REPO, COMMIT, (entry(),)).encode()
    harmed = {
        "edit": raw.replace(SHA[:8].encode(), b"00000000"),
        "cut": raw[: len(raw) // 2],
        "other": Manifest("org/other", COMMIT, (entry(),)).encode(),
        "list": b"[1]",
        "empty": b"",
    }[harm]
    with pytest.raises(StoreError, match="damaged"):
        Manifest.decode(harmed, REPO, COMMIT)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"null", b'{"files": {"a": [1]}}', b"\xff\xfe"])
def test_a_damaged_stamp_is_no_stamp(raw: bytes) -> None:
    assert Stamp.decode(raw) is None


@pytest.mark.parametrize(
    ("made", "asked", "enough"), [("sha256", "size", True), ("size", "sha256", False), ("none", "none", True)]
)
def test_a_stamp_is_worth_its_method(made: str, asked: str, enough: bool) -> None:
    manifest = Manifest(REPO, COMMIT, (entry(),))
    assert Stamp(made, manifest.sha256, {}).proves(manifest, asked) is enough
    assert not Stamp(made, "0" * 64, {}).proves(manifest, asked)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Digests(7, SHA), ""),
        (Digests(8, SHA), "8 bytes instead of 7"),
        (Digests(7, "f" * 64), "another content (sha256 ffffffffffff"),
    ],
)
def test_comparison_by_sha256(seen: Digests, expected: str) -> None:
    assert expected in hf_store.compare(entry(), seen)


def test_comparison_by_git_blob(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"hello\n")
    seen = hf_store.digest_file(tmp_path / "f", git=True)
    # `printf 'hello\n' | git hash-object --stdin`
    assert seen.git_oid == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert hf_store.compare(entry("f", 6, "", seen.git_oid), seen) == ""
    assert "git blob" in hf_store.compare(entry("f", 6, "", "0" * 40), seen)


def test_a_look_names_everything_that_differs(tmp_path: Path) -> None:
    for name, content in {
        "good": b"1234567",
        "short": b"1",
        "touched": b"1234567",
        "extra": b"",
        "sub/in": b"1234567",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    (tmp_path / "link").symlink_to("good")
    (tmp_path / "away").symlink_to("/etc")
    names = ["good", "short", "touched", "missing", "link", "sub/in"]
    marks = {name: hf_store.mark_of(tmp_path / name) for name in ("good", "touched", "sub/in")}
    os.utime(tmp_path / "touched", ns=(1, 1))
    (tmp_path / "good").chmod(0o600)
    marks["good"] = hf_store.mark_of(tmp_path / "good")
    look = hf_store.survey(tmp_path, [entry(name) for name in names], marks)
    assert look.missing == ["missing"]
    assert look.damaged == {"short": "short has 1 bytes instead of 7", "link": "link is not a plain file"}
    assert look.unproven == ["touched"]
    assert look.extra == ["away", "extra"]
    assert look.modes == ["good"]
    assert not look.clean


def test_a_back_dated_write_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1234567")
    mark = hf_store.mark_of(path)
    path.write_bytes(b"7654321")
    os.utime(path, ns=(mark[1], mark[1]))
    assert hf_store.survey(tmp_path, [entry("a")], {"a": mark}).unproven == ["a"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"weight_map": {"w": "a.safetensors"}}, ""),
        ({"weight_map": {"w": "b.safetensors"}}, "names the shard 'b.safetensors' (1 of 1 shards)"),
        ({"weights": {}}, "no index of shards"),
        ([], "no index of shards"),
    ],
)
def test_an_index_must_name_shards_that_are_there(tmp_path: Path, content: object, expected: str) -> None:
    name = "model.safetensors.index.json"
    (tmp_path / name).write_text(json.dumps(content))
    entries = [entry(), entry(name)]
    if not expected:
        hf_store.check_indexes(tmp_path, entries)
        return
    with pytest.raises(StoreError) as caught:
        hf_store.check_indexes(tmp_path, entries)
    assert expected in str(caught.value)


def test_written_files_are_readable_for_a_container_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        hf_store.write_atomic(tmp_path / "store" / "x" / "f", b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "store" / "x" / "f").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "store" / "x").stat().st_mode) == 0o755
    assert [path.name for path in (tmp_path / "store" / "x").iterdir()] == ["f"]


def test_refs_hold_commits_and_names_with_slashes(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.resolve(REPO, "refs/pr/1") is None
    assert store.write_ref(REPO, "refs/pr/1", COMMIT)
    assert not store.write_ref(REPO, "refs/pr/1", COMMIT)
    assert not store.write_ref(REPO, COMMIT, COMMIT)
    assert store.resolve(REPO, "refs/pr/1") == COMMIT
    assert store.refs(REPO) == ["refs/pr/1"]
    store.ref_path(REPO, "refs/pr/1").write_text("garbage\n")
    assert store.resolve(REPO, "refs/pr/1") is None


def test_two_runs_at_once_give_one_sentence(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    failures: list[str] = []

    def other() -> None:
        try:
            with store.lock(REPO, patience=0.2):
                pass
        except StoreError as error:
            failures.append(str(error))

    assert not store.locked(REPO)
    with store.lock(REPO):
        assert store.locked(REPO)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(failures) == 1
    assert f"process {os.getpid()} since" in failures[0]
    assert not store.locked(REPO)


def test_verified_needs_manifest_stamp_and_unchanged_files(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    manifest = Manifest(REPO, COMMIT, (entry(),))
    path = store.snapshot(REPO, COMMIT) / "a.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert store.verified(REPO, COMMIT) == (
        False,
        f"org/name at 012345678901 in {store.root} is not there, or was never completed.",
    )
    store.write_manifest(manifest)
    assert "not verified by sha256" in store.verified(REPO, COMMIT)[1]
    store.stamp(manifest, "sha256")
    assert store.verified(REPO, COMMIT)[0]
    path.write_bytes(b"changed")
    assert store.verified(REPO, COMMIT) == (
        False,
        f"org/name at 012345678901 in {store.root} has changed since it was verified: a.safetensors.",
    )


def test_orphans_of_dead_runs_go(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for name in (
        ".x.manifest.json.1.tmp",
        "refs/.main.1.tmp",
        f".staging/{'f' * 40}/half",
        f".staging/{COMMIT}/half",
        "kept",
    ):
        path = store.repo(REPO) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 5000)
    assert store.remove_orphans(REPO, COMMIT) > 15000
    left = sorted(str(p.relative_to(store.repo(REPO))) for p in store.repo(REPO).rglob("*") if p.is_file())
    assert left == [f".staging/{COMMIT}/half", "kept"]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "may not"),
        (errno.EIO, "dmesg"),
        (errno.EBUSY, "busy"),
    ],
)
def test_errors_of_the_file_system_become_sentences(number: int, expected: str) -> None:
    error = OSError(number, os.strerror(number), "/srv/models/x")
    told = hf_store.explain(error, "write the store")
    assert expected in told.lower()
    assert "/srv/models/x" in told


def test_too_little_disk_is_said_in_gib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_store, "free_bytes", lambda path: 20 * 1024**3)
    hf_store.check_space(tmp_path, 20 * 1024**3)
    with pytest.raises(StoreError, match=r"needs 116\.0 GiB more in .*, 20\.0 GiB free: free 96\.0 GiB there"):
        hf_store.check_space(tmp_path, 116 * 1024**3)


def test_free_space_is_known_before_the_store_exists(tmp_path: Path) -> None:
    assert hf_store.free_bytes(tmp_path / "not" / "yet") > 0


def test_bytes_of_the_weights(tmp_path: Path) -> None:
    files = (
        entry("a.safetensors", 7),
        entry("b.safetensors", 5),
        entry("config.json", 3),
        entry("original/a.safetensors", 9),
    )
    store = Store(tmp_path)
    assert weights_bytes(store.snapshot(REPO, COMMIT)) is None
    store.repo(REPO).mkdir()
    store.write_manifest(Manifest(REPO, COMMIT, files))
    # Not what is no weights, and not what vLLM does not read.
    assert weights_bytes(store.snapshot(REPO, COMMIT)) == 12
    store.write_manifest(Manifest(REPO, COMMIT, (entry("config.json", 3),)))
    assert weights_bytes(store.snapshot(REPO, COMMIT)) is None
    # A folder outside of any store.
    assert weights_bytes(Path("/model")) is None
    assert weights_bytes(Path("org/model")) is None
