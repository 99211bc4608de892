#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
#
# curl: a question, answered piece by piece as the server sends it.
set -euo pipefail
: "${OPENAI_BASE_URL:?such as http://spark-1:8235/v1}" "${OPENAI_API_KEY:?the key of the endpoint}"
model=${MODEL:-qwen3-235b-awq}
question=${1:-What is the capital of France?}

# The key goes in by standard input: on the command line every user of the machine could read it.
curl --silent --show-error --fail-with-body --no-buffer --config - "$OPENAI_BASE_URL/chat/completions" \
    --header "Content-Type: application/json" \
    --data "{\"model\": \"$model\", \"messages\": [{\"role\": \"user\", \"content\": \"$question\"}], \"max_tokens\": 256, \"temperature\": 0, \"stream\": true}" \
    <<<"header = \"Authorization: Bearer $OPENAI_API_KEY\""
