# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Charts: round scales, figures that read well, and drawings that are well-formed whatever the figures are."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.charts import (
    Chart,
    Part,
    bars,
    ranges,
    short,
    stacked_bars,
    ticks,
)

STRANGE = "<b>&'\"</b></script>"


@pytest.mark.parametrize(
    "chart",
    [
        stacked_bars(
            "Memory", "Of each node.", [(STRANGE, [Part(STRANGE, 57.9, "f0"), Part("free", 0.0, "rest")])], "GiB"
        ),
        bars("Requests", STRANGE, [("8,192", 27.3, "f2"), ("16,384", 0.0, "f1")], "at once"),
        ranges("Rate", "Expected.", [("8,192", 15.4, 22.9), ("16,384", 14.0, 14.0)], "tok/s", 33.3),
    ],
)
def test_a_drawing_is_well_formed_and_stays_inside(chart: Chart) -> None:
    picture = ElementTree.fromstring(chart.svg)
    width = float(picture.attrib["viewBox"].split()[2])
    for rect in picture.iter("rect"):
        assert 0 <= float(rect.attrib["x"]) <= float(rect.attrib["x"]) + float(rect.attrib["width"]) <= width
    assert "<b>" not in chart.svg


@pytest.mark.parametrize(
    "chart", [stacked_bars("A", "", [], "GiB"), bars("A", "", [], ""), ranges("A", "", [("x", 0, 0)], "")]
)
def test_nothing_to_show_is_said(chart: Chart) -> None:
    assert (chart.svg, chart.caption) == ("", "There is nothing to show.")


@pytest.mark.parametrize(("top", "last"), [(0, 1), (0.07, 0.08), (9.7, 10), (101, 125), (11900, 12500), (1e6, 1e6)])
def test_ticks_are_round(top: float, last: float) -> None:
    marks = ticks(top)
    assert marks[0] == 0
    assert marks[-1] == pytest.approx(last)
    assert 2 <= len(marks) <= 7


def test_short_figures() -> None:
    assert [short(value) for value in (0, 0.0734, 9.72, 36.44, 298, 11900)] == [
        "0",
        "0.0734",
        "9.72",
        "36.4",
        "298",
        "11.9k",
    ]
