# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the page of a benchmark shows: charts, and every figure as text. plugin_utils/pages.py lays it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..report.charts import BOTTOM, RIGHT, TOP, WIDTH, Chart, Series, escaped, line_chart, short, svg, ticks
from .result import NO_JOURNAL, expectation, load_of, rate, same_load

#: Earlier runs that the history shows.
SHOWN_RUNS = 20

SIMULATION = "Measured without a GPU, on the simulation: the figures show that the benchmark works. They say nothing about the speed of a DGX Spark."


def plan_chart(document: Mapping[str, Any]) -> Chart:
    """Return the plan's range and limit with what was measured for one request."""
    title = "Plan against measured"
    expected = expectation(document["plan"])
    single = sorted((p for p in document["points"] if p["concurrency"] == 1), key=lambda point: point["prompt_tokens"])
    if not single:
        return Chart(title, "The plan speaks of one request at a time, and none was measured so.", "")
    if not expected.known and expected.limit is None:
        return Chart(title, "There is no plan for this run.", "")
    top = max(value for value in (expected.high, expected.limit, *(p["decode_tok_s_request"] for p in single)) if value)
    marks = ticks(top * 1.05)
    row, start = 44, 150
    height = TOP + 24 + row * len(single) + BOTTOM
    bottom, right = height - BOTTOM, WIDTH - RIGHT - 16

    def x(value: float) -> float:
        return start + (right - start) * value / marks[-1]

    parts = []
    if expected.low is not None and expected.high is not None:
        # One figure is drawn as a narrow band.
        width = max(x(expected.high) - x(expected.low), 3)
        parts.append(
            f"<rect class='band' x='{x(expected.low):.1f}' y='{TOP + 20}' width='{width:.1f}' height='{bottom - TOP - 20}'/>"
        )
        middle = x((expected.low + expected.high) / 2)
        parts.append(
            f"<text x='{middle:.1f}' y='{TOP + 8}' text-anchor='middle'>expected {_range(expected.low, expected.high)}</text>"
        )
    if expected.limit is not None:
        near = expected.high is not None and x(expected.limit) - x(expected.high) < 70
        anchor, away = ("start", 0) if near else ("middle", 0)
        parts.append(f"<path class='limit' d='M{x(expected.limit):.1f} {TOP + 14}V{bottom}'/>")
        over = TOP + 8 if not near else bottom - 6
        parts.append(
            f"<text class='axis' x='{min(x(expected.limit) + away + (6 if near else 0), right):.1f}' y='{over}' text-anchor='{anchor}'>"
            f"limit {short(expected.limit)}</text>"
        )
    for mark in marks:
        parts.append(
            f"<text class='axis' x='{x(mark):.1f}' y='{bottom + 18}' text-anchor='middle'>{short(mark)}</text>"
        )
    for number, point in enumerate(single):
        middle = TOP + 24 + row * (number + 0.5)
        value = point["decode_tok_s_request"]
        parts.append(
            f"<text class='axis' x='{start - 10}' y='{middle + 4:.1f}' text-anchor='end'>{point['prompt_tokens']} prompt tokens</text>"
        )
        parts.append(
            f"<rect class='f0' x='{start}' y='{middle - 8:.1f}' width='{max(x(value) - start, 1):.1f}' height='16' rx='2'>"
            f"<title>{escaped(short(value))} tok/s measured</title></rect>"
        )
        parts.append(f"<text class='value' x='{x(value) + 6:.1f}' y='{middle + 4.5:.1f}'>{short(value)}</text>")
    parts.append(f"<path class='base' d='M{start} {TOP + 20}V{bottom}'/>")
    parts.append(
        f"<text class='axis' x='{(start + right) / 2:.0f}' y='{height - 6}' text-anchor='middle'>decode, tokens a second, one request</text>"
    )
    caption = "Bars are measured, the band is the plan's range, the dashed line what memory bandwidth allows."
    details = document["plan"].get("details")
    if isinstance(details, Mapping) and details.get("expected_from"):
        caption += f" The range is {details['expected_from']}."
    return Chart(title, caption, svg(f"{title}: {caption}", "".join(parts), height))


def _range(low: float, high: float) -> str:
    return short(low) if low == high else f"{short(low)} to {short(high)}"


def startup_chart(document: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> Chart:
    """Return the seconds of the start by phase, beside those of the run before."""
    title = "Start-up by phase"
    phases = {str(name): float(value) for name, value in document["startup"].items() if value > 0}
    if not phases:
        return Chart(title, NO_JOURNAL, "")
    before = earlier[-1]["startup"] if earlier else {}
    top = max([*phases.values(), *(float(before.get(name, 0)) for name in phases)])
    row, start = (38 if before else 30), 150
    height = 8 + row * len(phases) + 8
    right = WIDTH - RIGHT - 60
    parts = []
    for number, (name, value) in enumerate(phases.items()):
        middle = 8 + row * (number + 0.5)
        parts.append(
            f"<text class='axis' x='{start - 10}' y='{middle + 4:.1f}' text-anchor='end'>{escaped(name)}</text>"
        )
        width = (right - start) * value / top
        parts.append(
            f"<rect class='f0' x='{start}' y='{middle - 9:.1f}' width='{max(width, 1):.1f}' height='14' rx='2'/>"
        )
        parts.append(f"<text class='value' x='{start + width + 6:.1f}' y='{middle + 2.5:.1f}'>{short(value)} s</text>")
        if name in before:
            width = (right - start) * float(before[name]) / top
            parts.append(
                f"<rect class='f1' x='{start}' y='{middle + 7:.1f}' width='{max(width, 1):.1f}' height='6' rx='2'>"
                f"<title>{short(float(before[name]))} s in the run before</title></rect>"
            )
    whole = sum(phases.values())
    caption = f"{whole:.0f} s in all, from the server's own log." + (
        " The thin bars are the start of the run before." if before else ""
    )
    # Results of before this was noted have none.
    weights = str((document.get("loading") or {}).get("text") or "")
    if weights:
        caption += f" {weights[:1].upper()}{weights[1:]}."
    return Chart(title, caption, svg(f"{title}: {caption}", "".join(parts), height))


def rate_charts(document: Mapping[str, Any]) -> list[Chart]:
    """Return decode, prefill and first token by concurrency, one line for each length of prompt."""
    points = document["points"]
    loads = sorted({int(point["concurrency"]) for point in points})
    lengths = sorted({load_of(point)[1] for point in points})
    axis = [str(load) for load in loads]

    def values(length: int, figure: str) -> list[float | None]:
        by_load = {int(p["concurrency"]): float(p[figure]) for p in points if load_of(p)[1] == length}
        return [by_load.get(load) for load in loads]

    decode = []
    for number, length in enumerate(lengths):
        each, together = values(length, "decode_tok_s_request"), values(length, "decode_tok_s_total")
        # One request alone is all of them: one mark for both, not the median beside the mean.
        together = [one if load == 1 else all_of for load, one, all_of in zip(loads, each, together, strict=True)]
        decode.append(Series(f"all requests, {length} prompt tokens", together, number))
        decode.append(Series(f"each request, {length} prompt tokens", each, number, each=True))
    below = "requests at a time"

    def plain(figure: str) -> list[Series]:
        return [
            Series(f"{length} prompt tokens", values(length, figure), number) for number, length in enumerate(lengths)
        ]

    return [
        line_chart("Decode rate", "Tokens a second after the first token of each request.", axis, decode, below),
        line_chart(
            "Prefill rate",
            "Prompt tokens a second while any request waited for its first token.",
            axis,
            plain("prefill_tok_s"),
            below,
        ),
        line_chart("Time to first token", "Seconds, the median of the requests.", axis, plain("ttft_s"), below),
    ]


def history_chart(document: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> Chart:
    """Return the decode rates of this and the earlier runs of the same key: one request alone, and all at the highest concurrency."""
    title = "History"
    shown = earlier[-(SHOWN_RUNS - 1) :]
    if not shown:
        return Chart(title, "This is the first run with this model, image, number of nodes and flags.", "")
    ordered = sorted(document["points"], key=lambda point: (point["concurrency"], point["prompt_tokens"]))
    first, top = ordered[0], max(ordered, key=lambda point: (point["concurrency"], -point["prompt_tokens"]))
    series = []
    for number, (point, figure, each) in enumerate(
        ((top, "decode_tok_s_total", False), (first, "decode_tok_s_request", True))
    ):
        if number and top is first:
            break
        found = [same_load(point, [run]) for run in shown]
        values = [float(match[-1][figure]) if match else None for match in found]
        who = "each" if each else "all together"
        at = "1 request" if point["concurrency"] == 1 else f"{point['concurrency']} requests"
        series.append(
            Series(
                f"{at}, {who}, {load_of(point)[1]} prompt tokens", [*values, float(point[figure])], number, each=each
            )
        )
    days = [str(run["made"]) for run in (*shown, document)]
    same_day = len({day[:10] for day in days}) == 1
    axis = [day[11:16] if same_day else day[5:10] for day in days]
    below = f"UTC, {days[0][:10]}" if same_day else f"month and day, from {days[0][:10]}"
    return line_chart(
        title, "Decode, tokens a second, of runs with the same model, image, nodes and flags.", axis, series, below
    )


# --- tables -------------------------------------------------------------------------------------------------


def tiles(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the figures that stand large above the charts."""
    ordered = sorted(document["points"], key=lambda point: (point["concurrency"], point["prompt_tokens"]))
    first, top = ordered[0], ordered[-1]
    widest = max(ordered, key=lambda point: float(point["decode_tok_s_total"]))
    steepest = max(ordered, key=lambda point: float(point["prefill_tok_s"]))

    def tile(value: str, unit: str, name: str, point: Mapping[str, Any]) -> dict[str, str]:
        requests = "1 request" if point["concurrency"] == 1 else f"{point['concurrency']} requests"
        return {
            "value": value,
            "unit": unit,
            "name": name,
            "where": f"{requests}, {point['prompt_tokens']} prompt tokens",
        }

    return [
        tile(rate(first["decode_tok_s_request"]), "tok/s", "decode, each", first),
        tile(rate(widest["decode_tok_s_total"]), "tok/s", "decode, all together", widest),
        tile(rate(steepest["prefill_tok_s"]), "tok/s", "prefill", steepest),
        tile(f"{top['ttft_s']:.3g}", "s", "to the first token", top),
    ]


def points_table(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of each load."""
    head = (
        "Requests at a time",
        "Prompt tokens",
        "Answer tokens",
        "Requests",
        "First token s",
        "slowest 1 % s",
        "Token ms",
    )
    more = ("Gap, slowest 1 % ms", "Decode each tok/s", "Decode all tok/s", "Prefill tok/s", "From prefix cache")
    rows = []
    for point in sorted(document["points"], key=lambda each: (each["prompt_tokens"], each["concurrency"])):
        share = point.get("prefix_hit_share")
        rows.append(
            (
                *(point[name] for name in ("concurrency", "prompt_tokens", "output_tokens")),
                point.get("requests", ""),
                f"{point['ttft_s']:.3f}",
                f"{point['ttft_p99_s']:.3f}" if "ttft_p99_s" in point else "",
                f"{point['tpot_ms']:.2f}",
                f"{point['itl_p99_ms']:.2f}" if "itl_p99_ms" in point else "",
                *(rate(point[name]) for name in ("decode_tok_s_request", "decode_tok_s_total", "prefill_tok_s")),
                "not told" if share is None else f"{share:.1%}",
            )
        )
    return {"head": (*head, *more), "rows": rows}


def nodes_table(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was seen of each node."""
    rows = []
    for node, facts in document["evidence"].items():
        clocks, link, swap = facts.get("clocks") or {}, facts.get("link") or {}, facts.get("swap") or {}
        ran = f"{clocks['clock_mhz']} of {clocks['clock_max_mhz']} MHz" if clocks.get("clock_mhz") else "not seen"
        reasons = ", ".join(f"{word} {share:.0%}" for word, share in (clocks.get("reasons") or {}).items())
        said = facts.get("transport") or {}
        over = [
            f"{link[name] / 2**20:.1f} MiB by {how}"
            for name, how in (("tcp_bytes", "TCP"), ("rdma_bytes", "RDMA"))
            if name in link
        ]
        rows.append(
            (
                node,
                ", ".join(facts.get("gpus") or []) or "none",
                f"{ran}{f' ({reasons})' if reasons else ''}",
                f"{swap['pswpin'] * 4 / 1024:.1f} MiB" if "pswpin" in swap else "not read",
                " and ".join(over) or "not read",
                str(said.get("network") or "no line in its log"),
                "not read"
                if facts.get("load_before") is None
                else f"{facts['load_before']:g} on {facts.get('cpus')} cores",
            )
        )
    head = (
        "Node",
        "GPU",
        "Clock under load",
        "Read back from swap",
        "Over the link",
        "NCCL's network",
        "CPU load before",
    )
    return {"head": head, "rows": rows}


def about(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what was measured, by name."""
    parts, versions = document["key_parts"], document.get("versions") or {}
    flags = " ".join(parts.get("flags") or [])
    return [
        ("Weights", parts.get("weights", "")),
        ("Image", f"{versions.get('image', '')} ({str(parts.get('image_id', '')).removeprefix('sha256:')[:12]})"),
        ("vLLM", versions.get("vllm") or "not told"),
        ("Nodes", ", ".join(document["evidence"])),
        ("Flags", f"`{flags}`" if flags else "none"),
        ("Key", f"{document['key']}: runs with the same one are compared"),
    ]


def view(document: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the page of a result with its verdict shows; ``earlier`` are results of the same key, the oldest first."""
    made = str(document["made"]).replace("T", " ").replace("Z", " UTC")
    nodes = len(document["evidence"])
    sentence = str(document["verdict"]["sentence"])
    return {
        "document": document,
        "verdict": document["verdict"],
        "about": f"{document['model']} on {nodes} node{'s' if nodes > 1 else ''} · {made}",
        "simulation": SIMULATION,
        "sentence": f"{sentence[:1].upper()}{sentence[1:]}.",
        "tiles": tiles(document),
        "charts": [
            *rate_charts(document),
            plan_chart(document),
            history_chart(document, earlier),
            startup_chart(document, earlier),
        ],
        "points": points_table(document),
        "nodes": nodes_table(document),
        "facts": about(document),
    }
