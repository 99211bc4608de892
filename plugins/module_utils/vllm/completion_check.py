# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Proof that an OpenAI-compatible endpoint works: a completion, a stream, a parsed tool call, and a closed door.

The tool call is always asked for with ``tool_choice: "auto"``. A required or a named tool would prove nothing: vLLM
then constrains the output with a grammar and reads it as JSON, and the tool-call parser under test is never called.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..model.chat_template import Format, call_in_text
from ..model.leaks import leak
from ..system.http_json import HttpClient, HttpError, excerpt

CHAT_PATH = "/v1/chat/completions"
MODELS_PATH = "/v1/models"
END_OF_STREAM = "[DONE]"

# More calls than any sane answer to one question; guards the memory against a broken index.
MAX_CALLS = 64

WRONG_PARSER = "most likely --tool-call-parser does not fit the model's format (Qwen3 models want hermes)"

NUMERICS = (
    "that is what a kernel leaves that computes wrongly on this GPU, and no matter of max_tokens: take a newer serving image, leave "
    "vllm_serve_kv_cache_dtype at auto, and for NVFP4 or FP8 weights try --moe-backend marlin or a model in AWQ "
    "(docs/troubleshooting.md, answers that repeat one token)"
)

# A run of one unit this often, over at least this part of the text, is no language. Trailing zeros of 127! are 31 of 214 digits.
_MIN_REPEATS = 6
_MIN_PART = 0.5
_LONGEST_UNIT = 40
_RUN = re.compile(rf"(.{{1,{_LONGEST_UNIT}}}?)\1{{{_MIN_REPEATS - 1},}}", re.DOTALL)
# A whole answer that is one unit twice or more ("multmult"); counts only where the answer is not the one that was asked for.
_DOUBLED = re.compile(r"([^\W\d_]{3,}|<\w{3,5}>|[^\w\s]{1,4}?)(?:\s*\1)+|([^\s\d])(?:\s*\2){3,}")
#: How an answer ends that is whole, or that was cut at its limit. Others say that the engine gave it up (vllm/v1/request.py).
_WHOLE = ("stop", "length", "tool_calls")
#: Tags of calls that a parser left in the value of an argument.
_TAG_IN_VALUE = re.compile(r"</?(parameter|arg_key|arg_value|tool_calls?|function|invoke)\b[^<>]*>|<\|\w+\|>")

DEFAULT_TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "calculate",
            "description": "Perform calculations",
            "parameters": {
                "type": "object",
                "properties": {"expression": {"type": "string"}},
                "required": ["expression"],
            },
        },
    }
]


class CheckFailed(Exception):
    """A check found the endpoint wanting; ``str()`` is one sentence with the likely cause."""


@dataclass(frozen=True)
class Question:
    """A question whose answer can be checked.

    Attributes:
        ask: what is asked.
        expect: regular expression that must be found in the answer, in small or capital letters; empty takes any text.
    """

    ask: str
    expect: str = ""


#: Every model of use knows these, and so does the simulation's (simulation/model/dialogues.yml). The second takes several
#: different tokens in a row, which no broken kernel gets right by chance.
DEFAULT_QUESTIONS = (
    Question("What is the capital of France?", r"\bParis\b"),
    Question(
        "Count from one to five.",
        r"\b(one|1)\b.{1,9}\b(two|2)\b.{1,9}\b(three|3)\b.{1,9}\b(four|4)\b.{1,9}\b(five|5)\b",
    ),
)


@dataclass(frozen=True)
class ChatRequest:
    """What is asked.

    Attributes:
        model: served model name.
        questions: asked without tools, each plain and the last one also as a stream.
        tool_prompt: must make the model call one of ``tools``.
        tools: function tools in OpenAI's form; for each, the ``required`` keys of its parameters are demanded back.
        max_tokens: upper limit of each answer; a tool call has to fit in.
        reasoning_in_text: whether reasoning belongs into the text, as with the reasoning parser minimax_m2_append_think.
    """

    model: str
    questions: Sequence[Question] = DEFAULT_QUESTIONS
    tool_prompt: str = "What is 127 factorial?"
    tools: Sequence[Mapping[str, Any]] = field(default_factory=lambda: DEFAULT_TOOLS)
    max_tokens: int = 256
    reasoning_in_text: bool = False

    def __post_init__(self) -> None:
        if not self.questions:
            raise ValueError("questions is empty: an answer cannot be checked without a question")
        for question in self.questions:
            if not question.ask.strip():
                raise ValueError("a question is empty: expected {ask: text, expect: regular expression}")
            try:
                re.compile(question.expect)
            except re.error as error:
                raise ValueError(f"expect {question.expect!r} is no regular expression: {error}") from None

    def required_keys(self) -> dict[str, list[str]]:
        """Return the keys that each offered function requires.

        Raises:
            ValueError: a tool is not a function tool in OpenAI's form.
        """
        keys: dict[str, list[str]] = {}
        for number, tool in enumerate(self.tools, start=1):
            function = tool.get("function") if isinstance(tool, Mapping) and tool.get("type") == "function" else None
            if not isinstance(function, Mapping) or not function.get("name"):
                raise ValueError(
                    f"tool {number} is not in OpenAI's form: expected type: function and function: {{name, parameters}}"
                )
            parameters = function.get("parameters") or {}
            if not isinstance(parameters, Mapping):
                raise ValueError(f"parameters of tool {function['name']} are not a JSON schema: expected a mapping")
            keys[str(function["name"])] = [str(key) for key in parameters.get("required") or []]
        if not keys:
            raise ValueError("tools is empty: a tool call cannot be asked for without a tool")
        return keys

    def body(self, question: Question | None, *, stream: bool) -> dict[str, Any]:
        """Return the request body of a question, or of the tool call; temperature 0 makes the answer repeatable."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": question.ask if question else self.tool_prompt}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
        }
        if question is None:
            # Never "required" and never a named function: see the top of this file.
            body |= {"tools": list(self.tools), "tool_choice": "auto"}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body


@dataclass(frozen=True)
class ToolCall:
    """A call that came back parsed."""

    name: str
    arguments: dict[str, Any]


@dataclass
class Message:
    """One answer of the model, from a plain answer or put together from a stream.

    ``calls`` are (name, arguments) as text; ``tokens`` is what the model wrote according to ``usage``, or None. ``repeated_name``
    says that a stream sent the name of a call more than once, ``as_object`` that arguments were no text.
    """

    content: str = ""
    reasoning: str = ""
    calls: list[list[str]] = field(default_factory=list)
    finish_reason: str | None = None
    tokens: int | None = None
    repeated_name: bool = False
    as_object: bool = False


@dataclass
class Timings:
    """Seconds and rates, as information: one request is no benchmark."""

    completion_seconds: float | None = None
    first_token_seconds: float | None = None
    stream_seconds: float | None = None
    stream_chunks: int | None = None
    tokens_per_second: float | None = None
    tool_call_seconds: float | None = None


@dataclass
class Findings:
    """What the checks brought back, as far as they came."""

    text: str = ""
    stream_text: str = ""
    finish_reason: str | None = None
    tool_call: dict[str, Any] | None = None
    tool_call_streamed: dict[str, Any] | None = None
    authentication: str = "not checked"
    passed: list[str] = field(default_factory=list)
    timings: Timings = field(default_factory=Timings)

    def as_facts(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)

    def sentence(self, base_url: str, model: str) -> str:
        """Return one sentence for a person."""
        parts = []
        if self.text:
            parts.append(f"says {excerpt(self.text, 80)!r}")
        if self.timings.stream_chunks is not None:
            rate = self.timings.tokens_per_second
            parts.append(f"streams ({self.timings.stream_chunks} chunks" + (f", {rate:g} tokens/s)" if rate else ")"))
        if self.tool_call:
            arguments = json.dumps(self.tool_call["arguments"], ensure_ascii=False)
            parts.append(f"calls {self.tool_call['name']}({excerpt(arguments, 80)})")
        if self.authentication == "enforced":
            parts.append("refuses requests without the key")
        return f"{model} at {base_url} " + (", ".join(parts) if parts else "was asked nothing")


def parse_answer(data: Any) -> Message:
    """Return the first choice of a chat completion.

    Raises:
        CheckFailed: the body is none.
    """
    if error := _error_in(data):
        raise CheckFailed(
            f"the server answered with status 200 and an error: {excerpt(error)}; the engine fails although the "
            "server is up; its journal says why"
        )
    choices = data.get("choices") if isinstance(data, Mapping) else None
    first = _mapping(choices[0]) if isinstance(choices, list) and choices else {}
    message = first.get("message")
    if not isinstance(message, Mapping):
        raise CheckFailed(
            f"the answer holds no choice with a message ({excerpt(json.dumps(data))}): "
            "is this an OpenAI-compatible server?"
        )
    calls, as_object = [], False
    for call in _mappings(message.get("tool_calls")):
        function = _mapping(call.get("function"))
        arguments = function.get("arguments")
        as_object = as_object or isinstance(arguments, Mapping)
        calls.append(
            [_text(function.get("name")), json.dumps(arguments) if isinstance(arguments, Mapping) else _text(arguments)]
        )
    return Message(
        content=_text(message.get("content")),
        # vLLM renamed reasoning_content to reasoning.
        reasoning=_text(message.get("reasoning") or message.get("reasoning_content")),
        calls=calls,
        finish_reason=_text(first.get("finish_reason")) or None,
        tokens=_tokens(data),
        as_object=as_object,
    )


def _error_in(data: Any) -> str:
    """Return the error that a body or an event reports, in either form that vLLM has had; empty for none."""
    if not isinstance(data, Mapping) or data.get("choices"):
        return ""
    if data.get("error"):
        return _reported(data["error"])
    # Before 0.10 the error was the body itself.
    return _text(data.get("message")) if data.get("object") == "error" or "code" in data else ""


def _reported(error: Any) -> str:
    return str(error.get("message") or error) if isinstance(error, Mapping) else str(error)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _tokens(data: Mapping[str, Any]) -> int | None:
    tokens = _mapping(data.get("usage")).get("completion_tokens")
    return tokens if isinstance(tokens, int) else None


@dataclass
class StreamReader:
    """Puts a stream together, chunk by chunk, and keeps count."""

    message: Message = field(default_factory=Message)
    chunks: int = 0
    first_seconds: float | None = None
    last_seconds: float | None = None
    ended: bool = False

    def read(self, events: Iterable[tuple[float, str]]) -> StreamReader:
        """Take every event of ``events``, each the seconds since sending and its data.

        Raises:
            CheckFailed: an event is no chunk, or reports an error, or the end marker never came.
        """
        for seconds, data in events:
            if data.strip() == END_OF_STREAM:
                self.ended = True
                break
            self._chunk(seconds, data)
        if not self.ended:
            raise CheckFailed(
                f"the stream ended without {END_OF_STREAM} after {self.chunks} chunks: "
                "the server or something in front of it broke it off"
            )
        return self

    def _chunk(self, seconds: float, data: str) -> None:
        try:
            chunk = json.loads(data)
        except ValueError as error:
            raise CheckFailed(f"the stream holds a chunk that is not JSON ({excerpt(data)!r})") from error
        if not isinstance(chunk, Mapping):
            raise CheckFailed(f"the stream holds a chunk that is not an object ({excerpt(data)!r})")
        if reported := _error_in(chunk):
            raise CheckFailed(f"the server reported an error in mid-stream: {excerpt(reported)}")
        tokens = _tokens(chunk)
        if tokens is not None:
            self.message.tokens = tokens
        for choice in _mappings(chunk.get("choices")):
            self._delta(seconds, _mapping(choice.get("delta")))
            self.message.finish_reason = _text(choice.get("finish_reason")) or self.message.finish_reason

    def _delta(self, seconds: float, delta: Mapping[str, Any]) -> None:
        content = _text(delta.get("content"))
        reasoning = _text(delta.get("reasoning") or delta.get("reasoning_content"))
        calls = _mappings(delta.get("tool_calls"))
        self.message.content += content
        self.message.reasoning += reasoning
        for call in calls:
            position = call.get("index")
            position = position if isinstance(position, int) else 0
            if not 0 <= position < MAX_CALLS:
                raise CheckFailed(f"the stream numbers a tool call {position}, beyond {MAX_CALLS}")
            while len(self.message.calls) <= position:
                self.message.calls.append(["", ""])
            function = _mapping(call.get("function"))
            name = _text(function.get("name"))
            if name and name == self.message.calls[position][0]:
                self.message.repeated_name = True
            else:
                self.message.calls[position][0] += name
            self.message.calls[position][1] += _text(function.get("arguments"))
        # The first chunk carries only the role: it says nothing about the model.
        if content or reasoning or calls:
            self.chunks += 1
            self.first_seconds = seconds if self.first_seconds is None else self.first_seconds
            self.last_seconds = seconds

    def tokens_per_second(self) -> float | None:
        """Return the rate after the first chunk, or None when too little came to tell."""
        if self.first_seconds is None or self.last_seconds is None or self.last_seconds <= self.first_seconds:
            return None
        count = self.message.tokens if self.message.tokens is not None else self.chunks
        return round((count - 1) / (self.last_seconds - self.first_seconds), 2) if count > 1 else None


def repeated(text: str) -> str:
    """Return the piece that a text repeats without an end, empty when it is language; for texts of any length."""
    text = text.strip()
    if not text:
        return ""
    letters = {letter for letter in text if not letter.isspace()}
    if len(text) >= 12 and len(letters) <= 2:
        return text[: 1 if len(letters) == 1 else 2]
    # The longest run decides; a long text is judged by its end, where a model that has gone astray stays.
    for run in _RUN.finditer(text[-2000:]):
        if len(run.group()) >= max(12, _MIN_PART * min(len(text), 2000)):
            return run.group(1)
    return ""


def doubled(text: str) -> str:
    """Return the piece of which a whole text is made, twice or more (``multmult``); empty for anything else."""
    found = _DOUBLED.fullmatch(text.strip())
    return (found.group(1) or found.group(2)) if found else ""


def _check_numerics(*texts: str) -> None:
    for text in texts:
        piece = repeated(text)
        if piece:
            raise CheckFailed(f"the answer repeats {piece!r} ({excerpt(text, 60)!r}): {NUMERICS}")


def _check_leaks(message: Message, reasoning_in_text: bool) -> None:
    text = message.content
    if reasoning_in_text:
        text = text.rpartition("</think>")[2]
    found = leak(text)
    if found:
        raise CheckFailed(f"{found.what} ({found.mark} in {excerpt(message.content, 80)!r}): {found.remedy}")


def judge_text(
    message: Message, max_tokens: int, expect: str = "", question: str = "", *, reasoning_in_text: bool = False
) -> str:
    """Return the text of an ordinary answer.

    Args:
        message: the answer.
        max_tokens: its limit, for the sentence.
        expect: regular expression that must be found in it; empty takes any text.
        question: what was asked, for the sentence.
        reasoning_in_text: whether reasoning belongs into the text.

    Raises:
        CheckFailed: the sentence tells the cases apart: a repeated token, no text, reasoning output or control tokens in the text, a tool
            call nobody asked for, cut off, broken off, another answer than the expected one.
    """
    text = message.content
    _check_numerics(text, message.reasoning)
    if not text.strip():
        if message.reasoning and message.finish_reason == "length":
            raise CheckFailed(
                f"the answer is all reasoning, cut at {max_tokens} tokens before any text: raise max_tokens"
            )
        if message.reasoning:
            raise CheckFailed(
                "the whole answer came as reasoning and none as text: --reasoning-parser does not fit the model"
            )
        raise CheckFailed(f"the answer has no text (finish_reason {message.finish_reason}, {_wrote(message)})")
    _check_leaks(message, reasoning_in_text)
    right = not expect or re.search(expect, text, re.IGNORECASE | re.DOTALL)
    piece = "" if expect and right else doubled(text)
    if piece:
        raise CheckFailed(f"the answer repeats {piece!r} ({excerpt(text, 60)!r}): {NUMERICS}")
    call = call_in_text(text)
    if call and not right:
        raise CheckFailed(
            f"the answer is a tool call as text ({excerpt(text)!r}) to a question without tools: {_read_by(call)}"
        )
    if message.finish_reason and message.finish_reason not in _WHOLE:
        raise CheckFailed(_given_up(message, f"the answer has text ({excerpt(text)!r})"))
    if not right and message.finish_reason == "length":
        raise CheckFailed(f"the answer was cut at {max_tokens} tokens ({excerpt(text)!r}): raise max_tokens")
    if not message.finish_reason:
        raise CheckFailed("the answer has text but no finish_reason: it was broken off")
    if not right:
        raise CheckFailed(
            f"{question or 'the question'!r} was answered by {excerpt(text)!r}, in which {expect!r} is not found: weights or a kernel "
            "may be wrong (compare with another serving image), or this model does not know it (then set vllm_verify_questions)"
        )
    return text


def judge_tool_call(
    message: Message,
    required: Mapping[str, Sequence[str]],
    max_tokens: int,
    *,
    reasoning_in_text: bool = False,
) -> ToolCall:
    """Return the parsed call in ``message``; ``required`` maps each offered function to the keys it requires.

    Raises:
        CheckFailed: no call, or not one of the offered ones; the sentence tells the cases apart: a repeated token, cut off, left as
            text, vanished, never made, unknown name, broken arguments, missing keys, reasoning output in the text beside it, and a
            finish_reason that keeps clients from running it.
    """
    _check_numerics(message.content, message.reasoning, *(raw for _name, raw in message.calls))
    if message.finish_reason and message.finish_reason not in _WHOLE:
        raise CheckFailed(_given_up(message, "the question with a tool was answered"))
    if len(message.calls) > 1 and not any(message.calls[0]):
        raise CheckFailed(
            "the stream numbers its first tool call otherwise than 0, so that clients put it together wrongly: the tool call parser of this "
            "release is at fault, take a newer serving image"
        )
    if message.as_object:
        raise CheckFailed(
            f"the tool call came back with arguments as an object ({excerpt(message.calls[0][1])!r}) and not as JSON in a text, which clients of "
            "OpenAI's interface do not read: is this vLLM, and nothing in front of it?"
        )
    if not message.calls:
        raise CheckFailed(_no_call(message, required, max_tokens))
    judged = [_judge_call(name, raw, required, message, max_tokens) for name, raw in message.calls]
    if message.repeated_name:
        raise CheckFailed(
            f"the stream sent the name of the tool call {judged[0].name} in more than one chunk, which clients put together to a name "
            "that does not exist: the tool call parser of this release is at fault, take a newer serving image"
        )
    _check_leaks(message, reasoning_in_text)
    call = call_in_text(message.content, required)
    if call:
        raise CheckFailed(
            f"the tool call came back parsed and as text as well ({excerpt(message.content)!r}): {_read_by(call)}"
        )
    if message.finish_reason == "tool_calls":
        return judged[0]
    name = f"the tool call {judged[0].name} came back"
    if message.finish_reason == "length":
        raise CheckFailed(f"{name}, but the answer was cut at {max_tokens} tokens: raise max_tokens")
    if message.finish_reason:
        raise CheckFailed(
            f"{name} with finish_reason {message.finish_reason!r} instead of 'tool_calls', so that clients which go by it do not run "
            "it: the tool call parser of this release is at fault, take a newer serving image"
        )
    raise CheckFailed(
        f"{name} without any finish_reason: it was broken off, by the server or something in front of it; its journal says why"
    )


def _judge_call(
    name: str, raw: str, required: Mapping[str, Sequence[str]], message: Message, max_tokens: int
) -> ToolCall:
    if name not in required:
        raise CheckFailed(
            f"the tool call came back with the name {name!r}, which was not offered ({', '.join(required)}): "
            + _misnamed(name, required)
        )
    try:
        arguments = json.loads(raw)
    except ValueError as error:
        if str(error).startswith("Extra data") and raw.lstrip()[getattr(error, "pos", 0) :].lstrip().startswith("{"):
            raise CheckFailed(
                f"the tool call {name} came back with two JSON objects in a row for arguments ({excerpt(raw)!r}): the parser sent one call twice, or two "
                "under one index; take a newer serving image"
            ) from None
        cut = (
            f" (the answer was cut at {max_tokens} tokens: raise max_tokens)"
            if message.finish_reason == "length"
            else f": {WRONG_PARSER}"
        )
        raise CheckFailed(
            f"the tool call {name} came back with arguments that are not JSON: {excerpt(raw)!r}{cut}"
        ) from None
    if not isinstance(arguments, dict):
        raise CheckFailed(f"the tool call {name} came back with arguments that are no JSON object: {excerpt(raw)!r}")
    tag = next(
        (found for value in arguments.values() if isinstance(value, str) and (found := _TAG_IN_VALUE.search(value))),
        None,
    )
    if tag:
        raise CheckFailed(
            f"the tool call {name} came back with {tag.group()!r} in an argument ({excerpt(raw)!r}), a mark of the model's format: {WRONG_PARSER}"
        )
    missing = [key for key in required[name] if arguments.get(key) in (None, "")]
    if missing:
        raise CheckFailed(f"the tool call {name} came back without the required {', '.join(missing)}: {excerpt(raw)!r}")
    return ToolCall(name, arguments)


def _misnamed(name: str, required: Mapping[str, Sequence[str]]) -> str:
    if not name:
        return "the parser dropped it; " + WRONG_PARSER
    if leak(name) or call_in_text(name):
        return "the tool call parser left marks of the format in it: take a newer serving image, or the parser that fits the model"
    if any(offered in name for offered in required):
        return "the tool call parser took too much for the name: take a newer serving image, or the parser that fits the model"
    return "the model invented a function"


def _read_by(call: Format) -> str:
    """Return what reads a call that was left in the text."""
    if not call.parsers:
        return f"it is {call.name}, for which vLLM has no parser: name the one of the model's maker with --tool-parser-plugin"
    others = f" (or {', '.join(call.parsers[1:])})" if len(call.parsers) > 1 else ""
    return f"it is {call.name}, which --tool-call-parser does not read: set vllm_serve_tool_call_parser to {call.parsers[0]}{others}"


def _no_call(message: Message, required: Mapping[str, Sequence[str]], max_tokens: int) -> str:
    if message.finish_reason == "length":
        return (
            f"the answer was cut at {max_tokens} tokens before a tool call was complete "
            f"({excerpt(message.content or message.reasoning)!r}): raise max_tokens"
        )
    call = call_in_text(message.content, required)
    if call:
        return (
            f"the tool call came back as text ({excerpt(message.content)!r}) instead of as tool_calls: {_read_by(call)}"
        )
    if call_in_text(message.reasoning, required):
        return "the tool call came back inside the reasoning: --reasoning-parser does not fit the model"
    if not message.content.strip() and not message.finish_reason and not message.reasoning.strip():
        return "nothing came back, not even a finish_reason: the answer was broken off, by the server or something in front of it; its journal says why"
    if not message.content.strip():
        after = "after the reasoning " if message.reasoning.strip() else ""
        return (
            f"the tool call vanished: {_wrote(message)}, yet {after}neither text nor tool_calls came back (finish_reason "
            f"{message.finish_reason}); {WRONG_PARSER}: from vLLM 0.30 on, a wrong parser silently drops calls"
        )
    found = leak(message.content)
    if found:
        return f"no tool call, and {found.what} ({found.mark} in {excerpt(message.content, 80)!r}): {found.remedy}"
    if piece := doubled(message.content):
        return f"the answer repeats {piece!r} ({excerpt(message.content, 60)!r}): {NUMERICS}"
    if message.finish_reason == "tool_calls":
        return (
            f"the answer ends with finish_reason 'tool_calls' and has text ({excerpt(message.content)!r}), but no tool call: the tool call parser lost it; "
            f"{WRONG_PARSER}"
        )
    if not message.finish_reason:
        return (
            f"the answer has text ({excerpt(message.content)!r}), no tool call and no finish_reason: it was broken off, by the server or "
            "something in front of it; its journal says why"
        )
    return (
        f"the model answered in words ({excerpt(message.content)!r}) instead of calling a tool: "
        "its chat template may not show it the tools, or the prompt does not call for one"
    )


def _given_up(message: Message, what: str) -> str:
    """Return that the engine ended an answer for a reason of its own."""
    return f"{what}, but with finish_reason {message.finish_reason!r}: the engine gave it up; its journal says why"


def _wrote(message: Message) -> str:
    return (
        "an unknown number of tokens was written" if message.tokens is None else f"{message.tokens} tokens were written"
    )


class ChatCheck:
    """Runs the checks one after the other against one server, and keeps what they found also when one fails."""

    def __init__(self, client: HttpClient, request: ChatRequest) -> None:
        self.client = client
        self.request = request
        self.findings = Findings()

    def authentication(self) -> None:
        """A request without the key must be refused; asked of /v1/models, which costs the engine nothing."""
        try:
            self.client.without_token().get(MODELS_PATH)
        except HttpError as error:
            if error.status == 401:
                self.findings.authentication = "enforced"
                self.findings.passed.append("authentication")
                return
            raise CheckFailed(f"a request without the API key should be refused with 401, but: {error}") from error
        self.findings.authentication = "open"
        raise CheckFailed(
            "the server answers without an API key although one is set, so anyone who reaches it may use it: "
            "start vLLM with the key"
        )

    def completion(self) -> None:
        """Real completions, each with the right answer and a finish_reason."""
        for question in self.request.questions:
            started = time.monotonic()
            message = parse_answer(self._ask(question))
            self.findings.timings.completion_seconds = round(time.monotonic() - started, 3)
            self.findings.text = self._judged(message, question)
            self.findings.finish_reason = message.finish_reason
        self.findings.passed.append("completion")

    def stream(self) -> None:
        """A real stream with the right answer, a finish_reason and the end marker."""
        question = self.request.questions[-1]
        reader = self._stream(question)
        self.findings.stream_text = self._judged(reader.message, question)
        timings = self.findings.timings
        timings.first_token_seconds = _rounded(reader.first_seconds)
        timings.stream_seconds = _rounded(reader.last_seconds)
        timings.stream_chunks = reader.chunks
        timings.tokens_per_second = reader.tokens_per_second()
        self.findings.passed.append("stream")

    def tool_call(self) -> None:
        """A real parsed tool call, plain and streamed: they run through different code of the parser."""
        required = self.request.required_keys()
        started = time.monotonic()
        plain = self._called(parse_answer(self._ask(None)), required)
        self.findings.timings.tool_call_seconds = round(time.monotonic() - started, 3)
        self.findings.tool_call = asdict(plain)
        try:
            streamed = self._called(self._stream(None).message, required)
        except CheckFailed as error:
            raise CheckFailed(f"the same request as a stream (without streaming it passed): {error}") from error
        self.findings.tool_call_streamed = asdict(streamed)
        self.findings.passed.append("tool_call")

    def _judged(self, message: Message, question: Question) -> str:
        asked = self.request
        return judge_text(
            message, asked.max_tokens, question.expect, question.ask, reasoning_in_text=asked.reasoning_in_text
        )

    def _called(self, message: Message, required: Mapping[str, Sequence[str]]) -> ToolCall:
        return judge_tool_call(
            message, required, self.request.max_tokens, reasoning_in_text=self.request.reasoning_in_text
        )

    def _ask(self, question: Question | None) -> Any:
        try:
            return self.client.post_json(CHAT_PATH, self.request.body(question, stream=False))
        except HttpError as error:
            raise self._explained(error) from error

    def _stream(self, question: Question | None) -> StreamReader:
        try:
            body = self.request.body(question, stream=True)
            return StreamReader().read(self.client.post_stream(CHAT_PATH, body))
        except HttpError as error:
            raise self._explained(error) from error

    def _explained(self, error: HttpError) -> CheckFailed:
        if error.status == 401:
            given = "refuses the API key" if self.client.token else "wants an API key, and none was given"
            return CheckFailed(f"the server {given} (401): give the key that it was started with")
        if error.status == 404:
            return CheckFailed(
                f"the server does not serve {self.request.model} ({error.detail or '404'}): "
                "compare the served model name"
            )
        if error.status == 400 and "--enable-auto-tool-choice" in error.detail:
            return CheckFailed(
                "the server takes no tools: start vLLM with --enable-auto-tool-choice "
                "and the --tool-call-parser of the model (hermes for Qwen3)"
            )
        if error.status is not None and error.status >= 500:
            return CheckFailed(f"{error}: the engine fails although the server is up; its journal says why")
        return CheckFailed(str(error))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
