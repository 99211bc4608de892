# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What role monitoring costs on a pair where it is on: memory and CPU of each unit, and tokens a second with it and without."""

from __future__ import annotations

import concurrent.futures
import json
import sys
import time
import urllib.request
from typing import Any

from benchmarks.start import HEAD, URL, WORKER, on

UNITS = (
    (HEAD, "spark-prometheus"),
    (HEAD, "spark-node-exporter"),
    (HEAD, "spark-metrics"),
    (WORKER, "spark-node-exporter"),
    (WORKER, "spark-metrics"),
)
SECONDS, STREAMS, TOKENS = 20.0, 4, 128
#: Seconds over which CPU is counted, and the kernel's ticks of one (getconf CLK_TCK).
COUNTED_S, TICKS = 60.0, 100


def used() -> dict[str, dict[str, float]]:
    """Return MiB of memory and seconds of CPU, ended children included, of each unit by node and name."""
    found = {}
    for node, unit in UNITS:
        pid = on(node, f"systemctl show --value --property=MainPID {unit}.service").strip()
        if pid == "0":
            raise RuntimeError(f"{unit} does not run on {node.name}: run site.yml with monitoring_enabled: true")
        fields = on(node, f"cat /proc/{pid}/stat").rpartition(")")[2].split()
        resident = on(node, f"grep VmRSS /proc/{pid}/status").split()[1]
        found[f"{node.name} {unit}"] = {
            "mib": round(int(resident) / 1024, 1),
            "cpu_s": sum(int(ticks) for ticks in fields[11:15]) / TICKS,
        }
    return found


def _ask(key: str, end: float) -> int:
    """Ask until the time is over; return the tokens that came."""
    tokens = 0
    body = {"model": "qwen3-235b-awq", "prompt": "Once", "max_tokens": TOKENS, "ignore_eos": True, "temperature": 0}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < end:
        request = urllib.request.Request(f"{URL}/v1/completions", data=json.dumps(body).encode())
        request.add_header("Authorization", f"Bearer {key}")
        request.add_header("Content-Type", "application/json")
        with opener.open(request, timeout=60) as answer:
            tokens += json.load(answer)["usage"]["completion_tokens"]
    return tokens


def rate(key: str) -> float:
    """Return tokens a second of all streams together."""
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
        tokens = sum(pool.map(lambda _stream: _ask(key, begun + SECONDS), range(STREAMS)))
    return round(tokens / (time.monotonic() - begun), 1)


def turn(action: str) -> None:
    """Start or stop all units."""
    for node, unit in UNITS:
        on(node, f"systemctl {action} {unit}.service")


def measure(runs: int) -> dict[str, Any]:
    """Return the figures; runs with and without take turns."""
    key = on(HEAD, "cat /etc/dgx-spark/secrets/api_key").strip()
    rates: dict[str, list[float]] = {"with": [], "without": []}
    try:
        rate(key)
        for number in range(runs):
            for name, action in (("without", "stop"), ("with", "start")):
                turn(action)
                time.sleep(5)
                rates[name].append(rate(key))
            print(f"monitoring {number + 1}/{runs}: {rates}", file=sys.stderr, flush=True)
    finally:
        turn("start")
    time.sleep(15)
    before = used()
    time.sleep(COUNTED_S)
    after = used()
    series = {f"tokens/s {name} monitoring": values for name, values in rates.items()}
    units = dict.fromkeys(series, "tok/s")
    for name, figures in after.items():
        series[f"memory of {name}"] = [figures["mib"]]
        series[f"CPU of {name}"] = [round(100 * (figures["cpu_s"] - before[name]["cpu_s"]) / COUNTED_S, 2)]
        units |= {f"memory of {name}": "MiB", f"CPU of {name}": "% of a core"}
    return {"series": series, "units": units}
