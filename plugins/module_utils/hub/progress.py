# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""How far a run is: what it notes beside its half-fetched files, and what is told of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from ..system.progress import EVERY, WINDOW, Rate, gib, pace


@dataclass(frozen=True)
class Watch:
    """What a run notes for those who watch it: bytes that are here and shall be, and the rate in bytes per second."""

    revision: str
    bytes_total: int
    bytes: int = 0
    rate: int = 0

    @property
    def seconds_left(self) -> int | None:
        """Seconds that the rest takes at this rate; None where nothing comes."""
        return round((self.bytes_total - self.bytes) / self.rate) if self.rate else None

    def describe(self) -> str:
        """Return how far it is, in a few words."""
        told = f"{gib(self.bytes)} of {gib(self.bytes_total)} here"
        if self.bytes >= self.bytes_total:
            return f"{told}, the last files are being verified"
        if self.seconds_left is None:
            return f"{told}, the run has just begun, or nothing came for {WINDOW:.0f} s"
        return f"{told}, {pace(self.rate, self.bytes_total - self.bytes)}"


def read_watch(path: Path) -> Watch | None:
    """Return what a run noted, or None where there is no such note."""
    try:
        noted = json.loads(path.read_bytes())
        return Watch(str(noted["revision"]), int(noted["bytes_total"]), int(noted["bytes"]), int(noted["rate"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Meter:
    """Notes every two seconds how far a run is, as long as the ``with`` block lasts.

    The note is not brought to the disk with fsync, which would wait for gigabytes of weights: after a power cut there is no
    run to watch.
    """

    def __init__(self, path: Path, revision: str, total: int, measure: Callable[[], int]) -> None:
        self.path = path
        self.revision = revision
        self.total = total
        self.measure = measure
        self.rate = Rate()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def __enter__(self) -> Meter:
        self.note()
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self.thread.join()

    def work(self) -> None:
        """Note until the end."""
        while not self.ended.wait(EVERY):
            self.note()

    def note(self) -> None:
        """Measure and write; a disk that is full or a file that moves meanwhile costs one note, not the run."""
        try:
            held = self.measure()
            note = Watch(self.revision, self.total, held, self.rate.at(held))
            # Without write_atomic: its sync would wait for the data of the download, and a note that is lost costs nothing.
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text(json.dumps(asdict(note)))
            temporary.replace(self.path)
        except (OSError, RuntimeError):
            return
