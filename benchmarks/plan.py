# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Fit the planner's constants: ``python -m benchmarks.plan``.

Reads benchmarks/gpu/runs/*.json, writes plugins/module_utils/plan/constants.py, the tables of docs/planning.md and docs/planning.svg. ``--check`` writes nothing
and fails when a file would change.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.shape import ModelShape
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.fitted import Constants

from benchmarks import plan_fit

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "plugins" / "module_utils" / "plan" / "constants.py"
PAGE = ROOT / "docs" / "planning.md"
CHART = ROOT / "docs" / "planning.svg"
BEGIN, END = "<!-- scores: begin -->\n", "<!-- scores: end -->\n"
MODELS = ROOT / "models"
MODELS_BEGIN, MODELS_END = "<!-- models: begin -->\n", "<!-- models: end -->\n"
#: Models whose published count has the layers for speculative decoding, which vLLM does not serve unless asked to.
WITH_DRAFT = ("glm-4.6-awq",)
_WIDTH = 120
HEADER = '''# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the planner is fitted to. Written by ``python -m benchmarks.plan`` from the runs in benchmarks/gpu/runs.

CONSTANTS: fields of `fitted.Constants`. MEASURED: GPUs that the runs were made on. PUBLISHED: what others published for DGX Sparks, with the part
of the limit by memory bandwidth that it reaches (none for eager). UNIFIED_STARTS: starts on DGX Sparks whose logs were published (those of
tests/field_cases/plan that state the machine), with the KV pool that is counted for them. Nobody of this project measured on a GB10.
"""

from __future__ import annotations

from typing import Any

'''


def python_of(value: Any, indent: int, before: int) -> str:
    """Return plain data as Python source, as `ruff format` would leave it.

    Args:
        value: of mappings, lists, texts, numbers, true, false and None.
        indent: of the line that it starts on.
        before: width of what stands before it there.
    """
    if not isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
    pairs = (
        [(f"{json.dumps(key)}: ", inner) for key, inner in value.items()]
        if isinstance(value, dict)
        else [("", inner) for inner in value]
    )
    ends = "{}" if isinstance(value, dict) else "[]"
    short = ends[0] + ", ".join(key + python_of(inner, 0, -10_000) for key, inner in pairs) + ends[1]
    # With the comma that follows it.
    if before + len(short) + (1 if indent else 0) <= _WIDTH:
        return short
    deeper = indent + 4
    lines = [f"{' ' * deeper}{key}{python_of(inner, deeper, deeper + len(key))},\n" for key, inner in pairs]
    return f"{ends[0]}\n{''.join(lines)}{' ' * indent}{ends[1]}"


def text_of(runs: Sequence[plan_fit.Run], constants: Constants) -> str:
    """Return the text of constants.py."""
    parts = []
    for name, kind, value in (
        ("CONSTANTS", "dict[str, Any]", plan_fit.as_record(constants)),
        ("MEASURED", "dict[str, dict[str, Any]]", plan_fit.measured_machines(runs)),
        ("PUBLISHED", "list[dict[str, Any]]", plan_fit.published_parts()),
        ("UNIFIED_STARTS", "list[dict[str, Any]]", plan_fit.unified_starts(constants)),
    ):
        start = f"{name}: {kind} = "
        parts.append(f"{start}{python_of(value, 0, len(start))}\n")
    return HEADER + "\n".join(parts)


def tables(runs: Sequence[plan_fit.Run], constants: Constants) -> str:
    """Return the scores as Markdown."""
    lines = ["| constant | value |", "|---|---|"]
    for name, value in plan_fit.as_record(constants).items():
        shown = (
            ", ".join(f"{key} {figure:g}" for key, figure in value.items()) if isinstance(value, dict) else f"{value:g}"
        )
        lines.append(f"| `{name}` | {shown} |")
    fitted, scored = plan_fit.halves(runs)
    for title, part in (("Scored on (not fitted)", scored), ("Fitted on", fitted)):
        memory, rates = plan_fit.memory_scores(part, constants), plan_fit.decode_scores(part, constants)
        if memory:
            lines += ["", f"{title}, memory on one GPU:", ""]
            lines += [
                "| run | weights GiB | server | error | KV pool GiB | server | error GiB | tokens | server |",
                "|---|---|---|---|---|---|---|---|---|",
            ]
            lines += [
                f"| {row['run']} | {row['weights_gib']:.2f} | {row['weights_measured_gib']:.2f} | {row['weights_error']:+.2%} | {row['kv_gib']:.2f} "
                f"| {row['kv_measured_gib']:.2f} | {row['kv_error_gib']:+.2f} | {row['kv_tokens']:,} | {row['kv_tokens_measured']:,} |"
                for row in memory
            ]
        lines += ["", f"{title}, decode rate of each request:", ""]
        lines += ["| run | requests | context | expected tok/s | measured | error |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {row['run']} | {row['concurrency']} | {row['context']} | {row['tok_s']} | {row['measured_tok_s']} | {row['error']:+.1%} |"
            for row in rates
        ]
    return "\n".join(lines) + "\n"


def model_rows(folder: Path = MODELS) -> list[dict[str, Any]]:
    """Return counts and weights of each model's file, as it states them and as the planner counts them."""
    found = []
    for path in sorted(folder.glob("*.yml")):
        text = path.read_text(encoding="utf-8")
        model = yaml.safe_load(text)
        shape = ModelShape.from_config(model["config"])
        found.append(
            {
                "name": path.stem,
                "stated": model.get("parameters_billion"),
                "source": comment_above(text, "parameters_billion"),
                "counted": (shape.parameter_count() + (shape.draft_parameter_count() if path.stem in WITH_DRAFT else 0))
                / 1e9,
                "draft": shape.draft_parameter_count() / 1e9,
                "weights": model.get("weights_gib"),
                "weights_source": comment_above(text, "weights_gib") or comment_above(text, "config"),
                "weights_counted": shape.rank_weights().total / 1024**3,
            }
        )
    return found


def comment_above(text: str, key: str) -> str:
    """Return the comment above a key of a model's file; it may be for the line between them as well."""
    lines = text.splitlines()
    place = next((number for number, line in enumerate(lines) if line.startswith(f"{key}:")), 0) - 1
    if place >= 0 and lines[place].startswith("weights_gib:"):
        place -= 1
    found: list[str] = []
    while place >= 0 and lines[place].startswith("# "):
        found.insert(0, lines[place][2:])
        place -= 1
    return " ".join(found)


def models_table(folder: Path = MODELS) -> str:
    """Return the models' counts and weights as Markdown."""
    rows = model_rows(folder)
    lines = [
        "| model | parameters, billion | source | planner | deviation |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        counted = f"{row['counted']:.3f}"
        if row["name"] in WITH_DRAFT:
            counted = f"{row['counted'] - row['draft']:.2f} + {row['draft']:.2f} draft layer = {row['counted']:.2f}"
        stated, off = "not published", "-"
        if row["stated"]:
            stated, off = f"{row['stated']:g}", f"{row['counted'] / row['stated'] - 1:+.2%}"
        lines.append(f"| `{row['name']}` | {stated} | {row['source']} | {counted} | {off} |")
    lines += ["", "| model | `weights_gib` | source | planner, on one GPU | deviation |", "|---|---|---|---|---|"]
    for row in rows:
        if row["weights"] < 1:
            lines.append(
                f"| `{row['name']}` | below {row['weights']:g} | {row['weights_source']} | {row['weights_counted']:.3f} | - |"
            )
            continue
        lines.append(
            f"| `{row['name']}` | {row['weights']:g} | {row['weights_source']} | {row['weights_counted']:.2f} "
            f"| {row['weights_counted'] / row['weights'] - 1:+.1%} |"
        )
    return "\n".join(lines) + "\n"


def chart(runs: Sequence[plan_fit.Run], constants: Constants) -> str:
    """Return expected against measured decode rates as an SVG that needs nothing beside itself."""
    left, top, right, bottom = 70, 30, 730, 420
    low, high = math.log10(5), math.log10(400)

    def place(rate: float, start: int, end: int) -> float:
        return start + (math.log10(rate) - low) / (high - low) * (end - start)

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 480" font-family="sans-serif" font-size="13">',
        '<rect width="760" height="480" fill="#ffffff"/>',
    ]
    for rate in (5, 10, 20, 50, 100, 200, 400):
        x, y = place(rate, left, right), place(rate, bottom, top)
        parts += [
            f'<path d="M{x:.1f} {top}V{bottom}M{left} {y:.1f}H{right}" stroke="#e4e4e4"/>',
            f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" fill="#444">{rate}</text>',
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#444">{rate}</text>',
        ]
    for factor, style in (
        (1.0, 'stroke="#888"'),
        (0.8, 'stroke="#bbb" stroke-dasharray="5 4"'),
        (1.25, 'stroke="#bbb" stroke-dasharray="5 4"'),
    ):
        ends = [(rate, rate * factor) for rate in (max(5, 5 / factor), min(400, 400 / factor))]
        path = "L".join(f"{place(one, left, right):.1f} {place(two, bottom, top):.1f}" for one, two in ends)
        parts.append(f'<path d="M{path}" fill="none" {style}/>')
    fitted, scored = plan_fit.halves(runs)
    kinds = (
        (fitted, 'fill="#ffffff" stroke="#0b62a4" stroke-width="1.6"'),
        (scored, 'fill="#c8501e" fill-opacity="0.85"'),
    )
    for part, style in kinds:
        for row in plan_fit.decode_scores(part, constants):
            x, y = place(row["tok_s"], left, right), place(row["measured_tok_s"], bottom, top)
            name = f"{row['run']}, {row['concurrency']} x {row['context']}: {row['tok_s']} expected, {row['measured_tok_s']} measured"
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" {style}><title>{name}</title></circle>')
    for number, ((_part, style), word) in enumerate(zip(kinds, ("fitted on", "scored, not fitted"), strict=True)):
        y = top + 16 + 20 * number
        parts.append(
            f'<circle cx="{left + 16}" cy="{y}" r="5" {style}/><text x="{left + 28}" y="{y + 4}" fill="#222">{word}</text>'
        )
    parts += [
        f'<text x="{left + 8}" y="{top + 60}" fill="#666">dashed: 20 % off</text>',
        f'<text x="{(left + right) / 2}" y="{bottom + 42}" text-anchor="middle" fill="#222">expected tok/s, each request</text>',
        f'<text x="18" y="{(top + bottom) / 2}" text-anchor="middle" fill="#222" '
        f'transform="rotate(-90 18 {(top + bottom) / 2})">measured tok/s, each request</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description="Fit the planner's constants.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a file would change")
    options = parser.parse_args(arguments)
    runs = plan_fit.recorded_runs()
    constants = plan_fit.fit(runs)
    wanted = {TARGET: text_of(runs, constants)}
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    for begin, end, text in ((MODELS_BEGIN, MODELS_END, models_table()), (BEGIN, END, tables(runs, constants))):
        if begin in page:
            before, _, rest = page.partition(begin)
            page = before + begin + "\n" + text + "\n" + end + rest.partition(end)[2]
            wanted[PAGE] = page
    wanted[CHART] = chart(runs, constants)
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in changed:
        print(f"{'would change' if options.check else 'written'}: {path.relative_to(ROOT)}")
        if not options.check:
            path.write_text(wanted[path], encoding="utf-8")
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
