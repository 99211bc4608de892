# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm_flags import ServeIntents, serve_command


def intents(**changes: Any) -> ServeIntents:
    return ServeIntents(
        **{"model_path": "/srv/models/m", "served_model_name": "qwen3-235b-awq", "tensor_parallel_size": 2, **changes}
    )


def test_the_executor_is_always_named() -> None:
    command = serve_command(intents())
    assert command[:3] == ["vllm", "serve", "/srv/models/m"]
    assert "--distributed-executor-backend ray" in " ".join(command)


def test_the_seeds_settings_become_flags() -> None:
    command = " ".join(
        serve_command(
            intents(
                max_model_len=8192,
                gpu_memory_utilization=0.75,
                enforce_eager=True,
                trust_remote_code=True,
                tool_call_parser="hermes",
            )
        )
    )
    for flag in (
        "--port 8235",
        "--max-model-len 8192",
        "--gpu-memory-utilization 0.75",
        "--enforce-eager",
        "--trust-remote-code",
        "--enable-auto-tool-choice --tool-call-parser hermes",
    ):
        assert flag in command
    assert "swap" not in command


def test_no_parser_no_tool_choice() -> None:
    assert "--enable-auto-tool-choice" not in serve_command(intents())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tensor_parallel_size": 0}, "tensor_parallel_size"),
        ({"gpu_memory_utilization": 75}, "between 0.1 and 0.98"),
        ({"max_model_len": 0}, "at least 1"),
    ],
)
def test_bad_intents(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        intents(**change)
