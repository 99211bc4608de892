# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Which files of a repository a server reads, for layouts that public repositories have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.served import unread

FIELD = Path(__file__).parents[4] / "field_cases" / "hub"
#: What is left out of each; of all others nothing is.
LEFT_OUT = {
    "bin-beside": {"pytorch_model.bin", "flax_model.msgpack", "tf_model.h5"},
    "gpt-oss-three-formats": {
        "original/model--00001-of-00001.safetensors",
        "original/model.safetensors.index.json",
        "metal/model.bin",
    },
    "mistral-consolidated": {"consolidated.safetensors"},
    "stray-shard": {"model.safetensors"},
}


@pytest.mark.parametrize("path", sorted(FIELD.glob("*.json")), ids=lambda path: path.stem)
def test_layouts_of_the_field(path: Path) -> None:
    names = [entry["path"] for entry in json.loads(path.read_text(encoding="utf-8"))["files"]]
    assert unread(names) == LEFT_OUT.get(path.stem, set())


def test_mistrals_own_format_stays_where_its_configuration_is() -> None:
    names = ["config.json", "params.json", "consolidated.safetensors", "model-00001-of-00001.safetensors"]
    assert unread(names) == set()
