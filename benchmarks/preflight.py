# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Seconds of the report on two nodes, with the table and the page: what site.yml does before it changes anything."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.plays import play


def measure(runs: int) -> dict[str, Any]:
    """Return seconds of each run."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs):
            seconds.append(play("playbooks/report.yml", {"node_report_page": str(Path(folder) / "page.html")}).seconds)
            print(f"report {number + 1} of {runs}: {seconds[-1]:.1f} s", file=sys.stderr)
    return {"series": {"seconds": seconds}, "units": {"seconds": "s"}}
