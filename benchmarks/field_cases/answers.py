# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Answers of servers that users reported, through the judges of vllm_verify."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.completion_check import (
    CheckFailed,
    Message,
    StreamReader,
    judge_text,
    judge_tool_call,
    parse_answer,
)

from benchmarks.field_cases import CASES, Row, Section

FOLDER = CASES / "sse"
#: What the questions of the cases offered, with the keys that each requires.
OFFERED = {"get_weather": ["location"], "calculate": ["expression"]}
MAX_TOKENS = 256
ABOUT = (
    "Each stream or answer of `tests/field_cases/sse` through the judges that `vllm_verify` and playbooks/verify.yml use, as the answer to a question with tools or "
    "without. Right is a failure that names the cause; the words that it must have stand under reported."
)
OPEN = (
    "The streams are kinds that users reported, rewritten without their content. No server was run for this table; docs/gpu-runs.md and the simulation have those.",
)
_MARKUP = "reported of several models: the call stays in the text where no parser, or another one, reads it"
#: By case: its source, the words for it as the answer to a plain question (empty: no such question was asked), and those beside tools.
_RIGHT: dict[str, tuple[str, str, str]] = {
    "error-with-200.json": (
        "reported: status 200 with an error in the body",
        "EngineCore encountered an issue",
        "EngineCore encountered an issue",
    ),
    "exclamation-marks.sse": ("reported of wrong kernels and broken weights: `!` without end", "repeats '!'", "kernel"),
    "finish-reason-never.sse": ("reported: a call, and no chunk ends the stream", "", "without any finish_reason"),
    "harmony-in-content.sse": (
        "reported of gpt-oss without its parsers",
        "channels of harmony",
        "vllm_serve_reasoning_parser to openai_gptoss",
    ),
    "name-in-every-chunk.sse": ("reported of a tool call parser", "", "get_weather in more than one chunk"),
    "name-with-channel-suffix.json": ("reported of gpt-oss", "", "left marks of the format in it"),
    "think-end-only-in-content.sse": (
        "reported of models whose template opens the reasoning output itself",
        "reasoning came back in the text",
        "vllm_serve_reasoning_parser to",
    ),
    "think-in-content.sse": (
        "reported without a reasoning parser",
        "reasoning came back in the text",
        "vllm_serve_reasoning_parser to",
    ),
    "reasoning-then-nothing.sse": (
        "reported: reasoning output, and no answer",
        "the whole answer came as reasoning",
        "neither text nor tool_calls",
    ),
    "tool-markup-dsml.sse": (_MARKUP, "", "vllm_serve_tool_call_parser to deepseek_v4"),
    "tool-markup-gemma4.sse": (_MARKUP, "", "vllm_serve_tool_call_parser to gemma4"),
    "tool-markup-granite.sse": (_MARKUP, "", "vllm_serve_tool_call_parser to granite"),
    "tool-markup-harmony.sse": (_MARKUP, "", "vllm_serve_tool_call_parser to openai"),
    "tool-markup-kimi-k2.sse": (_MARKUP, "", "vllm_serve_tool_call_parser to kimi_k2"),
    "tool-markup-lfm2.sse": (_MARKUP, "", "vllm_serve_tool_call_parser to lfm2"),
    "tool-markup-llama3-json.sse": (_MARKUP, "", "vllm_serve_tool_call_parser to llama3_json"),
    "tool-markup-minimax-m2.sse": (_MARKUP, "", "vllm_serve_tool_call_parser to minimax_m2"),
    "tool-markup-nemotron.sse": (_MARKUP, "", "name the one of the model's maker"),
}


def section() -> Section:
    """Return the rows of all cases."""
    return Section("Answers of servers", ABOUT, list(rows()), OPEN)


def rows() -> Iterator[Row]:
    """Return the rows of each case; a file without one is an error."""
    for path in sorted(FOLDER.iterdir()):
        source, plain, tools = _RIGHT[path.name]
        for what, words in (("a question", plain), ("a question with tools", tools)):
            if words:
                said = verdict(path, tools=words is tools)
                yield Row(path.stem, source, what, said, words, words in said)


def message_of(path: Path) -> Message:
    """Return what a client gets of a case."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return parse_answer(json.loads(text))
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return StreamReader().read([(0.0, event) for event in events]).message


def verdict(path: Path, *, tools: bool) -> str:
    """Return what is said of a case; ``passes`` where nothing is found."""
    try:
        message = message_of(path)
        if tools:
            judge_tool_call(message, OFFERED, MAX_TOKENS)
        else:
            judge_text(message, MAX_TOKENS)
    except CheckFailed as error:
        return str(error)
    return "passes"
