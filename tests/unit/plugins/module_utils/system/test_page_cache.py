# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What of the page cache can be given back, and how it is asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.page_cache import drop_page_cache, page_cache_gib


def machine(tmp_path: Path) -> Path:
    control = tmp_path / "proc" / "sys" / "vm" / "drop_caches"
    control.parent.mkdir(parents=True)
    control.write_text("0\n")
    return control


def test_only_the_page_cache_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control = machine(tmp_path)
    synced: list[str] = []
    monkeypatch.setattr(os, "sync", lambda: synced.append("sync"))
    assert drop_page_cache(tmp_path) == ""
    assert control.read_text() == "1\n"
    assert not synced


def test_a_machine_without_the_file_says_so_and_gets_none(tmp_path: Path) -> None:
    said = drop_page_cache(tmp_path)
    assert said.startswith("the page cache was not dropped: ") and "No such file" in said and "\n" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError(30, "Read-only file system"), PermissionError(13, "Permission denied")])
def test_a_proc_that_may_not_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    machine(tmp_path)

    def refuse(*_given: object, **_named: object) -> None:
        raise error

    monkeypatch.setattr(os, "open", refuse)
    assert drop_page_cache(tmp_path).endswith(f"drop_caches: {error.strerror}")


def test_the_file_is_opened_for_writing_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen with Linux 6.18: mode 0200, and opening it to read as well is refused to root."""
    control, opened = machine(tmp_path), os.open

    def kernel(path: Path, flags: int) -> int:
        if flags != os.O_WRONLY:
            raise PermissionError(13, "Permission denied")
        return opened(path, flags)

    monkeypatch.setattr(os, "open", kernel)
    assert (drop_page_cache(tmp_path), control.read_text()) == ("", "1\n")


def test_a_write_that_the_kernel_refuses_is_one_sentence() -> None:
    # A write to /dev/full fails as a whole disk does: the error comes from write, not from open.
    class Root:
        def __truediv__(self, _part: str) -> Path:
            return Path("/dev/full")

    assert "No space left" in drop_page_cache(Root())  # type: ignore[arg-type]


def test_shared_and_mapped_memory_cannot_be_dropped() -> None:
    text = "Buffers: 1048576 kB\nCached: 8388608 kB\nSwapCached: 9999999 kB\nMapped: 1048576 kB\nShmem: 2097152 kB\n"
    assert page_cache_gib(text) == 6.0


@pytest.mark.parametrize("text", ["", "Cached:\n", "Cached: many kB\n", "Shmem: 4 kB\nCached: 2 kB\n"])
def test_what_is_missing_or_odd_counts_as_nothing(text: str) -> None:
    assert page_cache_gib(text) == 0.0


def test_this_kernels_own_figures_are_understood() -> None:
    assert page_cache_gib(Path("/proc/meminfo").read_text()) > 0.0
