# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/gpu-runs.md from the runs: ``python -m benchmarks.gpu.table [--check]``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent.parent / "docs" / "gpu-runs.md"
#: What stands between the marks of a table.
MARKS = ("runs", "hosts", "hosts-faults")
CONCURRENCIES = (1, 4, 16, 64)


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the runs of a folder that came to an end, the whole model first, each group by time."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    good = [run for run in runs if run["status"] == "ok"]
    return sorted(good, key=lambda run: (not run["name"].startswith("full-"), run["time"]))


def point(run: dict[str, Any], concurrency: int, prompt_tokens: int, key: str) -> float | None:
    """Return one figure of one point, None where it was not measured."""
    for entry in run["points"]:
        if (entry["concurrency"], entry["prompt_tokens"]) == (concurrency, prompt_tokens) and key in entry:
            return float(entry[key])
    return None


def rates(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of rates."""
    head = [
        "run",
        *(f"{count}" for count in CONCURRENCIES),
        "4, long prompts",
        "prefill tok/s",
        "seconds to serve",
    ]
    rows = []
    for run in runs:
        if not run["points"]:
            continue
        decode = [point(run, count, 128, "decode_tok_s_request") for count in CONCURRENCIES]
        cold = "" if run["imports_ahead"] else ", imports within"
        rows.append(
            [
                run["name"],
                *(_cell(value, ".1f") for value in decode),
                _cell(point(run, 4, 4096, "decode_tok_s_request"), ".1f"),
                _cell(point(run, 1, 4096, "prefill_tok_s"), ".0f"),
                f"{run['ready_s']:.0f}{cold}",
            ]
        )
    return _table(head, rows)


def memory(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of memory, in GiB."""
    columns: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("run", lambda run: str(run["name"])),
        ("utilization", lambda run: f"{run['intents']['gpu_memory_utilization']:g}"),
        ("requests", lambda run: str(run["intents"].get("max_num_seqs") or "1024 (default)")),
        ("tokens a step", lambda run: str(run["intents"].get("max_num_batched_tokens") or "8192 (default)")),
        ("weights", lambda run: _cell(run["memory"].get("weights_gib"), ".2f")),
        ("activations", lambda run: _cell(run["memory"].get("peak_activation_gib"), ".2f")),
        ("not torch", lambda run: _cell(run["memory"].get("non_torch_gib"), ".2f")),
        ("graphs, estimated", lambda run: _cell(run["memory"].get("graphs_estimated_gib"), ".2f")),
        ("graphs", lambda run: _cell(run["memory"].get("graphs_gib"), ".2f")),
        ("KV cache", lambda run: _cell(run["memory"].get("kv_cache_gib"), ".2f")),
        ("tokens in it", lambda run: _cell(run["memory"].get("kv_cache_tokens"), ",")),
    ]
    return _table([name for name, _ in columns], [[text(run) for _, text in columns] for run in runs])


def both(run: dict[str, Any], concurrency: int) -> str:
    """Return a decode rate as it was measured, and in brackets as it was predicted."""
    measured = point(run, concurrency, 128, "decode_tok_s_request")
    predicted = point({"points": run["predicted"]["points"]}, concurrency, 128, "decode_tok_s_request")
    return "" if measured is None else f"{measured:.1f} ({_cell(predicted, '.1f')})"


def hosts(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of runs on two hosts: measured, and in brackets what was predicted before."""
    head = ["run", "GPUs", "layers", *(f"{count}" for count in CONCURRENCIES), "prefill tok/s", "weights, GiB a rank"]
    head += ["tokens in the KV cache", "seconds to serve"]
    rows = []
    for run in runs:
        gpu, layers = run["gpu"]["name"].split()[1], str(run["config"]["num_hidden_layers"])
        rows.append(
            [
                run["name"],
                gpu,
                layers,
                *(both(run, count) for count in CONCURRENCIES),
                _cell(point(run, 1, 4096, "prefill_tok_s"), ".0f"),
                f"{run['memory']['weights_gib']:.2f} ({run['predicted']['weights_gib']:.2f})",
                f"{run['memory']['kv_cache_tokens']:,} ({run['predicted']['kv_cache_tokens']:,})",
                f"{run['ready_s']:.0f}",
            ]
        )
        rows += [
            [
                f"{run['name']}, {link['name']}",
                gpu,
                layers,
                *(both(link, count) for count in CONCURRENCIES),
                "",
                "",
                "",
                "",
            ]
            for link in run["links"]
            if "points" in link
        ]
    return _table(head, rows)


def broken(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of faults that the product healed; in brackets what was predicted before."""
    head = ["fault", "verdict", "after, s", "GPUs free after, s (near, far)", "MiB on the GPUs before the load"]
    head += ["next right answer after, s", "start within, s", "beyond it, s"]
    rows = []
    for run in runs:
        for fault in run["faults"]:
            if "right_after_s" not in fault:
                continue
            free, expected = fault["gpu_free_after_s"], fault["expected"]
            rows.append(
                [
                    fault["fault"],
                    fault["verdict"]["state"] if fault["verdict"] else "-",
                    f"{fault['verdict']['after_s']:.0f} ({expected['verdict_after_s']})" if fault["verdict"] else "-",
                    ", ".join(_cell(free[gpu], ".0f") for gpu in ("gpu0", "gpu1") if gpu in free),
                    ", ".join(f"{mib:.0f}" for load in fault["loads"][-1:] for mib in load["gpu_mib"]),
                    f"{_cell(fault['right_after_s'], '.0f') or 'not seen'} ({expected['right_after_s']})",
                    _cell(fault["start_s"], ".0f"),
                    _cell(fault["over_a_start_s"], ".0f"),
                ]
            )
    return _table(head, rows)


def fill(page: str, runs: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]]) -> str:
    """Return the page with the tables of these runs, and of those on two hosts, between their marks.

    Raises:
        ValueError: the page has no marks.
    """
    tables = {
        "runs": [
            "Decode in tokens a second and request, by the number of requests; prompts of 128 tokens, `4, long prompts` of 4096:",
            "",
            *rates(runs),
            "",
            "Memory in GiB:",
            "",
            *memory(runs),
        ],
        "hosts": hosts(pairs),
        "hosts-faults": broken(pairs),
    }
    for name in MARKS:
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        if begin not in page or end not in page:
            raise ValueError(f"the page has no line {begin.strip()} or {end.strip()}")
        head, _, rest = page.partition(begin)
        page = head + begin + "\n" + "\n".join([*tables[name], ""]) + end + rest.partition(end)[2]
    return page


def _cell(value: float | int | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.table", description="Write the tables of the runs.")
    parser.add_argument("--runs", type=Path, default=HERE / "runs", help="folder of the runs")
    parser.add_argument("--pairs", type=Path, default=HERE / "runs-two-hosts", help="folder of those on two hosts")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page would change")
    options = parser.parse_args(arguments)
    old = PAGE.read_text(encoding="utf-8")
    new = fill(old, read(options.runs), read(options.pairs))
    if options.check:
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
