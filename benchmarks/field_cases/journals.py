# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Journals of starts, through what tells the cause, the phases, and the limit of starts."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.service_unit import UnitSpec
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.start_causes import first_cause
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.startup_phases import phase_seconds, phases_line

from benchmarks.field_cases import CASES, Row, Section

FOLDER = CASES / "journals"
ABOUT = (
    "Journals of the server through the table of causes (docs/start-failures.md) and the phases of a start, and how long failing starts go on: systemd gives up where its "
    "window is longer than all the starts that it counts."
)


def section() -> Section:
    """Return the rows of all cases."""
    return Section("Journals and starts", ABOUT, [*_causes(), *_clock(), *_limits()])


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _causes() -> Iterator[Row]:
    found = first_cause(_text("journal-no-cache-blocks.txt"))
    said = found.sentence() if found else "no cause"
    right = "raise vllm_serve_gpu_memory_utilization"
    yield Row(
        "journal-no-cache-blocks",
        "vLLM's lines as in public reports; the last one names only a consequence",
        "cause",
        said,
        right,
        right in said,
    )


def _clock() -> Iterator[Row]:
    name = "journal-worker-clock-3min-behind"
    said = phases_line(phase_seconds(_text(f"{name}.txt")))
    right = "start-up: 530 s (weights 402 s"
    source = "composed: the worker's clock is three minutes behind; 10:08:00 to 10:16:50 by the head"
    yield Row(name, source, "phases of the start", said, right, said.startswith(right))


def _limits() -> Iterator[Row]:
    for line in _text("slow-failing-start.tsv").splitlines()[1:]:
        start, burst, _interval, _before = line.split("\t")
        unit = UnitSpec("vLLM", start_limit_burst=int(burst), longest_start_sec=int(start))
        window = unit.window()
        counted = int(burst) * (int(start) + unit.restart_sec + unit.stop_timeout_sec)
        said = f"{'gives up' if window > counted else 'never gives up'}, window of {window:,} s"
        yield Row(
            "slow-failing-start",
            "documented loads take 15 to 40 minutes",
            f"{burst} starts that fail after {start} s",
            said,
            "gives up",
            said.startswith("gives up"),
        )
