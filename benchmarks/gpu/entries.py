# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The list of configurations, and what one of them becomes: a model's folder, the server's command, the head of its result."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.flags import ServeIntents, render

HERE = Path(__file__).resolve().parent
MODEL = "shape"


def configurations(path: Path) -> list[dict[str, Any]]:
    """Return the list in a file, each with the file's defaults filled in."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    defaults = document.get("defaults", {})
    merged = []
    for entry in document["configurations"]:
        whole = {**copy.deepcopy(defaults), **entry}
        for key in ("intents", "environment"):
            whole[key] = {**defaults.get(key, {}), **entry.get(key, {})}
        merged.append(whole)
    names = [entry["name"] for entry in merged]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} has more than one configuration called {', '.join(twice)}")
    return merged


def model_config(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the config.json of a configuration's model: its shape with the overrides."""
    shape: dict[str, Any] = json.loads((HERE / "shapes" / f"{entry['shape']}.json").read_text(encoding="utf-8"))
    shape.pop("_source", None)
    shape.update(entry.get("overrides", {}))
    return shape


def write_model(folder: Path, config: dict[str, Any]) -> None:
    """Write config.json and a tokenizer that knows every id of the vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    words = {f"w{index}": index for index in range(config["vocab_size"])}
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "w2",
        "unk_token": "w0",
        "model_max_length": config.get("max_position_embeddings", 32768),
        "chat_template": "{% for message in messages %}{{ message['content'] }} {% endfor %}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def intents_of(entry: dict[str, Any], folder: str, port: int, host: str = "127.0.0.1") -> ServeIntents:
    """Return what the server is to be, for this collection's flags."""
    return ServeIntents(
        model_path=folder,
        served_model_name=MODEL,
        host=host,
        port=port,
        extra_arguments=[str(argument) for argument in entry.get("arguments", [])],
        **entry["intents"],
    )


def command_of(entry: dict[str, Any], folder: str, port: int) -> list[str]:
    """Return the server's command as this collection renders it."""
    return render(intents_of(entry, folder, port)).command


def blank(entry: dict[str, Any], config: dict[str, Any], command: list[str], folder: str) -> dict[str, Any]:
    """Return the result of a configuration that has not run yet."""
    return {
        "name": entry["name"],
        "status": "failed",
        "reason": "",
        "purpose": entry.get("purpose", ""),
        "shape": entry.get("shape", ""),
        "config": config,
        "intents": entry["intents"],
        "arguments": entry.get("arguments", []),
        "environment": entry["environment"],
        "command": [MODEL if part == folder else part for part in command],
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "points": [],
    }


def versions() -> dict[str, str]:
    """Return the versions of what runs, as far as this Python knows them."""
    import importlib.metadata

    found = {}
    for name in ("vllm", "torch", "ray", "flashinfer-python", "transformers", "triton"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
