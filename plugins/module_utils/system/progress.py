# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""How far a long work is: sizes, times and rates for a sentence, and a note for whoever waits for it."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable
from pathlib import Path

#: Seconds between two notes, and over which a rate is taken: short enough to show a stall, long enough not to jump.
EVERY = 2.0
WINDOW = 30.0
#: Seconds before a first rate is told: connections start slowly, and an hour must not read as days.
SETTLED = 5.0


def gib(size: int) -> str:
    """Return bytes as GiB for a sentence (MiB or bytes where that would read '0.0')."""
    if size >= 1024**3 // 10:
        return f"{size / 1024**3:.1f} GiB"
    return f"{size / 1024**2:.1f} MiB" if size >= 1024**2 // 10 else f"{size} bytes"


def duration(seconds: float) -> str:
    """Return a time for a sentence."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def pace(rate: int, left: int) -> str:
    """Return bytes per second, and how long so many bytes more take at that; ``rate`` is more than 0."""
    return f"{gib(rate)}/s" + (f", about {duration(left / rate)} left" if left > 0 else "")


class Rate:
    """Bytes per second over the last half minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.seen: collections.deque[tuple[float, int]] = collections.deque()

    def at(self, held: int) -> int:
        """Return the rate now that ``held`` bytes are here; 0 where nothing came, or before a rate can be told."""
        now = self.clock()
        self.seen.append((now, held))
        while now - self.seen[0][0] > WINDOW:
            self.seen.popleft()
        began, first = self.seen[0]
        return max(0, round((held - first) / (now - began))) if now - began >= SETTLED else 0


class Progress:
    """Notes how far one long work is in a file, as a sentence; without a file it does nothing.

    Args:
        file: where the note goes, a new file in a folder that only root writes to.
        clock: seconds, of any origin.
    """

    def __init__(self, file: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.file = Path(file) if file else None
        self.clock = clock
        self.what = ""
        self.rate = Rate(clock)
        self.noted = 0.0

    def note(self, what: str, held: int = 0, total: int = 0, more: str = "") -> None:
        """Note what is being done, and of how many bytes how many are done; at most every two seconds while ``what`` stays.

        Args:
            what: the step in words.
            held: bytes that are done; 0 where the step has none.
            total: bytes that there are; 0 where nobody knows.
            more: what else is to be told of it.
        """
        if self.file is None:
            return
        now = self.clock()
        if what != self.what:
            self.what, self.rate = what, Rate(self.clock)
        elif now - self.noted < EVERY:
            return
        self.noted = now
        # A disk that is full costs the note, not the work.
        try:
            self.file.write_text(", ".join(filter(None, [self.told(held, total), more])), encoding="utf-8")
        except OSError:
            self.file = None

    def told(self, held: int, total: int) -> str:
        """Return the sentence, but for what else is to be told."""
        if not held:
            return self.what
        rate = self.rate.at(held)
        told = f"{self.what}: {gib(held)}" + (f" of {gib(total)}" if total >= held else "")
        return f"{told}, {pace(rate, total - held)}" if rate else told
