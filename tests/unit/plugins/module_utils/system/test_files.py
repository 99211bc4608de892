# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Files are written whole, with their rights from the first moment, and only where they differ."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system import files
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.files import (
    Changes,
    read_json,
    read_text,
    write_atomic,
)


def test_text_bytes_and_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomic(tmp_path / "a/b/c", "text")
        write_atomic(tmp_path / "d", b"\xff", 0o400)
    finally:
        os.umask(before)
    assert ((tmp_path / "a/b/c").read_text(), (tmp_path / "a/b/c").stat().st_mode & 0o777) == ("text", 0o644)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755
    assert ((tmp_path / "d").read_bytes(), (tmp_path / "d").stat().st_mode & 0o777) == (b"\xff", 0o400)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_a_secret_is_never_readable_for_others_not_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = os.fchmod

    def look(handle: int, mode: int) -> None:
        seen.append(os.fstat(handle).st_mode & 0o777)
        real(handle, mode)

    monkeypatch.setattr(files.os, "fchmod", look)
    write_atomic(tmp_path / "secret", "s", 0o400)
    assert seen == [0o400]


def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path) -> None:
    left = tmp_path / f".file.{os.getpid()}.{threading.get_native_id()}.tmp"
    left.write_text("half")
    left.chmod(0o666)
    write_atomic(tmp_path / "file", "whole", 0o600)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert not left.exists()


def test_the_owner_has_it_before_anything_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, ...]] = []
    # Only root gives files away.
    monkeypatch.setattr(os, "fchown", lambda handle, *ids: given.append((os.fstat(handle).st_size, *ids)))
    write_atomic(tmp_path / "file", "x", owner=(65534, 65533))
    assert given == [(0, 65534, 65533)]
    write_atomic(tmp_path / "file", "x")
    assert len(given) == 1


def test_what_cannot_be_read_is_empty_or_none(tmp_path: Path) -> None:
    assert read_text(tmp_path / "none") == ""
    assert read_json(tmp_path / "none") is None
    for text in ("{", "[1]", "3", ""):
        (tmp_path / "some").write_text(text)
        assert read_json(tmp_path / "some") is None
    (tmp_path / "some").write_text('{"a": 1}')
    assert read_json(tmp_path / "some") == {"a": 1}
    (tmp_path / "some").write_bytes(b"\xff")
    assert read_text(tmp_path / "some") == "\ufffd"
    assert read_json(tmp_path / "some") is None


def test_changes_are_told_once_with_their_difference(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "file"
    for check in (True, False):
        changes = Changes(check)
        assert changes.write(path, "a\n") is True
        assert changes.actions == [f"wrote {path}"]
        assert changes.diff == [{"before": "", "after": "a\n", "before_header": str(path), "after_header": str(path)}]
        assert path.exists() is not check
    again = Changes(False)
    assert again.write(path, "a\n") is False
    assert again.actions == []
    path.chmod(0o600)
    assert again.write(path, "a\n") is True
    assert path.stat().st_mode & 0o777 == 0o644


def test_removal_and_folders(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("a\n")
    look = Changes(True)
    assert look.remove(path) is True
    assert path.exists()
    look.folder(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    changes = Changes(False)
    assert changes.remove(path) is True
    assert (changes.remove(path), changes.diff[0]["before"], changes.diff[0]["after"]) == (False, "a\n", "")
    changes.folder(tmp_path / "new")
    changes.folder(tmp_path / "new")
    assert changes.actions == [f"removed {path}", f"made folder {tmp_path / 'new'}"]
