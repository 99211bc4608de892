# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What must not stand in an answer's text. The formats of many models are in the cases from the field; here is what decides between them."""

from __future__ import annotations

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.leaks import leak


@pytest.mark.parametrize(
    ("text", "mark", "remedy"),
    [
        ("<think>hm</think>Paris", "<think>", "qwen3"),
        ("[THINK]hm[/THINK]Paris", "[THINK]", "mistral"),
        ("<|channel|>final<|message|>Paris", "<|channel|>", "openai_gptoss"),
        ("analysis hm assistantfinal Paris", "assistant", "openai_gptoss"),
        ("Paris<|im_end|>", "<|im_end|>", "generation_config.json"),
        ("Here is my thought process: hm", "Here is my thought process:", "granite"),
    ],
)
def test_each_mark_names_what_sets_it_right(text: str, mark: str, remedy: str) -> None:
    found = leak(text)
    assert found is not None
    assert found.mark == mark
    assert remedy in found.remedy


@pytest.mark.parametrize("text", ["", "Paris", "I think so", "a < b and c > d", "the assistant finally", "<p>HTML</p>"])
def test_what_is_for_the_reader_is_none(text: str) -> None:
    assert leak(text) is None
