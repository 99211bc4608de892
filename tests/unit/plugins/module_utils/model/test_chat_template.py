# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Excerpts are the lines of real templates by which their format is known; the simulation's template is Qwen3's, whole.

The 70 templates that llama-cpp-python 0.3.36 carries were judged as well (docs/models.md).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.chat_template import (
    FORMATS,
    parser_problem,
    reasoning_problem,
    tool_format,
)

QWEN3 = (Path(__file__).parents[5] / "simulation" / "model" / "chat_template.jinja").read_text(encoding="utf-8")
#: invented: as short as a template of the format can be.
EXCERPTS = {
    "hermes": '{{ "<tool_call>\\n{\\"name\\": <name>, \\"arguments\\": <args>}\\n</tool_call>" }}',
    "qwen3_coder": "<tool_call>\n<function=example>\n<parameter=one>\nvalue\n</parameter>\n</function>\n</tool_call>",
    "glm45": "<tool_call>{function-name}\n<arg_key>{k}</arg_key>\n<arg_value>{v}</arg_value>\n</tool_call>",
    "minimax_m2": '<minimax:tool_call>\n<invoke name="tool">\n<parameter name="p">v</parameter>',
    "openai": "<|start|>assistant<|channel|>commentary to=functions.x",
    "kimi_k2": "<|tool_calls_section_begin|><|tool_call_begin|>",
    "seed_oss": "<seed:tool_call>\n<function=f>\n<parameter=p>",
    "deepseek_v3": "<\uff5ctool▁calls▁begin\uff5c><\uff5ctool▁call▁begin\uff5c>function<\uff5ctool▁sep\uff5c>f\n```json",
    "deepseek_v31": "<\uff5ctool▁calls▁begin\uff5c><\uff5ctool▁call▁begin\uff5c>f<\uff5ctool▁sep\uff5c>{}",
    "deepseek_v32": "<\uff5cDSML\uff5cfunction_calls>",
    "mistral": "[TOOL_CALLS][{",
    "gemma4": "<|tool_call>call:f{}<tool_call|>",
}


@pytest.mark.parametrize("parser", EXCERPTS)
def test_each_format_is_known_and_read_by_its_own_parser_alone(parser: str) -> None:
    found = tool_format(EXCERPTS[parser])
    assert found is not None
    assert found.parsers[0] == parser
    for other in EXCERPTS:
        assert bool(parser_problem(EXCERPTS[parser], other)) == (other not in found.parsers)


def test_every_format_has_an_excerpt() -> None:
    assert sorted(EXCERPTS) == sorted(entry.parsers[0] for entry in FORMATS)


def test_qwen3_writes_what_hermes_reads() -> None:
    assert parser_problem(QWEN3, "hermes") == parser_problem(QWEN3, "qwen3_json") == ""
    said = parser_problem(QWEN3, "qwen3_xml")
    assert "set vllm_serve_tool_call_parser to hermes (or qwen3_json" in said


@pytest.mark.parametrize("template", ["", "{{ messages }}", "{% if tools %}{{ tools }}{% endif %}"])
def test_what_is_not_known_is_no_finding(template: str) -> None:
    assert tool_format(template) is None
    assert parser_problem(template, "hermes") == ""


def test_a_parser_that_reads_any_format() -> None:
    assert parser_problem(EXCERPTS["glm45"], "hf") == ""
    assert parser_problem(EXCERPTS["glm45"], "") == ""


#: invented: as short as a template with these marks can be.
THINKS = {
    "qwen3": "{%- if enable_thinking is false %}{{ '<think>\n\n</think>' }}{%- endif %}" + EXCERPTS["hermes"],
    "glm45": "{{ '<think></think>' }}" + EXCERPTS["glm45"],
    "minimax_m2": "{{ ']~b]ai' ~ '<think>' }}" + EXCERPTS["minimax_m2"],
    "deepseek_r1": "{% set content = content.split('</think>')[-1] %}",
    "deepseek_v3": "{{ '</think>' }}" + EXCERPTS["deepseek_v31"],
}
HARMONY = "<|start|>assistant<|channel|>analysis<|message|>" + EXCERPTS["openai"]


@pytest.mark.parametrize("template", THINKS.values(), ids=THINKS)
def test_parsers_of_think_pass_on_each_other_and_harmonys_does_not(template: str) -> None:
    for parser in THINKS:
        assert reasoning_problem(template, parser) == ""
    assert "think in <think>, which the reasoning parser 'openai_gptoss'" in reasoning_problem(
        template, "openai_gptoss"
    )


@pytest.mark.parametrize("parser", ["glm45", "minimax_m2", "deepseek_v3"])
def test_the_makers_own_parser_is_named(parser: str) -> None:
    said = reasoning_problem(THINKS[parser], "openai_gptoss")
    assert said.endswith(f"set vllm_serve_reasoning_parser to {parser}")


def test_harmony_is_read_by_its_own_parser_alone() -> None:
    assert reasoning_problem(HARMONY, "openai_gptoss") == ""
    for parser in (*THINKS, "mistral"):
        assert reasoning_problem(HARMONY, parser).endswith("set vllm_serve_reasoning_parser to openai_gptoss")


@pytest.mark.parametrize("parser", ["qwen3", "glm45", "minimax_m2", "openai_gptoss"])
def test_a_template_without_marks_of_thinking(parser: str) -> None:
    said = reasoning_problem(QWEN3, parser)
    assert "no marks of thinking" in said
    assert said.endswith("set vllm_serve_reasoning_parser to ''")


@pytest.mark.parametrize("parser", ["deepseek_r1", "mistral", "granite", "olmo3", "hf", ""])
def test_of_a_parser_whose_templates_show_nothing_nothing_is_said(parser: str) -> None:
    assert reasoning_problem(QWEN3, parser) == ""


@pytest.mark.parametrize("template", ["", "{{ '[THINK]' }}", "{{ m.reasoning_content }}", "{{ '<seed:think>' }}"])
def test_another_mark_of_thinking_is_no_finding(template: str) -> None:
    assert reasoning_problem(template, "qwen3") == ""
