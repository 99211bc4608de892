# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The faults as a page in the look of the product's own: what clients saw, and how long it took beside a cold start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.charts import Part, bars, stacked_bars
from ansible_collections.dgx_spark.vllm.plugins.plugin_utils.pages import render

from simulation.faults.suite import Result, cells, merged
from simulation.faults.traffic import ERROR, RIGHT, SILENT, WRONG

HEAD = ("fault", "clients saw", "s to the next right answer", "x cold", "starts", "the watchdog said")


def page(results: Sequence[Result], cold_s: float | None, made: str) -> str:
    """Return the page of results; several runs of one fault are one row with the medians of their seconds."""
    faults = merged(results)
    bad = [name for name, runs in faults if any(run.problems for run in runs)]
    # The table of the docs is Markdown.
    rows = [[cell.replace("**", "") for cell in cells(name, runs, cold_s)] for name, runs in faults]
    kinds = ((RIGHT, "f2"), (ERROR, "f1"), (WRONG, "f4"), (SILENT, "f3"))
    answers = [
        (
            f"fault {number}",
            [
                Part(kind, float(sum(run.clients.get(kind, 0) for run in runs)) / len(runs), colour)
                for kind, colour in kinds
            ],
        )
        for number, (_name, runs) in enumerate(faults, 1)
    ]
    seconds = [
        (
            f"fault {number}",
            max((run.recovered_s or 0.0) for run in runs),
            "f4" if any(run.problems for run in runs) else "f0",
        )
        for number, (_name, runs) in enumerate(faults, 1)
    ]
    cold = f" A cold start in the same run took {cold_s:.0f} s." if cold_s else ""
    return render(
        "page",
        {
            "about": f"the simulated pair, {made}",
            "level": "red" if bad else "green",
            "sentence": f"{len(bad)} of {len(faults)} faults did not end as they must: {', '.join(bad)}."
            if bad
            else f"{len(faults)} faults; every client got a right answer or a clean error.",
            "charts": [
                bars("To the next right answer", f"Seconds, the slowest run of each fault.{cold}", seconds, "seconds"),
                stacked_bars("What clients saw", "Requests that ended so, a run.", answers, "requests"),
            ],
            "head": HEAD,
            "rows": [(f"{number}. {row[0]}", *row[1:]) for number, row in enumerate(rows, 1)],
        },
        Path(__file__).parent,
    )
