# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The command `spark` on the nodes themselves, as somebody types it who is logged in there."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import jsonschema
from testinfra.host import Host

ROOT = Path(__file__).parents[2]
SHAPE = json.loads((ROOT / "docs/status.schema.json").read_text(encoding="utf-8"))


def spark(host: Host, words: str) -> str:
    """Return what it prints; it has to succeed."""
    with host.sudo():
        return str(host.check_output(f"spark {words}"))


def test_status_on_the_head_shows_both_nodes_within_seconds(head: Host) -> None:
    begun = time.monotonic()
    shown = spark(head, "status")
    # The looks take 3 s; the rest is SSH and Python on a busy machine.
    assert time.monotonic() - begun < 30
    assert shown.startswith(("SERVING", "BUSY"))
    assert "\x1b" not in shown
    assert re.search(r"^  spark-2 .*not seen", shown, re.MULTILINE)
    assert re.search(r"^  spark-2 reports 1 rank of the model, Ray for ", shown, re.MULTILINE)
    document = json.loads(spark(head, "status --json"))
    jsonschema.validate(document, SHAPE)
    assert [(node["name"], node["answers"], node["seen_by"]) for node in document["nodes"]] == [
        ("spark-1", True, "itself"),
        ("spark-2", True, "watchdog"),
    ]


def test_status_on_a_further_node_says_what_the_head_says(worker: Host) -> None:
    document = json.loads(spark(worker, "status --json"))
    jsonschema.validate(document, SHAPE)
    assert document["state"]["name"] in ("serving", "busy")
    assert [node["seen_by"] for node in document["nodes"]] == ["watchdog", "itself"]
    assert document["nodes"][1]["units"]["spark-ray-worker"] == "active"


def test_logs_have_one_order_of_time_and_no_key(head: Host) -> None:
    with head.sudo():
        key = head.file("/etc/dgx-spark/secrets/api_key").content_string.strip()
    lines = spark(head, "logs -n 30").splitlines()
    times = [line[:24] for line in lines]
    assert times == sorted(times) and len(lines) > 30
    assert {"vllm", "ray-head", "watchdog"} <= {line.split()[3] for line in lines}
    assert key not in "\n".join(lines)


def test_keys_belong_to_the_gateway(head: Host) -> None:
    with head.sudo():
        told = head.run("spark keys list")
        there = head.file("/etc/systemd/system/spark-gateway.service").exists
    assert told.rc == (0 if there else 1)
    assert ("name" in told.stdout) if there else ("gateway_enabled: true" in told.stderr)


def test_who_asks_wrongly_is_told_in_a_sentence(head: Host) -> None:
    plain = head.run("spark status")
    assert (plain.rc, plain.stderr.strip()) == (
        1,
        "spark status: only root may see and do this: run `sudo spark status`",
    )
    assert head.run("spark statsu").rc == 2
    assert head.run("spark --help").rc == 0
