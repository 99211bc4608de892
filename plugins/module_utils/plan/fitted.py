# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The part of the plan that is fitted: factors to the terms of plan_arithmetic, with the runs that they come from.

The runs and the constants of this release are in plan_runs.py, written by ``python -m benchmarks.plan`` from benchmarks/gpu/runs/*.json;
a unit test fits them again. Runs are divided in two halves by a rule: one is fitted on, the other says how good that is.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

from ..model.shape import ModelShape
from .arithmetic import (
    GIB,
    MIB,
    PlanInput,
    activation_terms,
    allreduce_s,
    graph_counts,
    kv_layout,
    step_bytes,
    step_limit_s,
)
from .runs import CONSTANTS, RUNS, SHAPES

#: Memory bandwidth in GB/s by GPU, from the makers' data sheets.
BANDWIDTH_GB_S = {"H200": 4800.0, "H100": 3350.0, "GB10": 273.0}
#: A machine counts as measured when its bandwidth is within this part of that of a run.
SAME_MACHINE = 0.1
#: No fit is told to be better than this.
LEAST_SPREAD = 0.05

#: gpt-oss-120b as models/gpt-oss-120b.yml has it.
_GPT_OSS_120B: dict[str, Any] = {
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_hidden_layers": 36,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "num_local_experts": 128,
    "num_experts_per_tok": 4,
    "vocab_size": 201088,
    "attention_bias": True,
    "sliding_window": 128,
    "max_position_embeddings": 131072,
}
_MXFP4 = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
}
#: What others published for DGX Sparks. Nobody of this project measured on a GB10.
PUBLISHED: tuple[dict[str, Any], ...] = (
    {
        "model": "Qwen3-235B-A22B GPTQ-Int4",
        "tok_s": 17.0,
        "setup": "2 Sparks, TP=2 with expert parallelism, Ray, RoCE, vLLM 0.19, CUDA graphs, fp8 KV cache",
        "source": "conselara.dev/notes/dgx-spark-benchmarks (2026-05)",
        "nodes": 2,
        "cuda_graphs": "decode",
        "shape": "qwen3-235b-a22b-awq",
        "quantization": {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False},
        "kv_cache_dtype": "fp8",
    },
    {
        "model": "Qwen3-VL-235B-A22B-Instruct-NVFP4",
        "tok_s": 23.8,
        "setup": "2 Sparks, TP=2, no Ray, one HCA",
        "source": "gorlak/sparky-cluster README",
        "nodes": 2,
        "cuda_graphs": "decode",
        "shape": "qwen3-235b-a22b-awq",
        "quantization": {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]},
        "kv_cache_dtype": "auto",
    },
    {
        "model": "gpt-oss-120b",
        "tok_s": 33.0,
        "setup": "1 Spark, NVIDIA's image of vLLM 0.15.1, CUDA graphs; 33 to 34",
        "source": "NVIDIA/dgx-spark-playbooks issue 79 (2026-04)",
        "nodes": 1,
        "cuda_graphs": "decode",
        "config": _GPT_OSS_120B,
        "quantization": _MXFP4,
        "kv_cache_dtype": "auto",
    },
    {
        "model": "gpt-oss-120b",
        "tok_s": 59.0,
        "setup": "1 Spark, vLLM 0.19, CUDA graphs; what its build packs beside the experts is not said",
        "source": "conselara.dev/notes/dgx-spark-benchmarks (2026-05)",
        "nodes": 1,
        "cuda_graphs": "decode",
        "config": _GPT_OSS_120B,
        "quantization": _MXFP4,
        "kv_cache_dtype": "auto",
    },
    {
        "model": "gpt-oss-120b",
        "tok_s": 26.0,
        "setup": "1 Spark, vLLM 0.19, eager",
        "source": "conselara.dev/notes/dgx-spark-benchmarks (2026-05)",
        "nodes": 1,
        "cuda_graphs": "eager",
        "config": _GPT_OSS_120B,
        "quantization": _MXFP4,
        "kv_cache_dtype": "auto",
    },
)
#: Where nothing was published for so many Sparks and this kind of model, the range starts at this part of the least that was.
EXTRAPOLATED = 0.75
#: Seconds that the CPU of a Spark needs to launch one layer: gpt-oss-120b, 36 layers, eager on one Spark, about 26 tok/s against 59 with
#: CUDA graphs, vLLM 0.19 (conselara.dev, 2026-05). The runs on an H200 come to about the same.
PUBLISHED_LAUNCH_S = 1 / 26 / 36


@dataclass(frozen=True)
class Constants:
    """Fitted factors; mappings are by `ModelShape.kind`, or by what is read.

    Attributes:
        attention_copies, logits_copies: how often the terms of `ActivationTerms` are alive at the peak of profiling.
        non_torch_gib: memory that profiling finds outside of torch.
        graph_mib, graph_layer_mib: MiB of each whole graph, and of each of its layers.
        piecewise_layer_mib: MiB of each layer of a piecewise graph.
        bandwidth_parts: part of the bandwidth that kernels reach which read plain matrices, packed ones, plain and packed experts.
        layer_us: microseconds of a layer's step beside what it reads, with CUDA graphs.
        eager_layer_us: microseconds that the CPU needs to launch a layer without graphs.
        memory_error_gib: worst error of the KV pool on the runs that were not fitted on.
        decode_error: worst error of the decode rate of one request there, as a part; a kind that only was fitted on has twice its worst
            error there.
    """

    attention_copies: float
    logits_copies: float
    non_torch_gib: float
    graph_mib: float
    graph_layer_mib: float
    piecewise_layer_mib: float
    bandwidth_parts: Mapping[str, float]
    layer_us: Mapping[str, float]
    eager_layer_us: Mapping[str, float]
    memory_error_gib: float = 0.0
    decode_error: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One start of a real server.

    Attributes:
        name: of the run, unique.
        given: what was planned.
        gpu: name of the GPU.
        memory: GiB by what the server's log names (benchmarks/gpu/server_log.py).
        points: measured rates.
        source: where it comes from.
    """

    name: str
    given: PlanInput
    gpu: str
    memory: Mapping[str, float]
    points: Sequence[Mapping[str, float]]
    source: str


def run_from(record: Mapping[str, Any], shapes: Mapping[str, Mapping[str, Any]] = SHAPES) -> Run:
    """Return a run from its record in plan_runs.py.

    Raises:
        ValueError: the record has something that cannot be planned with; one sentence.
    """
    config = {**shapes[record["shape"]], **record.get("overrides", {})}
    intents = record["intents"]
    gpu = str(record["gpu"])
    bandwidth = next((figure for name, figure in BANDWIDTH_GB_S.items() if name in gpu), None)
    if bandwidth is None:
        raise ValueError(f"run {record['name']}: bandwidth of {gpu!r} is not known: add it to BANDWIDTH_GB_S")
    given = PlanInput(
        shape=ModelShape.from_config(config),
        memory_gib=float(record["memory_gib"]),
        memory_bandwidth_gb_s=bandwidth,
        allreduce_us=float(record.get("allreduce_us", 0.0)),
        hopper=is_hopper(bandwidth),
        **{
            name: intents[name]
            for name in (
                "tensor_parallel_size",
                "gpu_memory_utilization",
                "max_model_len",
                "max_num_seqs",
                "max_num_batched_tokens",
                "kv_cache_dtype",
                "cuda_graphs",
            )
            if intents.get(name) is not None
        },
    )
    return Run(
        str(record["name"]), given, gpu, record.get("memory", {}), record.get("points", ()), str(record["source"])
    )


def halves(runs: Iterable[Run]) -> tuple[list[Run], list[Run]]:
    """Return the runs to fit on and those to score on: every other one by name, of each kind of model."""
    kinds: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.name):
        kinds.setdefault(run.given.shape.kind, []).append(run)
    ordered = [kinds[kind] for kind in sorted(kinds)]
    return [run for part in ordered for run in part[0::2]], [run for part in ordered for run in part[1::2]]


# --- prediction ----------------------------------------------------------------------------------------------------


def activation_bytes(given: PlanInput, constants: Constants) -> float:
    """Return the peak of a profiling step beside the weights."""
    return activation_terms(given).peak(constants.attention_copies, constants.logits_copies)


def graph_bytes(given: PlanInput, constants: Constants) -> float:
    """Return what CUDA graphs take; nothing in eager mode."""
    terms = _graph_terms(given)
    return MIB * (
        terms[0] * constants.graph_mib + terms[1] * constants.graph_layer_mib + terms[2] * constants.piecewise_layer_mib
    )


def _graph_terms(given: PlanInput) -> tuple[float, float, float]:
    whole, piecewise = graph_counts(given)
    return float(whole), float(whole * given.shape.layers), float(piecewise * given.shape.layers)


def kv_available_bytes(given: PlanInput, constants: Constants, stage: int = 0) -> float:
    """Return what is left for the KV cache (v1/worker/gpu_worker.py, determine_available_memory); negative when nothing is."""
    requested = given.memory_gib * GIB * given.gpu_memory_utilization
    used = given.stage_weights(stage).total + activation_bytes(given, constants) + constants.non_torch_gib * GIB
    if given.shape.counts_graphs:
        used += graph_bytes(given, constants)
    return requested - used


def step_s(given: PlanInput, constants: Constants, concurrency: int, context: int) -> float:
    """Return the expected seconds of a decoding step on the machines of the runs.

    With graphs, reading and the rest of each layer add up. Without, the CPU launches kernel after kernel while the GPU works, so that
    the slower of the two counts.
    """
    shape = given.shape
    full = given.memory_bandwidth_gb_s * 1e9
    parts = constants.bandwidth_parts
    seconds = shape.layers * _of_kind(constants.layer_us, shape.kind) * 1e-6 + allreduce_s(given)
    for stage in step_bytes(given, concurrency, context):
        experts = parts["packed_experts" if shape.quantization.schemes else "plain_experts"]
        seconds += (stage.plain / parts["plain"] + stage.packed / parts["packed"] + stage.experts / experts) / full
        seconds += stage.cache / full
    if given.cuda_graphs == "eager":
        return max(seconds, shape.layers * _of_kind(constants.eager_layer_us, shape.kind) * 1e-6)
    return seconds


def _of_kind(table: Mapping[str, float], kind: str) -> float:
    """Return the figure of this kind, or the greatest of those with the same first word, or of all."""
    if kind in table:
        return table[kind]
    first = kind.partition("-")[0]
    return max([value for name, value in table.items() if name.startswith(first)] or table.values())


# --- the fit -------------------------------------------------------------------------------------------------------


def fit(runs: Sequence[Run]) -> Constants:
    """Return the constants that fit one half of the runs, with their errors on the other.

    Deterministic: grids, medians and least squares. What no run tells stays what it is without runs: 1.5 copies of attention's states, 4 of
    the logits, half a GiB outside of torch, 10 MiB and a tenth for each layer of a graph.

    Raises:
        ValueError: no run has a decode rate with CUDA graphs; one sentence.
    """
    fitted, scored = halves(runs)
    found = Constants(**_fit_memory(fitted), **_fit_decode(fitted))
    pools = [abs(row["kv_error_gib"]) for row in memory_scores(scored, found)]
    errors: dict[str, float] = {}
    for part, factor in ((scored, 1), (fitted, 2)):
        known = set(errors)
        for row in decode_scores(part, found):
            if row["kind"] not in known and row["concurrency"] == 1:
                errors[row["kind"]] = max(errors.get(row["kind"], 0.0), round(factor * abs(row["error"]), 3))
    return replace(
        found,
        memory_error_gib=round(max(pools, default=0.0), 3),
        decode_error={kind: errors[kind] for kind in sorted(errors)},
    )


def _fit_memory(runs: Sequence[Run]) -> dict[str, Any]:
    copies = (1.5, 4.0)
    peaks = [
        (activation_terms(run.given), run.memory["peak_activation_gib"])
        for run in runs
        if "peak_activation_gib" in run.memory
    ]
    if peaks:
        grid = [(first / 20, second / 5) for first in range(0, 81) for second in range(0, 61)]
        errors = [sum((terms.peak(*pair) / GIB - peak) ** 2 for terms, peak in peaks) for pair in grid]
        copies = grid[errors.index(min(errors))]
    outside = [run.memory["non_torch_gib"] for run in runs if "non_torch_gib" in run.memory]
    captured = [
        (_graph_terms(run.given), run.memory["graphs_estimated_gib"] * GIB / MIB)
        for run in runs
        if run.given.shape.counts_graphs and run.memory.get("graphs_estimated_gib")
    ]
    # GiB are what counts here, not parts of them: every row weighs the same.
    graphs = least_squares(captured, [10.0, 0.1, 0.05], [0.0, 0.0, 0.0], [math.inf] * 3, relative=False)
    return {
        "attention_copies": copies[0],
        "logits_copies": copies[1],
        "non_torch_gib": round(statistics.median(outside), 3) if outside else 0.5,
        "graph_mib": round(graphs[0], 3),
        "graph_layer_mib": round(graphs[1], 4),
        "piecewise_layer_mib": round(graphs[2], 4),
    }


def least_squares(
    rows: Sequence[tuple[Sequence[float], float]],
    usual: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    *,
    relative: bool = True,
) -> list[float]:
    """Return the factors within bounds that make each row's sum the row's value, in least squares.

    Args:
        rows: terms and value.
        usual: what a factor is where the rows do not tell; pulls by a thousandth of one row.
        low, high: bounds of each factor.
        relative: whether the error of a row counts as a part of its value.
    """
    found = list(usual)
    mean = statistics.fmean(value for _terms, value in rows) if rows else 1.0
    scaled = []
    for terms, value in rows:
        unit = value if relative else mean
        scaled.append(([term / unit for term in terms], value / unit))
    for place, figure in enumerate(usual):
        pull = 0.03 / figure
        scaled.append(([pull if other == place else 0.0 for other in range(len(usual))], pull * figure))
    for _turn in range(4000):
        for place in range(len(found)):
            top = bottom = 0.0
            for terms, value in scaled:
                term = terms[place]
                if term:
                    rest = (
                        value
                        - sum(other * factor for other, factor in zip(terms, found, strict=True))
                        + term * found[place]
                    )
                    top += term * rest
                    bottom += term * term
            found[place] = min(high[place], max(low[place], top / bottom))
    return found


def _decode_points(run: Run) -> list[tuple[int, int, float]]:
    """Return requests, context in the middle of the answer, and measured seconds of a step."""
    return [
        (
            int(point["concurrency"]),
            int(point["prompt_tokens"] + point["output_tokens"] / 2),
            1.0 / point["decode_tok_s_request"],
        )
        for point in run.points
        if point.get("decode_tok_s_request")
    ]


#: What is read, in the order of `_terms`.
_READ = ("plain", "packed", "plain_experts", "packed_experts")


def _fit_decode(runs: Sequence[Run]) -> dict[str, Any]:
    graphs = [run for run in runs if run.given.cuda_graphs != "eager" and _decode_points(run)]
    if not graphs:
        raise ValueError("no run to fit on has a decode rate with CUDA graphs: add one to benchmarks/gpu/runs")
    kinds = sorted({run.given.shape.kind for run in graphs})
    # Dense layers launch the same kernels whether their matrices are packed or not.
    groups = sorted({_group(kind) for kind in kinds})
    rows = []
    for run in graphs:
        packed = bool(run.given.shape.quantization.schemes)
        for concurrency, context, seconds in _decode_points(run):
            read = step_bytes(run.given, concurrency, context)
            full = run.given.memory_bandwidth_gb_s * 1e9
            experts = sum(stage.experts for stage in read) / full
            terms = [
                sum(stage.plain for stage in read) / full,
                sum(stage.packed for stage in read) / full,
                0.0 if packed else experts,
                experts if packed else 0.0,
            ]
            group = _group(run.given.shape.kind)
            terms += [run.given.shape.layers * 1e-6 if name == group else 0.0 for name in groups]
            fixed = allreduce_s(run.given) + sum(stage.cache for stage in read) / full
            rows.append((terms, seconds - fixed))
    # A kernel takes the inverse of its part of the bandwidth: at least 1, and no more than 5 times what the memory could.
    number = len(groups)
    found = least_squares(
        rows, [1.3] * 4 + [60.0] * number, [1.0] * 4 + [0.0] * number, [5.0] * 4 + [math.inf] * number
    )
    layer = dict(zip(groups, found[4:], strict=True))
    eager: dict[str, list[float]] = {}
    for run in runs:
        if run.given.cuda_graphs == "eager":
            for _concurrency, _context, seconds in _decode_points(run):
                eager.setdefault(run.given.shape.kind, []).append(seconds / run.given.shape.layers)
    return {
        "bandwidth_parts": {name: round(1 / factor, 3) for name, factor in zip(_READ, found, strict=False)},
        "layer_us": {kind: round(layer[_group(kind)], 2) for kind in kinds},
        "eager_layer_us": {kind: round(statistics.median(eager[kind]) * 1e6, 1) for kind in sorted(eager)},
    }


def _group(kind: str) -> str:
    return "dense" if kind.startswith("dense") else kind


# --- scores --------------------------------------------------------------------------------------------------------


def memory_scores(runs: Iterable[Run], constants: Constants) -> list[dict[str, Any]]:
    """Return weights and KV pool, predicted and as the server said, for each run that has them."""
    rows = []
    for run in runs:
        if "kv_cache_gib" not in run.memory:
            continue
        weights = run.given.stage_weights(0).total / GIB
        pool = kv_available_bytes(run.given, constants)
        layout = kv_layout(run.given, range(run.given.shape.layers))
        rows.append(
            {
                "run": run.name,
                "kind": run.given.shape.kind,
                "weights_gib": round(weights, 3),
                "weights_measured_gib": run.memory.get("weights_gib"),
                "weights_error": weights / run.memory["weights_gib"] - 1 if run.memory.get("weights_gib") else 0.0,
                "kv_gib": round(pool / GIB, 3),
                "kv_measured_gib": run.memory["kv_cache_gib"],
                "kv_error_gib": pool / GIB - run.memory["kv_cache_gib"],
                "kv_tokens": int(layout.concurrency(pool, run.given.length) * run.given.length),
                "kv_tokens_measured": run.memory.get("kv_cache_tokens"),
            }
        )
    return rows


def decode_scores(runs: Iterable[Run], constants: Constants) -> list[dict[str, Any]]:
    """Return decode rates of one request, predicted and measured, for each point of each run."""
    rows = []
    for run in runs:
        for concurrency, context, seconds in _decode_points(run):
            expected = step_s(run.given, constants, concurrency, context)
            rows.append(
                {
                    "run": run.name,
                    "kind": run.given.shape.kind,
                    "concurrency": concurrency,
                    "context": context,
                    "tok_s": round(1 / expected, 1),
                    "measured_tok_s": round(1 / seconds, 1),
                    "error": seconds / expected - 1,
                }
            )
    return rows


# --- what this release ships ---------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def shipped_runs() -> tuple[Run, ...]:
    """Return the runs behind the shipped constants."""
    return tuple(run_from(record) for record in RUNS)


def shipped() -> Constants:
    """Return the constants of this release."""
    return Constants(**CONSTANTS)


def as_record(constants: Constants) -> dict[str, Any]:
    """Return constants as plain data."""
    return asdict(constants)


def is_hopper(bandwidth_gb_s: float) -> bool:
    """Return whether this is the memory bandwidth of an H100 or H200."""
    return any(abs(BANDWIDTH_GB_S[name] / bandwidth_gb_s - 1) <= SAME_MACHINE for name in ("H100", "H200"))


def measured_machine(bandwidth_gb_s: float) -> str | None:
    """Return the GPU of the runs that has this bandwidth, or None when nobody measured on such a one."""
    for run in shipped_runs():
        if abs(run.given.memory_bandwidth_gb_s / bandwidth_gb_s - 1) <= SAME_MACHINE:
            return run.gpu
    return None


@lru_cache(maxsize=1)
def published_efficiency() -> dict[tuple[int, str], tuple[float, float]]:
    """Return by Sparks and kind of model the least and the greatest part of the limit that published figures with graphs reach.

    All-reduces count with 40 us. No part is above 1: a figure above the limit read fewer bytes than are counted.
    """
    found: dict[tuple[int, str], list[float]] = {}
    for entry in PUBLISHED:
        if entry["cuda_graphs"] == "eager":
            continue
        base = entry["config"] if "config" in entry else SHAPES[entry["shape"]]
        given = PlanInput(
            shape=ModelShape.from_config({**base, "quantization_config": entry["quantization"]}),
            memory_gib=121.69,
            tensor_parallel_size=entry["nodes"],
            nodes=entry["nodes"],
            kv_cache_dtype=entry["kv_cache_dtype"],
        )
        parts = found.setdefault((entry["nodes"], given.shape.kind), [])
        parts.append(min(1.0, entry["tok_s"] * step_limit_s(given)))
    return {key: (min(parts), max(parts)) for key, parts in found.items()}


def efficiency_of(given: PlanInput) -> tuple[float, float, str]:
    """Return the parts of the limit to expect on Sparks, and what they rest on."""
    known = published_efficiency()
    sparks = "one Spark" if given.nodes == 1 else "two Sparks"
    if (given.nodes, given.shape.kind) in known:
        low, high = known[given.nodes, given.shape.kind]
        return (
            low,
            high,
            f"not measured on this machine: the part of the limit that published figures of {sparks} reach",
        )
    low = EXTRAPOLATED * known[2, "moe-packed"][0]
    return low, 1.0, "not measured on this machine: extrapolated from 235B on two Sparks, up to the limit"


def expected_tok_s(given: PlanInput, concurrency: int = 1, context: int = 0) -> tuple[float, float, str]:
    """Return the expected decode rate of one request as a range, and what it rests on."""
    constants = shipped()
    machine = measured_machine(given.memory_bandwidth_gb_s)
    if machine is not None:
        rate = 1 / step_s(given, constants, concurrency, context)
        margin = min(0.9, max(LEAST_SPREAD, _of_kind(constants.decode_error, given.shape.kind)))
        return (1 - margin) * rate, (1 + margin) * rate, f"fitted on {len(shipped_runs())} runs on {machine}"
    low, high, basis = efficiency_of(given)
    limit = 1.0 / step_limit_s(given, concurrency, context)
    if given.cuda_graphs != "eager":
        return low * limit, high * limit, basis
    # At best the GPU works while the CPU launches and the slower of the two counts, at worst both add up.
    launch = given.shape.layers * PUBLISHED_LAUNCH_S
    slow, fast = 1 / (1 / (low * limit) + launch), min(high * limit, 1 / launch)
    return min(slow, fast), fast, f"{basis}, and what launching a layer took on one"
