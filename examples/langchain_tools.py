# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""LangChain: the same tool call as in openai_tools.py, with `ChatOpenAI` and `bind_tools`."""

import os
import sys

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai_tools import MOST_TURNS
from openai_tools import calculate as value_of


@tool
def calculate(expression: str) -> str:
    """Perform calculations"""
    return value_of(expression)


def main() -> None:
    question = sys.argv[1] if len(sys.argv) > 1 else "What is 127 factorial?"
    model = ChatOpenAI(model=os.environ.get("MODEL", "qwen3-235b-awq"), temperature=0, max_tokens=500)
    asked = model.bind_tools([calculate])
    messages: list = [HumanMessage(question)]
    for _turn in range(MOST_TURNS):
        answer = asked.invoke(messages)
        messages.append(answer)
        if not answer.tool_calls:
            print(f"answer: {answer.content}")
            return
        for call in answer.tool_calls:
            result = calculate.invoke(call["args"])
            print(f"call: {call['name']}({call['args']})")
            print(f"result: {result}")
            messages.append(ToolMessage(result, tool_call_id=call["id"]))
    print(f"answer: none after {MOST_TURNS} turns")


if __name__ == "__main__":
    main()
