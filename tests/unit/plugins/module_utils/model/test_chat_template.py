# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Excerpts are the lines of real templates by which their format is known; the simulation's template is Qwen3's, whole.

The templates that llama-cpp-python 0.3.36 and vllm 0.33.0 carry were judged as well (docs/templates.md).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.chat_template import (
    FORMATS,
    call_in_text,
    literals,
    parser_marks,
    parser_note,
    parser_problem,
    reasoning_problem,
    tool_format,
)

QWEN3 = (Path(__file__).parents[5] / "simulation" / "model" / "chat_template.jinja").read_text(encoding="utf-8")
FIELD = Path(__file__).parents[4] / "field_cases" / "templates"
RECORDED = Path(__file__).parents[1] / "fixtures" / "vllm_parsers"
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
    "deepseek_v4": "<\uff5cDSML\uff5ctool_calls>",
    "deepseek_v41": "<\uff5cDSML\uff5c calls>",
    "minimax_m3": "{%- set ns_token = ']<]minimax[>[' -%}{{ ns_token ~ '<tool_call>' }}{{ ns_token + '<invoke name=' }}",
    "muse_glimmer": '<atem:function_calls>\n<atem:invoke name="f">',
    "kimi_k3": "<|open|>tools<|sep|><|close|>",
    "plamo3": "<|plamo:begin_tool_requests:plamo|><|plamo:begin_tool_request:plamo|>",
    "step3": "<\uff5ctool_calls_begin\uff5c><steptml:invoke>",
    "hy_v3": "{{ '<tool_calls{}><tool_call{}><tool_sep{}><arg_key{}>'.format(x) }}",
    "hy_v4": "<tool_calls:a><tool_call:a><arg_key:a>",
    "k2_horizon": "<ifm|tool_calls><ifm|tool_call>",
    "minicpm5": '<function name="f"><param name="p">v</param></function>',
    "dots": "<dots_function_call><invoke name=f>",
    "longcat": "<longcat_tool_call>f",
    "functiongemma": "<start_function_call>call:f{}<end_function_call>",
    "olmo3": "<function_calls>f()</function_calls>",
    "inkling": "<|content_invoke_tool_json|>",
    "hunyuan_a13b": '\u52a9\u624b\uff1a<tool_calls>[{"name": "f", "arguments": {}}]</tool_calls>',
    "jamba": '<|bom|><tool_calls>[{"name": "f", "arguments": {}}]</tool_calls>',
    "cohere_command4": "<|START_TEXT|><|START_ACTION|>[",
    "cohere_command3": "<|START_ACTION|>[",
    "apertus": '<|tools_prefix|>[{"f": {}}]',
    "lfm2": '<|tool_call_start|>[f(a="b")]',
    "gigachat3": "function call<|role_sep|>\n",
    "internlm": "<|action_start|><|plugin|>",
    "granite": '<|tool_call|>[{"name": "f"}]',
    "granite-20b-fc": "<function_call> {",
    "phi4_mini_json": "functools[{",
    "llama4_pythonic": "<|python_start|>[f()]",
    "llama4_json": '{{ \'<|header_start|>system\' }}{"name": function name, "parameters": dictionary of its arguments}',
    "pythonic": "{{- 'Use the format [func_name1(params_name1=params_value1...), func_name2(params)]' }}",
    "xlam": '[{"name": "tool_call_name", "arguments": {"arg1": "value1"}}, ...]',
    "llama3_json": '<|python_tag|>{"name": "f", "parameters": {}}',
}
#: Parsers whose excerpt is no call, or a call without the token of its own that tells it.
UNTOLD = ("jamba", "hunyuan_a13b", "gigachat3", "llama4_json", "pythonic", "xlam")
#: What no parser of vLLM 0.33 reads.
UNREAD = {
    "Nemotron's <TOOLCALL>[...]": '<TOOLCALL>[{"name": "f", "arguments": {}}]</TOOLCALL>',
    "<tool_calls>[...]": 'objects within <tool_call></tool_call> XML tags\n<tool_calls>[{"name": "f", "arguments": {}}]</tool_calls>',
    "MiniMax M1's <tool_calls> with a JSON a line": '<tool_calls>\\n{"name": "f", "arguments": {}}\\n</tool_calls>',
    "Solar's <|tool_call:begin|>": "<|tool_call:begin|>x<|tool_call:name|>",
    "functionary's >>>name": "{{ '>>>all\\n' + message['content'] }}",
    "<function=name>{...}</function>": "<function=f>{}</function>",
    "Command R's Action: with tool_name": 'Action:\n```json\n[{"tool_name": "f", "parameters": {}}]',
}


@pytest.mark.parametrize("parser", EXCERPTS)
def test_each_format_is_known_and_read_by_its_own_parser_alone(parser: str) -> None:
    found = tool_format(EXCERPTS[parser])
    assert found is not None
    assert found.parsers[0] == parser
    for other in EXCERPTS:
        assert bool(parser_problem(EXCERPTS[parser], other)) == (other not in (*found.parsers, *found.also))


@pytest.mark.parametrize("name", UNREAD)
def test_what_no_parser_reads(name: str) -> None:
    found = tool_format(UNREAD[name])
    assert found is not None
    assert found.name == name
    said = parser_problem(UNREAD[name], "hermes")
    assert "--tool-parser-plugin" in said
    assert "or set vllm_serve_tool_call_parser to ''" in said


def test_every_format_has_an_excerpt() -> None:
    found = {tool_format(text) for text in (*EXCERPTS.values(), *UNREAD.values())}
    # Two entries are second marks of one format, and DeepSeek's DSML without a name after it is for templates that hide it.
    rest = [entry for entry in FORMATS if entry not in found]
    assert [entry.name for entry in rest] == [
        "DeepSeek's DSML",
        "LFM2's <|tool_call_start|>",
        "GigaChat's <|function_call|>",
        'Llama\'s {"name": ..., "parameters": ...}',
        "Llama 4's Python calls in a list",
    ]


def test_every_parser_that_is_named_is_one_of_vllms() -> None:
    known = {name for path in RECORDED.glob("*.json") for name in json.loads(path.read_text())["tool_parsers"]}
    assert {name for entry in FORMATS for name in (*entry.parsers, *entry.also)} - known == set()


def test_dsml_is_several_formats() -> None:
    for name, parser, other in (
        ("dsml-v32", "deepseek_v32", "deepseek_v4"),
        ("dsml-v4", "deepseek_v4", "deepseek_v32"),
    ):
        template = (FIELD / f"{name}.jinja").read_text(encoding="utf-8")
        assert parser_problem(template, parser) == ""
        assert parser_problem(template, other).endswith(f"set vllm_serve_tool_call_parser to {parser}")


def test_marks_of_the_field() -> None:
    for line in (FIELD / "MARKS.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        marks, reads, refused = line.split("\t")
        template = marks.replace(" + ", " ").replace('{"name": , "parameters": }', '{"name": "f", "parameters": {}}')
        assert parser_problem(template, refused), line
        if not reads.startswith("("):
            assert parser_problem(template, reads) == "", line


@pytest.mark.parametrize(
    "template",
    [
        # Trimmed by dashes, by a block tag before it, and as the prose of GLM 4.7 has it.
        "{{- '<tool_call>' + tc.name -}}\n{% for k in a %}<arg_key>{{ k }}</arg_key><arg_value>",
        "{{- '<tool_call>' + f.name }}\n  {%- for k in a %}\n{{- '<arg_key>' ~ k ~ '</arg_key><arg_value>' }}",
        "<tool_call>{function-name}<arg_key>{k}</arg_key><arg_value>{v}</arg_value></tool_call>",
    ],
)
def test_glm_in_one_line_wants_glm47_before_0_26(template: str) -> None:
    assert parser_problem(template, "glm45", (0, 25, 1)).endswith("set vllm_serve_tool_call_parser to glm47")
    for version in ((0, 26, 0), (0, 33, 0), ()):
        assert parser_problem(template, "glm45", version) == ""
    assert parser_problem(template, "glm47", (0, 20, 0)) == ""


@pytest.mark.parametrize(
    "template",
    [EXCERPTS["glm45"], "{{ '\\n<tool_call>' + tc.name }}\n{% for k in a %}\n<arg_key>{{ k }}</arg_key>\n<arg_value>"],
)
def test_glm_with_line_breaks_is_read_by_glm45_of_any_release(template: str) -> None:
    assert parser_problem(template, "glm45", (0, 20, 0)) == ""


def test_marks_behind_names_are_seen_and_comments_are_not() -> None:
    template = "{# <tool_call> #}{%- set d = 'X' -%}{{ '<' + d + 'a>' ~ d ~ 'b' }}{{ \"c\" + 'd' }}"
    assert "<Xa>Xb" in literals(template)
    assert "cd" in literals(template)
    assert "tool_call" not in literals(template)
    assert "<Xa>" in literals("{%- set d = 'X' %}<{{ d }}a>")
    assert "<Xa>" in literals("{%- set d = 'X' %}{{ '<' }}{{- d -}}{{ 'a>' }}")
    # A name that changes is no mark.
    assert "<Xa>" not in literals("{% set d = 'X' %}{% set d = 'Y' %}{{ '<' + d + 'a>' }}")


def test_a_parser_whose_mark_is_nowhere_is_a_note() -> None:
    template = "{% for tool in tools %}{{ tool | tojson }}{% endfor %}"
    said = parser_note(template, "hermes")
    assert "does not show <tool_call>, which the tool call parser 'hermes' looks for" in said
    assert "never speaks of tools" in parser_note("{{ messages }}", "hermes")
    for quiet in ("pythonic", "hf", "", "a_plugin_of_ones_own"):
        assert parser_note(template, quiet) == ""
    assert parser_note(template + "<tool_call>", "hermes") == parser_note(QWEN3, "hermes") == parser_note("", "x") == ""


def test_each_parser_with_a_format_has_marks() -> None:
    assert all(parser_marks(name) for entry in FORMATS for name in entry.parsers)


@pytest.mark.parametrize("parser", [name for name in EXCERPTS if name not in UNTOLD])
def test_the_same_marks_tell_a_call_in_a_text(parser: str) -> None:
    text = EXCERPTS[parser].replace("{%- set ns_token = ']<]minimax[>[' -%}", "")
    found = call_in_text(text if parser != "minimax_m3" else "]<]minimax[>[<tool_call>")
    assert found is not None
    # What is left of a call does not always tell one release of a family from the other.
    assert parser in found.parsers or parser in ("hy_v3", "hy_v4", "deepseek_v41")


@pytest.mark.parametrize(
    ("text", "parser"),
    [
        ('{"name": "get_weather", "parameters": {}}', "llama3_json"),
        ('[{"name": "get_weather", "arguments": {}}]', "xlam"),
        ('[get_weather(location="Paris")]', "pythonic"),
        ("get_weather()", "pythonic"),
        ('<functions.invoke name="get_weather">', ""),
        ('get_weather\n{"location": "Paris"}', ""),
    ],
)
def test_a_call_without_marks_is_known_by_the_function(text: str, parser: str) -> None:
    found = call_in_text(text, ["get_weather"])
    assert found is not None
    assert (found.parsers or ("",))[0] == parser
    assert call_in_text(text, ["another"]) is None


@pytest.mark.parametrize(
    "text", ["Paris.", "I would call get_weather (the tool) for Paris.", '{"name": "Paris"}', "a >>> b", "1 < 2"]
)
def test_a_text_that_speaks_of_things_is_no_call(text: str) -> None:
    assert call_in_text(text, ["get_weather"]) is None


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
    assert "write its reasoning in <think>, which the reasoning parser 'openai_gptoss'" in reasoning_problem(
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
    assert "no reasoning tags" in said
    assert said.endswith("set vllm_serve_reasoning_parser to ''")


@pytest.mark.parametrize("parser", ["deepseek_r1", "mistral", "granite", "olmo3", "hf", ""])
def test_of_a_parser_whose_templates_show_nothing_nothing_is_said(parser: str) -> None:
    assert reasoning_problem(QWEN3, parser) == ""


@pytest.mark.parametrize("template", ["", "{{ '[THINK]' }}", "{{ m.reasoning_content }}", "{{ '<seed:think>' }}"])
def test_another_mark_of_thinking_is_no_finding(template: str) -> None:
    assert reasoning_problem(template, "qwen3") == ""


def test_llama_4_asks_for_python_calls_of_its_own() -> None:
    asked = (
        "{{ '<|header_start|>system' }}Use exact format: [func_name1(param1=value1, param2=value2), func_name2(...)]"
    )
    assert parser_problem(asked, "llama4_pythonic") == parser_problem(asked, "pythonic") == ""
    assert "set vllm_serve_tool_call_parser to llama4_pythonic" in parser_problem(asked, "llama4_json")


def test_an_example_of_a_prompt_is_no_mark_of_an_answer() -> None:
    found = call_in_text('{"name": "get_weather", "parameters": {}}', ["get_weather"])
    assert found is not None
    assert found.parsers[0] == "llama3_json"
    found = call_in_text('[{"name": "get_weather", "arguments": {}}]', ["get_weather"])
    assert found is not None
    assert found.parsers[0] == "xlam"
    found = call_in_text('[get_weather(city="Paris")]', ["get_weather"])
    assert found is not None
    assert found.parsers[0] == "pythonic"


@pytest.mark.parametrize(
    ("text", "parser"),
    [
        ('get_weather{"location": "Paris"}', "mistral"),
        ('get_weather[ARGS]{"location": "Paris"}', "mistral"),
        ('functions.get_weather:0{"location": "Paris"}', "kimi_k2"),
        ('```tool_code\nprint(get_weather(location="Paris"))\n```', "pythonic"),
        ('[get_weather("Paris")]', "pythonic"),
        ('{"tool": "get_weather", "arguments": {}}', ""),
        ('{"function": "get_weather", "parameters": {}}', ""),
        ("Thought: look\nAction: get_weather\nAction Input: {}", ""),
        ("<get_weather>\n<location>Paris</location>\n</get_weather>", ""),
    ],
)
def test_a_call_whose_marks_were_left_out(text: str, parser: str) -> None:
    found = call_in_text(text, ["calculate", "get_weather"])
    assert found is not None
    assert (found.parsers[0] if found.parsers else "") == parser


@pytest.mark.parametrize(
    "text",
    ["I would use get_weather for that.", "The tool get_weather takes a location.", "get_weather is no use here"],
)
def test_words_about_a_tool_are_no_call(text: str) -> None:
    assert call_in_text(text, ["get_weather"]) is None
