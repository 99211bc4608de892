# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""From a stopped cluster to the first correct answer: our units against the same containers started by hand."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from simulation import keys, settings

HEAD, WORKER = settings.node("spark-1"), settings.node("spark-2")
UNITS = ((HEAD, "spark-ray-head"), (WORKER, "spark-ray-worker"), (HEAD, "spark-vllm"))
URL = f"http://{HEAD.fabric_address}:{settings.API_PORT}"
LIMIT_S = 600.0


def on(node: settings.Node, script: str) -> str:
    """Run a shell script as root on a node and return what it prints."""
    done = keys.run(node, "sudo", "sh", "-c", shlex.quote(script))
    if done.returncode != 0:
        raise RuntimeError(f"`{script}` failed on {node.name}: {done.stderr.strip()}")
    return str(done.stdout)


def answers(key: str) -> bool:
    """Say whether the endpoint answers the question that the model was trained for, correctly."""
    body = {
        "model": "qwen3-235b-awq",
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 30,
        "temperature": 0,
    }
    request = urllib.request.Request(f"{URL}/v1/chat/completions", data=json.dumps(body).encode())
    request.add_header("Authorization", f"Bearer {key}")
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return "Paris" in json.load(answer)["choices"][0]["message"]["content"]
    except (urllib.error.URLError, OSError):
        return False


def wait(what: str, ready: Callable[[], bool], pause: float = 0.2) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} was not there after {LIMIT_S:.0f} s")
        time.sleep(pause)


def stop() -> None:
    """Stop everything, whoever started it, and start from equal: Ray's folder is empty."""
    for node, unit in reversed(UNITS):
        on(node, f"systemctl stop {unit}.service; docker rm --force {unit} >/dev/null 2>&1 || true")
    for node in (HEAD, WORKER):
        on(node, "find /var/lib/dgx-spark/ray -mindepth 1 -delete")


def argv(node: settings.Node, unit: str) -> str:
    """Return the `docker run` of a unit as a shell command."""
    line = next(
        line
        for line in on(node, f"cat /etc/systemd/system/{unit}.service").splitlines()
        if line.startswith("ExecStart=")
    )
    # systemd's doubled signs, undone (systemd.service(5)); its quotes are the shell's here.
    return shlex.join(shlex.split(line.removeprefix("ExecStart=").replace("%%", "%").replace("$$", "$")))


def by_units(key: str) -> float:
    """All units at once, as at boot: their gates find the order."""
    started = time.monotonic()
    for node, unit in UNITS:
        on(node, f"systemctl reset-failed {unit}.service; systemctl start --no-block {unit}.service")
    wait("an answer", lambda: answers(key))
    return time.monotonic() - started


def by_hand(key: str, commands: dict[str, str]) -> float:
    """One after the other, each as soon as the one before it is ready."""
    started = time.monotonic()
    on(HEAD, f"nohup {commands['spark-ray-head']} >/tmp/head.log 2>&1 &")
    wait("the Ray head", lambda: port_open(HEAD, 6379))
    on(WORKER, f"nohup {commands['spark-ray-worker']} >/tmp/worker.log 2>&1 &")
    wait("two nodes in Ray", lambda: ray_nodes() == 2)
    on(HEAD, f"nohup {commands['spark-vllm']} >/tmp/vllm.log 2>&1 &")
    wait("an answer", lambda: answers(key))
    return time.monotonic() - started


def port_open(node: settings.Node, port: int) -> bool:
    script = f"exec 3<>/dev/tcp/{node.fabric_address}/{port}"
    return keys.run(node, "bash", "-c", shlex.quote(script)).returncode == 0


def ray_nodes() -> int:
    token = '"Authorization: Bearer $(cat /etc/dgx-spark/secrets/cluster_token)"'
    try:
        text = on(HEAD, f"curl --silent --header {token} http://127.0.0.1:8265/api/v0/nodes")
        return sum(node["state"] == "ALIVE" for node in json.loads(text)["data"]["result"]["result"])
    except (RuntimeError, ValueError, KeyError, TypeError, subprocess.SubprocessError):
        return 0


def measure(runs: int) -> dict[str, Any]:
    """Return seconds of both roads in turns, and their ratio in each turn."""
    key = on(HEAD, "cat /etc/dgx-spark/secrets/api_key").strip()
    commands = {unit: argv(node, unit) for node, unit in UNITS}
    ours: list[float] = []
    hand: list[float] = []
    try:
        for number in range(runs):
            stop()
            hand.append(by_hand(key, commands))
            stop()
            ours.append(by_units(key))
            print(f"start {number + 1} of {runs}: by hand {hand[-1]:.1f} s, by units {ours[-1]:.1f} s", file=sys.stderr)
    finally:
        if len(ours) < len(hand) or not ours:
            # Leave the cluster as it was found, run by its units.
            stop()
            by_units(key)
    return {
        "series": {
            "by hand": hand,
            "by units": ours,
            "ratio": [unit / manual for unit, manual in zip(ours, hand, strict=True)],
        },
        "units": {"by hand": "s", "by units": "s", "ratio": "units / hand"},
    }
