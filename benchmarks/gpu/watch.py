# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the product's watchdog says, read off its state file: each change of its verdict with the moment, and false alarms."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.verdict import ALIVE, SICK

#: Seconds between two looks at the state file, which the watchdog writes every other second.
LOOK_S = 0.2


class Watch(threading.Thread):
    """Reads the state of a watchdog.

    Args:
        state_file: that it writes.
        folder: where its log and the follower's are.
    """

    def __init__(self, state_file: Path, folder: Path) -> None:
        super().__init__(daemon=True)
        self.state_file, self.folder = state_file, folder
        self.state = ""
        self.events: list[dict[str, Any]] = []
        self.false_alarms = 0
        self.longest_frozen = {"frozen_s": 0.0, "allowed_s": 0.0}
        self.prefill: float | None = None
        self._fault = ""
        self._over = threading.Event()
        # One of an earlier watchdog is not its word.
        self._seen = self._stamp()
        self.start()

    def run(self) -> None:
        while not self._over.wait(LOOK_S):
            stamp = self._stamp()
            if stamp == self._seen:
                continue
            self._seen = stamp
            with contextlib.suppress(OSError, ValueError):
                self.take(json.loads(self.state_file.read_text(encoding="utf-8")), time.monotonic())

    def _stamp(self) -> int:
        try:
            return self.state_file.stat().st_mtime_ns
        except OSError:
            return 0

    def take(self, document: dict[str, Any], at: float) -> None:
        """Keep a state."""
        state = str(document.get("state", ""))
        figures = document.get("figures") or {}
        self.prefill = document.get("prefill_tok_s") or self.prefill
        if not self._fault:
            if state in SICK and self.state not in SICK:
                self.false_alarms += 1
            if figures.get("frozen_s", 0.0) > self.longest_frozen["frozen_s"]:
                self.longest_frozen = {"frozen_s": figures["frozen_s"], "allowed_s": figures.get("allowed_s", 0.0)}
        if state != self.state:
            reason = str(document.get("reason", ""))
            self.events.append({"at": at, "state": state, "reason": reason, "figures": figures, "fault": self._fault})
        self.state = state

    @property
    def alive(self) -> bool:
        """Whether clients are said to get tokens."""
        return self.state in ALIVE

    def since(self, moment: float) -> list[dict[str, Any]]:
        """Return the changes since a moment of the monotonic clock, ``after_s`` counted from it."""
        return [
            {
                "after_s": round(event["at"] - moment, 1),
                **{key: event[key] for key in ("state", "reason", "figures") if event[key]},
            }
            for event in list(self.events)
            if event["at"] >= moment
        ]

    @contextlib.contextmanager
    def fault(self, name: str) -> Iterator[None]:
        """Say that what is seen now is meant to be."""
        self._fault = name
        try:
            yield
        finally:
            self._fault = ""

    def wait_for(self, wanted: Callable[[], bool], seconds: float) -> float | None:
        """Return the seconds until something is so; None when it never is."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            if wanted():
                return round(time.monotonic() - begun, 1)
            time.sleep(0.1)
        return None

    def said(self, kind: str) -> list[str]:
        """Return what the watchdog or the follower wrote."""
        try:
            lines = (self.folder / f"{kind}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        return [line[:400] for line in lines if line.strip()][-25:]

    def stop(self) -> None:
        """End reading."""
        self._over.set()
        self.join(5)

    def summary(self) -> dict[str, Any]:
        """Return what it saw beside faults."""
        begun = self.events[0]["at"] if self.events else 0.0
        return {
            "false_alarms": self.false_alarms,
            "longest_frozen": self.longest_frozen,
            "prefill_tok_s": self.prefill,
            "events": [
                {"after_s": round(event["at"] - begun, 1), "state": event["state"], "reason": event["reason"]}
                for event in self.events
            ],
        }
