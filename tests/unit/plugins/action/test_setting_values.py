# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible_collections.dgx_spark.vllm.plugins.action.settings_check import role_options, value_problems

OPTIONS = {name: option for spec in role_options().values() for name, option in spec.items()}


def said(name: str, value: Any) -> list[str]:
    """Return what is said of one setting's value."""
    return value_problems(name, OPTIONS[name], {name: value})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("vllm_serve_gpu_memory_utilization", "abc", "is 'abc', expected a number: correct"),
        ("vllm_serve_max_model_len", "8k", "is '8k', expected a whole number of tokens from 1 on, or auto"),
        ("vllm_benchmark_concurrency", ["x"], "is ['x'], expected a list of whole numbers: correct"),
        ("vllm_serve_executor", "slurm", "is 'slurm', expected one of ray, mp: correct"),
        ("vllm_serve_environment", "x", "is 'x', expected a mapping"),
    ],
)
def test_a_wrong_value_has_a_sentence_of_its_own(name: str, value: Any, words: str) -> None:
    (sentence,) = said(name, value)
    assert words in sentence
    assert "<class" not in sentence


@pytest.mark.parametrize(
    ("name", "value"),
    [("vllm_serve_gpu_memory_utilization", "0.8"), ("vllm_serve_max_model_len", None), ("vllm_serve_executor", "mp")],
)
def test_a_good_value(name: str, value: Any) -> None:
    assert said(name, value) == []


def test_a_value_that_cannot_be_worked_out_is_one_line() -> None:
    class Values(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            raise AnsibleError("'x' is undefined\nsecond line")

    found = value_problems("vllm_serve_executor", OPTIONS["vllm_serve_executor"], Values())
    assert found == ["cannot be worked out: 'x' is undefined"]
