# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What tests ask of a node's units and of its endpoint, as a client would."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

from testinfra.host import Host

#: The first node's port, published on this machine's loopback.
URL = "http://127.0.0.1:8235"
MODEL = "qwen3-235b-awq"
CALCULATE = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "Perform calculations",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
    },
}


def wait_until_active(host: Host, unit: str, seconds: float = 300) -> None:
    """Wait until systemd calls the unit active; on failure show its journal."""
    deadline = time.monotonic() + seconds
    while host.run(f"systemctl is-active {unit}").stdout.strip() != "active":
        if time.monotonic() > deadline:
            with host.sudo():
                journal = host.run(f"journalctl --unit {unit} --lines 60 --no-pager --output cat").stdout
            raise AssertionError(f"{unit} is not active after {seconds:.0f} s:\n{journal}")
        time.sleep(2)


def api_key(host: Host) -> str:
    """Read the endpoint's key on the head."""
    with host.sudo():
        return str(host.check_output("cat /etc/dgx-spark/secrets/api_key")).strip()


def ask(path: str, body: dict[str, Any] | None = None, key: str = "") -> tuple[int, Any]:
    """Return status and JSON answer of the endpoint; a POST where there is a body."""
    request = urllib.request.Request(URL + path, data=json.dumps(body).encode() if body is not None else None)
    request.add_header("Content-Type", "application/json")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=120) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text.strip() else None
    except urllib.error.HTTPError as error:
        return error.code, None


def chat(prompt: str, key: str, **more: Any) -> dict[str, Any]:
    """Return the message that the model answers a prompt with."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 80,
        "temperature": 0,
        **more,
    }
    status, answer = ask("/v1/chat/completions", body, key)
    assert status == 200, f"the endpoint answered {status}"
    message: dict[str, Any] = answer["choices"][0]["message"]
    return message
