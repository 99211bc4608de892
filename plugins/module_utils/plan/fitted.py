# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The part of the plan that is fitted: what comes of the terms of arithmetic.py with the factors of constants.py.

The runs behind the factors, and the fit, are in benchmarks/ (plan_fit.py); ``python -m benchmarks.plan`` writes constants.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .arithmetic import (
    GIB,
    MIB,
    PlanInput,
    activation_terms,
    allreduce_s,
    graph_counts,
    step_bytes,
    step_limit_s,
)
from .constants import CONSTANTS, MEASURED, PUBLISHED

#: Memory bandwidth in GB/s by GPU, from the makers' data sheets.
BANDWIDTH_GB_S = {"H200": 4800.0, "H100": 3350.0, "GB10": 273.0}
#: A machine counts as measured when its bandwidth is within this part of that of a run.
SAME_MACHINE = 0.1
#: No fit is told to be better than this.
LEAST_SPREAD = 0.05
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


# --- prediction ----------------------------------------------------------------------------------------------------


def activation_bytes(given: PlanInput, constants: Constants) -> float:
    """Return the peak of a profiling step beside the weights."""
    return activation_terms(given).peak(constants.attention_copies, constants.logits_copies)


def graph_bytes(given: PlanInput, constants: Constants) -> float:
    """Return what CUDA graphs take; nothing in eager mode."""
    terms = graph_terms(given)
    return MIB * (
        terms[0] * constants.graph_mib + terms[1] * constants.graph_layer_mib + terms[2] * constants.piecewise_layer_mib
    )


def graph_terms(given: PlanInput) -> tuple[float, float, float]:
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


# --- what this release ships ---------------------------------------------------------------------------------------


def shipped() -> Constants:
    """Return the constants of this release."""
    return Constants(**CONSTANTS)


def is_hopper(bandwidth_gb_s: float) -> bool:
    """Return whether this is the memory bandwidth of an H100 or H200."""
    return any(abs(BANDWIDTH_GB_S[name] / bandwidth_gb_s - 1) <= SAME_MACHINE for name in ("H100", "H200"))


def measured_machine(bandwidth_gb_s: float) -> str | None:
    """Return the GPU of the runs that has this bandwidth, or None when nobody measured on such a one."""
    for gpu, machine in MEASURED.items():
        if abs(machine["bandwidth_gb_s"] / bandwidth_gb_s - 1) <= SAME_MACHINE:
            return gpu
    return None


def published_efficiency() -> dict[tuple[int, str], tuple[float, float]]:
    """Return by Sparks and kind of model the least and the greatest part of the limit that published figures with graphs reach."""
    found: dict[tuple[int, str], list[float]] = {}
    for entry in PUBLISHED:
        if entry["part_of_limit"] is not None:
            found.setdefault((entry["nodes"], entry["kind"]), []).append(entry["part_of_limit"])
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
        return (1 - margin) * rate, (1 + margin) * rate, f"fitted on {MEASURED[machine]['runs']} runs on {machine}"
    low, high, basis = efficiency_of(given)
    limit = 1.0 / step_limit_s(given, concurrency, context)
    if given.cuda_graphs != "eager":
        return low * limit, high * limit, basis
    # At best the GPU works while the CPU launches and the slower of the two counts, at worst both add up.
    launch = given.shape.layers * PUBLISHED_LAUNCH_S
    slow, fast = 1 / (1 / (low * limit) + launch), min(high * limit, 1 / launch)
    return min(slow, fast), fast, f"{basis}, and what launching a layer took on one"
