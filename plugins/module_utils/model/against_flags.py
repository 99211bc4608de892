# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the files of a downloaded model say that its flags must fit: chat template, heads, quantization."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class SnapshotError(Exception):
    """One sentence for the user."""


#: Where ModelOpt before 0.31 wrote the quantization, and vLLM looks for it (get_config in vllm/transformers_utils/config.py).
HF_QUANT = "hf_quant_config.json"
#: Names of vLLM's by those of Mistral's params.json (vllm/transformers_utils/configs/mistral.py).
_MISTRAL = {"n_heads": "num_attention_heads", "n_kv_heads": "num_key_value_heads", "n_layers": "num_hidden_layers"}


def read_config(folder: Path) -> dict[str, Any]:
    """Return the model's config.json, with the quantization that stands beside it.

    Of a repository in Mistral's own format, which has params.json instead and which vLLM reads as well, heads, layers and
    quantization by the names of config.json.

    Raises:
        SnapshotError: there is none, or it cannot be read.
    """
    path, mistral = folder / "config.json", folder / "params.json"
    if not path.is_file() and mistral.is_file():
        raw = _mapping(mistral)
        config = {name: raw[key] for key, name in _MISTRAL.items() if key in raw}
        return {**config, "quantization_config": raw.get("quantization")}
    if not path.is_file() and (held := _visible(folder)):
        raise SnapshotError(f"the repository in {folder} has no config.json, {_without_config(held)}")
    config, beside = _mapping(path), folder / HF_QUANT
    if config.get("quantization_config") or not beside.is_file():
        return config
    return {**config, "quantization_config": _mapping(beside)}


def _mapping(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read ({error.strerror}): run role model_download first") from None
    except ValueError as error:
        raise SnapshotError(f"{path} is no JSON ({error}): download the model again") from None
    if not isinstance(config, dict):
        raise SnapshotError(f"{path} holds no mapping: download the model again")
    return config


def _visible(folder: Path) -> list[str]:
    """Return the files in a folder, without hidden ones."""
    return sorted(path.name for path in folder.glob("[!.]*") if path.is_file()) if folder.is_dir() else []


def _without_config(held: list[str]) -> str:
    """Return what a repository without config.json is, and what to serve instead."""
    if "adapter_config.json" in held:
        return "it is an adapter (adapter_config.json): name the model that it belongs to, and the adapter by --lora-modules"
    if any(name.endswith(".gguf") for name in held):
        return "it holds GGUF files, made for llama.cpp: name a repository with safetensors, of the model or of a quantization that vLLM reads"
    return (
        "without which vLLM does not know the model, and no params.json of Mistral's format: name another repository or revision, "
        "or set vllm_serve_inspect_model to false where --hf-config-path among vllm_serve_extra_arguments gives the file"
    )


def read_template(folder: Path) -> str:
    """Return the chat template that a server takes from a model's folder; empty when there is none.

    As transformers does it: ``chat_template.jinja`` before ``chat_template.json`` before the entry of tokenizer_config.json;
    of several named templates the one for tools.

    Raises:
        SnapshotError: a file that cannot be read.
    """
    path = folder / "chat_template.jinja"
    try:
        if path.is_file():
            return path.read_text(encoding="utf-8")
        for name in ("chat_template.json", "tokenizer_config.json"):
            path = folder / name
            if path.is_file() and (text := _chosen(json.loads(path.read_text(encoding="utf-8")).get("chat_template"))):
                return text
    except (OSError, ValueError, AttributeError) as error:
        raise SnapshotError(f"{path} cannot be read ({error}): download the model again") from None
    return ""


def _chosen(entry: Any) -> str:
    if isinstance(entry, str):
        return entry
    named: dict[str, str] = {}
    if isinstance(entry, Mapping):
        named = {str(name): str(text) for name, text in entry.items()}
    elif isinstance(entry, list):
        named = {str(item["name"]): str(item["template"]) for item in entry}
    return named.get("tool_use") or named.get("default") or ""


def is_nvfp4(config: Mapping[str, Any]) -> bool:
    """Say whether any of a model's weights are NVFP4, in all forms that vLLM reads.

    ModelOpt writes ``quant_algo: NVFP4`` (or W4A16_NVFP4 and others), for all layers or, beside MIXED_PRECISION, for each of
    ``quantized_layers``. compressed-tensors writes ``format: nvfp4-pack-quantized``, for all or for each of ``config_groups``, and
    weights in floats of 4 bits with one scale for 16 (vllm/model_executor/layers/quantization/modelopt.py and
    compressed_tensors/compressed_tensors.py; groups of 32 are MXFP4).
    """
    inner = config.get("text_config")
    text = inner if isinstance(inner, Mapping) else {}
    keys = ("quantization_config", "compression_config")
    return any(_says_nvfp4(part.get(key)) for part in (config, text) for key in keys)


def _says_nvfp4(said: Any) -> bool:
    if not isinstance(said, Mapping):
        return False
    weights = said.get("weights")
    if isinstance(weights, Mapping) and weights.get("type") == "float" and weights.get("num_bits") == 4:
        # tensor_group is the strategy of NVFP4 alone, whose group is 16 where none is given.
        return weights.get("group_size") == 16 or weights.get("strategy") == "tensor_group"
    # A KV cache in NVFP4 makes no weights NVFP4.
    inner = [value for key, value in said.items() if not str(key).startswith("kv_cache")]
    return any("nvfp4" in value.lower() if isinstance(value, str) else _says_nvfp4(value) for value in inner)


def rank_problem(config: Mapping[str, Any], tensor_parallel_size: int, pipeline_parallel_size: int, gpus: int) -> str:
    """Return why a model's shape does not divide among the ranks, with what would; empty when it does.

    vLLM splits attention heads and KV heads evenly among the ranks of a tensor parallel group, and copies KV heads where there
    are fewer of them than ranks (vllm/config/model.py, verify_with_parallel_config). Layers need not divide.

    Args:
        config: the model's config.json, or the part of it that models/*.yml hold.
        tensor_parallel_size: ranks that share each layer.
        pipeline_parallel_size: groups of ranks that have layers of their own.
        gpus: ranks in all, for the advice.
    """
    inner = config.get("text_config")
    text = inner if isinstance(inner, Mapping) and inner else config
    found = [text.get(key) or 0 for key in ("num_attention_heads", "num_hidden_layers", "num_key_value_heads")]
    # A list is one figure a layer, which few classes have; what is no number at all is the plan's to tell.
    if not all(isinstance(value, int) for value in found):
        return ""
    heads, layers, kv_heads = found[0], found[1], found[2] or found[0]
    size = tensor_parallel_size
    if layers and pipeline_parallel_size > layers:
        return f"the model has {layers} layers, too few for pipeline_parallel_size {pipeline_parallel_size}"
    if not heads or _heads_divide(heads, kv_heads, size):
        return ""
    fits = max(n for n in range(1, size) if size % n == 0 and _heads_divide(heads, kv_heads, n))
    return (
        f"the model has {heads} attention heads and {kv_heads} KV heads, which {size} ranks cannot share evenly: set "
        f"tensor_parallel_size to {fits} and pipeline_parallel_size to {max(1, gpus // fits)}"
    )


def _heads_divide(heads: int, kv_heads: int, size: int) -> bool:
    return heads % size == 0 and (kv_heads % size == 0 if kv_heads >= size else size % kv_heads == 0)
