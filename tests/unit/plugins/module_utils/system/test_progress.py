# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""How far a long work is, in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.progress import Progress, duration, gib

GIB = 1024**3


def test_times_and_sizes_read_well() -> None:
    assert [duration(seconds) for seconds in (89, 90, 5399, 5400)] == ["89 s", "2 min", "90 min", "1.5 h"]
    assert [gib(size) for size in (5, 2**20, 2**30)] == ["5 bytes", "1.0 MiB", "1.0 GiB"]


def test_a_note_has_part_rate_and_time_left(tmp_path: Path) -> None:
    now, place = [0.0], tmp_path / "note"
    progress = Progress(str(place), lambda: now[0])
    for now[0], held, said in (
        (10.0, GIB, "copying: 1.0 GiB of 21.0 GiB"),
        (11.0, 2 * GIB, "copying: 1.0 GiB of 21.0 GiB"),  # too early for another note
        (20.0, 11 * GIB, "copying: 11.0 GiB of 21.0 GiB, 1.0 GiB/s, about 10 s left"),
        (31.0, 22 * GIB, "copying: 22.0 GiB, 1.0 GiB/s"),  # more than was said
    ):
        progress.note("copying", held, 21 * GIB)
        assert place.read_text() == said
    progress.note("adding Ray")
    assert place.read_text() == "adding Ray"


@pytest.mark.parametrize("place", [None, "missing/note"])
def test_a_note_that_cannot_be_made_costs_nothing(tmp_path: Path, place: str | None) -> None:
    progress = Progress(str(tmp_path / place) if place else None)
    progress.note("copying", 1, 2)
    progress.note("loading")
    assert not list(tmp_path.iterdir())
