# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""The `openai` package: an answer as a stream. It takes OPENAI_BASE_URL and OPENAI_API_KEY from the environment."""

import os
import sys

from openai import OpenAI


def main() -> None:
    client = OpenAI()
    model = os.environ.get("MODEL") or client.models.list().data[0].id
    question = sys.argv[1] if len(sys.argv) > 1 else "What is the capital of France?"
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=256,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
        if chunk.usage:
            print(f"\n({chunk.usage.prompt_tokens} tokens asked, {chunk.usage.completion_tokens} answered)")


if __name__ == "__main__":
    main()
