# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the page of a plan shows: where the memory goes, how many requests fit, how fast it should be. plugin_utils/pages.py lays it out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..report.charts import Chart, Part, bars, ranges, short, stacked_bars
from .arithmetic import PlanInput
from .plan import ContextRow, MemoryPlan, host_use_gib
from .report import KINDS, gate_problems, rows, sentence, table_cells


@dataclass(frozen=True)
class Planned:
    """A plan with what it was made of.

    Attributes:
        name: of the model.
        given: what was planned.
        plan: what came of it.
        table: rows of the context table; may be empty.
        nodes: GiB of each node by its name; empty where the memory was stated.
        memory_from: where the memory's size comes from.
        host_gib, min_headroom_gib: what the system takes, and what it must keep.
        remarks: what is to be known of the model.
        account: what the machine's memory holds now, see `inputs.account_of`.
    """

    name: str
    given: PlanInput
    plan: MemoryPlan
    table: Sequence[ContextRow]
    nodes: Mapping[str, float]
    memory_from: str
    host_gib: float
    min_headroom_gib: float
    remarks: Sequence[str] = ()
    account: Mapping[str, float] = field(default_factory=dict)


def view(planned: Planned) -> dict[str, Any]:
    """Return what the page of a plan shows."""
    given, plan = planned.given, planned.plan
    problems = gate_problems(plan, planned.min_headroom_gib)
    said = sentence(plan)
    found = rows(planned.name, given, plan, planned.memory_from, planned.min_headroom_gib, planned.account)
    cpu = given.cpu_kv_gib is not None
    charts = [memory_chart(planned)]
    if planned.table:
        charts.append(requests_chart(planned))
        if not cpu:
            charts.append(rate_chart(planned))
    return {
        "name": planned.name,
        "about": f"{planned.name} on {given.nodes} node{'s' if given.nodes > 1 else ''}, memory {planned.memory_from}",
        "level": "red" if problems else "yellow" if plan.reasons else "green",
        "sentence": f"{said[:1].upper()}{said[1:]}.",
        "remarks": list(planned.remarks),
        "tiles": tiles(planned),
        "charts": charts,
        "table": table_cells(given, planned.table),
        "facts": found,
    }


def tiles(planned: Planned) -> list[dict[str, str]]:
    """Return the figures that stand large above the charts."""
    plan, length = planned.plan, planned.plan.details["max_model_len"]
    expected, tokens = plan.decode_tok_s_expected, f"{plan.kv_cache_tokens:,}"
    found = [
        {"name": "KV cache", "value": tokens, "unit": "tokens", "where": "at the low end of the range"},
        {
            "name": "requests at once",
            "value": f"{plan.max_concurrency:.3g}",
            "unit": "",
            "where": f"of {length:,} tokens each",
        },
    ]
    if planned.given.cpu_kv_gib is None:
        found.append(
            {
                "name": "decode, one request",
                "value": f"{short(expected['low'])} to {short(expected['high'])}",
                "unit": "tok/s",
                "where": "expected, at the start of a context",
            }
        )
    if plan.host_headroom_gib is not None:
        found.append(
            {
                "name": "host keeps",
                "value": f"{plan.host_headroom_gib:.1f}",
                "unit": "GiB",
                "where": f"at least {planned.min_headroom_gib:g} wanted",
            }
        )
    return found


def memory_chart(planned: Planned) -> Chart:
    """Return a bar for each node, or for one GPU where it has memory of its own."""
    given, plan = planned.given, planned.plan
    details, cpu = plan.details, given.cpu_kv_gib is not None
    ranks = math.ceil(given.ranks / given.nodes) if given.unified or cpu else 1
    parts = [Part("weights", plan.weights_gib_per_rank * ranks, "f0")]
    if not cpu:
        step = details["activation_gib"] + details["non_torch_gib"] + details["graphs_gib"]
        parts.append(Part("activations and CUDA graphs", step * ranks, "f1"))
    if given.unified or cpu:
        parts.append(Part("system and Ray", host_use_gib(given, planned.host_gib), "f3"))
    pool = plan.kv_cache_gib_per_rank * ranks
    parts.append(Part("KV cache, at least", pool, "f2"))
    taken = sum(part.value for part in parts)
    if plan.host_headroom_gib is not None:
        # vLLM takes its part whole: what the low end of the range leaves is more KV cache, not free.
        more = given.memory_gib - plan.host_headroom_gib - taken
        parts.append(Part("perhaps more of it", max(more, 0), "band"))
        taken += max(more, 0)
    shown = planned.nodes or {"each node" if given.unified or cpu else "each GPU": given.memory_gib}
    drawn = [(name, [*parts, Part("free", max(size - taken, 0), "rest")]) for name, size in shown.items()]
    caption = "Of each node." if given.unified or cpu else "Of each GPU."
    if taken > min(shown.values()):
        caption += f" {short(taken)} GiB are more than there is."
    return stacked_bars("Memory", caption, drawn, "GiB")


#: Classes of the style sheet for the verdicts of the table.
_COLOURS = {"fits": "f2", "raise": "f1", "risk": "f4", "never": "rest", "model": "f1"}


def requests_chart(planned: Planned) -> Chart:
    """Return how many requests of each length fit at the same time."""
    told = "; ".join(
        f"{word}: {', '.join(f'{row.length:,}' for row in planned.table if row.verdict == verdict)}"
        for verdict, (_level, word) in KINDS.items()
        if any(row.verdict == verdict for row in planned.table)
    )
    drawn = [(f"{row.length:,}", row.concurrency, _COLOURS[row.verdict]) for row in planned.table]
    return bars(
        "Context against concurrency", f"Requests of that many tokens at once. {told}.", drawn, "requests at once"
    )


def rate_chart(planned: Planned) -> Chart:
    """Return the expected rate of one request at each length."""
    drawn = [(f"{row.length:,}", row.decode_low, row.decode_high) for row in planned.table]
    caption = (
        "Tokens a second of one request with that many tokens of context. The dashed line is what memory bandwidth allows. "
        f"The range: {planned.plan.details['expected_from']}."
    )
    return ranges("Expected decode rate", caption, drawn, "tokens a second", planned.plan.decode_tok_s_limit)
