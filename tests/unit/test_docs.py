# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The reference says what the code says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.settings.check import SHARED

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
import generate  # noqa: E402 - the path is set just above


def test_the_settings_are_up_to_date() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == generate.settings(), "run `python docs/generate.py`"


def test_the_ports_are_up_to_date() -> None:
    assert (ROOT / "docs" / "ports.md").read_text() == generate.ports(), "run `python docs/generate.py`"


def test_every_role_and_shared_setting_is_in_it() -> None:
    assert {path.name for path in (ROOT / "roles").iterdir()} == set(generate.ORDER)
    assert set(generate.SHARED) == set(SHARED)


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
