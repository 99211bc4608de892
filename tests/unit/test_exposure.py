# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What systemd thinks of our units is no worse than docs/security.md says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
import exposure  # noqa: E402 - the path is set just above


def test_the_page_has_a_row_for_each_unit() -> None:
    assert (
        list(exposure.shown()) == list(exposure.UNITS) == [name for name in exposure.UNITS if name in exposure.texts()]
    )
    assert set(exposure.texts()) == set(exposure.UNITS)


@pytest.mark.skipif(not exposure.program(), reason="no systemd-analyze that judges files (systemd 250 or later)")
def test_no_unit_is_more_exposed_than_the_page_says() -> None:
    shown = exposure.shown()
    worse = {name: now for name, now in exposure.exposures().items() if now > shown[name]}
    assert worse == {}, "run `python docs/exposure.py` where that is meant"
    assert all(shown[name] < before for name, (before, _why) in exposure.UNITS.items())
