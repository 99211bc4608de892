# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Numbered steps with elapsed and remaining time, learnt from earlier runs on this machine."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from simulation import settings

# Seconds of silence after which a step says that it is still at work.
SILENCE = 20.0
# Shorter totals are not worth a line.
WORTH_TELLING = 20.0


def human(seconds: float) -> str:
    """A duration for people: `8 s`, `2 min 10 s`, `1 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def human_left(seconds: float) -> str:
    """Time left, rounded as far as such a guess deserves."""
    if seconds < 45:
        return "less than a minute left"
    return f"about {round(seconds / 60) or 1} min left"


@dataclass(frozen=True)
class Step:
    """One step of a run."""

    key: str
    title: str
    first: float
    """Seconds it takes where nothing is there yet (on two cores); replaced by what is measured here."""
    again: float
    """Seconds it takes where everything is there."""
    done_before: bool
    """Whether this machine has the results already."""

    @property
    def memory_key(self) -> str:
        """Where the step's duration is remembered."""
        return f"{self.key}/{'again' if self.done_before else 'first'}"


class Steps:
    """Runs steps one after the other and tells where things are."""

    def __init__(self, steps: Sequence[Step], out: TextIO = sys.stdout) -> None:
        self.steps = {step.key: step for step in steps}
        self.order = [step.key for step in steps]
        self.out = out
        self._remembered = settings.read_json(settings.durations_file())
        self._lock = threading.Lock()
        self._step_started = 0.0
        self._spoken = 0.0
        self._current = ""
        self._doing = ""
        self.started = time.monotonic()

    def expected(self, key: str) -> float:
        """Seconds a step will probably take."""
        step = self.steps[key]
        fallback = step.again if step.done_before else step.first
        try:
            return float(self._remembered.get(step.memory_key, fallback))
        except (TypeError, ValueError):
            return fallback

    def left(self) -> float:
        """Seconds until the last step will probably be done."""
        position = self.order.index(self._current) if self._current else 0
        passed = time.monotonic() - self._step_started if self._current else 0.0
        now = max(0.0, self.expected(self.order[position]) - passed)
        return now + sum(self.expected(key) for key in self.order[position + 1 :])

    def say(self, message: str) -> None:
        """One line of a step."""
        with self._lock:
            self._spoken = time.monotonic()
            print(f"      {message}", file=self.out, flush=True)

    def doing(self, what: str) -> None:
        """What is at work now, for the line that breaks a silence."""
        self._doing = what

    @contextlib.contextmanager
    def step(self, key: str) -> Iterator[None]:
        """Run one step: its title before, how long it took after, a sign of life in between."""
        step = self.steps[key]
        self._current, self._doing = key, ""
        self._step_started = self._spoken = time.monotonic()
        left = self.left()
        hint = f"  ({human_left(left)} in all)" if left > WORTH_TELLING else ""
        print(f"[{self.order.index(key) + 1}/{len(self.order)}] {step.title}{hint}", file=self.out, flush=True)
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(over,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        seconds = time.monotonic() - self._step_started
        self._remembered[step.memory_key] = round(seconds, 1)
        settings.write_json(settings.durations_file(), self._remembered)
        if seconds >= 1:
            self.say(f"done in {human(seconds)}")

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(1.0):
            if time.monotonic() - self._spoken < SILENCE:
                continue
            passed = time.monotonic() - self._step_started
            late = self.expected(self._current) < passed
            hint = "longer than the last time" if late else f"{human_left(self.left())} in all"
            doing = f"still at: {self._doing}, " if self._doing else "still at work, "
            self.say(f"... {doing}{human(passed)} so far, {hint}")
