# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Seconds of a start by phase, from what vLLM itself writes to the journal.

The lines are those of vLLM 0.8 to 0.32 (the wording moved: "init engine ... took 34.11 seconds", then "took 34.11 s
(compilation: 7.5 s)"; "torch.compile takes", then "took"). With several ranks each writes its own; the slowest counts, because the
others wait for it. A phase that is not in the text is left out.

Stamps are compared with stamps of the same machine only: the ranks on other nodes have clocks of their own, and Ray hands their
lines on with the address of their node (``(RayWorkerWrapper pid=383, ip=192.168.100.11)``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ..system.run import COLOUR

#: Phases in order of time.
ENGINE_START, WEIGHTS, MODEL_SETUP, COMPILE, CAPTURE, WARM_UP, OTHER = (
    "engine start",
    "weights",
    "model setup",
    "compile",
    "graph capture",
    "engine warm-up",
    "other until ready",
)
PHASES = (ENGINE_START, WEIGHTS, MODEL_SETUP, COMPILE, CAPTURE, WARM_UP, OTHER)

_NUMBER = r"([\d,]+(?:\.\d+)?)"
_SECONDS = rf"{_NUMBER}\s*(?:s|secs?|seconds)\b"
_STAMP = re.compile(r"\b(?:DEBUG|INFO|WARNING|ERROR) (\d\d-\d\d \d\d:\d\d:\d\d)\b")
#: A line of another machine.
_ELSEWHERE = re.compile(r"\([^()]*\bip=[^()]*\)")
#: A start begins with one of these.
_BEGIN = re.compile(r"vLLM API server version|Initializing an? (?:V1 )?LLM engine")
_BANNER = re.compile(r"vLLM API server version")
_READY = re.compile(r"Application startup complete")
_WEIGHTS = re.compile(rf"Loading (?:model )?weights took {_SECONDS}")
_MODEL = re.compile(rf"Model loading took {_NUMBER} ?GiB(?: memory)? and {_SECONDS}")
_COMPILE = re.compile(rf"torch\.compile (?:takes|took) {_SECONDS} in total")
_CAPTURE = re.compile(rf"Graph capturing finished in {_SECONDS}, took (-?[\d.]+) GiB")
_INIT = re.compile(rf"init engine \([^)]*\) took {_SECONDS}(?: \(compilation: {_SECONDS})?")
_KV_TOKENS = re.compile(rf"KV cache size: {_NUMBER} tokens")
_KV_MEMORY = re.compile(r"Available KV cache memory: (-?[\d,]+(?:\.\d+)?) GiB")
_FILES = re.compile(rf"Checkpoint size: {_NUMBER} GiB")
_FILESYSTEM = re.compile(r"Filesystem type for checkpoints: (\w+)")


def _last_start(text: str) -> list[str]:
    """Return the lines of the last start in the text; all of them where none begins visibly."""
    lines = COLOUR.sub("", text).splitlines()
    begin = next((n for n in range(len(lines) - 1, -1, -1) if _BANNER.search(lines[n])), None)
    if begin is None:
        begin = next((n for n in range(len(lines) - 1, -1, -1) if _BEGIN.search(lines[n])), 0)
    return lines[begin:]


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def _largest(lines: Iterable[str], pattern: re.Pattern[str], group: int = 1) -> float | None:
    found = [_number(match[group]) for line in lines for match in pattern.finditer(line) if match[group]]
    return max(found, default=None)


def _time_of(lines: list[str], pattern: re.Pattern[str], *, last: bool = False) -> datetime | None:
    """Return the stamp of the first (or last) line that fits; vLLM writes month, day and time."""
    for line in reversed(lines) if last else lines:
        if pattern.search(line) and (moment := _stamp(line)):
            return moment
    return None


def _stamp(line: str) -> datetime | None:
    match = None if _ELSEWHERE.search(line) else _STAMP.search(line)
    try:
        # A leap year, so that 29 February is a day.
        return datetime.strptime(f"2024-{match[1]}", "%Y-%m-%d %H:%M:%S") if match else None
    except ValueError:
        return None


def _between(begin: datetime | None, finish: datetime | None) -> float | None:
    """Return the seconds between two stamps, whose year is missing; None where the clock went back between them."""
    if begin is None or finish is None:
        return None
    seconds = (finish - begin).total_seconds()
    if seconds < 0 and (begin.month, finish.month) == (12, 1):
        seconds += 366 * 86400
    return seconds if seconds >= 0 else None


def phase_seconds(text: str) -> dict[str, float]:
    """Return the seconds of each phase of the last start in a journal, in order of time; never raises.

    ``other until ready`` is what is left of the time from the first stamp to "Application startup complete", and so is
    ``engine start`` what lies before the weights. They are there only where the stamps of this machine are; without those of the
    weights, ``other until ready`` holds both.
    """
    return _phases(_last_start(text))


def _phases(lines: list[str]) -> dict[str, float]:
    weights = _largest(lines, _WEIGHTS)
    model = _largest(lines, _MODEL, 2)
    initialized = _largest(lines, _INIT)
    compiled = _largest(lines, _COMPILE)
    if compiled is None:
        compiled = _largest(lines, _INIT, 2)
    captured = _largest(lines, _CAPTURE)
    found: dict[str, float | None] = {
        ENGINE_START: _engine_start(lines, model),
        WEIGHTS: weights,
        MODEL_SETUP: _rest(model, weights),
        COMPILE: compiled,
        CAPTURE: captured,
        WARM_UP: _rest(initialized, compiled, captured),
    }
    known = {phase: round(seconds, 2) for phase in PHASES if (seconds := found.get(phase)) is not None}
    first = next((moment for line in lines if (moment := _stamp(line))), None)
    # uvicorn's own line has no stamp: the last stamped line before it stands for it.
    ready = next((number for number, line in enumerate(lines) if _READY.search(line)), None)
    if known and ready is not None:
        before = next((moment for line in reversed(lines[: ready + 1]) if (moment := _stamp(line))), None)
        whole = _between(first, before)
        if whole is not None:
            known[OTHER] = round(max(whole - sum(known.values()), 0.0), 2)
    return known


def _rest(whole: float | None, *parts: float | None) -> float | None:
    if whole is None:
        return None
    return max(whole - sum(part for part in parts if part is not None), 0.0)


def _engine_start(lines: list[str], model: float | None) -> float | None:
    """Return the seconds from the first line until the model begins to load."""
    first = next((moment for line in lines if (moment := _stamp(line))), None)
    begins = _time_of(lines, re.compile(r"Starting to load model"))
    if begins is None and model is not None:
        ends = _time_of(lines, _MODEL, last=True)
        seconds = _between(first, ends)
        return None if seconds is None else max(seconds - model, 0.0)
    return _between(first, begins)


def journal_command(container: str, started: str) -> list[str]:
    """Return the command that prints what a unit wrote since its container started; ``started`` is as Docker writes it."""
    # Docker writes nanoseconds, which journalctl does not read; the second before holds no line of this container.
    day, _t, clock = started.partition("T")
    since = f"{day} {clock.partition('.')[0].rstrip('Z')} UTC"
    return ["journalctl", "--unit", container, "--output", "cat", "--since", since]


def phases_line(phases: Mapping[str, float]) -> str:
    """Return the seconds of a start in one line; empty where none are known."""
    known = [f"{name} {seconds:.3g} s" for name, seconds in phases.items() if seconds > 0]
    return f"start-up: {sum(phases.values()):.0f} s ({', '.join(known)})" if known else ""


def start_report(text: str, weights_bytes: int | None = None) -> dict[str, Any]:
    """Return what a journal says of the last start; a figure that it does not hold is left out.

    Args:
        text: the journal of the unit, with what Ray hands on from the ranks.
        weights_bytes: bytes of the model's files; without them vLLM's own "Checkpoint size" counts, where it is there.

    Returns:
        ``phases`` (seconds), ``model_gib`` (of the largest rank), ``weights_gib`` (files), ``gib_per_s`` (files over the seconds
        of the slowest rank), ``filesystem``, ``kv_cache_tokens``, ``kv_cache_gib`` (of the smallest rank), ``graph_gib``.
    """
    lines = _last_start(text)
    phases = _phases(lines)
    files = weights_bytes / 2**30 if weights_bytes else _largest(lines, _FILES)
    kv_memory = [_number(match[1]) for line in lines for match in _KV_MEMORY.finditer(line)]
    tokens = [_number(match[1]) for line in lines for match in _KV_TOKENS.finditer(line)]
    filesystem = next((match[1].lower() for line in lines if (match := _FILESYSTEM.search(line))), None)
    found: dict[str, Any] = {
        "model_gib": _largest(lines, _MODEL),
        "weights_gib": round(files, 4) if files else None,
        "gib_per_s": round(files / phases[WEIGHTS], 3) if files and phases.get(WEIGHTS) else None,
        "filesystem": None if filesystem == "unknown" else filesystem,
        "kv_cache_tokens": int(min(tokens)) if tokens else None,
        "kv_cache_gib": min(kv_memory, default=None),
        "graph_gib": _largest(lines, _CAPTURE, 2),
    }
    return {"phases": phases, **{name: value for name, value in found.items() if value is not None}}
