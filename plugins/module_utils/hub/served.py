# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Which of a repository's files a server reads: the weights of one format, and all that is no weights.

vLLM reads the weights in the snapshot's own folder (vllm/model_executor/model_loader/default_loader.py), safetensors before
pickles; of safetensors the shards of model.safetensors.index.json, where there is one. Others keep the same weights in more
formats beside them: the maker's own (``original/``, ``consolidated*.safetensors``), another framework's, another machine's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

INDEX = "model.safetensors.index.json"
#: Of Mistral's own format, which vLLM prefers where its configuration is there too.
_MISTRAL = re.compile(r"consolidated[\w.-]*\.safetensors(\.index\.json)?")
_MISTRAL_CONFIG = "params.json"
_SHARD = re.compile(r".*-\d+-of-\d+\.safetensors")
#: Weights in formats that nobody reads where safetensors are there.
_OTHERS = (
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".onnx",
    ".onnx_data",
    ".ot",
    ".gguf",
    ".tflite",
    ".mlmodel",
    ".npz",
)


def unread(names: Iterable[str]) -> set[str]:
    """Return the names of weights that a server does not read; empty where they are in one format only.

    Adapters, tokenizers, configurations and code are never among them.
    """
    every = set(names)
    own = {
        name for name in every if "/" not in name and name.endswith(".safetensors") and not name.startswith("adapter_")
    }
    mistral = {name for name in own if _MISTRAL.fullmatch(name)}
    plain = own - mistral
    if not own:
        return set()
    gone = {name for name in every if name.endswith(_OTHERS)}
    # Copies in folders below; a snapshot whose own folder has no weights, but an index that names some below, was left alone above.
    gone |= {name for name in every if "/" in name and name.endswith((".safetensors", ".safetensors.index.json"))}
    if plain and _MISTRAL_CONFIG not in every:
        gone |= {name for name in every if _MISTRAL.fullmatch(name)}
    shards = {name for name in plain if _SHARD.fullmatch(name)}
    if INDEX in every and shards:
        gone |= plain & {"model.safetensors"}
    return gone
