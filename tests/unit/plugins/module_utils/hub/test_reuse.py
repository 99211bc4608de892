# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Files that are already on the machine: where they are looked for, and how they come into the store."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub import reuse
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.store import FileEntry, StoreError

REPO = "org/model"
ENTRY = FileEntry("a/model.safetensors", 4, "b" * 64)


def put(path: Path, content: bytes = b"1234", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_places_are_absolute() -> None:
    assert reuse.check_places(["/a"]) == (Path("/a"),)
    with pytest.raises(StoreError, match="import_from names 'a'"):
        reuse.check_places(["a"])


def test_a_cache_is_searched_by_content_and_a_folder_by_path(tmp_path: Path) -> None:
    blob = put(tmp_path / "hf/hub/models--org--model/blobs" / ("b" * 64))
    plain = put(tmp_path / "plain/a/model.safetensors")
    put(tmp_path / "other/a/model.safetensors", b"another size")
    link = tmp_path / "hf/hub/models--org--model/snapshots/c0/a/model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    places = [tmp_path / name for name in ("none", "other", "hf", "plain")]
    assert list(reuse.candidates(ENTRY, places, REPO)) == [blob, plain]


def test_a_file_is_taken_without_a_change_to_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_clones(*_arguments: object) -> None:
        raise OSError

    monkeypatch.setattr(reuse.fcntl, "ioctl", no_clones)
    own = put(tmp_path / "own")
    target = tmp_path / "target"
    target.write_bytes(b"half")
    assert reuse.take(own, target) == "linked"
    assert target.samefile(own)
    # A link would have to change the mode of the other's file.
    private = put(tmp_path / "private", b"5678", 0o600)
    assert reuse.take(private, target) == "copied"
    assert (target.read_bytes(), own.read_bytes(), private.stat().st_mode & 0o777) == (b"5678", b"1234", 0o600)
