# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""One report in a terminal and on a page, and what it makes of the results of modules."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.report import (
    GREEN,
    RED,
    YELLOW,
    Report,
    Row,
    compare,
    counts,
    once,
    page,
    red_sentences,
    rows_from,
    rows_of,
    sentence,
    split_sentence,
    table,
    takeover_note,
    worst,
)

FINE = Row("disk", GREEN, "/srv/models has 900 GiB free")
LOOK = Row(
    "updates", YELLOW, "unattended upgrades are on", "hold the packages", ("sudo apt-mark hold nvidia-driver-580-open",)
)
STOP = Row(
    "memory", RED, "20.1 of 121.7 GiB are available, 90 GiB are needed", "stop what holds it", ("docker stop node-1",)
)


def report(*rows: Row) -> Report:
    return Report({"spark-1": rows, "spark-2": [FINE]}, subject="qwen3-235b-awq", made="2026-11-23 12:00 UTC")


# --- rows ---------------------------------------------------------------------------------------------------------


def test_a_red_row_needs_a_remedy() -> None:
    with pytest.raises(ValueError, match="'x' is red and has no remedy"):
        Row("x", RED, "broken")
    assert Row("x", RED, "broken", commands=("reboot",)).level == RED


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="level 'orange': expected red, yellow, green"):
        Row("x", "orange", "y")


def test_rows_survive_the_way_through_a_module() -> None:
    assert rows_from([row.as_dict() for row in (FINE, LOOK, STOP)]) == [FINE, LOOK, STOP]


@pytest.mark.parametrize(
    ("raw", "words"),
    [("text", "rows are str"), ([{"check": "x"}], "expected check, level and found"), (None, "NoneType")],
)
def test_what_is_no_row_is_refused(raw: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rows_from(raw)


def test_levels_are_counted_and_the_gravest_wins() -> None:
    assert counts([FINE, LOOK, FINE]) == {RED: 0, YELLOW: 1, GREEN: 2}
    assert [worst([]), worst([FINE]), worst([FINE, LOOK]), worst([LOOK, STOP, FINE])] == [GREEN, GREEN, YELLOW, RED]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([FINE], "spark-1, spark-2: all 2 findings are green"),
        ([LOOK], "spark-1, spark-2: nothing stands in the way; 1 of 2 findings deserve a look"),
        ([STOP, LOOK], "1 red and 1 yellow of 3 findings; red on spark-1"),
    ],
)
def test_the_sentence(rows: list[Row], words: str) -> None:
    assert sentence(report(*rows)) == words


# --- results of modules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found", "remedy"),
    [
        (
            "disk space is short: /srv/models needs 116 GiB, but the file system at / has 3 GiB free: free some, or choose a larger disk",
            "disk space is short: /srv/models needs 116 GiB, but the file system at / has 3 GiB free",
            "free some, or choose a larger disk",
        ),
        (
            "the kernel cannot mount NFS (it has no module nfsv4): install the kernel's extra modules, or set model_share_method: copy",
            "the kernel cannot mount NFS (it has no module nfsv4)",
            "install the kernel's extra modules, or set model_share_method: copy",
        ),
        (
            "tasks run as user anna, not as root: set become: true, and see that this user may use sudo",
            "tasks run as user anna, not as root",
            "set become: true, and see that this user may use sudo",
        ),
        ("NFS over RDMA is asked for, but it has no RDMA device: set model_share_nfs_transport: tcp",
         "NFS over RDMA is asked for, but it has no RDMA device", "set model_share_nfs_transport: tcp"),
        ("nothing to split", "nothing to split", ""),
        ("odd (a: b) thing", "odd (a: b) thing", ""),
        ("", "", ""),
    ],
)  # fmt: skip
def test_a_sentence_is_split_into_what_and_what_to_do(text: str, found: str, remedy: str) -> None:
    assert split_sentence(text) == (found, remedy)


@pytest.mark.parametrize(
    ("result", "rows"),
    [
        ({"skipped": True, "msg": "x"}, []),
        ({"changed": False}, []),
        ({"msg": "vLLM serves"}, [Row("server", GREEN, "vLLM serves")]),
        ({"rows": [LOOK.as_dict()], "msg": "x"}, [LOOK]),
        ({"problems": ["a is b: do c"], "msg": "x"}, [Row("server", RED, "a is b", "do c")]),
        ({"problems": ["a is b"]}, [Row("server", RED, "a is b", "see docs/troubleshooting.md")]),
        (
            {"problems": ["a is b: do c"], "warnings_found": ["d is e: do f"], "notes": ["g"]},
            [Row("server", RED, "a is b", "do c"), Row("server", YELLOW, "d is e", "do f"), Row("server", YELLOW, "g")],
        ),
        (
            {
                "problems": ["told twice"],
                "findings": [
                    {"check": "gpu", "level": "green", "text": "NVIDIA GB10"},
                    {"check": "clocks", "level": "red", "text": "850 MHz", "remedy": "another power supply"},
                ],
            },
            [Row("gpu", GREEN, "NVIDIA GB10"), Row("clocks", RED, "850 MHz", "another power supply")],
        ),
        ({"findings": [{"level": "problem", "text": "x"}], "problems": ["x: y"]}, [Row("server", RED, "x", "y")]),
        ({"units": [], "settled": True, "msg": "as wanted"}, [Row("server", GREEN, "as wanted")]),
        (
            {"units": [{}], "settled": False, "failed_units": ["spark-vllm"], "msg": "spark-vllm is failed"},
            [
                Row(
                    "server",
                    YELLOW,
                    "spark-vllm is failed",
                    "read why; site.yml starts it again",
                    ("journalctl --unit spark-vllm --lines 50 --no-pager",),
                )
            ],
        ),
        (
            {"units": [{}], "settled": False, "stop_flag": True, "msg": "x"},
            [Row("server", YELLOW, "the cluster is stopped on purpose", "run playbooks/start.yml to serve again")],
        ),
        (
            {"units": [{}], "settled": False, "msg": "spark-vllm waits"},
            [Row("server", YELLOW, "spark-vllm waits", "wait for it, or read `systemctl status` of what waits")],
        ),
        ({"failed": True, "msg": "no docker: install it"}, [Row("server", RED, "no docker", "install it")]),
        ({"failed_when_result": False, "msg": "no ip: install it"}, [Row("server", RED, "no ip", "install it")]),
        ({"failed_when_result": False, "problems": [], "msg": "all is well"}, [Row("server", GREEN, "all is well")]),
        ({"failed": True}, [Row("server", RED, "it could not be looked at", "run with -vvv to see why it failed")]),
        (
            {"unreachable": True, "msg": ""},
            [Row("server", RED, "the node does not answer", "see that the node runs and answers over SSH")],
        ),
    ],
)
def test_every_road_of_a_module_becomes_rows(result: dict[str, object], rows: list[Row]) -> None:
    assert rows_of("server", result) == rows


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


def test_one_node_is_compared_with_nothing() -> None:
    assert compare({"spark-1": SPARK}) == []


# --- the terminal -------------------------------------------------------------------------------------------------


def test_the_table_names_each_finding_and_remedy() -> None:
    lines = table(report(FINE, LOOK, STOP), width=100)
    text = "\n".join(line for _level, line in lines)
    assert text.index("STOP  memory") < text.index("LOOK  updates") < text.index("fine  disk"), "the gravest first"
    assert "-> stop what holds it" in text
    assert "docker stop node-1" in text
    assert text.endswith("1 red and 1 yellow of 4 findings; red on spark-1")
    assert max(len(line) for _level, line in lines) <= 100
    assert dict(reversed(lines))[RED] == "spark-1: 1 red, 1 yellow, 1 green"


def test_long_findings_are_wrapped() -> None:
    lines = table(Report({"spark-1": [Row("x", YELLOW, "word " * 60, "do " * 60)]}), width=80)
    assert max(len(line) for _level, line in lines) <= 80
    assert sum("word" in line for _level, line in lines) > 3


def test_a_report_without_rows_can_be_shown() -> None:
    assert table(Report({}))[-1] == (GREEN, "no node: all 0 findings are green")
    assert "<h1>Preflight</h1>" in page(Report({"spark-1": []}))


# --- the page -----------------------------------------------------------------------------------------------------


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
    text = page(report(FINE, LOOK, STOP))
    checker = parsed(text)
    words = " ".join(checker.words)
    assert checker.seen.count("tr") == 2 + 4, "a head for each of two tables, and four rows"
    for row in (FINE, LOOK, STOP):
        assert row.found in words
    for said in ("stop what holds it", "docker stop node-1", "qwen3-235b-awq", "2026-11-23 12:00 UTC"):
        assert said in words
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text


def test_what_a_machine_says_is_no_html() -> None:
    evil = "<script>alert(1)</script>\"'&`<b>`"
    text = page(Report({evil: [Row(evil, RED, evil, evil, (evil,))]}, subject=evil, notes=[evil]))
    parsed(text)
    assert "<script>" not in text
    assert "<b>" not in text


def test_all_nodes_together_come_last() -> None:
    text = page(Report({"spark-1": [FINE]}, cluster=[Row("kernel", GREEN, "the same")]))
    assert text.index(">spark-1</h2>") < text.index(">all nodes</h2>")


# --- what two looks tell alike -----------------------------------------------------------------------------------


def test_what_two_looks_tell_is_told_once() -> None:
    said = {
        "survey": [Row("memory", GREEN, "100 of 120 GiB"), Row("driver", RED, "580.95 against 580.126", "reboot")],
        "runtime": [
            Row("gpu", RED, "driver and library differ", "reboot this node"),
            Row("memory", GREEN, "100 of 120 GiB"),
            Row("toolkit", RED, "the toolkit is not installed", "run role container_runtime"),
        ],
        "docker": [
            Row("driver", RED, "580.95 against 580.126", "reboot"),
            Row("Docker", YELLOW, "no toolkit", "site.yml"),
        ],
    }
    assert [(row.check, row.level) for row in once(said)] == [("memory", GREEN), ("gpu", RED), ("Docker", YELLOW)]


def test_a_graver_word_stays() -> None:
    said = {
        "survey": [Row("driver", RED, "kernel and libraries differ", "reboot")],
        "runtime": [Row("driver", GREEN, "driver 580.95")],
    }
    assert [row.level for row in once(said)] == [RED, GREEN]
    alone = {"runtime": [Row("memory", GREEN, "100 of 120 GiB"), Row("toolkit", GREEN, "1.18")]}
    assert once(alone) == alone["runtime"]


def test_kernels_that_were_not_run_are_no_fault() -> None:
    result = {"capabilities": {}, "ran": False, "gpu_present": True, "findings": [], "problems": []}
    busy = result | {
        "msg": "spark-vllm runs on this node, so the GPU is left alone: set while_serving to load it all the same"
    }
    assert rows_of("kernels", busy) == [
        Row("kernels", GREEN, "not run: the cluster serves (spark-vllm runs on this node)")
    ]
    check = result | {"msg": "would run the kernel check"}
    assert rows_of("kernels", check) == [Row("kernels", GREEN, "would run the kernel check")]


def test_a_red_row_is_one_sentence_with_its_remedy() -> None:
    assert red_sentences(report(LOOK, STOP)) == [
        "spark-1: 20.1 of 121.7 GiB are available, 90 GiB are needed: stop what holds it"
    ]


def test_the_takeover_is_offered_where_there_is_something_to_stop() -> None:
    assert takeover_note({"spark-1": {"containers": [], "units": []}}) == ""
    note = takeover_note({"spark-1": {"containers": ["node-1"], "units": ["ollama.service"]}, "spark-2": {}})
    assert "takeover.yml -e takeover=yes` stops node-1, ollama.service on spark-1" in note
