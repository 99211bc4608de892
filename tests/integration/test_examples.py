# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The clients of examples/, each as a user would start it, against the pair's endpoint."""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from endpoint import URL, api_key
from testinfra.host import Host

EXAMPLES = Path(__file__).parents[2] / "examples"
FACTORIAL = str(math.factorial(127))


@pytest.fixture(scope="module")
def environment(head: Host) -> dict[str, str]:
    """What examples/README.md exports."""
    return {**os.environ, "OPENAI_BASE_URL": f"{URL}/v1", "OPENAI_API_KEY": api_key(head)}


def said(command: list[str | Path], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=EXAMPLES, env=environment, capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_curl_streams_an_answer(environment: dict[str, str]) -> None:
    events = [line[6:] for line in said(["./chat.sh"], environment).splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    pieces = [choice["delta"].get("content") or "" for event in events[:-1] for choice in json.loads(event)["choices"]]
    assert "Paris" in "".join(pieces) and len(pieces) > 3


def test_curl_gets_a_parsed_tool_call(environment: dict[str, str]) -> None:
    (call,) = json.loads(said(["./tools.sh"], environment))["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "calculate"
    assert "127" in json.loads(call["function"]["arguments"])["expression"]


def test_curl_fails_without_the_key(environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["./chat.sh"], cwd=EXAMPLES, env={**environment, "OPENAI_API_KEY": "wrong"}, capture_output=True, check=False
    )
    assert done.returncode != 0


@pytest.mark.long
@pytest.mark.parametrize("name", ["openai_chat.py", "litellm_chat.py"])
def test_python_streams_an_answer(name: str, clients: Path, environment: dict[str, str]) -> None:
    assert "Paris" in said([clients, name], environment)


@pytest.mark.long
@pytest.mark.parametrize("name", ["openai_tools.py", "langchain_tools.py"])
def test_python_closes_the_loop(name: str, clients: Path, environment: dict[str, str]) -> None:
    lines = said([clients, name], environment).splitlines()
    assert [line.partition(":")[0] for line in lines if not line.startswith("question")] == ["call", "result", "answer"]
    assert lines[-2] == f"result: {FACTORIAL}"


@pytest.mark.long
@pytest.mark.parametrize("name", ["opencode.json", "continue.yaml"])
def test_what_an_editors_configuration_says_is_answered(name: str, clients: Path, environment: dict[str, str]) -> None:
    """Ask as the editor would: with the address, the model and the limits in its file, and a tool."""
    found = yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))
    if name == "opencode.json":
        provider, model = found["model"].split("/")
        options = found["provider"][provider]["options"]
        assert options == {"baseURL": "{env:OPENAI_BASE_URL}", "apiKey": "{env:OPENAI_API_KEY}"}
        output = found["provider"][provider]["models"][model]["limit"]["output"]
    else:
        (entry,) = found["models"]
        assert entry["apiBase"] == "http://spark-1:8235/v1" and "OPENAI_API_KEY" in entry["apiKey"]
        model, output = entry["model"], entry["defaultCompletionOptions"]["maxTokens"]
    ask = (
        "import sys; from openai import OpenAI; from openai_tools import TOOLS\n"
        "answer = OpenAI().chat.completions.create(model=sys.argv[1], max_tokens=int(sys.argv[2]), tools=TOOLS, temperature=0,\n"
        "    messages=[{'role': 'system', 'content': 'You edit files.'}, {'role': 'user', 'content': 'What is 127 factorial?'}])\n"
        "print(answer.model)"
    )
    assert said([clients, "-c", ask, model, str(output)], environment).strip() == model
