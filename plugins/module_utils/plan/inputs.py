# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What is planned with, from settings and files: one reading for role vllm_plan and for module vllm_memory_plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..model.against_flags import HF_QUANT
from ..model.shape import ModelShape, odd_keys
from .arithmetic import PlanInput
from .fitted import is_hopper
from .pool import record_of

#: Fields of PlanInput by the type that a setting may have as text.
FIELDS: dict[str, type] = {
    "tensor_parallel_size": int,
    "pipeline_parallel_size": int,
    "nodes": int,
    "gpu_memory_utilization": float,
    "max_model_len": int,
    "max_num_seqs": int,
    "max_num_batched_tokens": int,
    "kv_cache_dtype": str,
    "cuda_graphs": str,
    "weights_bytes": int,
    "memory_bandwidth_gb_s": float,
    "allreduce_us": float,
    "expert_parallel": bool,
    "cpu_kv_gib": float,
    "rope_override": bool,
    "prefix_caching": bool,
    "speculative_tokens": int,
    "speculative_method": str,
    "kv_cache_memory_bytes": int,
    "stated_weights_bytes": int,
    "available_gib": float,
}
_WORDS = {int: "a whole number", float: "a number"}
#: What stands in the place of a context length for the longest that fits.
AUTO = "auto"


def fields_of(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as PlanInput takes them; what is empty or 0 is left out.

    Raises:
        ValueError: a name is unknown or a value has another type; one sentence.
    """
    found: dict[str, Any] = {}
    for name, value in raw.items():
        if name not in FIELDS:
            raise ValueError(f"plan has {name!r}, known are {', '.join(FIELDS)}")
        kind = FIELDS[name]
        if name == "max_model_len" and value == AUTO:
            found["fit_length"] = True
            continue
        # A bool that is no is a setting; empty text is none of any type.
        if value in (None, "") or (kind is not bool and value in (0, "0") and name != "allreduce_us"):
            continue
        if kind is bool:
            found[name] = str(value).lower() in {"true", "yes", "on", "1"}
            continue
        try:
            found[name] = kind(value)
        except (TypeError, ValueError):
            more = f" or {AUTO}" if name == "max_model_len" else ""
            raise ValueError(f"plan has {name}: {value!r}, expected {_WORDS.get(kind, 'a text')}{more}") from None
    return found


def input_of(
    config: Mapping[str, Any],
    memory_gib: float,
    raw: Mapping[str, Any],
    *,
    model: str = "",
    measured: Mapping[str, Any] | None = None,
) -> PlanInput:
    """Return what is planned: the model of this config.json on GPUs of so much memory, with these settings.

    Args:
        config: content of config.json.
        memory_gib: of one GPU.
        raw: settings, see FIELDS.
        model: name of the model; a record of another one does not count.
        measured: record of the machines' last start, as it was written.

    Raises:
        ValueError: the config or a setting cannot be planned with; one sentence.
    """
    with odd_keys():
        given = PlanInput(
            shape=ModelShape.from_config(config),
            memory_gib=memory_gib,
            measured=record_of(measured or {}, model),
            **fields_of(raw),
        )
    return replace(given, hopper=is_hopper(given.memory_bandwidth_gb_s))


def config_of(path: Path, where: str) -> dict[str, Any]:
    """Return a config.json, with the content of hf_quant_config.json beside it where it has no quantization itself, as vLLM reads it.

    Args:
        path: of config.json.
        where: the machine whose path it is, for the message.

    Raises:
        ValueError: a file cannot be read or holds something else; one sentence.
    """
    config, beside = mapping_of(path, "config_path", where), path.parent / HF_QUANT
    if config.get("quantization_config") or not beside.is_file():
        return config
    return {**config, "quantization_config": mapping_of(beside, "config_path", where)}


def mapping_of(path: Path, option: str, where: str) -> dict[str, Any]:
    """Return the mapping in a JSON file.

    Args:
        path: of the file.
        option: that named it.
        where: the machine whose path it is, for the message.

    Raises:
        ValueError: it cannot be read or holds something else; one sentence.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{option} {path} cannot be read: {error.strerror}; give a path on {where}") from None
    except ValueError as error:
        raise ValueError(f"{option} {path} is no JSON: {error}; download it again") from None
    if not isinstance(found, dict):
        raise ValueError(f"{option} {path} holds no mapping: give the file of the model's repository")
    return found


def index_bytes(path: Path, where: str) -> int:
    """Return the bytes of all weights, as model.safetensors.index.json says them.

    Raises:
        ValueError: it cannot be read or does not say it; one sentence.
    """
    size = (mapping_of(path, "index_path", where).get("metadata") or {}).get("total_size")
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"index_path {path} has no metadata.total_size: give weights_bytes, or leave both out")
    return size


def account_of(looks: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the memory of the node that has least available: GiB by name (available, page_cache, swap_used, swap_total); empty where none was looked at.

    Args:
        looks: what module node_preflight_info returned of each node. One on which a server of ours runs is left out: what it holds is what is planned.
    """
    looked = [node for node in looks.values() if not node.get("serving") and node.get("memory_available_gib")]
    if not looked:
        return {}
    least = min(looked, key=lambda node: float(node["memory_available_gib"]))
    names = {
        "available": "memory_available_gib",
        "page_cache": "page_cache_gib",
        "swap_used": "swap_used_gib",
        "swap_total": "swap_total_gib",
    }
    return {name: float(least.get(key) or 0.0) for name, key in names.items()}


def record_in(looks: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the record of the last start that one of the nodes keeps, as it was written; empty for none."""
    return next((node["vllm_start"] for node in looks.values() if node.get("vllm_start")), {})
