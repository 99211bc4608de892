# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The proofs of an endpoint, each good and each bad case over real sockets."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.http_json import HttpClient
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm import completion_check as chat_check
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.completion_check import (
    ChatCheck,
    ChatRequest,
    CheckFailed,
    Message,
    Question,
    StreamReader,
    doubled,
    judge_text,
    judge_tool_call,
    parse_answer,
    repeated,
)

from tests.unit.plugins.fake_server import (
    Reply,
    Route,
    call_stream,
    chat_route,
    chunk,
    closed_port,
    completion,
    fake_server,
    text_stream,
    tool_calls,
)

RECORDED = Path(__file__).parents[1] / "fixtures" / "vllm_0_32"
FIELD = Path(__file__).parents[4] / "field_cases" / "sse"
#: One question that any text answers, for tests of what a text looks like.
ANY = ChatRequest(model="tiny", questions=[Question("Who are you?")])
CHAT = "POST /v1/chat/completions"
CALL_TEXT = '<tool_call>\n{"name": "calculate", "arguments": {"expression": "factorial(127)"}}\n</tool_call>'


def run(
    route: Route, *steps: str, key: str | None = None, token: str | None = None, request: ChatRequest = ANY
) -> ChatCheck:
    with fake_server({CHAT: route, "GET /v1/models": Reply({"data": []})}, key=key) as fake:
        check = ChatCheck(HttpClient(fake.url, token=token), request)
        for step in steps:
            getattr(check, step)()
    return check


def failure(route: Route, step: str, **options: Any) -> str:
    with pytest.raises(CheckFailed) as caught:
        run(route, step, **options)
    return str(caught.value)


def test_a_healthy_endpoint_passes_everything() -> None:
    steps = ["authentication", "completion", "stream", "tool_call"]
    found = run(chat_route(), *steps, key="k", token="k").findings
    assert found.passed == steps
    assert found.text == found.stream_text == "I am a model."
    assert found.finish_reason == "stop"
    call = {"name": "calculate", "arguments": {"expression": "factorial(127)"}}
    assert found.tool_call == found.tool_call_streamed == call
    assert found.authentication == "enforced"
    assert found.timings.stream_chunks == 3
    assert found.timings.completion_seconds is not None
    assert json.loads(json.dumps(found.as_facts())) == found.as_facts()
    sentence = found.sentence("http://x", "tiny")
    assert sentence.startswith("tiny at http://x says 'I am a model.', streams (3 chunks")
    assert sentence.endswith('calls calculate({"expression": "factorial(127)"}), refuses requests without the key')


def test_a_tool_call_is_asked_for_with_automatic_choice_only() -> None:
    with fake_server({CHAT: chat_route()}) as fake:
        ChatCheck(HttpClient(fake.url), ChatRequest(model="tiny")).tool_call()
    assert [bool((asked.body or {}).get("stream")) for asked in fake.asked] == [False, True]
    for asked in fake.asked:
        assert asked.body is not None
        assert asked.body["tool_choice"] == "auto"
        assert asked.body["temperature"] == 0
        assert asked.body["messages"] == [{"role": "user", "content": "What is 127 factorial?"}]


# --- completion ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (completion(""), "has no text (finish_reason stop, 7 tokens were written)"),
        (completion(None, reasoning="hm", finish="length"), "all reasoning, cut at 256 tokens"),
        (completion(None, reasoning_content="hm"), "--reasoning-parser does not fit"),
        (completion("text", finish=None), "no finish_reason"),
        (completion("!" * 200, "length"), "repeats '!' ("),
        (completion("Paris" + "!" * 200, "length"), "repeats '!' ("),
        (completion("multmult"), "repeats 'mult' ("),
        (completion("mult" * 60, "length"), "repeats 'mult' ("),
        (completion(None, reasoning="\u7684" * 250, finish="length"), "repeats '\u7684' ("),
        (completion("the same words again, " * 12, "length"), "repeats 'the same words again, ' ("),
        (completion("\ufffd\ufffd\ufffd\ufffd"), "repeats '\ufffd' ("),
        (completion("<think>hm</think>\nI am a model."), "set vllm_serve_reasoning_parser to"),
        (completion("analysisThe user asks.assistantfinalHi"), "set vllm_serve_reasoning_parser to openai_gptoss"),
        (completion("I am a model.<|im_end|>"), "a control token came back in the text (<|im_end|>"),
        (Reply({"choices": []}), "no choice with a message"),
        (Reply({"choices": ["x"]}), "no choice with a message"),
        (Reply([1]), "no choice with a message"),
        (Reply("<html>"), "not JSON"),
        (Reply({"error": {"message": "EngineDeadError"}}, status=500), "EngineDeadError: the engine fails although"),
        (Reply({"error": {"message": "The model `tiny` does not exist."}}, status=404), "does not serve tiny"),
    ],
)
def test_bad_completions(reply: Reply, words: str) -> None:
    assert words in failure(chat_route(text=reply), "completion")


def test_refused_connection() -> None:
    check = ChatCheck(HttpClient(f"http://127.0.0.1:{closed_port()}"), ChatRequest(model="tiny"))
    with pytest.raises(CheckFailed, match="Connection refused"):
        check.completion()


@pytest.mark.parametrize(
    ("token", "words"), [(None, "wants an API key, and none was given"), ("wrong", "refuses the API key")]
)
def test_key_is_refused(token: str | None, words: str) -> None:
    assert words in failure(chat_route(), "completion", key="k", token=token)


# --- stream --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (text_stream("a", "b", done=False), "ended without [DONE] after 2 chunks"),
        (text_stream(), "has no text"),
        (text_stream("a", finish=None), "no finish_reason"),
        (Reply(chunks=[chunk(content="a"), "data: {broken\n\n"]), "not JSON ('{broken')"),
        (Reply(chunks=["data: 7\n\n"]), "not an object"),
        (Reply(chunks=[chunk(content="a"), {"error": {"message": "engine died"}}]), "in mid-stream: engine died"),
        (Reply(chunks=[{"error": "engine died"}]), "in mid-stream: engine died"),
        (completion("not a stream"), "application/json where a stream"),
        (Reply({"error": "x"}, status=500), "answered 500"),
        (Reply(chunks=[{"choices": [7, {"delta": 7}]}]), "has no text"),
    ],
)
def test_bad_streams(reply: Reply, words: str) -> None:
    assert words in failure(chat_route(stream=reply), "stream")


def test_rate_of_a_stream() -> None:
    events = [
        (0.1, json.dumps(chunk(role="assistant", content=""))),
        (1.0, json.dumps(chunk(content="a"))),
        (2.0, json.dumps(chunk(content="b"))),
        (3.0, json.dumps(chunk(content="c"))),
        (3.1, json.dumps({"choices": [], "usage": {"completion_tokens": 5}})),
        (3.2, "[DONE]"),
    ]
    reader = StreamReader().read(events)
    assert (reader.first_seconds, reader.last_seconds, reader.chunks) == (1.0, 3.0, 3)
    # Five tokens, the first of which came at 1.0: four in two seconds.
    assert reader.tokens_per_second() == 2.0


def test_rate_of_a_single_chunk_is_unknown() -> None:
    reader = StreamReader().read([(1.0, json.dumps(chunk(content="a"))), (1.1, "[DONE]")])
    assert reader.tokens_per_second() is None


def test_two_calls_in_one_stream() -> None:
    def part(index: int, **function: str) -> str:
        return json.dumps(chunk(tool_calls=[{"index": index, "function": function}]))

    events = [
        part(0, name="a", arguments=""),
        part(1, name="b", arguments="{"),
        part(0, arguments="{}"),
        part(1, arguments="}"),
    ]
    reader = StreamReader().read([(0.0, event) for event in [*events, "[DONE]"]])
    assert reader.message.calls == [["a", "{}"], ["b", "{}"]]


def test_a_wild_index_does_not_fill_the_memory() -> None:
    event = json.dumps(chunk(tool_calls=[{"index": 10**9, "function": {}}]))
    with pytest.raises(CheckFailed, match="numbers a tool call 1000000000"):
        StreamReader().read([(0.0, event)])


# --- right answers -------------------------------------------------------------------------------------------


def asked(paris: str, five: str) -> Route:
    """A server with one answer to each of the questions that are asked unless told otherwise."""

    def answer(request: Any) -> Reply:
        body = request.body
        text = paris if "France" in body["messages"][0]["content"] else five
        return text_stream(text) if body.get("stream") else completion(text)

    return answer


@pytest.mark.parametrize(
    ("paris", "five"),
    [
        # The simulation's model, and how larger ones put it.
        ("The capital of France is Paris.", "One, two, three, four, five."),
        ("**Paris**", "1\n2\n3\n4\n5"),
        ("It is Paris!", "Sure: 1, 2, 3, 4, 5!"),
        ("Paris.", "one... two... three... four... five..."),
    ],
)
def test_right_answers_pass(paris: str, five: str) -> None:
    check = run(asked(paris, five), "completion", "stream", request=ChatRequest(model="tiny"))
    assert check.findings.passed == ["completion", "stream"]
    assert check.findings.text == check.findings.stream_text == five


@pytest.mark.parametrize(
    ("paris", "five", "words"),
    [
        ("I am a model.", "1 2 3 4 5", "'What is the capital of France?' was answered by 'I am a model.'"),
        ("Paris", "one two five \u0e01 kk", "'Count from one to five.' was answered by"),
        ("the of and mult", "1 2 3 4 5", "weights or a kernel may be wrong"),
    ],
)
def test_wrong_answers_do_not_pass(paris: str, five: str, words: str) -> None:
    assert words in failure(asked(paris, five), "completion", request=ChatRequest(model="tiny"))


def test_a_cut_answer_is_no_wrong_one() -> None:
    route = chat_route(text=completion("Let me think about the capital of", "length"))
    assert failure(route, "completion", request=ChatRequest(model="tiny")).endswith("raise max_tokens")


@pytest.mark.parametrize(
    "text",
    [
        "Paris",
        "No.",
        "Ha ha, very funny: ha ha ha!",
        # 127!, whose last 31 digits are zeros.
        "30126600184576595448099770775270596923242164729004250490698151337133131392" + "0" * 31,
        "==========\nTitle\n==========\nand a good deal of text after it, as pages have it.",
        "1. one\n2. two\n3. three\n4. four\n5. five\n6. six\n7. seven\n8. eight",
    ],
)
def test_language_is_no_repetition(text: str) -> None:
    assert repeated(text) == ""
    assert doubled(text) == ""


def test_thoughts_in_the_text_where_they_belong() -> None:
    request = ChatRequest(model="tiny", questions=[Question("Who are you?")], reasoning_in_text=True)
    check = run(chat_route(text=completion("<think>hm</think>\nI am a model.")), "completion", request=request)
    assert check.findings.passed == ["completion"]
    route = chat_route(text=completion("<think>hm</think>\nI am <|channel|>analysis"))
    assert "channels of harmony" in failure(route, "completion", request=request)


# --- what real servers answered --------------------------------------------------------------------------------

WEATHER = {"get_weather": ["location"], "calculate": ["expression"]}
#: Case, and the one remedy of a plain question and of a tool call.
FIELD_CASES = {
    "error-with-200.json": ("status 200 and an error: EngineCore encountered an issue", "its journal says why"),
    "exclamation-marks.sse": ("repeats '!'", "kernel"),
    "finish-reason-never.sse": ("", "without any finish_reason"),
    "harmony-in-content.sse": ("channels of harmony", "set vllm_serve_reasoning_parser to openai_gptoss"),
    "name-in-every-chunk.sse": ("", "get_weather in more than one chunk"),
    "name-with-channel-suffix.json": ("", "left marks of the format in it"),
    "think-end-only-in-content.sse": (
        "reasoning came back in the text (</think>",
        "set vllm_serve_reasoning_parser to",
    ),
    "think-in-content.sse": ("reasoning came back in the text (<think>", "set vllm_serve_reasoning_parser to"),
    "reasoning-then-nothing.sse": (
        "the whole answer came as reasoning",
        "after the reasoning neither text nor tool_calls",
    ),
    "tool-markup-dsml.sse": ("", "set vllm_serve_tool_call_parser to deepseek_v4"),
    "tool-markup-gemma4.sse": ("", "set vllm_serve_tool_call_parser to gemma4"),
    "tool-markup-granite.sse": ("", "set vllm_serve_tool_call_parser to granite"),
    "tool-markup-harmony.sse": ("", "set vllm_serve_tool_call_parser to openai"),
    "tool-markup-kimi-k2.sse": ("", "set vllm_serve_tool_call_parser to kimi_k2"),
    "tool-markup-lfm2.sse": ("", "set vllm_serve_tool_call_parser to lfm2"),
    "tool-markup-llama3-json.sse": ("", "set vllm_serve_tool_call_parser to llama3_json"),
    "tool-markup-minimax-m2.sse": ("", "set vllm_serve_tool_call_parser to minimax_m2"),
    "tool-markup-nemotron.sse": ("", "vLLM has no parser: name the one of the model's maker"),
}


def field_message(name: str) -> Message:
    text = (FIELD / name).read_text(encoding="utf-8")
    if name.endswith(".json"):
        return parse_answer(json.loads(text))
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return StreamReader().read([(0.0, event) for event in events]).message


@pytest.mark.parametrize("name", sorted(FIELD_CASES))
def test_field_cases(name: str) -> None:
    as_text, as_call = FIELD_CASES[name]
    with pytest.raises(CheckFailed) as caught:
        judge_tool_call(field_message(name), WEATHER, 256)
    assert as_call in str(caught.value)
    assert "raise max_tokens" not in str(caught.value)
    if as_text:
        with pytest.raises(CheckFailed) as caught:
            judge_text(field_message(name), 256)
        assert as_text in str(caught.value)


def test_every_field_case_is_judged() -> None:
    assert sorted(FIELD_CASES) == sorted(path.name for path in FIELD.iterdir())


# --- tool call -----------------------------------------------------------------------------------------------


def called(name: str, arguments: str, finish: str = "tool_calls") -> Reply:
    return completion(None, finish, 20, tool_calls=tool_calls((name, arguments)))


GOOD = ("calculate", '{"expression": "1+1"}')

BAD_CALLS = [
    pytest.param(completion(CALL_TEXT), "came back as text ('<tool_call>", id="text"),
    pytest.param(completion("Sure.\n" + CALL_TEXT), "came back as text", id="text-after-preamble"),
    pytest.param(completion(None, "stop", 31), "vanished: 31 tokens were written", id="vanished-null"),
    pytest.param(completion("", "tool_calls", 31), "vanished: 31 tokens were written", id="vanished-empty"),
    pytest.param(completion("It is large."), "answered in words ('It is large.')", id="words"),
    pytest.param(completion(CALL_TEXT[:20], "length"), "cut at 256 tokens", id="cut"),
    pytest.param(completion(None, reasoning=CALL_TEXT), "inside the reasoning", id="reasoning"),
    pytest.param(
        called("calculator", "{}"), "'calculator', which was not offered (calculate): the model invented", id="name"
    ),
    pytest.param(called("", ""), "the name '', which was not offered (calculate): the parser dropped it", id="no-name"),
    pytest.param(called("calculate", '{"expression": '), "not JSON: '{\"expression\":'", id="broken-json"),
    pytest.param(called("calculate", '{"expr', "length"), "the answer was cut at 256 tokens", id="cut-arguments"),
    pytest.param(called("calculate", '"1+1"'), "no JSON object", id="no-object"),
    pytest.param(called(*GOOD, "stop"), "with finish_reason 'stop' instead of 'tool_calls'", id="finish-stop"),
    pytest.param(called(*GOOD, "length"), "but the answer was cut at 256 tokens: raise max_tokens", id="finish-length"),
    pytest.param(called("calculate", "!" * 40, "length"), "the answer repeats '!'", id="garbage-arguments"),
    pytest.param(completion("!" * 256, "length"), "the answer repeats '!'", id="garbage"),
    pytest.param(completion("Sure", None), "no tool call and no finish_reason", id="broken-off"),
    pytest.param(completion('[calculate(expression="1+1")]'), "to pythonic (or", id="pythonic"),
    pytest.param(completion('{"name": "calculate", "arguments": {}}'), "it is bare JSON", id="bare-json"),
    pytest.param(completion(None, reasoning="I call it.", tokens=31), "vanished: 31 tokens", id="reasoning-only"),
    pytest.param(
        completion("<think>hm</think>", "tool_calls", tool_calls=tool_calls(GOOD)), "reasoning came back", id="leak"
    ),
    pytest.param(
        completion(CALL_TEXT, "tool_calls", tool_calls=tool_calls(GOOD)), "parsed and as text as well", id="both"
    ),
    pytest.param(called("calculate", '{"x": 1}'), "without the required expression", id="missing-key"),
    pytest.param(
        completion(None, "tool_calls", 40, tool_calls=tool_calls(GOOD, ("invented", "{}"))),
        "'invented'",
        id="second-call",
    ),
    pytest.param(
        Reply(
            {
                "error": {
                    "message": '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
                }
            },
            status=400,
        ),
        "start vLLM with --enable-auto-tool-choice",
        id="no-tools",
    ),
]


@pytest.mark.parametrize(("reply", "words"), BAD_CALLS)
def test_bad_tool_calls(reply: Reply, words: str) -> None:
    assert words in failure(chat_route(call=reply), "tool_call")


@pytest.mark.parametrize("reply", [completion(CALL_TEXT), completion(None, "stop", 31), called("", "")])
def test_a_wrong_parser_is_named_as_the_likely_cause(reply: Reply) -> None:
    message = failure(chat_route(call=reply), "tool_call")
    assert "--tool-call-parser" in message
    assert "hermes" in message


BAD_CALL_STREAMS = [
    pytest.param(text_stream(*CALL_TEXT.split()), "came back as text", id="text"),
    pytest.param(text_stream(), "vanished", id="vanished"),
    pytest.param(call_stream("", ""), "the parser dropped it", id="nameless"),
    pytest.param(call_stream("calculate", '{"expre'), "not JSON", id="broken-json"),
]


@pytest.mark.parametrize(("reply", "words"), BAD_CALL_STREAMS)
def test_bad_tool_calls_in_a_stream_only(reply: Reply, words: str) -> None:
    message = failure(chat_route(call_streamed=reply), "tool_call")
    assert message.startswith("the same request as a stream (without streaming it passed): ")
    assert words in message


def recorded(name: str) -> Reply:
    """A recorded answer of vLLM 0.32.0 (see the README beside it)."""
    text = (RECORDED / name).read_text()
    if name.endswith(".sse"):
        return Reply(chunks=[text], done=False)
    return Reply(json.loads(text), status=400 if name == "no_tools.json" else 200)


def test_recorded_with_the_right_parser() -> None:
    route = chat_route(call=recorded("tool_call_hermes.json"), call_streamed=recorded("tool_call_hermes.sse"))
    found = run(route, "tool_call").findings
    call = {"name": "calculate", "arguments": {"expression": "factorial(127)"}}
    assert found.tool_call == found.tool_call_streamed == call


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tool_call_qwen3_xml", "the tool call vanished: 23 tokens were written"),
        ("tool_call_pythonic", "the tool call came back as text ('<tool_call>"),
    ],
)
def test_recorded_with_wrong_parsers(name: str, words: str) -> None:
    assert words in failure(chat_route(call=recorded(f"{name}.json")), "tool_call")
    message = failure(chat_route(call_streamed=recorded(f"{name}.sse")), "tool_call")
    assert words in message
    assert "hermes" in message


def test_recorded_without_tools() -> None:
    assert "the server takes no tools" in failure(chat_route(call=recorded("no_tools.json")), "tool_call")


def test_what_was_found_before_a_failure_is_kept() -> None:
    with fake_server({CHAT: chat_route(call=completion(None))}) as fake:
        check = ChatCheck(HttpClient(fake.url), ANY)
        check.completion()
        with pytest.raises(CheckFailed):
            check.tool_call()
    assert check.findings.passed == ["completion"]
    assert check.findings.text == "I am a model."


def test_a_trailing_line_break_in_arguments_is_fine() -> None:
    # vLLM up to 0.17 leaves one there.
    message = Message(calls=[["calculate", '{"expression": "1+1"}\n']], finish_reason="tool_calls")
    assert judge_tool_call(message, {"calculate": ["expression"]}, 256).arguments == {"expression": "1+1"}


# --- authentication ------------------------------------------------------------------------------------------


def test_an_open_door_is_a_failure() -> None:
    assert "answers without an API key although one is set" in failure(chat_route(), "authentication", token="k")


def test_another_answer_than_401_is_told() -> None:
    with fake_server({"GET /v1/models": Reply("", status=503)}) as fake:
        check = ChatCheck(HttpClient(fake.url, token="k"), ChatRequest(model="tiny"))
        with pytest.raises(CheckFailed, match=r"should be refused with 401, but: .* answered 503"):
            check.authentication()


# --- input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("questions", "words"),
    [
        ([], "questions is empty"),
        ([Question("  ")], "a question is empty"),
        ([Question("Who?", "(")], r"expect '\(' is no regular expression"),
    ],
)
def test_unusable_questions(questions: list[Question], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ChatRequest(model="tiny", questions=questions)


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ([], "tools is empty"),
        ([{"type": "function"}], "tool 1 is not in OpenAI's form"),
        ([{"name": "x"}], "tool 1 is not in OpenAI's form"),
        ([*chat_check.DEFAULT_TOOLS, "x"], "tool 2 is not in OpenAI's form"),
        ([{"type": "function", "function": {"name": "f", "parameters": "x"}}], "parameters of tool f"),
    ],
)
def test_unusable_tools(tools: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ChatRequest(model="tiny", tools=tools).required_keys()


def test_a_tool_without_parameters_requires_nothing() -> None:
    tools = [{"type": "function", "function": {"name": "now"}}]
    assert ChatRequest(model="tiny", tools=tools).required_keys() == {"now": []}


W = '{"location": "Paris"}'


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Message("Hi", finish_reason="abort"), "the engine gave it up"),
        (Message(calls=[["get_weather", W]], finish_reason="error"), "the engine gave it up"),
        (Message("I call it.", finish_reason="tool_calls"), "the tool call parser lost it"),
        (Message("multmult", finish_reason="stop"), "repeats 'mult'"),
        (Message("<pad><pad><pad>", finish_reason="stop"), "repeats '<pad>'"),
        (Message(), "not even a finish_reason"),
        (Message(calls=[["", ""], ["get_weather", W]], finish_reason="tool_calls"), "otherwise than 0"),
        (Message(calls=[["get_weather", W + W]], finish_reason="tool_calls"), "two JSON objects in a row"),
        (Message(calls=[["get_weather", W]], finish_reason="tool_calls", as_object=True), "arguments as an object"),
        (
            Message(calls=[["get_weather", '{"location": null}']], finish_reason="tool_calls"),
            "without the required location",
        ),
        (
            Message(calls=[["get_weather", '{"location": "Paris</parameter>"}']], finish_reason="tool_calls"),
            "a mark of the model's format",
        ),
        (Message(calls=[["functions.get_weather:0", W]], finish_reason="tool_calls"), "took too much for the name"),
    ],
)
def test_answers_that_are_off_in_another_way(message: Message, words: str) -> None:
    with pytest.raises(CheckFailed, match=re.escape(words)):
        judge_tool_call(message, {"get_weather": ["location"]}, 256)


def test_an_answer_that_the_engine_gave_up_does_not_pass() -> None:
    with pytest.raises(CheckFailed, match="finish_reason 'repetition'"):
        judge_text(Message("Paris", finish_reason="repetition"), 256, "Paris")


@pytest.mark.parametrize("body", [{"object": "error", "message": "boom", "code": 400}, {"error": "boom"}])
def test_an_error_in_either_form_is_one(body: dict[str, Any]) -> None:
    with pytest.raises(CheckFailed, match="status 200 and an error: boom"):
        parse_answer(body)
    with pytest.raises(CheckFailed, match="in mid-stream: boom"):
        StreamReader().read([(0.0, json.dumps(body)), (0.0, "[DONE]")])
    told = {"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}
    assert parse_answer({"choices": [{"message": told}]}).as_object
