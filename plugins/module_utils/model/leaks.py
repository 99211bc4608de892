# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What must not stand in the text of an answer: reasoning output, channels and control tokens, each with what sets it right.

Marks of reasoning are those of vLLM's reasoning parsers (vllm/reasoning/*.py of 0.32); the last two are in templates only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Where no parser of vLLM reads the mark.
_NO_PARSER = "vLLM has no parser for it: name the one that the model's maker ships, with --reasoning-parser-plugin"


@dataclass(frozen=True)
class Leak:
    """Something left in the text: what it is, where it begins, and what sets it right."""

    what: str
    mark: str
    remedy: str


def _parser(name: str) -> str:
    return f"set vllm_serve_reasoning_parser to {name}"


_REASONING = "reasoning came back in the text"
#: The first that is found counts: what it is, how it looks, what sets it right.
_LEAKS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    (
        "channels of harmony came back in the text",
        # The second is what is left of them where the server skips special tokens.
        re.compile(r"<\|channel\|>|<\|start\|>assistant|<\|message\|>|\bassistant(?=final|commentary|analysis)"),
        "set vllm_serve_reasoning_parser to openai_gptoss and vllm_serve_tool_call_parser to openai",
    ),
    (_REASONING, re.compile(r"</?seed:think>"), _parser("seed_oss")),
    (_REASONING, re.compile(r"</?mm:think>"), _parser("minimax_m3")),
    (_REASONING, re.compile(r"</?ifm\|think\w*>"), _parser("k2_horizon")),
    (_REASONING, re.compile(r"</?think:\w+>"), _parser("hy_v3 or hy_v4, whichever the model's card names")),
    (
        _REASONING,
        re.compile(r"</?think(ing)?>"),
        _parser("the parser that the model's card names (qwen3 and deepseek_r1 read <think>)"),
    ),
    (_REASONING, re.compile(r"\[/?THINK\]"), _parser("mistral")),
    (_REASONING, re.compile(r"<\|(START|END)_THINKING\|>"), _parser("cohere_command3 or cohere_command4")),
    (_REASONING, re.compile(r"<\|(open|close)\|>think"), _parser("kimi_k3")),
    (_REASONING, re.compile(r"<\|plamo:(begin|end)_think"), _parser("plamo3")),
    (_REASONING, re.compile(r"<\|channel>|<channel\|>"), _parser("gemma4")),
    (_REASONING, re.compile(r"Here(?:'s| is) my thought process:"), _parser("granite")),
    (
        _REASONING,
        re.compile(r"<\|inner_prefix\|>|<\|(begin|end)_of_thought\|>|\u25c1/?think\u25b7|</?(thought|reasoning)>"),
        _NO_PARSER,
    ),
    (
        "a control token came back in the text",
        re.compile(r"<[|\uff5c][^<>\s]{1,40}[|\uff5c]>|</s>|<(start|end)_of_turn>|\[/?INST\]|<\|?turn\|?>|<eos>"),
        "the model wrote past its end or was shown another model's template: compare eos_token_id in generation_config.json and "
        "the chat template with the model's repository",
    ),
)


def leak(text: str) -> Leak | None:
    """Return the first thing in an answer's text that is not for the reader; None when all of it is."""
    for what, pattern, remedy in _LEAKS:
        found = pattern.search(text)
        if found:
            return Leak(what, found.group(), remedy)
    return None
