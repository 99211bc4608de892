# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The plan as sentences and as a table for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from .arithmetic import PlanInput
from .plan import MIN_HEADROOM_GIB, ContextRow, MemoryPlan

#: Levels of the report's lines, for their colour.
PLAIN, GOOD, LOOK, STOP = "plain", "good", "look", "stop"


def sentence(plan: MemoryPlan) -> str:
    """Return the plan in one sentence."""
    if not plan.fits:
        return f"it does not fit: {'. '.join(plan.reasons)}"
    expected = plan.decode_tok_s_expected
    span = plan.kv_cache_gib_range
    cache = f"{plan.kv_cache_gib_per_rank:g}"
    if span["high"] - span["low"] >= 0.01:
        cache += f" to {span['high']:g}"
    text = (
        f"it fits: {plan.weights_gib_per_rank:g} GiB of weights and {cache} GiB of KV cache on each rank, "
        f"{plan.kv_cache_tokens} tokens, {plan.max_concurrency:g} requests of {plan.details['max_model_len']} tokens; "
        f"{expected['low']:g} to {expected['high']:g} tok/s for one request"
    )
    return f"{text}. {'. '.join(plan.reasons)}" if plan.reasons else text


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} billion" if number >= 1e8 else f"{number / 1e6:.2f} million"


def memory_problem(memory: Mapping[str, float], stated: float) -> str:
    """Return why there is no memory to plan with; empty when there is."""
    if stated < 0:
        return f"vllm_plan_memory_gib is {stated:g}, expected more than 0 (a DGX Spark has 121.69), or 0 to read it from the nodes"
    if stated > 0 or any(value > 0 for value in memory.values()):
        return ""
    names = ", ".join(memory) or "no node"
    return (
        f"the memory of {names} could not be read: see that a node can be reached, or state it with -e vllm_plan_memory_gib=... "
        "(a DGX Spark has 121.69)"
    )


def gate_problems(plan: MemoryPlan, min_headroom_gib: float = MIN_HEADROOM_GIB) -> list[str]:
    """Return why a server of this plan must not be started; empty when it may."""
    headroom = plan.host_headroom_gib
    if plan.fits and (headroom is None or headroom >= min_headroom_gib):
        return []
    return plan.reasons


def lines(
    name: str,
    given: PlanInput,
    plan: MemoryPlan,
    table: Sequence[ContextRow],
    safe_length: int | None,
    *,
    memory_from: str = "",
    min_headroom_gib: float = MIN_HEADROOM_GIB,
    remarks: Sequence[str] = (),
    account: Mapping[str, float] | None = None,
    width: int = 120,
) -> list[tuple[str, str]]:
    """Return level and text of each line of the report.

    Args:
        name: of the model.
        given: what was planned.
        plan: what came of it.
        table: rows of the context table; may be empty.
        safe_length: from `risk_from`.
        memory_from: where the memory's size comes from.
        min_headroom_gib: what the host must keep.
        remarks: what is to be known of the model, such as what of its file was not verified.
        account: from `inputs.account_of`.
        width: of the terminal.
    """
    found = _columns(rows(name, given, plan, memory_from, min_headroom_gib, account or {}), width)
    if table:
        found += [(PLAIN, ""), *_table(given, table, safe_length, min_headroom_gib, width)]
        found += _why_stopped(given, plan, min_headroom_gib, width)
    found.append((PLAIN, ""))
    if gate_problems(plan, min_headroom_gib):
        found += _marked(STOP, plan.reasons, width)
    else:
        found.append((GOOD, "FITS"))
        found += _marked(LOOK, plan.reasons, width)
    return found + _marked(LOOK, [*remarks, *_kernel_remarks(given)], width)


def rows(
    name: str,
    given: PlanInput,
    plan: MemoryPlan,
    memory_from: str,
    min_headroom_gib: float,
    account: Mapping[str, float],
) -> list[tuple[str, str]]:
    """Return the plan as names and sentences; arguments as of `lines`."""
    return [
        *_model_rows(name, given, plan, memory_from),
        *_memory_rows(given, plan, min_headroom_gib),
        *_account_rows(account),
        *_rate_rows(given, plan),
    ]


def _model_rows(name: str, given: PlanInput, plan: MemoryPlan, memory_from: str) -> list[tuple[str, str]]:
    """Return what is planned, on what."""
    details = plan.details
    ranks = f"{given.nodes} node{'s' if given.nodes > 1 else ''}, TP={given.tensor_parallel_size}"
    if given.pipeline_parallel_size > 1:
        ranks += f", PP={given.pipeline_parallel_size}"
    active = "" if not given.shape.experts else f", {_count(details['active_parameters'])} active"
    draft = f" + {_count(details['draft_parameters'])} of draft layers" if details["draft_parameters"] else ""
    return [
        ("model", f"{name}: {_count(details['parameters'])} parameters{draft}{active}, {details['quantization']}"),
        ("machines", f"{ranks}, {given.memory_gib:.2f} GiB each{f' ({memory_from})' if memory_from else ''}"),
    ]


def _memory_rows(given: PlanInput, plan: MemoryPlan, least: float) -> list[tuple[str, str]]:
    """Return where the memory goes and what it holds."""
    details, cpu = plan.details, given.cpu_kv_gib is not None
    if cpu:
        rows = [("KV space", f"{given.cpu_kv_gib:g} GiB on each rank")]
    else:
        taken = given.memory_gib * given.gpu_memory_utilization
        rows = [("vLLM may take", f"{taken:.2f} GiB on each GPU (utilization {given.gpu_memory_utilization:g})")]
    rows.append(("weights", f"{plan.weights_gib_per_rank:.2f} GiB on each {'CPU' if cpu else 'GPU'}"))
    if not cpu:
        graphs = f"CUDA graphs {details['graphs_gib']:.2f} GiB ({details['graphs']} of them)"
        peak = details["activation_gib"] + details["non_torch_gib"]
        rows.append(("activations", f"{peak:.2f} GiB, {graphs if details['graphs'] else 'no CUDA graphs'} (fitted)"))
    per_token = plan.kv_bytes_per_token_per_rank / 1024
    rows += [
        ("KV cache", f"{_pool_text(plan)}, {per_token:.1f} KiB a token: {plan.kv_cache_tokens:,} tokens"),
        *([("context", _auto_text(details))] if given.fit_length else []),
        (
            "requests",
            f"{plan.max_concurrency:.2f} of {details['max_model_len']:,} tokens at the same time; longest possible {plan.max_model_len_possible:,}",
        ),
    ]
    if plan.host_headroom_gib is not None:
        kept = f"{plan.host_headroom_gib:.1f} GiB beside vLLM and {details['host_gib']:g} GiB for the system"
        rows.append(("host keeps", f"{kept}; at least {least:g} wanted"))
    return rows


def _auto_text(details: Mapping[str, Any]) -> str:
    """Return the length that vLLM will choose."""
    low, high = details["max_model_len"], details["max_model_len_high"]
    span = f"at least {low:,} tokens, at most {high:,}" if low < high else f"{low:,} tokens"
    return f"auto: {span}; vLLM takes the longest that its KV cache holds"


#: What a range of the pool rests on.
_BASES = {
    "published": "published starts of DGX Sparks; the low end decides",
    "record": "the last start here, with other settings; the low end decides",
    "this record": "the last start here, with these settings",
    "set": "as set",
}


def _pool_text(plan: MemoryPlan) -> str:
    span = plan.kv_cache_gib_range
    figure = f"{span['low']:.2f} GiB"
    if span["high"] - span["low"] >= 0.01:
        figure = f"{span['low']:.1f} to {span['high']:.1f} GiB"
    basis = _BASES.get(str(span["basis"]))
    return f"{figure} ({basis})" if basis else figure


def _account_rows(account: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return what the machine's memory holds now; nothing where nobody looked."""
    if not account:
        return []
    swap = (
        f"{account['swap_used']:.1f} of {account['swap_total']:.0f} GiB of swap used"
        if account["swap_total"]
        else "no swap"
    )
    return [
        (
            "memory now",
            f"{account['available']:.1f} GiB available, {account['page_cache']:.1f} GiB of page cache; {swap}",
        )
    ]


def _rate_rows(given: PlanInput, plan: MemoryPlan) -> list[tuple[str, str]]:
    """Return how fast it can be and should be; nothing for a CPU."""
    if given.cpu_kv_gib is not None:
        return []
    details, expected = plan.details, plan.decode_tok_s_expected
    reduce = f", all-reduce {given.allreduce_us:g} us" if given.tensor_parallel_size > 1 else ""
    graphs = "eager" if plan.cuda_graphs == "eager" else "CUDA graphs"
    limit = f"{plan.decode_tok_s_limit:.1f} tok/s for one request ({given.memory_bandwidth_gb_s:g} GB/s{reduce})"
    span = f"{expected['low']:.1f} to {expected['high']:.1f} tok/s ({graphs}; {details['expected_from']})"
    rows = [("decode limit", limit), ("decode expected", span)]
    if "not measured" in details["expected_from"] and details["published"]:
        shown = [f"{entry['tok_s']:g} tok/s for {entry['model']} ({entry['setup']})" for entry in details["published"]]
        rows.append(("published", "; ".join(shown)))
    return rows


def _columns(rows: Sequence[tuple[str, str]], width: int) -> list[tuple[str, str]]:
    """Return labels and texts as lines, the texts wrapped below each other."""
    found: list[tuple[str, str]] = []
    margin = 2 + max(len(label) for label, _text in rows) + 2
    for label, text in rows:
        wrapped = textwrap.wrap(text, max(40, width - margin)) or [""]
        found.append((PLAIN, f"  {label:<{margin - 2}}{wrapped[0]}"))
        found += [(PLAIN, " " * margin + more) for more in wrapped[1:]]
    return found


def _why_stopped(given: PlanInput, plan: MemoryPlan, least: float, width: int) -> list[tuple[str, str]]:
    """Return a line where a table whose rows fit stands above a plan that does not."""
    if given.cpu_kv_gib is not None or plan.host_headroom_gib is None or plan.host_headroom_gib >= least:
        return []
    text = f"The table is for the least utilization; yours, {given.gpu_memory_utilization:g}, is what stops."
    return [(PLAIN, f"  {part}") for part in textwrap.wrap(text, width - 2)]


def _kernel_remarks(given: PlanInput) -> list[str]:
    """Return what memory and bandwidth do not tell of a quantization."""
    schemes = {scheme.name for _targets, scheme in given.shape.quantization.schemes}
    if given.cpu_kv_gib is not None or "nvfp4" not in schemes:
        return []
    return [
        "NVFP4: whether its kernels work on this GPU is what the kernel check decides (gb10_kernel_check), not this plan"
    ]


def _marked(level: str, texts: Sequence[str], width: int) -> list[tuple[str, str]]:
    """Return texts with the word of their level before each."""
    return [
        (level, part)
        for text in texts
        for part in textwrap.wrap(f"{level.upper()}  {text}", width, subsequent_indent="      ")
    ]


#: Level and word of each verdict of the context table.
KINDS = {
    "fits": (GOOD, "fits"),
    "raise": (LOOK, "needs more utilization"),
    "risk": (STOP, "at the cost of the host"),
    "never": (STOP, "does not fit at all"),
    "model": (LOOK, "longer than the model knows"),
}


def _table(
    given: PlanInput, table: Sequence[ContextRow], safe_length: int | None, least: float, width: int
) -> list[tuple[str, str]]:
    head, lines_of = _grid(given, table)
    widths = [max(len(name), *(len(cells[place]) for cells in lines_of)) for place, name in enumerate(head)]
    found = [(PLAIN, "  " + "  ".join(f"{name:>{size}}" for name, size in zip(head, widths, strict=True)))]
    for row, cells in zip(table, lines_of, strict=True):
        level, word = KINDS[row.verdict]
        text = "  ".join(f"{cell:>{size}}" for cell, size in zip(cells, widths, strict=True))
        found.append((level, f"  {text}  {word}"))
    if given.unified and given.cpu_kv_gib is None and safe_length is not None:
        text = _risk_text(safe_length, given.shape.max_position or table[-1].length, least)
        found += [(PLAIN, f"  {part}") for part in textwrap.wrap(text, width - 2)]
    return found


def _grid(given: PlanInput, table: Sequence[ContextRow]) -> tuple[list[str], list[list[str]]]:
    """Return head and cells of the context table, without the verdicts."""
    cpu = given.cpu_kv_gib is not None
    unified = given.unified and not cpu
    head = ["context", "KV GiB a request", "requests at once"]
    head += ["least utilization"] if not cpu else []
    head += ["host keeps then"] if unified else []
    head += ["tok/s there"] if not cpu else []
    return head, [_cells(row, cpu=cpu, unified=unified) for row in table]


def table_cells(given: PlanInput, table: Sequence[ContextRow]) -> dict[str, Any]:
    """Return head and rows of the context table, with the verdicts."""
    head, cells = _grid(given, table)
    return {"head": [*head, ""], "rows": [[*of, KINDS[row.verdict][1]] for row, of in zip(table, cells, strict=True)]}


def _cells(row: ContextRow, *, cpu: bool, unified: bool) -> list[str]:
    found = [f"{row.length:,}", f"{row.kv_gib:.2f}", f"{row.concurrency:.1f}"]
    possible = row.least_utilization is None or row.least_utilization <= 1
    if row.least_utilization is not None:
        found.append(f"{row.least_utilization:.2f}" if possible else "-")
    if unified:
        found.append(f"{row.headroom_gib:.1f}" if row.headroom_gib is not None and possible else "-")
    if not cpu:
        found.append(f"{row.decode_low:.1f} - {row.decode_high:.1f}")
    return found


def _risk_text(safe_length: int, longest: int, least: float) -> str:
    """Return from which length on unified memory is at risk."""
    if safe_length >= longest:
        return f"No length that the model knows ({longest:,}) puts the memory at risk: it holds one such request and leaves the host {least:g} GiB."
    if safe_length:
        return (
            f"The memory is at risk from {safe_length + 1:,} tokens on: a longer request asks for a utilization that leaves the host "
            f"less than {least:g} GiB."
        )
    return f"Any length puts the memory at risk: the weights alone leave the host less than {least:g} GiB."
