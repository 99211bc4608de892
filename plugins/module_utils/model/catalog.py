# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Models as data: where their files are, which keys they have."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Keys of a model file: type, and whether it must be there. docs/models.md explains them.
KEYS: dict[str, tuple[type | tuple[type, ...], bool]] = {
    "repo_id": (str, True),
    "revision": (str, True),
    "served_name": (str, True),
    "tool_call_parser": (str, False),
    "reasoning_parser": (str, False),
    "max_model_len": (int, False),
    "trust_remote_code": (bool, False),
    "enforce_eager": (bool, False),
    "speculative": (dict, False),
    "extra_arguments": (list, False),
    "ignore_patterns": (list, False),
    "weights_gib": ((int, float), False),
    "parameters_billion": ((int, float), False),
    "quantization": (str, False),
    "nodes": (int, False),
    "min_vllm": (str, False),
    "config": (dict, False),
    "license": (str, False),
    "unverified": (list, False),
    "tool_prompt": (str, False),
    "notes": (str, False),
}
#: Kinds of weights that a model file may name; what they need of a node is in runtime_policy.py.
QUANTIZATIONS = ("bf16", "fp8", "awq", "gptq", "int4", "mxfp4", "nvfp4")
#: The model of `make demo`, which nobody with a Spark means.
SIMULATED = "tiny-qwen3-moe"
_VERSION = re.compile(r"^\d+\.\d+(\.\d+)?$")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


class ModelDataError(Exception):
    """One sentence for the user."""


def find_model(name: str, folders: Sequence[Path]) -> Path:
    """Return the file of a model, the first that is found.

    Raises:
        ModelDataError: no such model; the sentence names those that exist.
    """
    if _NAME.match(name):
        for folder in folders:
            path = folder / f"{name}.yml"
            if path.is_file():
                return path
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yml")})
    meant = [model for model in known if model != SIMULATED]
    # Names of one family share their beginning: a guess must share more than that.
    near = difflib.get_close_matches(name, meant, n=1, cutoff=0.72)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ModelDataError(
        f"spark_model is {name!r}, but there is no such model: {hint}known are {', '.join(known) or 'none'}; "
        "write models/<name>.yml beside the inventory to add one"
    )


def check_model(data: Any, path: Path) -> dict[str, Any]:
    """Return a model's data once every key is known and of the right type.

    Raises:
        ModelDataError: one sentence that names the file and the key.
    """
    if not isinstance(data, dict):
        raise ModelDataError(f"{path} holds no mapping: write `key: value` lines as in docs/models.md")
    for key, value in data.items():
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, n=1)
            raise ModelDataError(
                f"{path}: key {key!r} is unknown{f', did you mean {near[0]!r}?' if near else ''}; known are {', '.join(KEYS)}"
            )
        kind = KEYS[key][0]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ModelDataError(f"{path}: {key} is {value!r}, expected {_kind_name(kind)}")
    for key, (_kind, required) in KEYS.items():
        if required and not data.get(key):
            raise ModelDataError(f"{path}: {key} is missing: add it")
    _check_values(data, path)
    return dict(data)


def _check_values(data: dict[str, Any], path: Path) -> None:
    quantization = data.get("quantization")
    if quantization is not None and quantization not in QUANTIZATIONS:
        raise ModelDataError(f"{path}: quantization is {quantization!r}, expected one of {', '.join(QUANTIZATIONS)}")
    if "min_vllm" in data and not _VERSION.match(data["min_vllm"]):
        raise ModelDataError(f"{path}: min_vllm is {data['min_vllm']!r}, expected a version such as 0.20.0")
    for key in ("max_model_len", "nodes"):
        if key in data and data[key] < 1:
            raise ModelDataError(f"{path}: {key} is {data[key]}, expected at least 1")
    for key in ("extra_arguments", "ignore_patterns", "unverified"):
        if not all(isinstance(entry, str) for entry in data.get(key, [])):
            raise ModelDataError(f"{path}: {key} holds something that is no text: quote each entry")
    if "config" in data and not data["config"].get("model_type"):
        raise ModelDataError(f"{path}: config has no model_type: copy it from the model's config.json")


def node_problem(name: str, data: Mapping[str, Any], nodes: int) -> str:
    """Return why a model needs more nodes than there are; empty when there are enough or it does not say."""
    wanted = int(data.get("nodes") or 1)
    if wanted <= nodes:
        return ""
    return (
        f"spark_model is {name!r}, whose weights take {wanted} Sparks, and the inventory has {nodes}: "
        "add nodes to group 'workers' or choose a smaller model (docs/models.md)"
    )


def _kind_name(kind: type | tuple[type, ...]) -> str:
    names = {
        str: "a text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        dict: "a mapping",
        list: "a list",
    }
    return names[kind[-1]] if isinstance(kind, tuple) else names[kind]
