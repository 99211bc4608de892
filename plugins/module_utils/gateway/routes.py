# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Which methods and paths of the server are open, and to whom. What is not named here is answered with 404, so that a new vLLM opens nothing.

Sources: the routes of vLLM 0.20 to 0.33 (vllm/entrypoints), and OpenAI's API reference for those that users have.
"""

from __future__ import annotations

#: Paths by method that a key with role ``user`` opens.
USER: dict[str, tuple[str, ...]] = {
    "GET": ("/v1/models",),
    "POST": ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"),
}
#: Paths by method that a key with role ``operator`` opens as well: they tell, and change nothing.
OPERATOR: dict[str, tuple[str, ...]] = {
    "GET": ("/load", "/metrics", "/version"),
    "POST": ("/detokenize", "/tokenize"),
}
#: Answered by the gateway itself, without a key and with one word: whether vLLM answers.
HEALTH = "/health"


def access(method: str, path: str) -> str:
    """Return who may ask: ``anyone``, ``user``, ``operator`` or ``nobody``; paths are compared letter by letter, as the gateway does."""
    if (method, path) == ("GET", HEALTH):
        return "anyone"
    if path in USER.get(method, ()):
        return "user"
    return "operator" if path in OPERATOR.get(method, ()) else "nobody"
