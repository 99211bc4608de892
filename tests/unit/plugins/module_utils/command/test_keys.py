# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""`spark keys`: shown once, never listed, and only where the gateway is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command import keys
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command.cluster import CommandError

from tests.unit.plugins.module_utils.command.world import paper


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "spark-gateway.service").touch()
    (tmp_path / "api_key").write_text("the-first-key\n")
    return tmp_path


def said(place: Path, what: str, name: str = "", **given: Any) -> str:
    terminal, out = paper()
    where = {"folder": place / "gateway", "socket": place / "no.sock", "server_key": place / "api_key", "units": place}
    assert keys.run(what, name, given, terminal, **where) == 0
    return out.getvalue()


def test_a_key_is_shown_once_and_never_listed(place: Path) -> None:
    text = said(place, "add", "alice", per_minute=60, ends="2027-06-30")
    assert "the key of alice, shown this once: sk-" in text
    first = text.rpartition(" ")[2].strip()
    listed = said(place, "list")
    assert first not in listed and "sk-" not in listed
    assert listed.splitlines()[0].split() == ["name", "role", "per", "minute", "at", "once", "last", "day", "made"]
    row = next(line for line in listed.splitlines() if line.startswith("alice"))
    assert row.split()[:6] == ["alice", "user", "60", "no", "limit", "2027-06-30"]
    second = said(place, "rotate", "alice").rpartition(" ")[2].strip()
    assert second.startswith("sk-") and second != first
    assert said(place, "withdraw", "alice") == "withdrew key alice\n"
    assert "alice" not in said(place, "list")
    assert {path.stat().st_mode & 0o777 for path in (place / "gateway").iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("what", "name", "told"),
    [
        ("withdraw", "nobody", "there is no key nobody, known are default"),
        ("rotate", "nobody", "there is no key nobody, known are default"),
        ("add", "default", "there is a key default already"),
        ("add", "No Name", "expected up to 32"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(place: Path, what: str, name: str, told: str) -> None:
    with pytest.raises(CommandError, match=told):
        said(place, what, name)


def test_a_day_that_is_none(place: Path) -> None:
    with pytest.raises(CommandError, match="expected a day such as"):
        said(place, "add", "bob", ends="tomorrow")


def test_without_the_gateway_nothing_is_written(place: Path) -> None:
    (place / "spark-gateway.service").unlink()
    with pytest.raises(CommandError, match="gateway_enabled: true"):
        said(place, "list")
    assert not (place / "gateway").exists()
