# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Does it fit, what does the memory hold, and how fast should it be: the plan of one server before it is started.

Arithmetic comes from arithmetic.py, what is fitted from fitted.py; here both become answers with reasons.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..model.families import LINEAR
from . import fitted
from .arithmetic import GIB, KvLayout, PlanInput, graph_counts, kv_bytes_per_token, kv_layout, step_limit_s
from .pool import Pool, pool

#: GiB of unified memory that a Spark uses outside of vLLM's budget. Seen idle: MemTotal 127,600,748 kB, about 118.6e6 kB available, so
#: 8.6 GiB. The rest is assumed, not measured: Ray, vLLM's processes, CUDA context and NCCL's buffers, which vLLM does not count.
HOST_GIB = 12.5
#: GiB that must stay free on unified memory: one pair ran out of memory at about 6 under load and was clean from about 11 on
#: (gorlak/sparky-cluster).
MIN_HEADROOM_GIB = 11.0
#: GiB that Ray, vLLM's processes, CUDA context and NCCL add to what an idle machine uses: the assumed part of HOST_GIB.
PROCESSES_GIB = 3.9
#: GiB of the process of a CPU rank beside weights and KV space. Assumed, not measured.
CPU_PROCESS_GIB = 1.5
#: Context lengths of the table that users ask for.
CONTEXTS = (8192, 16384, 32768, 65536, 131072, 262144)
#: Tokens of one request below which a length that the memory decides is worth a word: the default.
USEFUL_LENGTH = 8192


@dataclass(frozen=True)
class MemoryPlan:
    """What comes of a server. GiB are of one rank, on the fullest one.

    Attributes:
        weights_gib_per_rank: weights as vLLM holds them.
        kv_bytes_per_token_per_rank: growth of a request with each token.
        kv_cache_gib_per_rank: the KV pool; of a range its low end, which decides.
        kv_cache_gib_range: low and high, and what they rest on (basis).
        max_num_seqs_possible: most requests at the same time that the server starts with; None where nothing bounds them.
        kv_cache_tokens: tokens of the pool, as vLLM counts them for requests of max_model_len.
        max_concurrency: requests of max_model_len that the pool holds.
        max_model_len_possible: longest request that the pool holds, at most what the model knows.
        host_headroom_gib: what unified memory keeps beside vLLM and the system; None where the GPU has memory of its own.
        fits: whether the server starts and, where memory is shared with the host, leaves it the headroom.
        decode_tok_s_limit: tokens a second of one request by memory bandwidth and all-reduces alone.
        decode_tok_s_expected: low and high.
        reasons: sentences: what does not fit or is at risk, and what to change.
        details: how the figures come about.
    """

    weights_gib_per_rank: float
    kv_bytes_per_token_per_rank: float
    kv_cache_gib_per_rank: float
    kv_cache_tokens: int
    max_concurrency: float
    max_model_len_possible: int
    host_headroom_gib: float | None
    fits: bool
    decode_tok_s_limit: float
    decode_tok_s_expected: dict[str, float]
    reasons: list[str]
    cuda_graphs: str = "eager"
    kv_cache_gib_range: dict[str, Any] = field(default_factory=dict)
    max_num_seqs_possible: int | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class _Stage:
    """One pipeline stage's ranks: bytes of the weights, the KV pool, and how it is cut."""

    weights: float
    pool: Pool
    layout: KvLayout

    @property
    def available(self) -> float:
        """Bytes left for KV: the low end, which decides."""
        return self.pool.low


def _stages(given: PlanInput, constants: fitted.Constants) -> list[_Stage]:
    return [
        _Stage(given.stage_weights(number).total, pool(given, constants, number), kv_layout(given, layers))
        for number, layers in enumerate(given.shape.stages(given.pipeline_parallel_size))
    ]


def host_use_gib(given: PlanInput, host_gib: float) -> float:
    """Return what the system and the serving processes take: as stated, or more where the machine is seen to hold more already."""
    if given.available_gib is None or not given.unified or given.cpu_kv_gib is not None:
        return host_gib
    return round(max(host_gib, given.memory_gib - given.available_gib + PROCESSES_GIB), 2)


def headroom_gib(given: PlanInput, host_gib: float, stages: Sequence[_Stage]) -> float | None:
    """Return what a machine with unified memory keeps; None where the GPU has memory of its own.

    A GPU's rank takes its part whole, because the KV pool fills it, or weights, step and the pool that was set; a CPU's rank takes weights,
    KV space and its process.
    """
    each = math.ceil(given.ranks / given.nodes)
    if given.cpu_kv_gib is not None:
        return (
            given.memory_gib
            - host_gib
            - each * (max(stage.weights for stage in stages) / GIB + given.cpu_kv_gib + CPU_PROCESS_GIB)
        )
    if not given.unified:
        return None
    constants = fitted.shipped()
    graphs = fitted.graph_bytes(given, constants) / GIB
    if given.kv_cache_memory_bytes is not None:
        step = fitted.activation_bytes(given, constants) / GIB + constants.non_torch_gib + graphs
        taken = max(stage.weights for stage in stages) / GIB + step + given.kv_cache_memory_bytes / GIB
        return given.memory_gib - host_gib - each * taken
    # Graphs that vLLM does not take off the pool come on top of its part.
    beside = 0.0 if given.shape.counts_graphs else graphs
    return given.memory_gib * (1 - each * given.gpu_memory_utilization) - host_gib - each * beside


def safe_utilization(given: PlanInput, host_gib: float, min_headroom_gib: float) -> float:
    """Return the greatest gpu_memory_utilization, in hundredths, that leaves a unified machine its headroom."""
    each = math.ceil(given.ranks / given.nodes)
    return max(0.0, math.floor((1 - (host_gib + min_headroom_gib) / given.memory_gib) / each * 100 + 1e-9) / 100)


def plan(given: PlanInput, *, host_gib: float = HOST_GIB, min_headroom_gib: float = MIN_HEADROOM_GIB) -> MemoryPlan:
    """Return the plan.

    Args:
        given: what is to be planned.
        host_gib: GiB that the system and the serving processes take beside vLLM's budget.
        min_headroom_gib: GiB that unified memory must keep; with less the plan does not fit.
    """
    constants = fitted.shipped()
    span = fitting_lengths(given, constants) if given.fit_length else None
    if span:
        # Where nothing fits one token is planned, which says what is missing.
        given = replace(given, max_model_len=max(1, span[0]))
    # How weights are read must not change with what else happens to run: that keeps to what is stated.
    loading = _load_available(given, host_gib, min_headroom_gib)
    host_gib = host_use_gib(given, host_gib)
    stages = _stages(given, constants)
    fullest = min(stages, key=lambda stage: stage.available)
    length = given.length
    concurrency = min(stage.layout.concurrency(stage.available, length) for stage in stages)
    known = given.known_length or max(given.shape.max_position, length)
    possible = min(stage.layout.longest(stage.available, max(known, length)) for stage in stages)
    headroom = headroom_gib(given, host_gib, stages)
    held = concurrency >= 1 and (given.cpu_kv_gib is None or (headroom or 0.0) >= 0)
    most = _most_sequences(given, stages)
    # Left to vLLM, the number of requests is its own choice, and too many of them end the start all the same.
    legal = most is None or given.sequences <= most
    admitted = _admitted(given)
    fits = held and legal and admitted and length <= known and (headroom is None or headroom >= min_headroom_gib)
    low, high, basis = fitted.expected_tok_s(given)
    limit = 1 / step_limit_s(given)
    # A fit's margin can reach over the limit, reality cannot.
    high, low = min(high, limit), min(low, limit)
    reasons = _reasons(given, stages, possible, held, safe_utilization(given, host_gib, min_headroom_gib))
    reasons += _start_reasons(given, most if held and not legal else None, admitted)
    reasons += _headroom_reasons(given, headroom, host_gib, min_headroom_gib)
    reasons += _notes(given)
    if span and held and span[0] < min(USEFUL_LENGTH, given.shape.default_positions or USEFUL_LENGTH):
        reasons.append(
            f"max_model_len is auto, and the low end of the KV pool holds no more than {span[0]} tokens of one request: where that is too short, "
            "raise gpu_memory_utilization or set kv_cache_dtype to fp8"
        )
    return MemoryPlan(
        weights_gib_per_rank=round(max(stage.weights for stage in stages) / GIB, 2),
        kv_bytes_per_token_per_rank=round(kv_bytes_per_token(given), 1),
        kv_cache_gib_per_rank=round(max(0.0, fullest.available) / GIB, 2),
        kv_cache_tokens=int(concurrency * length),
        max_concurrency=round(concurrency, 2),
        max_model_len_possible=min(possible, known),
        host_headroom_gib=None if headroom is None else round(headroom, 2),
        fits=fits,
        decode_tok_s_limit=round(limit, 1),
        decode_tok_s_expected={"low": round(low, 1), "high": round(high, 1)},
        reasons=reasons,
        cuda_graphs=given.cuda_graphs,
        kv_cache_gib_range={
            "low": round(max(0.0, fullest.pool.low) / GIB, 2),
            "high": round(max(0.0, fullest.pool.high) / GIB, 2),
            "basis": fullest.pool.basis,
        },
        max_num_seqs_possible=most,
        details={
            "parameters": given.shape.parameter_count(),
            "draft_parameters": given.shape.draft_parameter_count(),
            "active_parameters": given.shape.active_parameter_count(),
            "quantization": given.shape.quantization.label,
            "max_model_len": length,
            "max_model_len_high": span[1] if span else length,
            "max_num_seqs": given.sequences,
            "max_num_batched_tokens": given.batched_tokens,
            "kv_gib_per_request": round(_request_gib(stages, length), 3),
            "activation_gib": 0.0
            if given.cpu_kv_gib is not None
            else round(fitted.activation_bytes(given, constants) / GIB, 2),
            "graphs_gib": round(fitted.graph_bytes(given, constants) / GIB, 2),
            "graphs": sum(graph_counts(given)),
            "non_torch_gib": constants.non_torch_gib,
            "kv_error_gib": constants.memory_error_gib if fullest.pool.basis == "counted" else 0.0,
            "block_tokens": fullest.layout.block_tokens,
            "blocks": fullest.layout.blocks(fullest.available),
            "blocks_per_request": fullest.layout.blocks_per_request(length),
            "prefix_caching": given.caches_prefixes,
            "host_gib": host_gib,
            "load_available_gib": loading,
            "expected_from": basis,
            "published": [
                {key: entry[key] for key in ("model", "tok_s", "setup", "source")}
                for entry in fitted.PUBLISHED
                if entry["nodes"] == given.nodes
            ],
        },
    )


def fitting_lengths(given: PlanInput, constants: fitted.Constants) -> tuple[int, int]:
    """Return the longest request that the low and the high end of the KV pool hold, as vLLM looks for it with --max-model-len auto.

    (_auto_fit_max_model_len in vllm/v1/core/kv_cache_utils.py: from the model's positions downwards, the least of all ranks.)
    """
    stages = _stages(given, constants)
    known = given.shape.default_positions or given.length
    low, high = (
        min(stage.layout.longest(getattr(stage.pool, end), known) for stage in stages) for end in ("low", "high")
    )
    return low, high


def _most_sequences(given: PlanInput, stages: Sequence[_Stage]) -> int | None:
    """Return the most requests at the same time that models with states start with; None for others.

    Each needs a block when graphs of decoding steps are captured (resolve_cudagraph_mode_and_sizes in vllm/config/compilation.py).
    """
    if (
        LINEAR not in given.shape.attention
        or given.cuda_graphs not in {"decode", "full"}
        or given.cpu_kv_gib is not None
    ):
        return None
    return max(1, min(stage.layout.blocks(stage.available) for stage in stages))


def _admitted(given: PlanInput) -> bool:
    """Return whether vLLM finds the memory that it asks for before it loads anything (request_memory in vllm/v1/worker/utils.py)."""
    if given.available_gib is None or not given.unified or given.cpu_kv_gib is not None:
        return True
    each = math.ceil(given.ranks / given.nodes)
    return each * given.gpu_memory_utilization * given.memory_gib <= given.available_gib


def _start_reasons(given: PlanInput, most: int | None, admitted: bool) -> list[str]:
    """Return what ends a start beside a pool that is too small."""
    found = []
    if most is not None:
        found.append(
            f"max_num_seqs is {given.sequences}{'' if given.max_num_seqs else ' (what vLLM takes when nothing is set)'}, but the KV pool has {most} blocks "
            f"and each request of a model with states needs one: set max_num_seqs to at most {most}"
        )
    if not admitted:
        each = math.ceil(given.ranks / given.nodes)
        least = math.floor((given.available_gib or 0.0) / given.memory_gib / each * 100) / 100
        found.append(
            f"vLLM asks for {each * given.gpu_memory_utilization * given.memory_gib:.1f} GiB before it starts (gpu_memory_utilization "
            f"{given.gpu_memory_utilization:g}) and the machine has {given.available_gib or 0.0:.1f} of {given.memory_gib:.1f} GiB available: stop what else "
            f"runs there, or set gpu_memory_utilization to at most {least:g}"
        )
    return found


def _notes(given: PlanInput) -> list[str]:
    """Return what is to be known of the figures, whether they fit or not."""
    found = list(given.shape.notes)
    if given.countable is False and given.shape.known:
        found.append(
            f"the quantization {given.shape.quantization.label!r} is not known: its weights are taken from the bytes of the files"
        )
    if given.speculative_tokens and not given.draft_layers and given.speculative_method != "ngram":
        found.append(
            f"speculative decoding by {given.speculative_method}: the draft model's weights and KV cache are not counted; leave room for them"
        )
    return found


def _load_available(given: PlanInput, host_gib: float, least: float) -> float | None:
    """Return the GiB that a machine with unified memory has for loading, beside weights, system and headroom; None for others.

    The KV pool is not there yet while weights are read.
    """
    if given.cpu_kv_gib is not None or not given.unified:
        return None
    each = math.ceil(given.ranks / given.nodes)
    weights = each * max(given.stage_weights(stage).total for stage in range(given.pipeline_parallel_size)) / GIB
    return round(max(0.0, given.memory_gib - weights - host_gib - least), 2)


def _request_gib(stages: Sequence[_Stage], length: int) -> float:
    return max(stage.layout.blocks_per_request(length) * stage.layout.block_bytes for stage in stages) / GIB


def _reasons(given: PlanInput, stages: Sequence[_Stage], possible: int, held: bool, safe: float) -> list[str]:
    """Return why the server does not start, and what to change; more than ``safe`` is not advised where the host shares the memory.

    ``held`` says whether the memory holds one request.
    """
    found = []
    known = given.known_length
    if known and given.length > known:
        text = f"max_model_len is {given.length}, but the model knows {known} positions (max_position_embeddings)"
        if 0 < possible < known:
            text += f" and the memory holds {possible}"
        found.append(f"{text}: set it to {min(possible, known) or known} or less")
        # A shorter request is advised already, and that one fits.
        if possible:
            return found
    if held:
        return found
    fullest = min(stages, key=lambda stage: stage.available)
    need = _request_gib(stages, given.length)
    # What a server of one such request would need.
    wanted = (
        math.ceil(
            (given.gpu_memory_utilization + need / given.memory_gib - fullest.available / GIB / given.memory_gib) * 100
        )
        / 100
    )
    raised = []
    if given.cpu_kv_gib is None and wanted <= (safe if given.unified else 1.0):
        raised.append(f"raise gpu_memory_utilization to {wanted:g}")
    if given.cpu_kv_gib is None and fullest.available <= 0:
        requested = given.memory_gib * given.gpu_memory_utilization
        other = requested - (fullest.weights + fullest.available) / GIB
        ways = [*raised, "add nodes", "choose a smaller model or quantization"]
        return [
            *found,
            f"the weights take {fullest.weights / GIB:.1f} GiB on each of {given.ranks} GPU{'s' if given.ranks > 1 else ''} and a step {other:.1f} GiB, "
            f"but vLLM may take {requested:.1f} of {given.memory_gib:.1f} GiB (gpu_memory_utilization {given.gpu_memory_utilization:g}): "
            + ", or ".join(ways),
        ]
    if need * GIB <= fullest.available:
        # Only a CPU's memory can be too small for a pool that holds the request.
        return [
            *found,
            f"{given.memory_gib:.1f} GiB of memory do not hold {fullest.weights / GIB:.1f} GiB of weights, {given.cpu_kv_gib:g} GiB of KV space "
            "and the processes: lower the KV space or choose a smaller model",
        ]
    ways = [f"lower max_model_len to {possible} or less"] if possible else []
    if given.cache_type == "auto" and need / 2 * GIB <= fullest.available:
        ways.append("set kv_cache_dtype to fp8, which halves it")
    ways += raised
    if given.cpu_kv_gib is not None:
        ways.append("raise the KV space")
    ways.append("add nodes")
    found.append(
        f"one request of {given.length} tokens needs {need:.2f} GiB of KV cache on each rank, {max(0.0, fullest.available) / GIB:.2f} GiB are left: "
        + ", or ".join(ways)
    )
    return found


def _headroom_reasons(given: PlanInput, headroom: float | None, host_gib: float, least: float) -> list[str]:
    if headroom is None or headroom >= least:
        return []
    if given.cpu_kv_gib is not None:
        remedy = "lower the KV space or give the machine more memory"
    else:
        safe = safe_utilization(given, host_gib, least)
        remedy = f"set gpu_memory_utilization to at most {safe:g}" if safe > 0 else "take machines with more memory"
    return [
        f"the host keeps {headroom:.1f} GiB of {given.memory_gib:.1f} GiB beside vLLM and its own {host_gib:g} GiB, {least:g} GiB keep unified memory "
        f"alive: {remedy}"
    ]


@dataclass(frozen=True)
class ContextRow:
    """One length of the context table.

    Attributes:
        length: tokens of a request.
        kv_gib: KV cache of one such request on each rank.
        concurrency: such requests at the same time at the given utilization.
        least_utilization: what one such request needs; None on a CPU.
        headroom_gib: what the host keeps at that; None where the GPU has memory of its own.
        verdict: "fits", "raise" (with more utilization), "risk" (at the cost of the headroom), "never", or "model" (beyond what it knows).
        decode_low, decode_high: expected tokens a second of one request at that length.
    """

    length: int
    kv_gib: float
    concurrency: float
    least_utilization: float | None
    headroom_gib: float | None
    verdict: str
    decode_low: float
    decode_high: float


def context_table(
    given: PlanInput,
    lengths: Sequence[int] = CONTEXTS,
    *,
    host_gib: float = HOST_GIB,
    min_headroom_gib: float = MIN_HEADROOM_GIB,
) -> list[ContextRow]:
    """Return what each length takes, whether it fits, and what the host keeps when vLLM takes no more than one such request needs."""
    constants = fitted.shipped()
    host_gib = host_use_gib(given, host_gib)
    rows = []
    for length in lengths:
        at = replace(given, max_model_len=length)
        stages = _stages(at, constants)
        need = _request_gib(stages, length)
        concurrency = min(stage.layout.concurrency(stage.available, length) for stage in stages)
        fullest = min(stages, key=lambda stage: stage.available)
        utilization: float | None = None
        headroom: float | None = None
        if at.cpu_kv_gib is None:
            missing = need - fullest.available / GIB
            utilization = math.ceil((at.gpu_memory_utilization + missing / at.memory_gib) * 1000) / 1000
            headroom = headroom_gib(
                replace(at, gpu_memory_utilization=min(1.0, max(1e-3, utilization))), host_gib, stages
            )
        else:
            headroom = headroom_gib(at, host_gib, stages)
        if given.known_length and length > given.known_length:
            verdict = "model"
        elif utilization is not None and utilization > 1:
            verdict = "never"
        elif headroom is not None and headroom < min_headroom_gib:
            verdict = "risk"
        else:
            verdict = "fits" if concurrency >= 1 else "raise"
        low, high, _basis = fitted.expected_tok_s(at, 1, length)
        limit = 1 / step_limit_s(at, 1, length)
        rows.append(
            ContextRow(length, need, concurrency, utilization, headroom, verdict, min(low, limit), min(high, limit))
        )
    return rows


def risk_from(
    given: PlanInput, *, host_gib: float = HOST_GIB, min_headroom_gib: float = MIN_HEADROOM_GIB
) -> int | None:
    """Return the longest request that the memory can hold while the host keeps its headroom; None where it is no question.

    Longer ones ask for a gpu_memory_utilization that puts unified memory at risk.
    """
    if not given.unified or given.cpu_kv_gib is not None:
        return None
    utilization = safe_utilization(given, host_use_gib(given, host_gib), min_headroom_gib)
    if utilization <= 0:
        return 0
    at = replace(given, gpu_memory_utilization=utilization)
    stages = _stages(at, fitted.shipped())
    limit = given.known_length or max(given.shape.max_position, *CONTEXTS)
    return min(stage.layout.longest(stage.available, limit) for stage in stages)
