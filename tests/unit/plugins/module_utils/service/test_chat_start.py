# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Address and key of the endpoint in Open WebUI's own settings, as its release 0.12.4 keeps them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import chat_start
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.chat_start import (
    DATABASE,
    KEYS,
    RECORD,
    URLS,
    bring,
    connected,
)

OURS, MOVED, OTHER = "http://127.0.0.1:8235/v1", "https://spark-1:8235/v1", "https://example.org/v1"


def settings(folder: Path, rows: dict[str, Any]) -> None:
    """Write a database with these settings."""
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        database.execute("CREATE TABLE config (key TEXT PRIMARY KEY, value JSON NOT NULL, updated_at BIGINT)")
        database.executemany("INSERT INTO config VALUES (?, ?, 1)", [(key, json.dumps(rows[key])) for key in rows])
        database.commit()


def kept(folder: Path) -> dict[str, Any]:
    """Return the settings of a database."""
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        return {key: json.loads(value) for key, value in database.execute("SELECT key, value FROM config")}


@pytest.mark.parametrize(
    ("urls", "keys", "earlier", "wanted"),
    [
        ([OURS], ["old"], "", ([OURS], ["new"])),
        ([OTHER, OURS], ["theirs", "old"], OURS, ([OTHER, OURS], ["theirs", "new"])),
        # The endpoint moved: known by what was written last.
        ([OTHER, MOVED], ["theirs", "old"], MOVED, ([OTHER, OURS], ["theirs", "new"])),
        # Fewer keys than addresses.
        ([OTHER, OURS], [], "", ([OTHER, OURS], ["", "new"])),
        ([OTHER], ["theirs"], OURS, None),
        ([], [], "", None),
    ],
)
def test_only_our_connection_is_touched(
    urls: list[str], keys: list[str], earlier: str, wanted: tuple[list[str], list[str]] | None
) -> None:
    assert connected(urls, keys, earlier, OURS, "new") == wanted


def test_a_new_key_and_a_new_address_come_in_and_all_else_stays(tmp_path: Path) -> None:
    settings(tmp_path, {URLS: [OURS], KEYS: ["old"], "ui.enable_signup": False})
    assert bring(tmp_path, OURS, "new") == f"the connection is {OURS} with the key of now"
    assert kept(tmp_path) == {URLS: [OURS], KEYS: ["new"], "ui.enable_signup": False}
    assert bring(tmp_path, OURS, "new") == ""
    assert MOVED in bring(tmp_path, MOVED, "new")
    assert kept(tmp_path) == {URLS: [MOVED], KEYS: ["new"], "ui.enable_signup": False}
    assert json.loads((tmp_path / RECORD).read_text()) == {"url": MOVED}


def test_what_an_administrator_took_away_does_not_come_back(tmp_path: Path) -> None:
    settings(tmp_path, {URLS: [OTHER], KEYS: ["theirs"]})
    assert "took the connection to the endpoint away" in bring(tmp_path, OURS, "new")
    assert kept(tmp_path) == {URLS: [OTHER], KEYS: ["theirs"]}


def test_the_first_start_leaves_it_to_the_environment(tmp_path: Path) -> None:
    assert bring(tmp_path, OURS, "new") == ""
    assert not (tmp_path / DATABASE).exists()
    (tmp_path / DATABASE).touch()
    assert bring(tmp_path, OURS, "new") == ""
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        assert list(database.execute("SELECT * FROM sqlite_master")) == []


def test_an_older_form_of_the_settings_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        database.execute("CREATE TABLE config (id INTEGER PRIMARY KEY, data JSON, version INTEGER)")
    assert "in another form" in bring(tmp_path, OURS, "new")


@pytest.mark.parametrize("damaged", [False, True])
def test_it_becomes_the_page_whatever_the_database_is(tmp_path: Path, damaged: bool) -> None:
    if damaged:
        (tmp_path / DATABASE).write_text("no database, but longer than the sixteen bytes of its mark")
    else:
        settings(tmp_path, {URLS: [OURS], KEYS: ["old"]})
    argv = [sys.executable, chat_start.__file__, "--data", str(tmp_path), "--url", OURS, "--", "/bin/echo", "--page"]
    done = subprocess.run(
        argv, env={**os.environ, "OPENAI_API_KEY": "sk-secret"}, capture_output=True, text=True, check=False
    )
    first, last = done.stdout.splitlines()
    assert (done.returncode, last) == (0, "--page")
    assert first.startswith("chat start: the connection " + ("was left as it is" if damaged else f"is {OURS}"))
    assert "sk-secret" not in done.stdout + done.stderr
    if not damaged:
        assert kept(tmp_path)[KEYS] == ["sk-secret"]
