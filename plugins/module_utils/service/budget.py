# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""How often the cluster may be healed: failures are counted by cause, not starts, and time spent serving wears them off.

A count of starts in a window is wrong both ways: it never acts on starts that take a quarter of an hour, and it ends a service that came
back five times in a minute each. So a failure is counted when it happens; the third of one cause in the window holds the service.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..system.files import read_json, write_atomic

#: Seconds that a failure counts: three loads of 40 minutes, the longest that owners report, fit into it twice.
WINDOW_S = 4 * 3600.0
#: Failures of one cause in the window that hold the service, and failures of any cause. A start that fails twice by the same error will not do better
#: the third time; each takes as long as a load.
SAME_CAUSE, SAME_START, ANY_CAUSE = 3, 2, 6
#: Seconds of serving after which the oldest failure is forgiven.
FORGIVEN_S = 3600.0
#: Seconds of pause before the start that follows the first, second, third ... failure in the window.
PAUSES_S = (0.0, 30.0, 120.0, 300.0, 600.0)


@dataclass(frozen=True)
class Failure:
    """One failure: seconds on the budget's own clock, and a word for its cause."""

    at: float
    cause: str


@dataclass
class Budget:
    """Failures that still count. Its clock runs only while the watchdog does, so that a jump of the system's clock changes nothing.

    ``clock`` is the budget's time in seconds; ``served`` the seconds of serving since a failure was last forgiven.
    """

    path: Path | None = None
    failures: list[Failure] = field(default_factory=list)
    clock: float = 0.0
    served: float = 0.0

    @classmethod
    def load(cls, path: Path) -> Budget:
        """Return the budget of a file; a new one where there is none or it cannot be read."""
        document = read_json(path) or {}
        try:
            return cls(
                path,
                [Failure(float(row["at"]), str(row["cause"])) for row in document.get("failures", [])],
                float(document.get("clock", 0.0)),
                float(document.get("served", 0.0)),
            )
        except (TypeError, ValueError, KeyError, AttributeError):
            return cls(path)

    def save(self) -> None:
        """Write it down, whole or not at all; on a disk without room it counts on in memory."""
        if self.path is not None:
            rows = [{"at": failure.at, "cause": failure.cause} for failure in self.failures]
            document = {"failures": rows, "clock": self.clock, "served": self.served}
            with contextlib.suppress(OSError):
                write_atomic(self.path, json.dumps(document) + "\n")

    def tick(self, seconds: float, serving: bool) -> bool:
        """Let time pass; return whether a failure stopped to count."""
        self.clock += seconds
        kept = [failure for failure in self.failures if self.clock - failure.at < WINDOW_S]
        self.served = self.served + seconds if serving and kept else 0.0
        if self.served >= FORGIVEN_S and kept:
            kept, self.served = kept[1:], 0.0
        changed = len(kept) != len(self.failures)
        self.failures = kept
        if changed:
            self.save()
        return changed

    def fail(self, cause: str, start: bool = False) -> str:
        """Count a failure, ``start`` for one of a start by an error in its log; return why the service is held now, or an empty text."""
        self.failures.append(Failure(self.clock, cause))
        self.served = 0.0
        self.save()
        same = Counter(failure.cause for failure in self.failures)[cause]
        if same >= (SAME_START if start else SAME_CAUSE):
            return f"held after {same} failures of the same cause within {WINDOW_S / 3600:g} hours ({cause})"
        if len(self.failures) >= ANY_CAUSE:
            causes = ", ".join(sorted({failure.cause for failure in self.failures}))
            return f"held after {len(self.failures)} failures within {WINDOW_S / 3600:g} hours ({causes})"
        return ""

    def pause(self) -> float:
        """Return the seconds that the next start still has to wait."""
        if not self.failures:
            return 0.0
        pause = PAUSES_S[min(len(self.failures), len(PAUSES_S)) - 1]
        return max(0.0, self.failures[-1].at + pause - self.clock)

    def forget(self) -> None:
        """Start again: the operator asked for a start."""
        self.failures, self.served = [], 0.0
        self.save()
