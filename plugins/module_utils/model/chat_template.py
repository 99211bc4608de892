# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Which format of tool calls and of reasoning output a chat template makes the model write, and which of vLLM's parsers read it.

A template that is taken for another is worse than one that is not recognised, so every format is told by marks that its own
parser looks for, and a template that shows none of them is no error: only a note, where the parser's own mark is missing too.
The marks are the literal strings of vLLM's parsers (vllm/tool_parsers/*.py, vllm/parser/*.py and vllm/reasoning/*.py of 0.32
and 0.33) as they stand in the templates. The same list tells a call that came back as text (:func:`call_in_text`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

#: Sizes of a version, such as (0, 26); () is not known.
Version = tuple[int, ...]


@dataclass(frozen=True)
class Format:
    """A way to write tool calls.

    Attributes:
        name: for sentences.
        marks: a template of it has all of them and none of ``without``.
        parsers: those that read it, the one to advise first; none where vLLM has no parser for it.
        also: parsers that read it as well but are another maker's.
        texts: one of them stands in an answer whose call was left in the text; empty means the marks.
        example: whether the marks are those of the prompt's example, and an answer has none.
    """

    name: str
    marks: tuple[str, ...]
    parsers: tuple[str, ...]
    without: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    example: bool = False


_DSML = "\uff5cDSML\uff5c"
#: The first that fits counts: the special ones stand before those whose marks are part of theirs.
FORMATS: tuple[Format, ...] = (
    Format(
        "harmony channels",
        ("<|channel|>", "commentary"),
        ("openai",),
        texts=("<|channel|>commentary to=", "to=functions.", "<|call|>", "<|constrain|>"),
    ),
    Format("MiniMax M3's ]<]minimax[>[<tool_call>", ("]<]minimax[>[",), ("minimax_m3",)),
    Format(
        "MiniMax M2's <minimax:tool_call> with <invoke>",
        ("<minimax:tool_call>", "<invoke"),
        ("minimax_m2",),
        texts=("<minimax:tool_call>",),
    ),
    Format(
        "Muse's <atem:function_calls>",
        ("<atem:function_calls>",),
        ("muse_glimmer", "muse", "musespark1x"),
        texts=("<atem:",),
    ),
    Format("Kimi K3's open and close tags", ("<|open|>", "<|close|>", "<|sep|>"), ("kimi_k3",), texts=("<|open|>",)),
    Format(
        "Kimi K2's sections",
        ("<|tool_calls_section_begin|>",),
        ("kimi_k2",),
        texts=("<|tool_calls_section_begin|>", "<|tool_call_begin|>"),
    ),
    Format("PLaMo 3's tool requests", ("<|plamo:begin_tool_request",), ("plamo3",)),
    # The name after the mark differs from release to release of the model, and each parser knows its own.
    Format("DeepSeek V3.2's DSML with function_calls", (f"{_DSML}function_calls>",), ("deepseek_v32",)),
    Format("DeepSeek V4's DSML with tool_calls", (f"{_DSML}tool_calls>",), ("deepseek_v4",)),
    Format("DeepSeek V4.1's DSML with calls", (f"{_DSML} calls>",), ("deepseek_v41",)),
    Format("DeepSeek's DSML", ("DSML",), ("deepseek_v32", "deepseek_v4", "deepseek_v41")),
    Format(
        "DeepSeek V3's JSON in fences",
        ("tool\u2581calls\u2581begin", "tool\u2581call\u2581begin", "```json"),
        ("deepseek_v3",),
        texts=("begin\uff5c>function<\uff5ctool\u2581sep",),
    ),
    Format(
        "DeepSeek V3.1's JSON",
        ("tool\u2581calls\u2581begin", "tool\u2581call\u2581begin"),
        ("deepseek_v31",),
        texts=("tool\u2581calls\u2581begin", "tool\u2581call\u2581begin"),
    ),
    Format(
        "Step 3's <steptml:invoke>",
        ("<\uff5ctool_calls_begin\uff5c>",),
        ("step3",),
        texts=("<\uff5ctool_calls_begin\uff5c>", "<steptml:"),
    ),
    Format(
        "<seed:tool_call> with <function=",
        ("<seed:tool_call>", "<function="),
        ("seed_oss",),
        texts=("<seed:tool_call>",),
    ),
    Format(
        "Hunyuan 3's <tool_calls> with <tool_sep>",
        ("<tool_calls", "<tool_sep", "<arg_key"),
        ("hy_v3",),
        texts=("<tool_sep",),
    ),
    Format(
        "Hunyuan 4's <tool_calls> with <arg_key>",
        ("<tool_calls", "<tool_call", "<arg_key"),
        ("hy_v4",),
        texts=("<tool_call:", "<arg_key:"),
    ),
    Format("K2's <ifm|tool_call>", ("<ifm|tool_call>",), ("k2_horizon",)),
    Format(
        "GLM's <tool_call>name with <arg_key> and <arg_value>",
        ("<tool_call>", "<arg_key>", "<arg_value>"),
        ("glm45", "glm47", "poolside_v1", "ling3"),
        texts=("<arg_key>",),
    ),
    Format(
        "<tool_call> with <function= and <parameter=",
        ("<tool_call>", "<function=", "<parameter="),
        ("qwen3_coder", "qwen3_xml", "step3p5", "mimo"),
        texts=("<parameter=", "<tool_call>\n<function=", "<tool_call><function="),
    ),
    Format("<function name= with <param name=", ("<function name=", "<param name="), ("minicpm5",)),
    Format(
        "<function=name>{...}</function>", ("<function=", "</function>"), (), without=("<tool_call>", "<parameter=")
    ),
    Format("dots' <dots_function_call>", ("<dots_function_call>",), ("dots",)),
    Format("LongCat's <longcat_tool_call>", ("<longcat_tool_call>",), ("longcat",)),
    Format("FunctionGemma's <start_function_call>", ("<start_function_call>",), ("functiongemma",)),
    Format("OLMo 3's <function_calls>", ("<function_calls>",), ("olmo3",)),
    Format("Inkling's <|content_invoke_tool_json|>", ("<|content_invoke_tool_json|>",), ("inkling",)),
    # Read by a parser that its maker ships with the model (--tool-parser-plugin).
    Format("Nemotron's <TOOLCALL>[...]", ("<TOOLCALL>",), ()),
    Format(
        "Hunyuan A13B's <tool_calls>[...]",
        ("<tool_calls>[", "\u52a9\u624b"),
        ("hunyuan_a13b",),
        texts=("\u52a9\u624b\uff1a<tool_calls>",),
    ),
    Format("Jamba's <tool_calls>[...]", ("<tool_calls>[", "<|bom|>"), ("jamba",), texts=("<|bom|>",)),
    # Two parsers look for the same mark in other makers' models, the one only where it is a token of its own.
    Format("<tool_calls>[...]", ("<tool_calls>[",), (), also=("hunyuan_a13b", "jamba")),
    # vLLM's parser `minimax` is gone since 0.24.
    Format("MiniMax M1's <tool_calls> with a JSON a line", ("<tool_calls>\n{",), (), also=("minimax",)),
    Format(
        "Cohere's <|START_ACTION|> and <|START_TEXT|>",
        ("<|START_ACTION|>", "<|START_TEXT|>"),
        ("cohere_command4",),
        texts=("<|START_TEXT|>",),
    ),
    Format("Cohere's <|START_ACTION|>", ("<|START_ACTION|>",), ("cohere_command3",)),
    Format("Apertus' <|tools_prefix|>", ("<|tools_prefix|>",), ("apertus",)),
    Format("LFM2's <|tool_call_start|>", ("<|tool_call_start|>",), ("lfm2",)),
    Format("LFM2's <|tool_call_start|>", ("<|tool_list_start|>",), ("lfm2",), texts=("<|tool_call_start|>",)),
    Format("Solar's <|tool_call:begin|>", ("<|tool_call:begin|>",), ()),
    Format(
        "GigaChat's function call",
        ("<|role_sep|>", "function call"),
        ("gigachat3",),
        texts=("function call<|role_sep|>",),
    ),
    Format("GigaChat's <|function_call|>", ("<|function_call|>",), ("gigachat3",)),
    Format(
        "InternLM's <|action_start|>", ("<|action_start|>", "<|plugin|>"), ("internlm",), texts=("<|action_start|>",)
    ),
    Format("Granite 3's <|tool_call|>", ("<|tool_call|>",), ("granite",)),
    Format("Granite's <function_call>", ("<function_call>",), ("granite-20b-fc",)),
    Format("functionary's >>>name", (">>>all",), ()),
    Format("functools[...]", ("functools[",), ("phi4_mini_json",)),
    Format(
        'Hermes\' <tool_call>{"name": ..., "arguments": ...}',
        ("<tool_call>", '"name"', '"arguments"'),
        ("hermes", "qwen3_json", "granite4", "xlam"),
        without=("<arg_key>", "<function="),
        also=("ernie45", "granite"),
        texts=("<tool_call>", "</tool_call>"),
    ),
    Format("Mistral's [TOOL_CALLS]", ("[TOOL_CALLS]",), ("mistral", "xlam")),
    Format("Gemma 4's <|tool_call>", ("<|tool_call>",), ("gemma4",)),
    Format("Llama 4's Python calls", ("<|python_start|>",), ("llama4_pythonic",), also=("llama4_json", "pythonic")),
    Format(
        'Llama\'s {"name": ..., "parameters": ...}',
        ("<|python_tag|>", '"name"', '"parameters"'),
        ("llama3_json", "llama4_json"),
        texts=("<|python_tag|>",),
    ),
    Format(
        'Llama\'s {"name": ..., "parameters": ...}',
        ("<|start_header_id|>", '"name": ', '"parameters": '),
        ("llama3_json", "llama4_json"),
        texts=("<|python_tag|>",),
    ),
    Format(
        'Llama 4\'s {"name": ..., "parameters": ...}',
        ("<|header_start|>", '"name": ', '"parameters": '),
        ("llama4_json", "llama3_json"),
        example=True,
    ),
    Format(
        "Llama 4's Python calls in a list",
        ("<|header_start|>", "[func_name1("),
        ("llama4_pythonic", "pythonic"),
        example=True,
    ),
    Format(
        "Python calls in a list",
        ("[func_name1(",),
        ("pythonic", "llama4_pythonic"),
        example=True,
    ),
    Format(
        'xLAM\'s [{"name": ..., "arguments": ...}]',
        ('[{"name": "tool_call_name", "arguments"',),
        ("xlam",),
        also=("llama3_json", "llama4_json"),
        example=True,
    ),
    Format("Command R's Action: with tool_name", ("Action:", '"tool_name"'), (), texts=('"tool_name"',)),
)
#: Calls that carry no mark of their own, which is why no template is known by them.
BARE_JSON = Format("bare JSON", (), ("xlam", "llama3_json"))
PARAMETERS_JSON = Format('Llama\'s {"name": ..., "parameters": ...}', (), ("llama3_json", "llama4_json"))
PYTHONIC = Format("Python calls", (), ("pythonic", "llama4_pythonic", "olmo3", "lfm2"))
TAGS = Format("tags of its own", (), ())
OWN_JSON = Format("JSON with keys of its own", (), ())
REACT = Format("Action: and Action Input:", (), ())
#: What is left where the server skips special tokens.
BARE_MISTRAL = Format("Mistral's name and arguments", (), ("mistral",))
BARE_KIMI = Format("Kimi K2's functions.name:number", (), ("kimi_k2",))
#: Parsers that read a model's own description of its format instead of a fixed one.
_READS_ANY = ("hf",)
#: Parsers that look for no mark of their own: bare Python calls, and JSON in a list.
_WITHOUT_MARK = ("pythonic", "xlam", "beam")

#: First release whose glm45 is the parser of glm47: before it, glm45 wants a line break after the function's name
#: (vllm/tool_parsers/__init__.py of 0.25 and 0.26).
_GLM45_READS_BOTH = (0, 26)

#: Both stand in a template of harmony, whose reasoning is in the channel `analysis`; its parser reads nothing else.
_HARMONY = ("<|channel|>", "analysis")
_HARMONY_PARSER = "openai_gptoss"
#: One of them stands in a template of the many models that think between these.
_THINK = ("<think>", "</think>")
#: A template with none of them, in small letters, says nothing of thinking: neither marks, nor a switch, nor what to do with older reasoning.
_REASONING = ("think", "reasoning_content", "<|channel")
#: Parsers that take everything before </think> for reasoning, or look for it, and whose models all have it in their templates. Others
#: (deepseek_r1, granite, mistral, olmo3) serve models that think because they were told to, which no template shows.
_NEEDS_MARKS = ("qwen3", "glm45", "glm47", "minimax_m2", "minimax_m2_append_think", _HARMONY_PARSER)

_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_SET = re.compile(r"\bset\s+(\w+)\s*=\s*(['\"])((?:(?!\2).)*)\2\s*-?%\}")
_JOINED = re.compile(r"(['\"])\s*[+~]\s*(['\"])")
_PRINTED = re.compile(r"\{\{-?\s*(['\"])((?:(?!\1)[^{}])*)\1\s*-?\}\}")
#: A pair with nothing between is how templates speak of the marks, not how they write them.
_PROSE = re.compile(r"<(tool_calls?)></\1>")


def literals(template: str) -> str:
    """Return a template in which the marks stand as the model sees them.

    Comments go, quotes and line breaks are unescaped, names that are set to a plain string are put in where they are joined
    to others (``'<' + dsml_token + 'tool_calls>'``), and marks that are only spoken of go.
    """
    text = _COMMENT.sub("", template)
    for match in _SET.finditer(text):
        name, value = match.group(1), match.group(3)
        # A name that is set twice, or to nothing yet, is a variable and no mark.
        if not value or len(re.findall(rf"\bset\s+{name}\b", text)) > 1:
            continue
        # As re.sub wants a replacement.
        value = value.replace("\\", "\\\\")
        text = re.sub(rf"\{{\{{-?\s*{name}\s*-?\}}\}}", value, text)
        text = re.sub(rf"(['\"])\s*[+~]\s*{name}\b\s*[+~]\s*(['\"])", value, text)
        text = re.sub(rf"\b{name}\s*[+~]\s*(['\"])", rf"\g<1>{value}", text)
    text = _PRINTED.sub(r"\2", text)
    text = _JOINED.sub("", text)
    text = text.replace('\\"', '"').replace("\\'", "'").replace("\\n", "\n")
    return _PROSE.sub("", text)


def tool_format(template: str) -> Format | None:
    """Return the format that a template makes the model write; None when it shows none that is known."""
    text = literals(template)
    for entry in FORMATS:
        if all(mark in text for mark in entry.marks) and not any(mark in text for mark in entry.without):
            return entry
    return None


def parser_problem(template: str, parser: str, version: Version = ()) -> str:
    """Return why a parser cannot read what a template makes the model write; empty when it can or when that is not known.

    Args:
        template: the chat template that the server will use.
        parser: name of the tool call parser; empty for none.
        version: release of vLLM, such as (0, 26, 0); () while it is not known.
    """
    found = tool_format(template)
    if not parser or found is None or parser in (*found.also, *_READS_ANY):
        return ""
    if (
        parser == "glm45"
        and parser in found.parsers
        and () < version < _GLM45_READS_BOTH
        and _glm_in_one_line(template)
    ):
        return (
            "the model's chat template makes it write the function's name and <arg_key> in one line, which the tool call parser "
            "'glm45' does not read before vLLM 0.26: set vllm_serve_tool_call_parser to glm47"
        )
    if parser in found.parsers:
        return ""
    return (
        f"the model's chat template makes it write {found.name}, which the tool call parser {parser!r} does not read: "
        f"{advice(found)}"
    )


def advice(found: Format) -> str:
    """Return what to set so that a format is read."""
    if not found.parsers:
        return (
            "vLLM has no parser for it: name the one that the model's maker ships, with --tool-parser-plugin among "
            "vllm_serve_extra_arguments, or set vllm_serve_tool_call_parser to ''"
        )
    others = f" (or {', '.join(found.parsers[1:])})" if len(found.parsers) > 1 else ""
    return f"set vllm_serve_tool_call_parser to {found.parsers[0]}{others}"


def parser_note(template: str, parser: str) -> str:
    """Return what speaks against a parser without proving it wrong: its own mark stands nowhere in the template.

    For templates whose format is not known; of the others :func:`parser_problem` speaks.
    """
    if not template or not parser or parser in (*_READS_ANY, *_WITHOUT_MARK) or tool_format(template):
        return ""
    if "tool" not in template and "function" not in template:
        return (
            f"the chat template never speaks of tools, so the model does not see them, whatever the tool call parser {parser!r} reads: "
            "give a template with tools by --chat-template, or set vllm_serve_tool_call_parser to ''"
        )
    marks = parser_marks(parser)
    if not marks or any(mark in literals(template) for mark in marks):
        return ""
    return (
        f"the chat template does not show {' or '.join(marks)}, which the tool call parser {parser!r} looks for: "
        "compare the parser with the model's card; playbooks/verify.yml proves it by a call"
    )


def parser_marks(parser: str) -> tuple[str, ...]:
    """Return the marks of which a parser looks for one; empty for a parser that is not known here."""
    own = (entry for entry in FORMATS if parser in (*entry.parsers, *entry.also) and not entry.example)
    return tuple(dict.fromkeys(entry.marks[0] for entry in own))


def _glm_in_one_line(template: str) -> bool:
    """Say whether a GLM template puts no line break between a function's name and the first <arg_key>."""
    between = re.findall(r"<tool_call>(.*?)<arg_key>", _COMMENT.sub("", template), re.DOTALL)
    if not between:
        return False
    # As Jinja renders it for chat templates: a dash eats the white space beside it, a block tag the line break after it.
    text = re.sub(r"-([%}]\})\s+", r"\1", between[-1])
    text = re.sub(r"\s+(\{[%{])-", r"\1", text)
    text = re.sub(r"%\}\n", "%}", text)
    text = re.sub(r"\{%.*?%\}", "", text, flags=re.DOTALL)
    return "\n" not in text and "\\n" not in text


def call_in_text(text: str, names: Iterable[str] = ()) -> Format | None:
    """Return the format of a tool call that an answer holds as text; None when it holds none.

    Args:
        text: what the model said, or its reasoning.
        names: functions that were offered; a call without marks is known by one of them alone.
    """
    for entry in FORMATS:
        if not entry.example and any(mark in text for mark in entry.texts or entry.marks):
            return entry
    for name in names:
        said = re.escape(name)
        if re.search(rf'"name"\s*:\s*"{said}"', text):
            return PARAMETERS_JSON if '"parameters"' in text else BARE_JSON
        if re.search(rf'"(tool|tool_name|function|function_name|action)"\s*:\s*"{said}"', text):
            return OWN_JSON
        if re.search(rf"\bfunctions\.{said}:\d", text):
            return BARE_KIMI
        if re.search(rf"^\W*(print\()?{said}\(\s*(\w+\s*=|\)|[\"'\d\[{{])", text, re.MULTILINE):
            return PYTHONIC
        if re.search(rf"^\s*{said}(\[ARGS\])?\{{", text, re.MULTILINE):
            return BARE_MISTRAL
        if re.search(rf"^\W*Action\W*:\s*{said}\b", text, re.MULTILINE):
            return REACT
        if f"<{name}>" in text or re.search(
            rf"<[\w:.]*(invoke|function|tool)[\w:.]*[ =]+(name=)?[\"']?{said}\b|^(>>>)?{said}\s*\n\{{",
            text,
            re.MULTILINE,
        ):
            return TAGS
    return None


def reasoning_problem(template: str, parser: str) -> str:
    """Return why a reasoning parser cannot fit a template; empty when it can or when that is not known.

    The parsers of <think> differ in what they make of an answer that lacks the one or the other mark, and from release to
    release. Templates do not tell these apart, so that any of them passes on a template with <think>.
    """
    if not template or not parser or parser in _READS_ANY:
        return ""
    if all(mark in template for mark in _HARMONY):
        if parser == _HARMONY_PARSER:
            return ""
        return (
            f"the model's chat template makes it write its reasoning in harmony channels, which the reasoning parser {parser!r} does not read: "
            f"set vllm_serve_reasoning_parser to {_HARMONY_PARSER}"
        )
    if parser == _HARMONY_PARSER and any(mark in template for mark in _THINK):
        return (
            f"the model's chat template makes it write its reasoning in <think>, which the reasoning parser {parser!r} does not read: "
            f"set vllm_serve_reasoning_parser to {_think_parsers(template)}"
        )
    if parser in _NEEDS_MARKS and not any(mark in template.lower() for mark in _REASONING):
        return (
            f"the model's chat template has no reasoning tags, so that the reasoning parser {parser!r} may take whole answers for "
            "reasoning: set vllm_serve_reasoning_parser to ''"
        )
    return ""


def _think_parsers(template: str) -> str:
    """Return the parsers to name for a template with <think>: its maker's own, where the tool calls give it away."""
    found = tool_format(template)
    own = {"glm45": "glm45", "minimax_m2": "minimax_m2", "deepseek_v31": "deepseek_v3"}
    return own.get(
        found.parsers[0] if found and found.parsers else "", "qwen3 or deepseek_r1, whichever the model's card names"
    )
