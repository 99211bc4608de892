# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The page of a benchmark: well-formed, self-contained, and true to its figures."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.benchmark.causes import judge
from ansible_collections.dgx_spark.vllm.plugins.module_utils.benchmark.result import brief
from ansible_collections.dgx_spark.vllm.plugins.plugin_utils.pages import benchmark_page

from tests.unit.plugins.module_utils.benchmark.world import PLAN, document, history, node, point

VOID = frozenset({"meta", "br"})
STRANGE = "<b>&'\"</b></script>"


class Reader(HTMLParser):
    """Keeps tags balanced, or fails."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        assert tag in {"path", "circle", "rect"}, tag

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def drawn(result: dict[str, Any], earlier: list[dict[str, Any]]) -> str:
    result["verdict"] = judge(result, earlier).as_facts(result)
    return benchmark_page(result, [brief(other) for other in earlier])


CASES: dict[str, tuple[dict[str, Any], int]] = {
    "fine": (document(), 5),
    "below": (document(scale=0.4), 30),
    "alone": (document(plan={}, startup={}), 0),
    "simulation": (document(simulation=True, plan={}), 1),
    "one point": (document(points=[point()], evidence={"spark-1": node()}), 1),
    "none alone": (document(points=[point(4), point(16)]), 2),
    "many lengths": (
        document(points=[point(c, length) for c in (1, 4) for length in (8, 16, 32, 64, 128, 256, 512)]),
        0,
    ),
    "nothing known": (document(evidence={"spark-1": {}}, versions={}, plan={"decode_tok_s_limit": 44.8}), 0),
    "strange": (document(model=STRANGE, evidence={STRANGE: node(gpus=[STRANGE])}, startup={STRANGE: 3.0}), 0),
    "no speed": (
        document(points=[point(decode_tok_s_request=0.0, decode_tok_s_total=0.0, prefill_tok_s=0.0, ttft_s=0.0)]),
        0,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_well_formed_and_needs_nothing(case: str) -> None:
    result, runs = CASES[case]
    text = drawn(result, history(min(runs, 28)))
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    for picture in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(picture)
        assert "nan" not in picture
        assert "inf" not in picture
    assert not re.search(r"https?://|<script|<link|<img|url\(|@import|src=", text)
    assert "<b>&" not in text
    assert "default-src 'none'" in text


def test_marks_stay_inside() -> None:
    text = drawn(document(scale=3), history(28))
    for picture in re.findall(r"<svg viewBox='0 0 560 (\d+)'(.*?)</svg>", text, re.DOTALL):
        height = int(picture[0])
        for left, top in re.findall(r"cx='([\d.-]+)' cy='([\d.-]+)'", picture[1]):
            assert 0 <= float(left) <= 560
            assert 0 <= float(top) <= height
        for left, width in re.findall(r"<rect [^>]*x='([\d.-]+)' y='[\d.-]+' width='([\d.-]+)'", picture[1]):
            assert float(left) >= 0
            assert float(left) + float(width) <= 560


def test_every_figure_stands_as_text_too() -> None:
    text = drawn(document(), history())
    for each in document()["points"]:
        assert f">{each['prompt_tokens']}<" in text
        assert f"{each['ttft_s']:.3f}" in text
    assert "expected 14 to 24" in text
    assert "limit 44.8" in text
    assert "360 s in all" in text
    assert "Weights: 115.5 GiB in 300 s = 0.385 GiB/s; the rate of the disk was not measured." in text


def test_a_result_from_before_the_weights_were_noted() -> None:
    older = document()
    del older["loading"]
    assert "360 s in all, from the server&#39;s own log.</span>" in drawn(older, [])


def test_the_simulation_says_so() -> None:
    words = "say nothing about the speed of a DGX Spark"
    assert words in drawn(document(simulation=True), [])
    assert words not in drawn(document(), [])


def test_causes_and_what_to_do() -> None:
    text = drawn(document(scale=0.5, evidence={"spark-1": node(swap={"pswpin": 262144})}), [])
    assert "Likely causes" in text
    assert "1024 MiB back from swap" in text
    assert "Not checked: TCP instead of RDMA (one node has no link)." in text
    assert "class='box verdict below'" in text


def test_where_the_range_comes_from() -> None:
    plan = {**PLAN, "details": {"expected_from": "fitted on 12 runs"}}
    assert "The range is fitted on 12 runs." in drawn(document(plan=plan), [])


def test_without_plan_history_or_journal_it_says_so() -> None:
    text = drawn(document(plan={}, startup={}), [])
    for words in ("There is no plan for this run.", "This is the first run", "was not there to be read"):
        assert words in text
