# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A pair as its nodes know it, and a screen that keeps what it is shown."""

from __future__ import annotations

import io
from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.command.cluster import Cluster
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command.terminal import Terminal

HEAD, WORKER = "192.168.100.10", "192.168.100.11"
PAIR = Cluster(
    "spark-1",
    "spark-1",
    {"spark-1": HEAD, "spark-2": WORKER},
    gpus=2,
    model="m",
    endpoint=f"http://{HEAD}:8235/v1",
    reserve_gib=4.0,
    drain_s=30,
)


class Tty(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def paper() -> tuple[Terminal, io.StringIO]:
    """Return what writes to no terminal, and what it wrote."""
    out = io.StringIO()
    return Terminal(out, {}), out


def report(address: str, **more: Any) -> dict[str, Any]:
    """Return what a follower reports, as the watchdog keeps it."""
    return {
        "address": address,
        "ray_age_s": 7300.0,
        "ranks": [41],
        "available_gib": 20.0,
        "total_gib": 121.0,
        "warnings": [],
        "age_s": 1.0,
        **more,
    }
