# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The fit behind the planner's constants: runs of real servers, divided in two halves by a rule; one is fitted on, the other says how good that is.

``python -m benchmarks.plan`` writes what comes of it to plugins/module_utils/plan/constants.py; a unit test fits again and compares.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.shape import ModelShape
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.arithmetic import (
    GIB,
    MIB,
    PlanInput,
    activation_terms,
    allreduce_s,
    kv_layout,
    step_bytes,
    step_limit_s,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.fitted import (
    BANDWIDTH_GB_S,
    Constants,
    graph_terms,
    is_hopper,
    kv_available_bytes,
    step_s,
)

FOLDER = Path(__file__).resolve().parent / "gpu"
#: Public cases that the plan is held against.
CASES = Path(__file__).resolve().parents[1] / "tests" / "field_cases" / "plan"

#: Keys of a config.json that no arithmetic reads.
UNREAD = (
    "architectures",
    "initializer_range",
    "use_cache",
    "router_aux_loss_coef",
    "output_router_logits",
    "torch_dtype",
    "dtype",
)

#: Rates of one request that were written down from earlier starts on H200 GPUs; their logs are not kept. 128 prompt tokens, 256 new
#: ones, greedy, vLLM 0.26.0, `--max-num-seqs 32`. All-reduces over NVLink are taken for 10 us. Rates of several requests are left
#: out: whether their prompts differed, and with them the experts, was not written down.
EARLIER: tuple[tuple[str, int, str, str, float], ...] = (
    ("earlier-1-decode", 1, "decode", "auto", 80.1),
    ("earlier-1-decode-fp8", 1, "decode", "fp8", 75.9),
    ("earlier-2-decode", 2, "decode", "auto", 87.2),
    ("earlier-2-decode-mp", 2, "decode", "auto", 87.3),
    ("earlier-2-eager", 2, "eager", "auto", 9.7),
)
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


def run_from(record: Mapping[str, Any], shapes: Mapping[str, Mapping[str, Any]]) -> Run:
    """Return a run from its record.

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


def earlier_records() -> list[dict[str, Any]]:
    """Return the earlier rates as records."""
    return [
        {
            "name": name,
            "shape": "qwen3-235b-a22b-awq",
            "gpu": "NVIDIA H200",
            "memory_gib": 139.8,
            "allreduce_us": 10.0 if tensor > 1 else 0.0,
            "intents": {
                "tensor_parallel_size": tensor,
                "cuda_graphs": graphs,
                "kv_cache_dtype": kv,
                "max_num_seqs": 32,
                "max_model_len": 8192,
                "gpu_memory_utilization": 0.95,
            },
            "points": [
                {"concurrency": 1, "prompt_tokens": 128, "output_tokens": 256, "decode_tok_s_request": rate},
            ],
            "source": "figures written down from an earlier start, vLLM 0.26.0, random weights",
        }
        for name, tensor, graphs, kv, rate in EARLIER
    ]


def record_of(path: Path, shapes: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Return a run's file as a record; None for one that failed."""
    run = json.loads(path.read_text(encoding="utf-8"))
    if run.get("status") != "ok" or run.get("shape") not in shapes:
        return None
    base = shapes[run["shape"]]
    memory = run.get("memory", {})
    intents = {
        key: value
        for key, value in run["intents"].items()
        if value is not None and key not in {"load_format", "executor", "safetensors_load_strategy"}
    }
    batched = run.get("effective", {}).get("max_num_batched_tokens")
    if batched:
        intents.setdefault("max_num_batched_tokens", batched)
    return {
        "name": run["name"],
        "shape": run["shape"],
        "overrides": {
            key: value
            for key, value in run["config"].items()
            if key not in UNREAD and not key.startswith("_") and base.get(key) != value
        },
        "gpu": run["gpu"]["name"],
        "memory_gib": memory.get("total_gib") or round(float(run["gpu"]["memory_mib"]) / 1024, 2),
        "intents": intents,
        "memory": {key: value for key, value in memory.items() if key != "kv_cache_bytes_left"},
        "points": [
            {key: point[key] for key in ("concurrency", "prompt_tokens", "output_tokens", "decode_tok_s_request")}
            for point in run.get("points", [])
            if point.get("decode_tok_s_request")
        ],
        "source": f"benchmarks/gpu/runs/{path.name}, vLLM {run.get('versions', {}).get('vllm', 'unknown')}, random weights",
    }


def halves(runs: Iterable[Run]) -> tuple[list[Run], list[Run]]:
    """Return the runs to fit on and those to score on: every other one by name, of each kind of model."""
    kinds: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.name):
        kinds.setdefault(run.given.shape.kind, []).append(run)
    ordered = [kinds[kind] for kind in sorted(kinds)]
    return [run for part in ordered for run in part[0::2]], [run for part in ordered for run in part[1::2]]


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
        (graph_terms(run.given), run.memory["graphs_estimated_gib"] * GIB / MIB)
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


# --- what a release ships ------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def shapes() -> dict[str, dict[str, Any]]:
    """Return the configs of benchmarks/gpu/shapes by name, without what no arithmetic reads."""
    found = {}
    for path in sorted((FOLDER / "shapes").glob("*.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        found[path.stem] = {
            key: value for key, value in config.items() if key not in UNREAD and not key.startswith("_")
        }
    return found


@lru_cache(maxsize=1)
def recorded_runs() -> tuple[Run, ...]:
    """Return all runs: the files of benchmarks/gpu/runs, and what was written down earlier."""
    records = [record for path in sorted((FOLDER / "runs").glob("*.json")) if (record := record_of(path, shapes()))]
    return tuple(run_from(record, shapes()) for record in [*records, *earlier_records()])


def measured_machines(runs: Iterable[Run]) -> dict[str, dict[str, float]]:
    """Return the GPUs of the runs with their bandwidth and how many runs there are."""
    found: dict[str, dict[str, float]] = {}
    for run in runs:
        machine = found.setdefault(run.gpu, {"bandwidth_gb_s": run.given.memory_bandwidth_gb_s, "runs": 0})
        machine["runs"] += 1
    return found


def published_parts() -> list[dict[str, Any]]:
    """Return what others published, with the kind of model and the part of the limit that it reaches; none for eager.

    All-reduces count with 40 us. No part is above 1: a figure above the limit read fewer bytes than are counted.
    """
    found = []
    for entry in PUBLISHED:
        base = entry["config"] if "config" in entry else shapes()[entry["shape"]]
        given = PlanInput(
            shape=ModelShape.from_config({**base, "quantization_config": entry["quantization"]}),
            memory_gib=121.69,
            tensor_parallel_size=entry["nodes"],
            nodes=entry["nodes"],
            kv_cache_dtype=entry["kv_cache_dtype"],
        )
        eager = entry["cuda_graphs"] == "eager"
        found.append(
            {
                **{key: entry[key] for key in ("model", "tok_s", "setup", "source", "nodes")},
                "kind": given.shape.kind,
                "part_of_limit": None if eager else round(min(1.0, entry["tok_s"] * step_limit_s(given)), 4),
            }
        )
    return found


def unified_starts(constants: Constants) -> list[dict[str, Any]]:
    """Return the published starts on unified memory: the pool that the server logged, and the one that is counted."""
    found = []
    for path in sorted(CASES.glob("*.json")):
        case = json.loads(path.read_text(encoding="utf-8"))
        if "memory_gib" not in case["input"]:
            continue
        given = PlanInput(shape=ModelShape.from_config(case["config"]), **case["input"])
        counted = round(kv_available_bytes(given, constants) / GIB, 2)
        for key, figure in case["reported"].items():
            if key.startswith("kv_cache_gib"):
                rank = key.removeprefix("kv_cache_gib").replace("_", " ")
                found.append({"start": f"{path.stem}{rank}", "counted_gib": counted, "kv_cache_gib": figure})
    return found


def as_record(constants: Constants) -> dict[str, Any]:
    """Return constants as plain data."""
    return asdict(constants)
