# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Measure, most of it on the simulated pair that `make demo` raised: ``python -m benchmarks [NAME...] [--runs N] [--json FILE]``.

noop   a re-run of site.yml that changes nothing: seconds and tasks.
start  from a stopped cluster to the first correct answer, with our units and by hand with the same images and the same
       arguments, each step as soon as the one before it is ready. Both take turns; what counts is their ratio.
weights  download, verification, no-op and kills against `hf download`, openssl and the disk; needs no pair.
copy     weights to the other node over the fabric, against rsync.
preflight  the report on two nodes.
image    the serving image to the second node over the fabric, against `docker save | ssh | docker load`; stops the cluster.
gateway  what HAProxy adds to a request and takes from 64 streams, beside the bare port of a stand-in; needs no pair.
monitoring  memory and CPU of each unit of role monitoring, and tokens a second with it and without; it has to be on, without the gateway; only by name.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import copy, gateway, image, monitoring, noop, preflight, start, weights

MEASUREMENTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "noop": noop.measure,
    "start": start.measure,
    "weights": weights.measure,
    "copy": copy.measure,
    "preflight": preflight.measure,
    "image": image.measure,
    "gateway": gateway.measure,
    "monitoring": monitoring.measure,
}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return minimum, median and maximum."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure on the simulated pair.")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"what to measure: {', '.join(MEASUREMENTS)}; all but monitoring when left out",
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of each, 3 unless told")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(MEASUREMENTS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(MEASUREMENTS)}")
    results: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine(), "python": platform.python_version()},
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "runs": options.runs,
    }
    rows: list[tuple[str, str, str, str, str]] = [("figure", "minimum", "median", "maximum", "unit")]
    try:
        for name in options.names or [name for name in MEASUREMENTS if name != "monitoring"]:
            result = MEASUREMENTS[name](options.runs)
            results[name] = {key: {**spread(values), "values": values} for key, values in result["series"].items()}
            results[name].update(result.get("facts", {}))
            rows += [
                (
                    f"{name}: {key}",
                    *(f"{spread(values)[part]:.2f}" for part in ("min", "median", "max")),
                    result["units"][key],
                )
                for key, values in result["series"].items()
            ]
    except (RuntimeError, OSError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        print(
            "  ".join(
                cell.ljust(width) if index == 0 else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        print(f"written to {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
