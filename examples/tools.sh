#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
#
# curl: a question with a tool. The answer's `tool_calls` hold the name and the arguments, already parsed; openai_tools.py shows what comes after.
set -euo pipefail
: "${OPENAI_BASE_URL:?such as http://spark-1:8235/v1}" "${OPENAI_API_KEY:?the key of the endpoint}"
model=${MODEL:-qwen3-235b-awq}

curl --silent --show-error --fail-with-body --config /dev/fd/3 "$OPENAI_BASE_URL/chat/completions" \
    --header "Content-Type: application/json" --data @- 3<<<"header = \"Authorization: Bearer $OPENAI_API_KEY\"" <<EOF
{
  "model": "$model",
  "messages": [{"role": "user", "content": "What is 127 factorial?"}],
  "tools": [{
    "type": "function",
    "function": {
      "name": "calculate",
      "description": "Perform calculations",
      "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}}
    }
  }],
  "tool_choice": "auto",
  "max_tokens": 500,
  "temperature": 0
}
EOF
