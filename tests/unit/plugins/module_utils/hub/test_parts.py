# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Half-fetched files: what survives a kill, and that no part is taken for another file."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub import parts
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.store import FileEntry, StoreError

CONTENT = b"weights" * 100
ENTRY = FileEntry("model.safetensors", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
SMALL = FileEntry("config.json", 2, git_oid="c" * 40)


def test_a_part_is_named_for_its_content() -> None:
    assert parts.part_name(ENTRY) == f"{ENTRY.sha256}.part"
    assert parts.part_name(SMALL) == f"git-{'c' * 40}.part"
    twin = FileEntry("copy.safetensors", ENTRY.size, ENTRY.sha256)
    assert parts.by_content([SMALL, ENTRY, twin]) == [[ENTRY, twin], [SMALL]]


def test_parts_of_another_commit_come_along_and_unneeded_ones_go(tmp_path: Path) -> None:
    old, new = tmp_path / "old" / "parts", tmp_path / "new" / "parts"
    for folder, name in ((old, parts.part_name(ENTRY)), (new, "f00.part")):
        folder.mkdir(parents=True)
        (folder / name).write_bytes(b"half")
    assert parts.open_parts(tmp_path / "new", [ENTRY, SMALL]) == new
    assert [path.name for path in new.iterdir()] == [parts.part_name(ENTRY)]
    assert list(old.iterdir()) == []
    assert parts.parts_bytes(tmp_path / "new", [ENTRY, SMALL]) == 4


def part(path: Path, stop: threading.Event | None = None) -> parts.Part:
    return parts.Part(parts.open_part(path), ENTRY, stop or threading.Event(), parts.flush)


def test_a_killed_run_goes_on_where_it_was_and_proves_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.part"
    first = part(path)
    first.write(CONTENT[:300])
    assert first.digests() is not None  # of what is there, which is not the file's
    first.stream.close()
    second = part(path)
    assert second.digests() is None, "bytes of an earlier run were taken unread"
    assert second.resume() == second.tell() == 300
    second.write(CONTENT[300:])
    digests = second.digests()
    assert digests is not None
    assert (digests.size, digests.sha256) == (ENTRY.size, ENTRY.sha256)
    second.seek(0)
    second.truncate()
    assert (second.hashed, path.stat().st_size) == (0, 0)
    second.stream.close()


def test_more_than_announced_and_a_stopped_run_write_nothing(tmp_path: Path) -> None:
    stop = threading.Event()
    one = part(tmp_path / "x.part", stop)
    with pytest.raises(StoreError, match=f"more than the announced {ENTRY.size} bytes"):
        one.write(CONTENT + b"x")
    stop.set()
    with pytest.raises(parts.Stopped):
        one.write(b"x")
    assert one.tell() == 0
    one.stream.close()


def test_a_link_is_no_part(tmp_path: Path) -> None:
    (tmp_path / "x.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"[Ll]ink"):
        parts.open_part(tmp_path / "x.part")
