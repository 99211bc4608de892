# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The status: its document against the schema, and one screen, for a pair that serves, hangs, or is half gone."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report import status as page_of
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.finding import RED, YELLOW, Finding, as_dicts, fine
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.status import (
    NOTHING,
    SCHEMA,
    document,
    duration,
    figure,
    screen,
)

ROOT = Path(__file__).parents[5]
SHAPE = json.loads((ROOT / "docs/status.schema.json").read_text(encoding="utf-8"))
ABOUT = {
    "model": "qwen3-235b",
    "image": "dgx-spark/serving:1",
    "endpoint": "http://192.168.100.10:8235/v1",
    "expected_nodes": 2,
    "expected_gpus": 2,
    "addresses": {"spark-1": "192.168.100.10", "spark-2": "192.168.100.11"},
}
GPU = {
    "name": "NVIDIA GB10",
    "temperature_c": 61.0,
    "clock_sm_mhz": 2405,
    "clock_sm_max_mhz": 3003,
    "utilization_percent": 92.0,
    "power_w": 47.5,
}
WORKER: dict[str, Any] = {
    "gpu": {"gpus": [GPU], "findings": as_dicts([fine("gpu", "clocks", "GPU 0 runs at 2405 MHz")])},
    "memory": {"total_gib": 121.7, "available_gib": 13.2, "headroom_gib": 9.2, "findings": []},
    "disk": {"path": "/", "total_gib": 3700.0, "free_gib": 2900.0, "findings": []},
    "link": {"state": "up", "gbits": 200.0, "findings": []},
    "services": {"units": [{"name": "spark-ray-worker", "active": "active"}], "findings": []},
}
HEAD: dict[str, Any] = {
    **WORKER,
    "watchdog": {
        "state": {
            "state": "busy",
            "reason": "3 requests run, tokens come",
            "for_s": 7980.0,
            "tokens_per_s": {"hour": 38.04, "span_s": 3600.0},
            "recovery": {},
        },
        "findings": as_dicts([fine("watchdog", "watchdog", "busy: 3 requests run, tokens come")]),
    },
    "server": {
        "serving": True,
        "version": "0.32.0",
        "models": [{"id": "qwen3-235b", "root": None, "max_model_len": 32768}],
        "metrics": {"num_requests_running": 3, "num_requests_waiting": 0, "kv_cache_usage_perc": 0.123},
        "findings": as_dicts([fine("vllm", "server", "vLLM 0.32.0 serves qwen3-235b")]),
    },
    "rate": {"tokens_per_s": 41.23, "findings": []},
    "ray": {
        "reachable": True,
        "ready": True,
        "reason": "",
        "ray_version": "2.60.0",
        "alive": ["192.168.100.10", "192.168.100.11"],
        "gpus_alive": 2,
        "findings": as_dicts([fine("ray", "Ray", "2 nodes")]),
    },
    "weights": {"findings": as_dicts([fine("hub", "weights", "complete")])},
}
OFF = {"unreachable": True, "msg": "Failed to connect to the host via ssh: connect to host 10.0.0.2 port 22: timed out"}
HANGS = {"failed": True, "msg": "Timed out after 5 second(s)."}


CHAT = {"name": "spark-chat", "active": "active", "differs": [], "port": 8242}


def pair(head: Any = None, worker: Any = None) -> dict[str, Any]:
    """Return the status of a pair that serves, except for what is given."""
    nodes = {"spark-1": head or {"looks": HEAD}, "spark-2": worker or {"looks": WORKER}}
    return document(nodes, "spark-1", ABOUT, "2026-11-27T17:42:00Z")


def changed(**looks: Any) -> dict[str, Any]:
    return {"looks": {**copy.deepcopy(HEAD), **looks}}


def text(status: dict[str, Any], width: int = 100) -> str:
    return "\n".join(line for _level, line in screen(status, width))


HUNG = Finding("watchdog.hung", RED, "server", "hung since 40 s: no token", "the watchdog ends it", ("journalctl",))
CASES = {
    "serves": pair(),
    "worker off": pair(worker=OFF),
    "worker hangs": pair(worker=HANGS),
    "head off": pair(head=OFF),
    "both off": pair(head=OFF, worker=OFF),
    "one off, one hangs": pair(head=HANGS, worker=OFF),
    "nothing installed": pair(head={"looks": {"services": {"units": [], "findings": []}}}),
    "a look hangs": pair(head=changed(gpu={"failed": True, "msg": "gpu: no answer within 3 s"})),
    "no Ray": pair(head={"looks": {name: said for name, said in HEAD.items() if name != "ray"}}),
    "hung": pair(
        head=changed(
            watchdog={
                "state": {
                    "state": "hung",
                    "reason": "no token for 40 s",
                    "for_s": 40.0,
                    "recovery": {"at": "2026-11-27T03:00:00Z", "cause": "mute", "seconds": 312.0},
                },
                "findings": as_dicts([HUNG]),
            }
        )
    ),
}


@pytest.mark.parametrize("status", CASES.values(), ids=CASES)
def test_the_document_has_its_schema(status: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(SHAPE)
    # As a file has it.
    jsonschema.validate(json.loads(json.dumps(status)), SHAPE)


def test_the_schema_is_that_of_this_version_and_refuses_what_is_none() -> None:
    assert SHAPE["properties"]["schema"]["const"] == SCHEMA
    for spoiled in ({**pair(), "more": 1}, {**pair(), "level": "blue"}, {"schema": SCHEMA}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spoiled, SHAPE)


@pytest.mark.parametrize("width", [40, 60, 100, 120, 400])
@pytest.mark.parametrize("status", CASES.values(), ids=CASES)
def test_the_screen_fits(status: dict[str, Any], width: int) -> None:
    lines = screen(status, width)
    assert len(lines) < 42
    assert max(len(line) for _level, line in lines) <= max(60, min(width, 140))
    assert all(line == line.rstrip() and "\n" not in line for _level, line in lines)


def test_a_pair_that_serves() -> None:
    status = pair()
    assert (status["level"], status["state"]["name"], status["next"]) == ("green", "busy", [NOTHING])
    said = text(status)
    assert screen(status)[0] == ("green", "BUSY (2 h 13 min): 3 requests run, tokens come")
    for words in (
        "qwen3-235b, up to 32768 tokens",
        "vLLM 0.32.0, dgx-spark/serving:1",
        "41.2 now, 38.0 in the last hour",
        "3 running, 0 waiting",
        "12 % in use",
        "2 of 2 nodes, 2 of 2 GPUs",
        "none recorded",
        "spark-2  GB10  92 %     61 C   2405 MHz  13 of 122 GiB  9 GiB     up 200 Gb/s  2900 GiB",
        "no errors; green: 6",
        f"next    {NOTHING}",
    ):
        assert words in said


def test_a_node_that_is_off_is_said_first_and_keeps_no_figure_of_the_others() -> None:
    status = CASES["worker off"]
    assert status["state"]["name"] == "busy"
    assert status["findings"][0]["code"] == "node.unreachable"
    head, worker = status["nodes"]
    assert (head["answers"], worker["answers"], worker["gpus"]) == (True, False, [])
    assert "spark-2  Failed to connect" in text(status)
    assert status["next"][0].startswith("spark-2: see that the node runs")


def test_a_node_that_hangs() -> None:
    status = CASES["worker hangs"]
    assert status["level"] == RED
    assert "spark-2  Timed out after 5 second(s)." in text(status)


def test_without_the_head_nothing_is_known_of_the_cluster() -> None:
    status = CASES["both off"]
    assert (status["state"]["name"], status["state"]["said_by"], status["ray"]) == ("unknown", "nobody", None)
    assert "tokens/s  - now, no record of the last hour" in text(status)
    assert "at work" not in text(status)


def test_a_look_that_hangs_costs_its_own_figures_alone() -> None:
    status = CASES["a look hangs"]
    assert status["state"]["name"] == "busy"
    assert "gpu: no answer within 3 s [node.look_failed]" in text(status)
    assert "spark-1  none" in text(status)


def test_a_server_that_hangs() -> None:
    status = CASES["hung"]
    assert status["state"]["level"] == RED
    said = text(status)
    assert said.startswith("HUNG (40 s): no token for 40 s")
    assert "2026-11-27T03:00:00Z: mute, served again after 5 min" in said
    assert "[watchdog.hung]" in said


def test_an_old_state_of_the_watchdog_is_not_believed() -> None:
    silent = Finding("watchdog.silent", RED, "watchdog", "spark-watchdog does not run", "read why it ended")
    stale = {**HEAD["watchdog"], "findings": as_dicts([silent])}
    state = pair(head=changed(watchdog=stale))["state"]
    assert (state["name"], state["level"], state["said_by"]) == ("serving", YELLOW, "server")
    assert state["reason"] == "spark-watchdog does not run"


def test_a_server_without_a_watchdog() -> None:
    looks = {name: said for name, said in HEAD.items() if name != "watchdog"}
    assert pair(head={"looks": looks})["state"]["level"] == "green"
    looks["server"] = {"serving": False, "reason": "no server answers", "findings": []}
    assert pair(head={"looks": looks})["state"] == {
        "name": "not serving",
        "level": RED,
        "said_by": "server",
        "reason": "no server answers",
        "for_s": None,
    }


def test_of_one_level_what_clients_notice_comes_first() -> None:
    guard = [Finding("node.guard_off", YELLOW, "guard", "earlyoom does not run", "run site.yml")]
    saturated = [Finding("watchdog.saturated", YELLOW, "watchdog", "saturated", "wait")]
    looks = changed(guard={"findings": as_dicts(guard)}, watchdog={**HEAD["watchdog"], "findings": as_dicts(saturated)})
    looks["looks"] = {"guard": looks["looks"]["guard"], **looks["looks"]}
    assert [row["code"] for row in pair(head=looks)["findings"]][:2] == ["watchdog.saturated", "node.guard_off"]


def test_what_does_not_serve_is_never_left_without_a_next_step() -> None:
    assert "nothing to do" not in text(CASES["nothing installed"])
    assert CASES["nothing installed"]["next"] == ["run playbooks/report.yml, which looks at everything"]


def test_more_than_fits_is_counted() -> None:
    many = [
        Finding("gpu.clock_low", YELLOW, "clocks", f"GPU {number}", "x", subject=str(number)) for number in range(9)
    ]
    said = text(pair(head=changed(gpu={"gpus": [], "findings": as_dicts(many)})))
    assert f"and {9 - page_of.MOST} more" in said


@pytest.mark.parametrize(
    ("seconds", "said"), [(None, ""), (0, "0 s"), (61, "1 min"), (3700, "1 h 1 min"), (190_000, "2 d 4 h")]
)
def test_spans(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_what_is_not_known_is_no_zero() -> None:
    assert (figure(None, " C"), figure(0, " C")) == ("-", "0 C")


def test_the_image_is_shown_with_where_it_came_from() -> None:
    said = "dgx-spark/serving:1, from nvcr.io/nvidia/vllm@sha256:abc"
    told = as_dicts(
        [
            fine("image", "image", "another, from elsewhere", "another"),
            fine("image", "image", said, str(ABOUT["image"])),
        ]
    )
    nodes = {"spark-1": {"looks": {**HEAD, "services": {"units": [], "findings": told}}}}
    assert document(nodes, "spark-1", ABOUT, "now")["endpoint"]["image"] == said


@pytest.mark.parametrize(
    ("active", "said"),
    [
        ("active", "chat page port 8242 of the head: active"),
        ("failed", "chat page port 8242 of the head: failed, see `journalctl -u spark-chat`"),
    ],
)
def test_the_chat_page_is_one_line_where_it_is_on(active: str, said: str) -> None:
    services = {**HEAD["services"], "aside": [{**CHAT, "active": active}]}
    status = pair(head={"looks": {**HEAD, "services": services}})
    jsonschema.validate(status, SHAPE)
    assert status["chat"] == {"port": 8242, "active": active}
    assert said in [" ".join(line.split()) for _level, line in screen(status)]
    assert pair()["chat"] is None and "chat" not in str(screen(pair()))
