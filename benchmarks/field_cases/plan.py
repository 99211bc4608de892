# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The plan against public server logs: weights, KV tokens, requests, and on unified memory the range of the KV pool."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.shape import ModelShape
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.arithmetic import (
    GIB,
    KvLayout,
    PlanInput,
    kv_bytes_per_token,
    kv_layout,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.fitted import shipped
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.plan import plan

from benchmarks import plan_fit
from benchmarks.field_cases import CASES, Row, Section

#: Part by which weights and tokens may be off.
TOLERANCE = 0.01
#: Half of the last digit of a figure with two.
ROUNDED = 0.005
ABOUT = (
    "Weights and KV tokens are right within 1 % and the digits that are printed; blocks, layers and bytes exactly. On unified memory the KV pool is a range, and right is a log within it "
    "(docs/planning.md). Where a log states the pool, tokens and requests are counted for that pool."
)
OPEN = (
    "Nobody of this project measured on a GB10. The range of the KV pool rests on the starts in this table that state the machine; a log of yours narrows it "
    "for everybody, your own machine's last start replaces it for you.",
    "`qwen35-2b-without-prefix-caching`: 4.55 is exactly what the files take in GB, with the layer for speculative decoding, and is read as that. If the log "
    "meant GiB of memory, the plan is 6.7 % short there; the larger models of this class come out within 0.1 %.",
)


def section() -> Section:
    """Return the rows of all cases."""
    return Section(
        "The plan", ABOUT, [row for path in sorted((CASES / "plan").glob("*.json")) for row in rows_of(path)], OPEN
    )


def given_of(case: dict[str, Any]) -> PlanInput:
    """Return what a case plans with."""
    settings = {key: value for key, value in case["input"].items() if key != "kv_cache_gib"}
    return PlanInput(shape=ModelShape.from_config(case["config"]), **{"memory_gib": 80.0, **settings})


def figures_of(case: dict[str, Any]) -> Iterator[tuple[str, str, str, float, float | None]]:
    """Return each reported figure: its name, the same without the rank, the rank, the figure, and the GiB of the pool that it belongs to."""
    reported: dict[str, Any] = case["reported"]
    for name, figure in reported.items():
        base = name.removesuffix("_head").removesuffix("_worker")
        pool_gib = case["input"].get("kv_cache_gib") or reported.get(name.replace(base, "kv_cache_gib"))
        yield name, base, name.removeprefix(base).strip("_"), figure, pool_gib


def rows_of(path: Path) -> Iterator[Row]:
    """Return the rows of one case."""
    case = json.loads(path.read_text(encoding="utf-8"))
    given = given_of(case)
    # A figure whose unit the source leaves open, and what it is read as.
    readings: dict[str, str] = case.get("readings", {})
    for name, base, rank, figure, pool_gib in figures_of(case):
        says, right = _judged(readings.get(name, base), figure, given, pool_gib)
        shown = ("yes" if figure else "no") if isinstance(figure, bool) else f"{figure:,}"
        what = _WORDS[base] + (f", {rank}" if rank else "")
        if name in readings:
            what += f", read as {_WORDS[readings[name]]}"
            says += f"; as {_WORDS[base]}: {_judged(base, figure, given, pool_gib)[0]}"
        yield Row(path.stem, case["source"], what, says, shown, right)


_WORDS = {
    "weights_gib": "weights, GiB a rank",
    "checkpoint_gb": "files, GB",
    "kv_cache_gib": "KV pool, GiB",
    "kv_cache_tokens": "KV tokens",
    "gib_a_request": "KV GiB of a request and rank",
    "fits": "starts",
    "max_concurrency": "requests at once",
    "blocks": "blocks of the pool",
    "blocks_a_request": "blocks of a request",
    "block_tokens": "tokens of a block",
    "group_layers": "layers of a group",
    "state_blocks": "blocks of a request's states",
    "kv_bytes_per_token": "KV bytes a token and rank",
    "full_layers": "layers with full attention",
    "sliding_layers": "layers with a window",
    "head_dim": "width of a head",
}


def _judged(name: str, figure: float, given: PlanInput, pool_gib: float | None) -> tuple[str, bool]:
    """Return what the plan says of a figure, and whether that is right."""
    if name == "kv_cache_gib":
        span = plan(given).kv_cache_gib_range
        return f"{span['low']:.2f} to {span['high']:.2f}", span["low"] <= figure <= span["high"]
    if name == "fits":
        starts = plan(given).fits
        return "fits" if starts else "does not fit", starts == bool(figure)
    found = _counted(name, given, pool_gib)
    if found is not None:
        return _near(found, figure)
    layout = kv_layout(given, range(given.shape.layers))
    exact = _EXACT[name](given, layout, (pool_gib or 0.0) * GIB)
    return f"{exact:,.0f}", exact == figure


def _counted(name: str, given: PlanInput, pool_gib: float | None) -> float | None:
    """Return a figure that may be off by a part, as the plan counts it; None for another one."""
    if name == "checkpoint_gb":
        draft = sum(weight.parameters for weight in given.shape.draft_weights())
        return (given.shape.parameter_count() + draft) * 2 / 1e9
    if name == "weights_gib":
        return given.stage_weights(0).total / GIB
    layout = kv_layout(given, range(given.shape.layers))
    if name == "gib_a_request":
        return layout.blocks_per_request(given.length) * layout.block_bytes / GIB
    if name in {"kv_cache_tokens", "max_concurrency"}:
        held = replace(given, kv_cache_memory_bytes=round((pool_gib or 0.0) * GIB))
        found = layout.concurrency(held.kv_cache_memory_bytes or 0, given.length)
        return found if name == "max_concurrency" else int(found * given.length)
    return None


_EXACT: dict[str, Callable[[PlanInput, KvLayout, float], float]] = {
    "blocks": lambda given, layout, pool: layout.blocks(pool),
    "blocks_a_request": lambda given, layout, pool: layout.blocks_per_request(given.length),
    "block_tokens": lambda given, layout, pool: layout.block_tokens,
    "group_layers": lambda given, layout, pool: layout.group_layers,
    "state_blocks": lambda given, layout, pool: layout.groups_of("linear") * layout.state_blocks,
    "kv_bytes_per_token": lambda given, layout, pool: kv_bytes_per_token(given),
    "full_layers": lambda given, layout, pool: given.shape.layers_with("full"),
    "sliding_layers": lambda given, layout, pool: given.shape.layers_with("sliding"),
    "head_dim": lambda given, layout, pool: given.shape.head_dim,
}


def _near(found: float, figure: float) -> tuple[str, bool]:
    off = found / figure - 1
    shown = f"{found:,}" if isinstance(found, int) else f"{found:,.2f}"
    # Requests are printed with two digits.
    rounded = 0.0 if isinstance(found, int) else ROUNDED
    return f"{shown} ({off:+.2%})", abs(found - figure) <= TOLERANCE * figure + rounded


def summary() -> str:
    """Return the table of docs/figures.md: how far the plan was off, in public logs and in runs of our own."""
    cases = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((CASES / "plan").glob("*.json"))]
    logs = [case for case in cases if "log" in case["source"] or "vLLM 0" in case["source"]]
    sparks = [case for case in logs if "Spark" in case["source"]]
    lines = [
        "| | cases | weights, at most | tokens or requests in a given KV pool, at most | KV pool |",
        "|---|---|---|---|---|",
        _summary_line("public logs of one and two DGX Sparks", sparks),
        _summary_line("other public logs", [case for case in logs if case not in sparks]),
    ]
    fitted, scored = plan_fit.halves(plan_fit.recorded_runs())
    for title, part in (("own runs on one H200, not fitted on", scored), ("those fitted on", fitted)):
        rows = plan_fit.memory_scores(part, shipped())
        tokens = [row for row in rows if row["kv_tokens_measured"]]
        off = max(
            abs(row["kv_tokens"] / row["kv_gib"] / (row["kv_tokens_measured"] / row["kv_measured_gib"]) - 1)
            for row in tokens
        )
        lines.append(
            f"| {title} | {len(rows)} | {max(abs(row['weights_error']) for row in rows):.1%} | {off:.1%} | "
            f"off by at most {max(abs(row['kv_error_gib']) for row in rows):.2f} GiB |"
        )
    return "\n".join(lines) + "\n"


def _summary_line(title: str, cases: list[dict[str, Any]]) -> str:
    """Return how far the plan is off in these cases."""
    weights: list[float] = []
    held: list[float] = []
    pools = within = 0
    for case in cases:
        given = given_of(case)
        for name, base, _rank, figure, pool_gib in figures_of(case):
            if base == "kv_cache_gib":
                pools += 1
                within += _judged(base, figure, given, pool_gib)[1]
            found = None if name in case.get("readings", {}) else _counted(base, given, pool_gib)
            if found is not None:
                (weights if base == "weights_gib" else held).append(abs(found / figure - 1))
    said = f"within the range in {within} of {pools}" if pools else "not stated with the machine"
    shown = [f"{max(part):.1%} ({len(part)})" if part else "" for part in (weights, held)]
    return f"| {title} | {len(cases)} | {' | '.join(shown)} | {said} |"
