# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.finding import (
    GREEN,
    RED,
    YELLOW,
    Finding,
    as_dicts,
    fine,
    from_dicts,
    sentences,
    worst,
)

DOWN = Finding("fabric.port_down", RED, "link", "enp1s0f1np1 has no link", "plug the cable in", subject="enp1s0f1np1")


def test_a_finding_says_who_found_it_and_what_to_do() -> None:
    assert DOWN.source == "fabric"
    assert DOWN.sentence() == "enp1s0f1np1 has no link: plug the cable in"
    held = Finding("node.reboot_needed", RED, "updates", "a reboot is pending", commands=("sudo reboot",))
    assert held.sentence() == "a reboot is pending: `sudo reboot`"
    assert fine("docker", "Docker", "Docker 29.0").sentence() == "Docker 29.0"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (("fabric.port_down", RED, "link", "no link"), "fabric.port_down is red and has no remedy"),
        (("fabric.port_down", "orange", "link", "no link", "plug it"), "has level 'orange': expected red, yellow"),
        (("port_down", RED, "link", "no link", "plug it"), "has code 'port_down': expected source and name"),
        (("fabric.Port-Down", RED, "link", "no link", "plug it"), "expected source and name"),
    ],
)
def test_a_finding_that_helps_nobody_is_refused(fields: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Finding(*fields)  # type: ignore[arg-type]


def test_findings_travel_as_plain_data() -> None:
    all_three = [
        DOWN,
        Finding("node.reboot_needed", YELLOW, "updates", "a reboot is pending", "reboot", ("sudo reboot",)),
        fine("docker", "Docker", "Docker 29.0"),
    ]
    assert from_dicts(as_dicts(all_three)) == all_three
    assert as_dicts([DOWN])[0]["source"] == "fabric"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("red", "findings are str, expected a list"),
        (None, "findings are NoneType"),
        ([{"level": RED}], "is not usable: expected code, level, check and found"),
        (["no link"], "is not usable"),
        ([DOWN.as_dict() | {"commands": "reboot"}], "has commands 'reboot': expected a list"),
    ],
)
def test_what_is_no_finding_is_refused(raw: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_dicts(raw)


def test_what_somebody_is_about_to_mend_is_yellow() -> None:
    mended = DOWN.milder("role fabric configures it")
    assert (mended.level, mended.code, mended.subject) == (YELLOW, DOWN.code, DOWN.subject)
    assert mended.sentence() == "enp1s0f1np1 has no link: role fabric configures it"


def test_sentences_are_of_the_asked_levels_and_each_once() -> None:
    mended = DOWN.milder("wait")
    assert sentences([DOWN, DOWN, mended]) == [DOWN.sentence()]
    assert sentences([DOWN, mended], YELLOW) == [mended.sentence()]
    assert sentences([DOWN, mended], RED, YELLOW) == [DOWN.sentence(), mended.sentence()]


def test_the_gravest_counts() -> None:
    assert worst([]) == GREEN
    assert worst([fine("docker", "Docker", "29.0"), DOWN.milder("wait")]) == YELLOW
    assert worst([DOWN.milder("wait"), DOWN]) == RED
