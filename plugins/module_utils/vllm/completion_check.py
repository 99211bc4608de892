# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Proof that an OpenAI-compatible endpoint works: a completion, a stream, a parsed tool call, and a closed door.

The tool call is always asked for with ``tool_choice: "auto"``. A required or a named tool would prove nothing: vLLM
then constrains the output with a grammar and reads it as JSON, and the tool-call parser under test is never called.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..system.http_json import HttpClient, HttpError, excerpt

CHAT_PATH = "/v1/chat/completions"
MODELS_PATH = "/v1/models"
END_OF_STREAM = "[DONE]"

# More calls than any sane answer to one question; guards the memory against a broken index.
MAX_CALLS = 64

# How model families mark a call in their text: Hermes and Qwen, Mistral, Llama 3.1, DeepSeek, Qwen3-Coder, functionary.
CALL_MARKS = (
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "<|python_tag|>",
    "<\uff5ctool\u2581calls\u2581begin\uff5c>",
    "<function=",
    "<function>",
)

WRONG_PARSER = "most likely --tool-call-parser does not fit the model's format (Qwen3 models want hermes)"

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
class ChatRequest:
    """What is asked.

    Attributes:
        model: served model name.
        prompt: asked without tools; any non-empty answer passes.
        tool_prompt: must make the model call one of ``tools``.
        tools: function tools in OpenAI's form; for each, the ``required`` keys of its parameters are demanded back.
        max_tokens: upper limit of each answer; a tool call has to fit in.
    """

    model: str
    prompt: str = "Who are you?"
    tool_prompt: str = "What is 127 factorial?"
    tools: Sequence[Mapping[str, Any]] = field(default_factory=lambda: DEFAULT_TOOLS)
    max_tokens: int = 256

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

    def body(self, *, tools: bool, stream: bool) -> dict[str, Any]:
        """Return the request body; temperature 0 makes the answer repeatable."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": self.tool_prompt if tools else self.prompt}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
        }
        if tools:
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

    ``calls`` are (name, arguments) as text; ``tokens`` is what the model wrote according to ``usage``, or None.
    """

    content: str = ""
    reasoning: str = ""
    calls: list[list[str]] = field(default_factory=list)
    finish_reason: str | None = None
    tokens: int | None = None


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
    choices = data.get("choices") if isinstance(data, Mapping) else None
    first = _mapping(choices[0]) if isinstance(choices, list) and choices else {}
    message = first.get("message")
    if not isinstance(message, Mapping):
        raise CheckFailed(
            f"the answer holds no choice with a message ({excerpt(json.dumps(data))}): "
            "is this an OpenAI-compatible server?"
        )
    calls = []
    for call in _mappings(message.get("tool_calls")):
        function = _mapping(call.get("function"))
        calls.append([_text(function.get("name")), _text(function.get("arguments"))])
    return Message(
        content=_text(message.get("content")),
        # vLLM renamed reasoning_content to reasoning.
        reasoning=_text(message.get("reasoning") or message.get("reasoning_content")),
        calls=calls,
        finish_reason=_text(first.get("finish_reason")) or None,
        tokens=_tokens(data),
    )


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
        if chunk.get("error"):
            reported = chunk["error"]
            words = reported.get("message") if isinstance(reported, Mapping) else reported
            raise CheckFailed(f"the server reported an error in mid-stream: {excerpt(str(words))}")
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
            self.message.calls[position][0] += _text(function.get("name"))
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


def judge_text(message: Message, max_tokens: int) -> str:
    """Return the text of an ordinary answer.

    Raises:
        CheckFailed: there is none, or it has no finish_reason.
    """
    if not message.content.strip():
        if message.reasoning and message.finish_reason == "length":
            raise CheckFailed(
                f"the answer is all reasoning, cut at {max_tokens} tokens before any text: raise max_tokens"
            )
        if message.reasoning:
            raise CheckFailed(
                "the whole answer came as reasoning and none as text: --reasoning-parser does not fit the model"
            )
        raise CheckFailed(f"the answer has no text (finish_reason {message.finish_reason}, {_wrote(message)})")
    if not message.finish_reason:
        raise CheckFailed("the answer has text but no finish_reason: it was broken off")
    return message.content


def judge_tool_call(message: Message, required: Mapping[str, Sequence[str]], max_tokens: int) -> ToolCall:
    """Return the parsed call in ``message``; ``required`` maps each offered function to the keys it requires.

    Raises:
        CheckFailed: no call, or not one of the offered ones; the sentence tells the cases apart: cut off, left as text,
            vanished, never made, unknown name, broken arguments, missing keys.
    """
    if not message.calls:
        raise CheckFailed(_no_call(message, max_tokens))
    judged = [_judge_call(name, raw, required, message, max_tokens) for name, raw in message.calls]
    return judged[0]


def _judge_call(
    name: str, raw: str, required: Mapping[str, Sequence[str]], message: Message, max_tokens: int
) -> ToolCall:
    if name not in required:
        raise CheckFailed(
            f"the tool call came back with the name {name!r}, which was not offered ({', '.join(required)}): "
            + ("the parser swallowed it; " + WRONG_PARSER if not name else "the model invented a function")
        )
    try:
        arguments = json.loads(raw)
    except ValueError:
        cut = (
            f" (the answer was cut at {max_tokens} tokens: raise max_tokens)"
            if message.finish_reason == "length"
            else ""
        )
        raise CheckFailed(
            f"the tool call {name} came back with arguments that are not JSON: {excerpt(raw)!r}{cut}"
        ) from None
    if not isinstance(arguments, dict):
        raise CheckFailed(f"the tool call {name} came back with arguments that are no JSON object: {excerpt(raw)!r}")
    missing = [key for key in required[name] if key not in arguments]
    if missing:
        raise CheckFailed(f"the tool call {name} came back without the required {', '.join(missing)}: {excerpt(raw)!r}")
    return ToolCall(name, arguments)


def _no_call(message: Message, max_tokens: int) -> str:
    mark = next((mark for mark in CALL_MARKS if mark in message.content), None)
    if message.finish_reason == "length":
        return (
            f"the answer was cut at {max_tokens} tokens before a tool call was complete "
            f"({excerpt(message.content)!r}): raise max_tokens"
        )
    if mark:
        return (
            f"the tool call came back as text ({excerpt(message.content)!r}) instead of as tool_calls: {WRONG_PARSER}"
        )
    if any(mark in message.reasoning for mark in CALL_MARKS):
        return "the tool call came back inside the reasoning: --reasoning-parser does not fit the model"
    if not message.content.strip() and not message.reasoning.strip():
        return (
            f"the tool call vanished: {_wrote(message)}, yet neither text nor tool_calls came back (finish_reason "
            f"{message.finish_reason}); {WRONG_PARSER}: from vLLM 0.30 on, a wrong parser swallows calls without a word"
        )
    return (
        f"the model answered in words ({excerpt(message.content or message.reasoning)!r}) instead of calling a tool: "
        "its chat template may not show it the tools, or the prompt does not call for one"
    )


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
        """A real completion with text and a finish_reason."""
        started = time.monotonic()
        message = parse_answer(self._ask(tools=False))
        self.findings.timings.completion_seconds = round(time.monotonic() - started, 3)
        self.findings.text = judge_text(message, self.request.max_tokens)
        self.findings.finish_reason = message.finish_reason
        self.findings.passed.append("completion")

    def stream(self) -> None:
        """A real stream with at least one chunk of text, a finish_reason and the end marker."""
        reader = self._stream(tools=False)
        self.findings.stream_text = judge_text(reader.message, self.request.max_tokens)
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
        plain = judge_tool_call(parse_answer(self._ask(tools=True)), required, self.request.max_tokens)
        self.findings.timings.tool_call_seconds = round(time.monotonic() - started, 3)
        self.findings.tool_call = asdict(plain)
        try:
            streamed = judge_tool_call(self._stream(tools=True).message, required, self.request.max_tokens)
        except CheckFailed as error:
            raise CheckFailed(f"the same request as a stream (without streaming it passed): {error}") from error
        self.findings.tool_call_streamed = asdict(streamed)
        self.findings.passed.append("tool_call")

    def _ask(self, *, tools: bool) -> Any:
        try:
            return self.client.post_json(CHAT_PATH, self.request.body(tools=tools, stream=False))
        except HttpError as error:
            raise self._explained(error) from error

    def _stream(self, *, tools: bool) -> StreamReader:
        try:
            return StreamReader().read(self.client.post_stream(CHAT_PATH, self.request.body(tools=tools, stream=True)))
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
