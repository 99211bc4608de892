# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Tokens a second over the last hour, of a counter that starts anew with each server: one figure a minute is kept."""

from __future__ import annotations

from collections import deque

SPAN_S = 3600.0
_STEP_S = 60.0


class TokenRate:
    """Counts what is generated; times are seconds of a clock that does not jump."""

    def __init__(self) -> None:
        self._total = 0.0
        self._last: float | None = None
        #: (time, tokens since the first look), about one a minute, the oldest at most SPAN_S and a step ago.
        self._kept: deque[tuple[float, float]] = deque()

    def take(self, at: float, counter: float | None) -> None:
        """Take a reading of the counter; None where the server does not answer."""
        if counter is not None:
            # A counter that fell is of a new server, and counts from 0; before the first look nothing is known.
            before = counter if self._last is None else self._last if counter >= self._last else 0.0
            self._total += counter - before
            self._last = counter
        if not self._kept or at - self._kept[-1][0] >= _STEP_S:
            self._kept.append((at, self._total))
        while len(self._kept) > 1 and at - self._kept[1][0] >= SPAN_S:
            self._kept.popleft()

    def facts(self, at: float) -> dict[str, float | None]:
        """Return the rate and the seconds that it is taken over; None in the first minute."""
        begun, before = self._kept[0] if self._kept else (at, self._total)
        span = at - begun
        return {"hour": round((self._total - before) / span, 2) if span >= _STEP_S else None, "span_s": round(span, 1)}
