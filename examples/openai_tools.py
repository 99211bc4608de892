# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""The `openai` package: a tool call with the loop closed. The model asks for a tool, this program runs it, the model answers with the result."""

import ast
import json
import math
import operator
import os
import sys
from typing import Any

from openai import OpenAI

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "calculate",
            "description": "Perform calculations",
            "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
        },
    }
]
#: A model that calls for ever is stopped here.
MOST_TURNS = 5
LARGEST = 1000
OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def calculate(expression: str) -> str:
    """Return the value of an arithmetic expression with `factorial(n)` or `n!`. What a model writes is never handed to eval."""

    def value(node: ast.AST) -> Any:
        match node:
            case ast.Constant(value=int() | float() as number):
                return number
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATIONS:
                return OPERATIONS[type(op)](value(left), value(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.Call(func=ast.Name(id="factorial") | ast.Attribute(attr="factorial"), args=[argument]):
                number = value(argument)
                if not isinstance(number, int) or not 0 <= number <= LARGEST:
                    raise ValueError(f"factorial takes 0 to {LARGEST}")
                return math.factorial(number)
        raise ValueError("only numbers, + - * / and factorial(n)")

    text = expression.strip()
    if text.endswith("!") and text[:-1].strip().isdigit():
        text = f"factorial({text[:-1].strip()})"
    try:
        return str(value(ast.parse(text, mode="eval").body))
    except (ValueError, SyntaxError, ArithmeticError, RecursionError) as error:
        # The model gets the reason and may try again.
        return f"error: {error}"


def main() -> None:
    client = OpenAI()
    model = os.environ.get("MODEL") or client.models.list().data[0].id
    question = sys.argv[1] if len(sys.argv) > 1 else "What is 127 factorial?"
    messages: list[Any] = [{"role": "user", "content": question}]
    print(f"question: {question}")
    for _turn in range(MOST_TURNS):
        answer = client.chat.completions.create(
            model=model, messages=messages, tools=TOOLS, tool_choice="auto", max_tokens=500, temperature=0
        )
        message = answer.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        if not message.tool_calls:
            print(f"answer: {message.content}")
            return
        for call in message.tool_calls:
            arguments = json.loads(call.function.arguments)
            result = calculate(str(arguments.get("expression", "")))
            print(f"call: {call.function.name}({arguments})")
            print(f"result: {result}")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    print(f"answer: none after {MOST_TURNS} turns")


if __name__ == "__main__":
    main()
