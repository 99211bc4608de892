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
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.plan import plan

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


def rows_of(path: Path) -> Iterator[Row]:
    """Return the rows of one case."""
    case = json.loads(path.read_text(encoding="utf-8"))
    settings = {key: value for key, value in case["input"].items() if key != "kv_cache_gib"}
    given = PlanInput(shape=ModelShape.from_config(case["config"]), **{"memory_gib": 80.0, **settings})
    reported: dict[str, Any] = case["reported"]
    # A figure whose unit the source leaves open, and what it is read as.
    readings: dict[str, str] = case.get("readings", {})
    for name, figure in reported.items():
        base, _sep, rank = name.partition("_head") if name.endswith("_head") else name.partition("_worker")
        rank = name.removeprefix(base).strip("_")
        pool_gib = case["input"].get("kv_cache_gib") or reported.get(name.replace(base, "kv_cache_gib"))
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
    if name == "checkpoint_gb":
        draft = sum(weight.parameters for weight in given.shape.draft_weights())
        return _near((given.shape.parameter_count() + draft) * 2 / 1e9, figure)
    if name == "weights_gib":
        return _near(given.stage_weights(0).total / GIB, figure)
    layout = kv_layout(given, range(given.shape.layers))
    if name == "gib_a_request":
        return _near(layout.blocks_per_request(given.length) * layout.block_bytes / GIB, figure)
    if name in {"kv_cache_tokens", "max_concurrency"}:
        held = replace(given, kv_cache_memory_bytes=round((pool_gib or 0.0) * GIB))
        found = layout.concurrency(held.kv_cache_memory_bytes or 0, given.length)
        return _near(found if name == "max_concurrency" else int(found * given.length), figure)
    exact = _EXACT[name](given, layout, (pool_gib or 0.0) * GIB)
    return f"{exact:,.0f}", exact == figure


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
