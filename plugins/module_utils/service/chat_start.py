# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Brings the endpoint's address and key into Open WebUI's own settings, then becomes Open WebUI.

Open WebUI takes both from its environment at its first start alone, and from its database ever after: without this, a page whose key
was rotated, or whose endpoint moved behind the gateway, would go on with the earlier ones. Only the connection that was given it
here is touched; an administrator who took it away does not find it again.

    python3 chat_start.py --data /data --url http://127.0.0.1:8235/v1 -- python3 -m uvicorn open_webui.main:app

The key comes in OPENAI_API_KEY, which the container's shell reads from a mounted file. Standard library only: it runs on the image's
Python, as the container's first process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Sequence
from pathlib import Path

#: Open WebUI's database, and what this program wrote last, both in the folder of its data.
DATABASE, RECORD = "webui.db", "dgx-spark.json"
#: Rows of Open WebUI's table of settings (0.12: one row for each setting), as open_webui/config.py names them.
URLS, KEYS = "openai.api_base_urls", "openai.api_keys"
KEY_VARIABLE = "OPENAI_API_KEY"


def say(text: str) -> None:
    """Write a line to the container's log, at once."""
    sys.stdout.write(f"chat start: {text}\n")
    sys.stdout.flush()


def connected(
    urls: Sequence[str], keys: Sequence[str], earlier: str, url: str, key: str
) -> tuple[list[str], list[str]] | None:
    """Return addresses and keys with our connection as it is now; None where it is not among them.

    Args:
        urls: addresses that Open WebUI knows.
        keys: of these, in the same order.
        earlier: address that was given it here last.
        url: address of the endpoint now.
        key: of the endpoint now.
    """
    place = next((urls.index(name) for name in (url, earlier) if name in urls), None)
    if place is None:
        return None
    addresses = [*urls]
    known = [*keys, *[""] * (len(urls) - len(keys))]
    addresses[place], known[place] = url, key
    return addresses, known


def bring(data: Path, url: str, key: str) -> str:
    """Bring address and key into the database; return what was done, or an empty text.

    Raises:
        OSError: the record cannot be written.
        sqlite3.Error: the database cannot be read or written.
    """
    record, done = data / RECORD, ""
    try:
        earlier = str(json.loads(record.read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, KeyError, TypeError):
        earlier = ""
    if (data / DATABASE).exists():
        with contextlib.closing(sqlite3.connect(data / DATABASE, timeout=30)) as database:
            done = _update(database, earlier, url, key)
    record.write_text(json.dumps({"url": url}) + "\n", encoding="utf-8")
    return done


def _update(database: sqlite3.Connection, earlier: str, url: str, key: str) -> str:
    columns = {str(row[1]) for row in database.execute("PRAGMA table_info(config)")}
    if not columns:
        # A database that was never filled: the environment counts.
        return ""
    if not {"key", "value", "updated_at"} <= columns:
        return "this version keeps its settings in another form: set address and key of the connection by hand"
    rows = dict(database.execute("SELECT key, value FROM config WHERE key IN (?, ?)", (URLS, KEYS)))
    if URLS not in rows:
        return ""
    urls, keys = (json.loads(rows.get(name) or "[]") for name in (URLS, KEYS))
    now = connected(urls, keys, earlier, url, key)
    if now is None:
        return "an administrator took the connection to the endpoint away: left as it is"
    if now == (urls, keys):
        return ""
    for name, value in zip((URLS, KEYS), now, strict=True):
        database.execute(
            "INSERT INTO config (key, value, updated_at) VALUES (?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
            (name, json.dumps(value), int(time.time())),
        )
    database.commit()
    return f"the connection is {url} with the key of now"


def main(arguments: Sequence[str] | None = None) -> int:
    """Bring the connection, then become the command; return only where there is none."""
    parser = argparse.ArgumentParser(prog="chat_start.py", description="Starts Open WebUI with the endpoint's key.")
    parser.add_argument("--data", type=Path, required=True, help="folder of Open WebUI's data")
    parser.add_argument("--url", required=True, help="address of the endpoint")
    parser.add_argument("command", nargs="+", help="Open WebUI's own command, after --")
    given = parser.parse_args(arguments)
    try:
        done = bring(given.data, given.url, os.environ.get(KEY_VARIABLE, ""))
    except (OSError, sqlite3.Error, ValueError) as error:
        # The page without its endpoint says so itself; a page that does not start says nothing.
        done = f"the connection was left as it is: {error}"
    if done:
        say(done)
    os.execvp(given.command[0], given.command)


if __name__ == "__main__":
    raise SystemExit(main())
