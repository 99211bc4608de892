# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""How far a download is, in words and as a note beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.progress import Meter, Watch, read_watch

GIB = 1024**3


@pytest.mark.parametrize(
    ("watch", "words"),
    [
        (Watch("main", 4 * GIB, GIB, GIB // 60), "about 3 min left"),
        (Watch("main", 4 * GIB, GIB), "the run has just begun, or nothing came for 30 s"),
        (Watch("main", GIB, GIB, 5), "the last files are being verified"),
    ],
)
def test_it_is_told_in_a_few_words(watch: Watch, words: str) -> None:
    assert watch.describe().endswith(words)


def test_a_rate_is_told_once_it_has_settled(tmp_path: Path) -> None:
    now, held = [100.0], [0]
    path = tmp_path / "watch.json"
    meter = Meter(path, "main", 1000, lambda: held[0])
    meter.rate.clock = lambda: now[0]
    for now[0], held[0], rate in ((100.0, 0, 0), (104.0, 400, 0), (110.0, 500, 50), (150.0, 500, 0)):
        meter.note()
        assert read_watch(path) == Watch("main", 1000, held[0], rate)


def test_a_note_that_cannot_be_made_or_read_is_none(tmp_path: Path) -> None:
    Meter(tmp_path / "missing" / "watch.json", "main", 1, lambda: 0).note()
    for text in ("", "[]", "{}", '{"revision": "main", "bytes_total": "x", "bytes": 0, "rate": 0}'):
        (tmp_path / "watch.json").write_text(text)
        assert read_watch(tmp_path / "watch.json") is None
    assert read_watch(tmp_path / "none.json") is None
