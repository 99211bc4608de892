# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a model class says where its config.json is silent; whole models are in test_shape.py."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.families import (
    FAMILIES,
    FULL,
    LINEAR,
    NONE,
    SLIDING,
    attention_kinds,
    nemotron_pattern,
    number,
    positive,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.quantization import ShapeError


@pytest.mark.parametrize(
    ("kind", "text", "kinds"),
    [
        ("mamba2", {}, (LINEAR,) * 4),
        ("qwen3_next", {}, (LINEAR, LINEAR, LINEAR, FULL)),
        ("qwen3_next", {"full_attention_interval": 2}, (LINEAR, FULL, LINEAR, FULL)),
        ("gpt_oss", {"layer_types": ["sliding_attention", "full_attention"] * 2}, (SLIDING, FULL, SLIDING, FULL)),
        ("qwen3", {"sliding_window": 8}, (FULL,) * 4),
        (
            "qwen3",
            {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 3},
            (FULL, FULL, FULL, SLIDING),
        ),
        ("mistral", {"sliding_window": 8}, (SLIDING,) * 4),
        ("nemotron_h", {"hybrid_override_pattern": "M-*E"}, (LINEAR, NONE, FULL, NONE)),
    ],
)
def test_what_each_layer_remembers(kind: str, text: dict[str, Any], kinds: tuple[str, ...]) -> None:
    assert attention_kinds(text, kind, 4, FAMILIES[kind]) == kinds


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("gpt_oss", {"layer_types": ["full_attention"]}, "has 1 entries, but num_hidden_layers is 4"),
        ("gpt_oss", {"layer_types": ["strange"] * 4}, "layer_types of config.json has 'strange'"),
        ("nemotron_h", {}, "hybrid_override_pattern is missing"),
        ("nemotron_h", {"hybrid_override_pattern": "MX"}, "has 'X'"),
    ],
)
def test_a_config_that_contradicts_itself_is_one_sentence(kind: str, text: dict[str, Any], words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        attention_kinds(text, kind, 4, FAMILIES[kind])


def test_numbers_of_a_config() -> None:
    assert nemotron_pattern({"layers_block_type": ["mamba", "moe"]}) == ["mamba", "moe"]
    assert positive({"a": None, "b": 3}, "a", "b") == 3
    assert (number({"x": "1.5"}, "x", 2.0), number({}, "x", 2.0)) == (1.5, 2.0)
    for wrong in (0, True, "3", 1.5):
        with pytest.raises(ShapeError, match=r"a of config\.json is"):
            positive({"a": wrong}, "a")
    for wrong in (0, True, "x", float("inf")):
        with pytest.raises(ShapeError, match="expected a number above 0"):
            number({"a": wrong}, "a", 1.0)
    with pytest.raises(ShapeError, match="a is missing"):
        positive({}, "a")
