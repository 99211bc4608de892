# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""One report in a terminal and on a page, and what it makes of the results of modules."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.codes import CODES
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.finding import (
    GREEN,
    RED,
    YELLOW,
    Finding,
    as_dicts,
    fine,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.report import (
    FOLLOWS,
    Report,
    compare,
    counts,
    findings_of,
    once,
    red_sentences,
    sentence,
    table,
    takeover_note,
)

FINE = fine("node", "disk", "/srv/models has 900 GiB free")
LOOK = Finding(
    "node.driver_updates_itself",
    YELLOW,
    "updates",
    "unattended upgrades are on",
    "hold the packages",
    ("sudo apt-mark hold nvidia-driver-580-open",),
)
STOP = Finding(
    "node.memory_taken",
    RED,
    "memory",
    "20.1 of 121.7 GiB are available, 90 GiB are needed",
    "stop what holds it",
    ("docker stop node-1",),
)


def report(*findings: Finding) -> Report:
    return Report({"spark-1": findings, "spark-2": [FINE]}, subject="qwen3-235b-awq", made="2026-11-23 12:00 UTC")


# --- findings ------------------------------------------------------------------------------------------------------


def test_levels_are_counted() -> None:
    assert counts([FINE, LOOK, FINE]) == {RED: 0, YELLOW: 1, GREEN: 2}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([FINE], "spark-1, spark-2: all 2 findings are green"),
        ([LOOK], "spark-1, spark-2: nothing is red; 1 of 2 findings are yellow"),
        ([STOP, LOOK], "1 red and 1 yellow of 3 findings; red on spark-1"),
    ],
)
def test_the_sentence(found: list[Finding], words: str) -> None:
    assert sentence(report(*found)) == words


# --- results of modules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"skipped": True, "msg": "x", "findings": as_dicts([STOP])}, []),
        ({"changed": False}, []),
        ({}, []),
        ({"findings": as_dicts([FINE, STOP]), "msg": "x"}, [FINE, STOP]),
        # What a module found counts also where it failed with it.
        ({"failed": True, "findings": as_dicts([STOP]), "msg": "taken: stop it"}, [STOP]),
    ],
)
def test_findings_of_a_result(result: dict[str, object], expected: list[Finding]) -> None:
    assert findings_of("server", result) == expected


@pytest.mark.parametrize(
    ("result", "code", "words"),
    [
        ({"failed": True, "msg": "no docker: install it"}, "node.look_failed", "no docker: install it"),
        ({"failed_when_result": False, "msg": "no ip: install it"}, "node.look_failed", "no ip: install it"),
        ({"failed": True}, "node.look_failed", "the check could not run"),
        ({"unreachable": True, "msg": ""}, "node.unreachable", "the node does not answer"),
        ({"unreachable": True, "msg": "no route: look"}, "node.unreachable", "no route: look"),
    ],
)
def test_a_look_that_failed_is_a_finding_and_its_sentence_stays_whole(
    result: dict[str, object], code: str, words: str
) -> None:
    (found,) = findings_of("server", result)
    assert (found.code, found.level, found.check, found.found) == (code, RED, "server", words)
    assert found.remedy


def test_findings_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="expected code, level, check and found"):
        findings_of("server", {"findings": [{"check": "x"}]})


# --- nodes beside each other --------------------------------------------------------------------------------------

#: Versions as in facts of the field: drivers 580.159 and 580.173, kernels 6.17.0-1014/-1021-nvidia; the firmware is invented.
SPARK = {
    "architecture": "aarch64",
    "os": "Ubuntu 24.04.3 LTS",
    "dgx_os": "7.5.0",
    "kernel": "6.17.0-1014-nvidia",
    "firmware": "5.36_0ACUM018",
    "driver": "580.159.03",
    "docker": "29.2.1",
}


def test_alike_nodes_are_green() -> None:
    rows = compare({"spark-1": SPARK, "spark-2": dict(SPARK)})
    assert {row.level for row in rows} == {GREEN}
    assert [row.check for row in rows if "580.159.03" in row.found] == ["NVIDIA driver"]
    assert "ConnectX firmware" not in [row.check for row in rows], "what nobody knows is not compared"


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"architecture": "x86_64"}, RED, "spark-1 has aarch64, spark-2 has x86_64"),
        ({"driver": "580.173.02"}, YELLOW, "spark-1 has 580.159.03, spark-2 has 580.173.02"),
        ({"driver": "590.44.01"}, RED, "spark-2 has 590.44.01"),
        ({"kernel": "6.17.0-1021-nvidia"}, YELLOW, "spark-2 has 6.17.0-1021-nvidia"),
        ({"firmware": ""}, YELLOW, "spark-2 has none that could be read, spark-1 has 5.36_0ACUM018"),
        ({"dgx_os": "7.4.0"}, YELLOW, "spark-2 has 7.4.0"),
        ({"os": "Ubuntu 24.04.2 LTS"}, YELLOW, "spark-2 has Ubuntu 24.04.2 LTS"),
    ],
)
def test_nodes_that_differ(change: dict[str, str], level: str, words: str) -> None:
    (row,) = [row for row in compare({"spark-1": SPARK, "spark-2": SPARK | change}) if row.level != GREEN]
    assert row.level == level
    assert words in row.found
    assert row.remedy


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (("1790000000", "1790000004"), [GREEN]),
        (("1790000000", "1790000183"), [YELLOW]),
        (("1790000000", "x"), []),
        (("1790000000", ""), []),
    ],
)
def test_clocks_that_differ(times: tuple[str, str], expected: list[str]) -> None:
    nodes = {f"spark-{number}": SPARK | {"time": time} for number, time in enumerate(times, 1)}
    found = [row for row in compare(nodes) if row.check == "clocks"]
    assert [row.level for row in found] == expected
    if expected == [YELLOW]:
        assert found[0].found.startswith("the clock of spark-1 is about 183 s behind that of spark-2")


def test_one_node_is_compared_with_nothing() -> None:
    assert compare({"spark-1": SPARK}) == []


# --- the terminal -------------------------------------------------------------------------------------------------


def test_the_table_names_each_finding_and_remedy() -> None:
    lines = table(report(FINE, LOOK, STOP), width=100)
    text = "\n".join(line for _level, line in lines)
    assert text.index("STOP  memory") < text.index("LOOK  updates") < text.index("fine  disk"), "the gravest first"
    assert "-> stop what holds it" in text
    assert "docker stop node-1" in text
    assert "90 GiB are needed [node.memory_taken]" in text
    assert "[node.ok]" not in text
    assert "1 red and 1 yellow of 4 findings; red on spark-1\n" in text
    assert text.endswith("docs/troubleshooting.md")
    assert max(len(line) for _level, line in lines) <= 100
    assert dict(reversed(lines))[RED] == "spark-1: 1 red, 1 yellow, 1 green"


def test_long_findings_are_wrapped() -> None:
    lines = table(Report({"spark-1": [Finding("node.look_failed", YELLOW, "x", "word " * 60, "do " * 60)]}), width=80)
    assert max(len(line) for _level, line in lines) <= 80
    assert sum("word" in line for _level, line in lines) > 3


def test_a_report_without_rows_can_be_shown() -> None:
    assert table(Report({}))[-1] == (GREEN, "no node: all 0 findings are green")


# --- what several looks find --------------------------------------------------------------------------------------

MISMATCH = Finding("gpu.driver_mismatch", RED, "gpu", "driver and library differ", "reboot this node")


def test_what_several_looks_find_is_told_by_the_first() -> None:
    driver = replace(MISMATCH, check="driver", found="580.95 against 580.126", remedy="reboot")
    off = Finding("docker.cdi_off", YELLOW, "Docker", "CDI is off", "site.yml fixes it")
    memory = fine("node", "memory", "100 of 120 GiB")
    said = {"runtime": [MISMATCH], "survey": [memory, driver], "docker": [driver, off]}
    assert once(said) == [MISMATCH, memory, off]


def test_one_look_may_find_the_same_of_several_subjects() -> None:
    down = [
        Finding("fabric.port_down", RED, "fabric", f"{name} has no link", "plug it", subject=name)
        for name in ("enp1s0f1np1", "enP2p1s0f1np1")
    ]
    assert once({"fabric": down}) == down
    assert once({"fabric": down, "other": [down[1], replace(down[1], subject="eth0")]}) == [
        *down,
        replace(down[1], subject="eth0"),
    ]


def test_a_green_one_is_told_where_no_other_look_says_more() -> None:
    green, other = fine("gpu", "driver", "driver 580.95"), fine("node", "driver", "580.95, kernel and libraries alike")
    assert once({"runtime": [green], "survey": [other]}) == [green]
    assert once({"runtime": [green], "survey": [replace(MISMATCH, check="driver")]}) == [
        replace(MISMATCH, check="driver")
    ]
    # Within one look a green one stays beside others: it is about something else of the same kind.
    both = [
        Finding("node.port_configured_twice", YELLOW, "network files", "two files", "keep one"),
        fine("node", "network files", "nobody else configures enp1s0f0np0"),
    ]
    assert once({"survey": both}) == both


def test_what_follows_from_another_finding_is_not_told_beside_it() -> None:
    no_gpu = Finding("gpu.no_gpu", RED, "gpu", "this host has no NVIDIA GPU", "run on a DGX Spark")
    no_driver = Finding("gpu.driver_missing", RED, "driver", "there is no NVIDIA driver", "install it")
    assert once({"runtime": [no_gpu], "docker": [no_driver]}) == [no_gpu]
    assert once({"docker": [no_driver]}) == [no_driver]
    assert all(code in CODES for pair in FOLLOWS.items() for code in pair)


def test_a_red_row_is_one_sentence_with_its_remedy() -> None:
    assert red_sentences(report(LOOK, STOP)) == [
        "spark-1: 20.1 of 121.7 GiB are available, 90 GiB are needed: stop what holds it [node.memory_taken]"
    ]


def test_the_takeover_is_offered_where_there_is_something_to_stop() -> None:
    assert takeover_note({"spark-1": {"containers": [], "units": []}}) == ""
    note = takeover_note({"spark-1": {"containers": ["node-1"], "units": ["ollama.service"]}, "spark-2": {}})
    assert "takeover.yml -e takeover=yes` stops node-1, ollama.service on spark-1" in note
