# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A benchmark as one HTML page that needs nothing beside itself: charts as inline SVG, in light and dark, and every figure as text."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .result import NO_JOURNAL, expectation, load_of, rate, same_load

#: Size of a chart in its own units, and the margins around what is drawn: left, right, top, bottom.
WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 18, 44
#: Series have colours 0 to 4 of the style sheet; more are drawn in the last one, and told apart by their labels.
COLOURS = 5
#: Earlier runs that the history shows.
SHOWN_RUNS = 20

SIMULATION = "Measured without a GPU, on the simulation: the figures show that the benchmark works. They say nothing about the speed of a DGX Spark."
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --faint: #60646c; --paper: #fcfcfd; --card: #ffffff; --line: #d9d9e0; --grid: #e8e8ec;
  --red: #c62a2f; --red-back: #ffefef; --yellow: #8a5a00; --yellow-back: #fff8e1; --green: #18794e; --green-back: #e9f9ee;
  --blue: #0b68cb; --blue-back: #edf6ff;
  --s0: #0b68cb; --s1: #c2570c; --s2: #18794e; --s3: #8e4ec6; --s4: #ad1d72; --band: #bfe3cb; }
@media (prefers-color-scheme: dark) { :root { --ink: #edeef0; --faint: #b0b4ba; --paper: #111113; --card: #18191b; --line: #363a3f; --grid: #272a2d;
  --red: #ff9592; --red-back: #3b1219; --yellow: #ffca16; --yellow-back: #302008; --green: #71d083; --green-back: #132d21;
  --blue: #70b8ff; --blue-back: #0d2847;
  --s0: #70b8ff; --s1: #ff9f5a; --s2: #71d083; --s3: #d19dff; --s4: #ff8dcc; --band: #20573e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 78rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { margin: 0; font-size: 1.6rem; line-height: 1.2; }
h2 { margin: 2.25rem 0 .6rem; font-size: 1.15rem; }
p { margin: .4rem 0; }
.faint { color: var(--faint); }
.box { margin: 1.25rem 0; padding: .8rem 1rem; border-left: .35rem solid; border-radius: .35rem; }
.verdict { font-weight: 600; }
.below { color: var(--red); background: var(--red-back); border-color: var(--red); }
.notice { color: var(--yellow); background: var(--yellow-back); border-color: var(--yellow); }
.fine { color: var(--green); background: var(--green-back); border-color: var(--green); }
.alone { color: var(--blue); background: var(--blue-back); border-color: var(--blue); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 1.25rem 0; }
.tile { padding: .8rem 1rem; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
.tile b { display: block; font-size: 1.7rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile small { color: var(--faint); font-weight: 400; font-size: .9rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 29rem), 1fr)); gap: 1rem; }
figure { margin: 0; padding: .9rem 1rem .7rem; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
figcaption { font-weight: 600; }
figcaption span { display: block; font-weight: 400; font-size: .87rem; color: var(--faint); }
svg { display: block; width: 100%; height: auto; margin-top: .5rem; }
svg text { fill: var(--ink); font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; font-variant-numeric: tabular-nums; }
svg .axis { fill: var(--faint); font-size: 12px; }
svg .value { font-weight: 600; paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
svg .grid { stroke: var(--grid); stroke-width: 1; }
svg .base { stroke: var(--faint); stroke-width: 1; }
svg .limit { stroke: var(--faint); stroke-width: 2; stroke-dasharray: 4 3; }
svg .band { fill: var(--band); }
svg .line { fill: none; stroke-width: 2.5; stroke-linejoin: round; stroke-linecap: round; }
svg .each { stroke-dasharray: 2 6; }
svg .c0 { stroke: var(--s0); } svg .c1 { stroke: var(--s1); } svg .c2 { stroke: var(--s2); } svg .c3 { stroke: var(--s3); } svg .c4 { stroke: var(--s4); }
svg .f0 { fill: var(--s0); } svg .f1 { fill: var(--s1); } svg .f2 { fill: var(--s2); } svg .f3 { fill: var(--s3); } svg .f4 { fill: var(--s4); }
svg .hollow { fill: var(--card); stroke-width: 2; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .5rem 0 0; padding: 0; list-style: none; font-size: .87rem; }
.legend svg { display: inline-block; width: 1.9rem; height: .8rem; margin: 0 .4rem 0 0; vertical-align: -.05rem; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line); }
th, td { padding: .5rem .7rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; font-size: .8rem; color: var(--faint); font-weight: 600; vertical-align: bottom; }
.number { padding: .4rem .55rem; text-align: right; font-variant-numeric: tabular-nums; font-size: .92rem; }
thead .number { font-size: .76rem; }
td.number { white-space: nowrap; }
.scroll table { min-width: 42rem; }
td:first-child { white-space: nowrap; }
.prose td:first-child { white-space: normal; width: 55%; }
.prose table { min-width: 0; }
td, dd { overflow-wrap: break-word; }
dd { min-width: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.2rem; margin: 0; }
dt { color: var(--faint); }
dd { margin: 0; }
code { font: .88em ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
@media (max-width: 36rem) { dl { grid-template-columns: 1fr; } dt { margin-top: .4rem; } }
@media print { body { max-width: none; padding: 0; } figure, tr { break-inside: avoid; } }
""".strip()


def _text(value: object) -> str:
    """Return text for HTML; what stands between backquotes becomes code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", html.escape(str(value), quote=True))


# --- drawing ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Series:
    """Values by position on the axis; None leaves a gap."""

    name: str
    values: Sequence[float | None]
    colour: int
    #: Dashed, with hollow marks: figures of each request beside those of all.
    each: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart with its words; ``svg`` empty stands for nothing to draw, and ``caption`` says why."""

    title: str
    caption: str
    svg: str
    legend: Sequence[Series] = field(default_factory=tuple)

    def figure(self) -> str:
        """Return it as HTML."""
        entries = "".join(f"<li>{_swatch(series)}{_text(series.name)}</li>" for series in self.legend)
        legend = f"<ul class='legend'>{entries}</ul>" if entries else ""
        return f"<figure><figcaption>{_text(self.title)}<span>{_text(self.caption)}</span></figcaption>{legend}{self.svg}</figure>"


def _swatch(series: Series) -> str:
    colour = min(series.colour, COLOURS - 1)
    kind = f"line c{colour}{' each' if series.each else ''}"
    mark = f"hollow c{colour}" if series.each else f"f{colour}"
    return f"<svg viewBox='0 0 38 16' aria-hidden='true'><path class='{kind}' d='M2 8H36'/><circle class='{mark}' cx='19' cy='8' r='4.5'/></svg>"


def ticks(top: float, count: int = 5) -> list[float]:
    """Return round numbers from 0 to the first one that is at least ``top``, about ``count`` of them."""
    if not math.isfinite(top) or top <= 0:
        return [0.0, 1.0]
    rough = top / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * (1 - 1e-9))
    last = math.ceil(top / step - 1e-9)
    return [round(step * index, 10) for index in range(last + 1)]


def short(value: float) -> str:
    """Return a figure for an axis or a mark: 0.25, 9.7, 36, 1200, 12k."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return f"{value / 1000:.3g}k"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _svg(label: str, body: str, height: int = HEIGHT) -> str:
    return f"<svg viewBox='0 0 {WIDTH} {height}' role='img' aria-label='{_text(label)}'>{body}</svg>"


def line_chart(title: str, caption: str, axis: Sequence[str], series: Sequence[Series], below: str) -> Chart:
    """Return a chart of lines over positions with equal distance; ``below`` names the axis."""
    known = [value for each in series for value in each.values if value is not None]
    if not known:
        return Chart(title, "Nothing was measured.", "")
    marks = ticks(max(known) * 1.08)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    inset = 34 if len(axis) > 1 else 0

    def x(position: int) -> float:
        span = right - LEFT - 2 * inset
        return LEFT + inset + (span * position / (len(axis) - 1) if len(axis) > 1 else span / 2)

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * value / marks[-1]

    parts = []
    for mark in marks:
        parts.append(f"<path class='{'grid' if mark else 'base'}' d='M{LEFT} {y(mark):.1f}H{right}'/>")
        parts.append(f"<text class='axis' x='{LEFT - 8}' y='{y(mark) + 4:.1f}' text-anchor='end'>{short(mark)}</text>")
    # Dates of twenty runs would run into one another.
    every = max(1, math.ceil(len(axis) / 7))
    for position, name in enumerate(axis):
        if (len(axis) - 1 - position) % every == 0:
            parts.append(
                f"<text class='axis' x='{x(position):.1f}' y='{bottom + 18}' text-anchor='middle'>{_text(name)}</text>"
            )
    parts.append(
        f"<text class='axis' x='{(LEFT + right) / 2:.0f}' y='{HEIGHT - 6}' text-anchor='middle'>{_text(below)}</text>"
    )
    taken: list[tuple[float, float]] = []
    written: list[tuple[float, float]] = []
    labels = []
    for each in series:
        colour = min(each.colour, COLOURS - 1)
        dots = [(x(position), y(value), value) for position, value in enumerate(each.values) if value is not None]
        path = "L".join(f"{left:.1f} {top:.1f}" for left, top, _value in dots)
        if len(dots) > 1:
            parts.append(f"<path class='line c{colour}{' each' if each.each else ''}' d='M{path}'/>")
        for number, (left, top, value) in enumerate(dots):
            kind = f"hollow c{colour}" if each.each else f"f{colour}"
            words = (
                f"{each.name}, {axis[[p for p, v in enumerate(each.values) if v is not None][number]]}: {short(value)}"
            )
            parts.append(
                f"<circle class='{kind}' cx='{left:.1f}' cy='{top:.1f}' r='4.5'><title>{_text(words)}</title></circle>"
            )
            if (len(dots) - 1 - number) % every:
                continue
            spot = _free(left, top, taken)
            if spot is not None and (left, top) not in written:
                written.append((left, top))
                taken.append((left, spot))
                labels.append(
                    f"<text class='value' x='{left:.1f}' y='{spot:.1f}' text-anchor='middle'>{short(value)}</text>"
                )
    # Values last, so that no line crosses them.
    return Chart(
        title, caption, _svg(f"{title}: {caption}", "".join(parts + labels)), series if len(series) > 1 else ()
    )


def _free(left: float, top: float, taken: Sequence[tuple[float, float]]) -> float | None:
    """Return the height at which a value can stand, above its mark or below; None where both are taken."""
    for spot in (top - 10, top + 20):
        inside = 12 <= spot <= HEIGHT - BOTTOM - 2
        if inside and all(abs(left - other) > 34 or abs(spot - height) > 14 for other, height in taken):
            return spot
    return None


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
            f"<title>{_text(short(value))} tok/s measured</title></rect>"
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
    return Chart(title, caption, _svg(f"{title}: {caption}", "".join(parts), height))


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
        parts.append(f"<text class='axis' x='{start - 10}' y='{middle + 4:.1f}' text-anchor='end'>{_text(name)}</text>")
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
    return Chart(title, caption, _svg(f"{title}: {caption}", "".join(parts), height))


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


# --- the page -----------------------------------------------------------------------------------------------


def _table(head: Iterable[str], rows: Iterable[Iterable[object]], *, numbers: bool = False, prose: bool = False) -> str:
    kind = " class='number'" if numbers else ""
    heads = "".join(f"<th scope='col'{kind}>{_text(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td{kind}>{_text(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<div class='scroll{' prose' if prose else ''}'><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>"


def _tiles(document: Mapping[str, Any]) -> str:
    ordered = sorted(document["points"], key=lambda point: (point["concurrency"], point["prompt_tokens"]))
    first, top = ordered[0], ordered[-1]
    widest = max(ordered, key=lambda point: float(point["decode_tok_s_total"]))
    steepest = max(ordered, key=lambda point: float(point["prefill_tok_s"]))

    def at(point: Mapping[str, Any]) -> str:
        requests = "1 request" if point["concurrency"] == 1 else f"{point['concurrency']} requests"
        return f"{requests}, {point['prompt_tokens']} prompt tokens"

    tiles = [
        (rate(first["decode_tok_s_request"]), "tok/s", "decode, each", at(first)),
        (rate(widest["decode_tok_s_total"]), "tok/s", "decode, all together", at(widest)),
        (rate(steepest["prefill_tok_s"]), "tok/s", "prefill", at(steepest)),
        (f"{top['ttft_s']:.3g}", "s", "to the first token", at(top)),
    ]
    return (
        "<div class='tiles'>"
        + "".join(
            f"<div class='tile'>{_text(name)}<b>{_text(value)} <small>{unit}</small></b><small>{_text(where)}</small></div>"
            for value, unit, name, where in tiles
        )
        + "</div>"
    )


def _why(verdict: Mapping[str, Any]) -> str:
    parts = []
    if verdict["shortfalls"]:
        parts.append(
            "<h2>What is too low</h2>\n<ul>"
            + "".join(f"<li>{_text(each['text'])}</li>" for each in verdict["shortfalls"])
            + "</ul>"
        )
    for title, name in (("Likely causes", "causes"), ("Also seen", "remarks")):
        if verdict[name]:
            rows = [(cause["found"], cause["remedy"], cause["code"]) for cause in verdict[name]]
            parts.append(f"<h2>{title}</h2>\n" + _table(("Seen in this run", "What to do", "Code"), rows, prose=True))
    looked = []
    if verdict["excluded"]:
        looked.append(f"Checked and not found: {', '.join(verdict['excluded'])}.")
    if verdict["unchecked"]:
        looked.append(f"Not checked: {'; '.join(verdict['unchecked'])}.")
    return "\n".join([*parts, *(f"<p class='faint'>{_text(line)}</p>" for line in looked)])


def _points(document: Mapping[str, Any]) -> str:
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
    return _table((*head, *more), rows, numbers=True)


def _nodes(document: Mapping[str, Any]) -> str:
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
    return _table(head, rows)


def _about(document: Mapping[str, Any]) -> str:
    parts, versions = document["key_parts"], document.get("versions") or {}
    flags = " ".join(parts.get("flags") or [])
    rows = [
        ("Weights", parts.get("weights", "")),
        ("Image", f"{versions.get('image', '')} ({str(parts.get('image_id', '')).removeprefix('sha256:')[:12]})"),
        ("vLLM", versions.get("vllm") or "not told"),
        ("Nodes", ", ".join(document["evidence"])),
        ("Flags", f"`{flags}`" if flags else "none"),
        ("Key", f"{document['key']}: runs with the same one are compared"),
    ]
    return "<dl>" + "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in rows) + "</dl>"


def page(document: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> str:
    """Return the page of a result with its verdict; ``earlier`` are results of the same key, the oldest first."""
    verdict = document["verdict"]
    charts = [
        *rate_charts(document),
        plan_chart(document),
        history_chart(document, earlier),
        startup_chart(document, earlier),
    ]
    made = str(document["made"]).replace("T", " ").replace("Z", " UTC")
    about = f"{document['model']} on {len(document['evidence'])} node{'s' if len(document['evidence']) > 1 else ''} · {made}"
    simulated = f"<p class='box notice'>{_text(SIMULATION)}</p>\n" if document["simulation"] else ""
    title = f"Benchmark: {document['model']}"
    return (
        "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        # Nothing is fetched from anywhere, whatever stands in the figures.
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{_text(title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n"
        f"<h1>Benchmark</h1>\n<p class='faint'>{_text(about)}</p>\n{simulated}"
        f"<p class='box verdict {_text(verdict['level'])}'>{_text(_sentence(verdict))}</p>\n"
        f"{_tiles(document)}\n<div class='charts'>\n"
        + "\n".join(chart.figure() for chart in charts)
        + f"\n</div>\n{_why(verdict)}\n<h2>Figures</h2>\n{_points(document)}\n<h2>The nodes during the run</h2>\n{_nodes(document)}\n"
        f"<h2>What was measured</h2>\n{_about(document)}\n</body>\n</html>\n"
    )


def _sentence(verdict: Mapping[str, Any]) -> str:
    text = str(verdict["sentence"])
    return text[:1].upper() + text[1:] + "."
