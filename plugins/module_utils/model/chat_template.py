# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Which format of tool calls and of thoughts a chat template makes the model write, and which of vLLM's parsers read it.

A template that is taken for another is worse than one that is not recognised, so every format is told by marks that its own
parser looks for, and a template that shows none of them is no finding. The marks are the literal strings of vLLM's parsers
(vllm/tool_parsers/*.py and vllm/reasoning/*.py of 0.33) as they stand in the templates.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A way to write tool calls: marks that a template of it has all of, none of ``without``, and the parsers that read it."""

    name: str
    marks: tuple[str, ...]
    parsers: tuple[str, ...]
    without: tuple[str, ...] = ()


#: The first that fits counts: the special ones stand before those whose marks are part of theirs.
FORMATS: tuple[Format, ...] = (
    Format("harmony channels", ("<|channel|>", "commentary"), ("openai",)),
    Format("MiniMax M2's <minimax:tool_call> with <invoke>", ("<minimax:tool_call>", "<invoke"), ("minimax_m2",)),
    Format("Kimi K2's sections", ("<|tool_calls_section_begin|>",), ("kimi_k2",)),
    Format("DeepSeek's DSML", ("DSML",), ("deepseek_v32", "deepseek_v4", "deepseek_v41")),
    Format("DeepSeek V3's JSON in fences", ("tool▁calls▁begin", "tool▁call▁begin", "```json"), ("deepseek_v3",)),
    Format("DeepSeek V3.1's JSON", ("tool▁calls▁begin", "tool▁call▁begin"), ("deepseek_v31",)),
    Format("<seed:tool_call> with <function=", ("<seed:tool_call>", "<function="), ("seed_oss",)),
    Format(
        "GLM's <tool_call>name with <arg_key> and <arg_value>",
        ("<tool_call>", "<arg_key>", "<arg_value>"),
        ("glm45", "glm47", "poolside_v1", "ling3"),
    ),
    Format(
        "<tool_call> with <function= and <parameter=",
        ("<tool_call>", "<function=", "<parameter="),
        ("qwen3_coder", "qwen3_xml", "step3p5", "mimo"),
    ),
    Format(
        'Hermes\' <tool_call>{"name": ..., "arguments": ...}',
        ("<tool_call>", '"name"', '"arguments"'),
        ("hermes", "qwen3_json", "granite4", "xlam"),
        without=("<arg_key>", "<function="),
    ),
    Format("Mistral's [TOOL_CALLS]", ("[TOOL_CALLS]",), ("mistral", "xlam")),
    Format("Gemma 4's <|tool_call>", ("<|tool_call>",), ("gemma4",)),
)
#: Parsers that read a model's own description of its format instead of a fixed one.
_READS_ANY = ("hf",)

#: Both stand in a template of harmony, whose thoughts are in the channel `analysis`; its parser reads nothing else.
_HARMONY = ("<|channel|>", "analysis")
_HARMONY_PARSER = "openai_gptoss"
#: One of them stands in a template of the many models that think between these.
_THINK = ("<think>", "</think>")
#: A template with none of them, in small letters, says nothing of thinking: neither marks, nor a switch, nor what to do with older thoughts.
_THOUGHTS = ("think", "reasoning_content", "<|channel")
#: Parsers that take everything before </think> for thoughts, or look for it, and whose models all have it in their templates. Others
#: (deepseek_r1, granite, mistral, olmo3) serve models that think because they were told to, which no template shows.
_NEEDS_MARKS = ("qwen3", "glm45", "glm47", "minimax_m2", "minimax_m2_append_think", _HARMONY_PARSER)


def tool_format(template: str) -> Format | None:
    """Return the format that a template makes the model write; None when it shows none that is known."""
    # Marks stand in strings of Jinja, where quotes are escaped.
    template = template.replace('\\"', '"')
    for entry in FORMATS:
        if all(mark in template for mark in entry.marks) and not any(mark in template for mark in entry.without):
            return entry
    return None


def parser_problem(template: str, parser: str) -> str:
    """Return why a parser cannot read what a template makes the model write; empty when it can or when that is not known."""
    found = tool_format(template)
    if not parser or found is None or parser in found.parsers or parser in _READS_ANY:
        return ""
    others = f" (or {', '.join(found.parsers[1:])})" if len(found.parsers) > 1 else ""
    return (
        f"the model's chat template makes it write {found.name}, which the tool call parser {parser!r} does not read: "
        f"set vllm_serve_tool_call_parser to {found.parsers[0]}{others}"
    )


def reasoning_problem(template: str, parser: str) -> str:
    """Return why a parser of thoughts cannot fit a template; empty when it can or when that is not known.

    The parsers of <think> differ in what they make of an answer that lacks the one or the other mark, and from release to
    release. Templates do not tell these apart, so that any of them passes on a template with <think>.
    """
    if not template or not parser or parser in _READS_ANY:
        return ""
    if all(mark in template for mark in _HARMONY):
        if parser == _HARMONY_PARSER:
            return ""
        return (
            f"the model's chat template makes it think in harmony channels, which the reasoning parser {parser!r} does not read: "
            f"set vllm_serve_reasoning_parser to {_HARMONY_PARSER}"
        )
    if parser == _HARMONY_PARSER and any(mark in template for mark in _THINK):
        return (
            f"the model's chat template makes it think in <think>, which the reasoning parser {parser!r} does not read: "
            f"set vllm_serve_reasoning_parser to {_think_parsers(template)}"
        )
    if parser in _NEEDS_MARKS and not any(mark in template.lower() for mark in _THOUGHTS):
        return (
            f"the model's chat template has no marks of thinking, so that the reasoning parser {parser!r} may take whole answers for "
            "thoughts: set vllm_serve_reasoning_parser to ''"
        )
    return ""


def _think_parsers(template: str) -> str:
    """Return the parsers to name for a template with <think>: its maker's own, where the tool calls give it away."""
    found = tool_format(template)
    own = {"glm45": "glm45", "minimax_m2": "minimax_m2", "deepseek_v31": "deepseek_v3"}
    return own.get(found.parsers[0] if found else "", "qwen3 or deepseek_r1, whichever the model's card names")
