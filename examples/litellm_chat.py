# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""LiteLLM: the provider `hosted_vllm`, with an address and a key of one's own."""

import os
import sys

# Without this LiteLLM asks GitHub for a list of prices when it is imported.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from litellm import completion


def main() -> None:
    question = sys.argv[1] if len(sys.argv) > 1 else "What is the capital of France?"
    stream = completion(
        model=f"hosted_vllm/{os.environ.get('MODEL', 'qwen3-235b-awq')}",
        api_base=os.environ["OPENAI_BASE_URL"],
        api_key=os.environ["OPENAI_API_KEY"],
        messages=[{"role": "user", "content": question}],
        max_tokens=256,
        temperature=0,
        stream=True,
    )
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
