# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The page of the status: it has what the screen has, brings everything along, and lets nobody write into it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from ansible_collections.dgx_spark.vllm.plugins.plugin_utils.pages import status_page

from tests.unit.plugins.module_utils.report.test_status import CASES, pair

VOID = {"meta"}


class Nesting(HTMLParser):
    """Sees that what is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", CASES)
def test_the_page_is_whole_and_needs_nothing(name: str) -> None:
    page = status_page(CASES[name])
    reader = Nesting()
    reader.feed(page)
    assert not reader.open
    assert not re.search(r"<script|<link|<img|@import|url\(|src=", page)
    assert "default-src 'none'" in page


def test_the_page_has_what_the_screen_has() -> None:
    page = status_page(pair())
    for words in (
        "busy for 2 h 13 min: 3 requests run",
        "41.2 now, 38.0 in the last hour",
        "up 200 Gb/s",
        "nothing to do",
    ):
        assert words in page
    assert "Errors and warnings" not in page
    page = status_page(CASES["worker off"])
    assert "Errors and warnings" in page
    assert "<code>node.unreachable</code>" in page
    assert "<td colspan='8'>Failed to connect" in page


def test_nobody_writes_into_the_page() -> None:
    bad = "<script>alert(1)</script>"
    page = status_page(pair(worker={"failed": True, "msg": bad}))
    assert bad not in page
    assert "&lt;script&gt;" in page
