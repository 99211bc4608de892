# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""`spark status`: the screen that playbooks/status.yml shows, of what one node sees; and what it does not see is said."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command import status
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command.cluster import Cluster

from tests.unit.plugins.fake_server import Reply, fake_server
from tests.unit.plugins.module_utils.command.world import HEAD, PAIR, WORKER, paper, report

ROOT = Path(__file__).parents[5]
SHAPE = json.loads((ROOT / "docs/status.schema.json").read_text(encoding="utf-8"))
MEMORY = {"total_gib": 121.0, "available_gib": 30.0, "headroom_gib": 26.0, "findings": []}
SILENT = {
    "code": "watchdog.silent",
    "check": "watchdog",
    "level": "red",
    "found": "it does not run",
    "remedy": "read why",
}


def looks(nodes: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return what the head sees, with what its watchdog heard."""
    state = {"state": "serving", "reason": "idle", "for_s": 60.0, "nodes": nodes}
    return {"memory": MEMORY, "gpu": {"gpus": [], "findings": []}, "watchdog": {"state": state, "findings": []}, **more}


def gathered(found: dict[str, Any], cluster: Cluster = PAIR) -> tuple[dict[str, Any], list[str]]:
    told, notes = status.gather(cluster, lambda _asked: found)
    jsonschema.validate(json.loads(json.dumps(told)), SHAPE)
    return told, notes


def test_what_is_asked_for_on_the_head_and_on_a_further_node() -> None:
    asked = status.parameters(PAIR)
    assert asked["watchdog"] and asked["ray"]["expected_nodes"] == [HEAD, WORKER]
    asked = status.parameters(dataclasses.replace(PAIR, node="spark-2"))
    assert (asked["watchdog"], asked["ray"], asked["server"], asked["weights"]) == (False, None, None, None)
    assert status.parameters(dataclasses.replace(PAIR, ray=False))["ray"] is None


def test_the_head_shows_what_a_further_node_reports_and_says_what_it_does_not_see() -> None:
    told, notes = gathered(looks({WORKER: report(WORKER, warnings=["NVRM: no memory"])}))
    head, worker = told["nodes"]
    assert (head["seen_by"], worker["seen_by"], worker["answers"]) == ("itself", "watchdog", True)
    assert worker["memory"] == {"total_gib": 121.0, "available_gib": 20.0, "headroom_gib": 16.0}
    assert told["state"]["name"] == "serving"
    assert notes == [
        "spark-2 reports 1 rank of the model, Ray for 2 h 1 min, kernel: NVRM: no memory; its GPU, link, disk and units are not seen from here: "
        "`sudo spark status` on spark-2, or playbooks/status.yml"
    ]
    shown = [line for _level, line in status.lines(told, notes, 120)]
    assert all(len(line) <= 80 for _level, line in status.lines(told, notes, 80))
    row = next(line for line in shown if line.startswith("  spark-2"))
    assert "not seen" in row and "20 of 121 GiB" in row
    assert "  spark-1  none" in "\n".join(shown)


@pytest.mark.parametrize(
    ("nodes", "said"),
    [({WORKER: report(WORKER, age_s=34.0)}, "has not reported for 34 s"), ({}, "never reported")],
    ids=["silent", "never"],
)
def test_a_further_node_that_is_not_heard_of_is_red(nodes: dict[str, Any], said: str) -> None:
    # Ray has a node for another minute after its plug was pulled.
    ray = {"alive": [HEAD, WORKER], "reachable": True, "gpus_alive": 2, "findings": []}
    told, notes = gathered(looks(nodes, ray=ray))
    worker = told["nodes"][1]
    assert (worker["answers"], worker["level"], worker["seen_by"], notes) == (False, "red", "", [])
    assert said in worker["reason"]
    assert told["level"] == "red"


def test_without_a_watchdog_ray_is_the_only_one_to_ask_and_without_both_nothing_is_claimed() -> None:
    silent = {"watchdog": {"state": {"nodes": {WORKER: report(WORKER)}}, "findings": [SILENT]}}
    ray = {"ray": {"alive": [HEAD, WORKER], "reachable": True, "gpus_alive": 2, "findings": []}}
    told, notes = gathered(looks({}, **silent, **ray))
    assert told["nodes"][1]["seen_by"] == "ray"
    assert notes[0].startswith("spark-2 is known to Ray alone")
    told, notes = gathered(looks({}, **silent))
    assert (told["nodes"][1]["answers"], told["nodes"][1]["reason"]) == (
        False,
        "not seen from here: no watchdog tells of it",
    )
    assert notes[0].startswith("spark-2 is not seen from here")


def test_a_further_node_asks_the_head_s_watchdog() -> None:
    there = dataclasses.replace(PAIR, node="spark-2")
    state = {"state": "hung", "reason": "no token", "for_s": 9.0, "nodes": {HEAD: report(HEAD)}}
    told, notes = status.gather(there, lambda _asked: {"memory": MEMORY}, lambda _cluster: state)
    jsonschema.validate(json.loads(json.dumps(told)), SHAPE)
    assert [node["name"] for node in told["nodes"]] == ["spark-1", "spark-2"]
    assert (told["state"]["name"], told["nodes"][0]["seen_by"]) == ("hung", "watchdog")
    assert notes[0].startswith("spark-1 reports 1 rank")


def test_a_head_that_does_not_answer_a_further_node() -> None:
    def nobody(_cluster: Cluster) -> dict[str, Any]:
        raise ValueError("connection refused")

    told, _notes = status.gather(dataclasses.replace(PAIR, node="spark-2"), lambda _asked: {"memory": MEMORY}, nobody)
    jsonschema.validate(json.loads(json.dumps(told)), SHAPE)
    assert told["state"]["name"] == "unknown"
    assert "connection refused" in told["nodes"][0]["reason"]


def test_the_head_is_asked_with_the_cluster_s_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text("t0k3n")
    monkeypatch.setattr(status, "TOKEN_FILE", str(token))
    config = tmp_path / "watchdog.json"
    replies = iter(({"state": "serving"}, ["no"]))
    with fake_server({"GET /state": lambda _asked: Reply(next(replies))}) as fake:
        config.write_text(json.dumps({"port": int(fake.url.rpartition(":")[2])}))
        here = dataclasses.replace(PAIR, addresses={"spark-1": "127.0.0.1"})
        assert status.ask_head(here, config) == {"state": "serving"}
        with pytest.raises(ValueError, match="something else"):
            status.ask_head(here, config)
    with pytest.raises(ValueError, match=r"127\.0\.0\.1"):
        status.ask_head(here, config)


def test_the_looks_and_the_head_s_answer_together_take_less_than_five_seconds() -> None:
    assert status.SECONDS + status.ASK_S < 5


def shown(**how: Any) -> str:
    terminal, out = paper()
    assert status.run(PAIR, terminal, look=lambda _cluster: gathered(looks({WORKER: report(WORKER)})), **how) == 0
    return out.getvalue()


def test_as_json_for_programs() -> None:
    jsonschema.validate(json.loads(shown(watch=None, as_json=True)), SHAPE)


def test_a_watch_goes_on_until_ctrl_c() -> None:
    seconds: list[float] = []

    def sleep(for_s: float) -> None:
        seconds.append(for_s)
        if len(seconds) == 3:
            raise KeyboardInterrupt

    rows = shown(watch=2.0, as_json=True, sleep=sleep).splitlines()
    assert seconds == [2.0] * 3
    assert [json.loads(row)["state"]["name"] for row in rows] == ["serving"] * 3
    seconds.clear()
    text = shown(watch=2.0, as_json=False, sleep=sleep)
    assert text.count("every 2 s, Ctrl-C ends it") == 3
    assert "\x1b" not in text


def test_the_whole_look_at_this_machine_ends_in_time() -> None:
    begun = time.monotonic()
    told, _notes = status.gather(dataclasses.replace(PAIR, watchdog=False))
    assert time.monotonic() - begun < 8
    jsonschema.validate(json.loads(json.dumps(told)), SHAPE)
