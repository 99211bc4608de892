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


def read_config(folder: Path) -> dict[str, Any]:
    """Return the model's config.json.

    Raises:
        SnapshotError: there is none, or it cannot be read.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read ({error.strerror}): run role model_download first") from None
    except ValueError as error:
        raise SnapshotError(f"{path} is no JSON ({error}): download the model anew") from None
    if not isinstance(config, dict):
        raise SnapshotError(f"{path} holds no mapping: download the model anew")
    return config


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
        raise SnapshotError(f"{path} cannot be read ({error}): download the model anew") from None
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
    """Say whether a model's weights are NVFP4.

    ModelOpt writes ``quant_algo: NVFP4``, compressed-tensors ``format: nvfp4-pack-quantized``
    (vllm/model_executor/layers/quantization/modelopt.py and compressed_tensors/).
    """
    said = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config") or {}
    inner = said.get("quantization") or {}
    words = (said.get("quant_algo"), inner.get("quant_algo"), said.get("format"), said.get("quant_method"))
    return any("nvfp4" in str(word).lower() for word in words if word)


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
    text = config.get("text_config") or config
    heads, layers = int(text.get("num_attention_heads") or 0), int(text.get("num_hidden_layers") or 0)
    kv_heads = int(text.get("num_key_value_heads") or heads)
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
