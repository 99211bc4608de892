# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Pages of report and plan: they stand alone, hold what the terminal has, and let nobody write into them."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.page import Planned
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.plan import (
    HOST_GIB,
    MIN_HEADROOM_GIB,
    context_table,
    plan,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.finding import RED, Finding, fine
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.report import Report
from ansible_collections.dgx_spark.vllm.plugins.plugin_utils.pages import plan_page, report_page

from tests.unit.plugins.module_utils.plan.test_plan import two_sparks
from tests.unit.plugins.module_utils.report.test_report import FINE, LOOK, STOP, report


class Checker(HTMLParser):
    """Counts tags and refuses what reaches out of the page, and tags that do not close."""

    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
        for name, value in attrs:
            assert not name.startswith("on")
            assert name != "src"
            assert name != "href" or str(value).startswith("#")
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def parsed(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    return checker


def test_the_page_stands_alone_and_holds_every_row() -> None:
    text = report_page(report(FINE, LOOK, STOP))
    checker = parsed(text)
    words = " ".join(checker.words)
    assert checker.seen.count("tr") == 2 + 4, "a head for each of two tables, and four rows"
    for row in (FINE, LOOK, STOP):
        assert row.found in words
    assert "node.ok" not in words
    for said in (
        "stop what holds it",
        "node.memory_taken",
        "docker stop node-1",
        "qwen3-235b-awq",
        "2026-11-23 12:00 UTC",
    ):
        assert said in words
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text


def test_what_a_machine_says_is_no_html() -> None:
    evil = "<script>alert(1)</script>\"'&`<b>`"
    text = report_page(
        Report({evil: [Finding("node.look_failed", RED, evil, evil, evil, (evil,))]}, subject=evil, notes=[evil])
    )
    parsed(text)
    assert "<script>" not in text
    assert "<b>" not in text


def test_all_nodes_together_come_last() -> None:
    text = report_page(Report({"spark-1": [FINE]}, cluster=[fine("cluster", "kernel", "the same")]))
    assert text.index(">spark-1</h2>") < text.index(">all nodes</h2>")


def test_a_report_without_rows_can_be_shown() -> None:
    assert "<h1>Preflight</h1>" in report_page(Report({"spark-1": []}))


# --- the plan -----------------------------------------------------------------------------------------------------


def planned(**changed: object) -> Planned:
    given = two_sparks(**changed)
    return Planned(
        name="qwen3-235b-awq",
        given=given,
        plan=plan(given),
        table=context_table(given),
        nodes={"spark-1": given.memory_gib, "spark-2": given.memory_gib + 1},
        memory_from="read from spark-1, spark-2",
        host_gib=HOST_GIB,
        min_headroom_gib=MIN_HEADROOM_GIB,
    )


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"gpu_memory_utilization": 0.95},
        {"gpu_memory_utilization": 0.3},
        {"max_model_len": 262144},
        {"memory_gib": 20.0},
        {"cpu_kv_gib": 4.0},
    ],
)
def test_a_plan_is_a_page_that_stands_alone(case: dict[str, float]) -> None:
    text = plan_page(planned(**case))
    parsed(text)
    assert not re.search(r"url\(|@import|nan|inf<", text)
    assert "spark-2" in text


def test_the_page_has_the_figures_of_the_plan() -> None:
    given = planned()
    text = plan_page(given)
    for words in (f"{given.plan.kv_cache_tokens:,}", "262,144", "Expected decode rate", "class='box verdict green'"):
        assert words in text
    assert "class='box verdict red'" in plan_page(planned(gpu_memory_utilization=0.95))


def test_what_a_node_is_called_is_no_html() -> None:
    evil = "<script>alert(1)</script>"
    text = plan_page(replace(planned(), name=evil, nodes={evil: 121.69}, remarks=[evil]))
    assert evil not in text
