# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the watchdog knows, as findings: the state with its reason, the nodes that it hears of, and the last recovery."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..report.finding import RED, YELLOW, Finding, fine
from ..system.files import read_json
from ..vllm.health import CHECK as SERVER
from .verdict import BUSY, DEAD, DRAINING, HELD, HUNG, LOADING, MUTE, SATURATED, SERVING, STOPPED, WAITING

#: What was checked.
CHECK = "watchdog"
#: The state is written every other second: one that is older was left by a program that is gone.
STALE_S = 30.0
#: Seconds for which a recovery is told.
TOLD_S = 86_400.0
_ABSENT_S = 10.0
_JOURNAL = ("journalctl --unit spark-watchdog --lines 50 --no-pager",)


def look(path: Path) -> tuple[dict[str, Any], list[Finding]]:
    """Return the state that the watchdog wrote, empty where there is none, and what there is to say of it."""
    state = read_json(path)
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        state, age = None, 0.0
    return state or {}, findings(state, age, datetime.now(UTC))


def findings(state: Mapping[str, Any] | None, age_s: float, now: datetime) -> list[Finding]:
    """Return what there is to say.

    Args:
        state: what the watchdog wrote (service/watchdog.py); None where there is nothing to read.
        age_s: seconds since it wrote that.
        now: the time, with its zone; the last recovery is told for a day.
    """
    if state is None or age_s > STALE_S:
        said = "there is no state of it" if state is None else f"its state is {age_s:.0f} s old"
        return [
            Finding(
                "watchdog.silent",
                RED,
                CHECK,
                f"spark-watchdog does not run ({said}): a server that hangs is found by nobody",
                "read why it ended, and run playbooks/site.yml",
                ("systemctl status spark-watchdog --no-pager", *_JOURNAL),
            )
        ]
    return [_state(state), *_nodes(state), *_recovery(state, now)]


def _state(state: Mapping[str, Any]) -> Finding:
    name, reason = str(state.get("state", "")), str(state.get("reason", ""))
    since = f"since {float(state.get('for_s', 0.0)):.0f} s"
    if name in (SERVING, BUSY):
        return fine("watchdog", CHECK, f"{name}: {reason}")
    if name == SATURATED:
        return Finding(
            "watchdog.saturated",
            YELLOW,
            CHECK,
            f"saturated: {reason}",
            "wait, or send fewer requests at once; vllm_serve_max_num_seqs and the KV cache say how many run together",
        )
    if name in (HUNG, MUTE):
        return Finding(
            "watchdog.hung",
            RED,
            # In the place of the row that the server would have by its /health.
            SERVER,
            f"{name} {since}: {reason}",
            "the watchdog ends and starts it by itself unless vllm_watchdog_act is false; playbooks/restart.yml does it by hand",
            _JOURNAL,
        )
    if name == HELD:
        return Finding(
            "watchdog.held",
            RED,
            CHECK,
            reason,
            "read the evidence, remove the cause, then run playbooks/start.yml",
            _JOURNAL,
        )
    if name == STOPPED:
        return Finding("watchdog.stopped", YELLOW, CHECK, reason, "run playbooks/start.yml to serve")
    if name in (WAITING, LOADING, DRAINING):
        return Finding(
            "watchdog.starting", YELLOW, CHECK, f"{name} {since}: {reason}", "wait; what it waits for is said"
        )
    return Finding(
        "watchdog.dead",
        YELLOW if name == DEAD else RED,
        CHECK,
        f"{name or 'no state'} {since}: {reason}",
        "its unit starts it again by itself where it ended; else run playbooks/start.yml",
        ("journalctl --unit spark-vllm --lines 50 --no-pager",),
    )


def _nodes(state: Mapping[str, Any]) -> Iterator[Finding]:
    nodes = state.get("nodes") or {}
    for address in state.get("expected") or []:
        report = nodes.get(address)
        age = float(report.get("age_s", 0.0)) if report else None
        if age is None or age > _ABSENT_S:
            said = "never reported" if age is None else f"has not reported for {age:.0f} s"
            yield Finding(
                "watchdog.node_silent",
                YELLOW,
                CHECK,
                f"{address} {said}: no start goes on without it",
                "see that the node runs, that its cable is in, and that spark-follower is active there",
                ("systemctl status spark-follower --no-pager",),
                address,
            )


def _recovery(state: Mapping[str, Any], now: datetime) -> Iterator[Finding]:
    last = state.get("recovery") or {}
    try:
        at = datetime.strptime(str(last["at"]), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except (KeyError, ValueError):
        return
    if (now - at).total_seconds() > TOLD_S:
        return
    took = f", served again after {float(last['seconds']):.0f} s" if last.get("seconds") else ", not served again yet"
    ray = "; Ray was started anew" if last.get("ray") else ""
    yield Finding(
        "watchdog.recovered",
        YELLOW,
        CHECK,
        f"last failure at {last['at']}: {last.get('cause', 'unknown')}{took}{ray}; {len(state.get('failures') or [])} count now",
        f"read {last['evidence']}" if last.get("evidence") else "read the journal of spark-watchdog",
        _JOURNAL,
    )
