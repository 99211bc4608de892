# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What `status` says of the watchdog's state."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.codes import CODES
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.finding import GREEN, RED, YELLOW, fine
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.report import once
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.watchdog_report import findings
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.health import CHECK

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
NODES = {"192.168.100.10": {"age_s": 1.0}, "192.168.100.11": {"age_s": 2.0}}


def state(name: str, **more: Any) -> dict[str, Any]:
    return {"state": name, "reason": "because", "for_s": 12.0, "nodes": NODES, "expected": list(NODES), **more}


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("serving", GREEN),
        ("busy", GREEN),
        ("saturated", YELLOW),
        ("waiting", YELLOW),
        ("loading", YELLOW),
        ("draining", YELLOW),
        ("stopped", YELLOW),
        ("dead", YELLOW),
        ("hung", RED),
        ("mute", RED),
        ("held", RED),
        ("nonsense", RED),
    ],
)
def test_each_state_has_its_colour_and_reason(name: str, level: str) -> None:
    (found,) = findings(state(name), 1.0, NOW)
    assert found.level == level
    assert "because" in found.found
    assert found.level == GREEN or found.code in CODES


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("hung", ["watchdog.hung"]),
        ("mute", ["watchdog.hung"]),
        ("serving", ["watchdog.ok", "vllm.ok"]),
        ("saturated", ["watchdog.saturated", "vllm.ok"]),
    ],
)
def test_what_the_server_says_of_itself_is_told_only_where_the_watchdog_agrees(name: str, codes: list[str]) -> None:
    looks = {"watchdog": findings(state(name), 1.0, NOW), "server": [fine("vllm", CHECK, "vLLM serves m")]}
    assert [one.code for one in once(looks)] == codes


@pytest.mark.parametrize(("known", "age"), [(None, 0.0), (state("serving"), 31.0)])
def test_a_watchdog_that_is_gone_is_red_whatever_it_said_last(known: dict[str, Any] | None, age: float) -> None:
    (found,) = findings(known, age, NOW)
    assert found.code == "watchdog.silent" and found.level == RED


@pytest.mark.parametrize("nodes", [{}, {"192.168.100.10": {"age_s": 1.0}, "192.168.100.11": {"age_s": 40.0}}])
def test_a_node_that_does_not_report_is_named(nodes: dict[str, Any]) -> None:
    found = [one for one in findings(state("waiting", nodes=nodes), 1.0, NOW) if one.code == "watchdog.node_silent"]
    assert "192.168.100.11" in {one.subject for one in found}


def test_the_last_recovery_is_told_for_a_day() -> None:
    last = {
        "at": "2026-11-26T03:00:00Z",
        "cause": "hung",
        "seconds": 54.2,
        "evidence": "/var/lib/x",
        "ray": "a rank is left",
    }
    *_, found = findings(state("serving", recovery=last, failures=[{}]), 1.0, NOW)
    assert found.code == "watchdog.recovered"
    assert "hung, served again after 54 s; Ray was started anew; 1 count now" in found.found
    assert "/var/lib/x" in found.remedy
    old = {**last, "at": "2026-11-25T03:00:00Z"}
    assert [one.code for one in findings(state("serving", recovery=old), 1.0, NOW)] == ["watchdog.ok"]


def test_a_recovery_without_a_date_is_passed_over() -> None:
    assert len(findings(state("serving", recovery={"cause": "hung"}), 1.0, NOW)) == 1
