# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Charts of the pages as inline SVG, in light and dark; colours are classes of the pages' style sheet."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Size of a chart in its own units, and the margins around what is drawn: left, right, top, bottom.
WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 18, 44
#: Series have colours 0 to 4 of the style sheet; more are drawn in the last one, and told apart by their labels.
COLOURS = 5


def escaped(value: object) -> str:
    """Return text for SVG."""
    return html.escape(str(value), quote=True)


@dataclass(frozen=True)
class Part:
    """A part of a bar, or a mark, with the class of the style sheet that colours it."""

    name: str
    value: float
    kind: str

    @property
    def swatch(self) -> str:
        """How it is drawn, for the legend."""
        return f"<svg viewBox='0 0 38 16' aria-hidden='true'><rect class='{self.kind}' x='8' y='2' width='22' height='12' rx='2'/></svg>"


@dataclass(frozen=True)
class Series:
    """Values by position on the axis; None leaves a gap."""

    name: str
    values: Sequence[float | None]
    colour: int
    #: Dashed, with hollow marks: figures of each request beside those of all.
    each: bool = False

    @property
    def swatch(self) -> str:
        """How it is drawn, for the legend."""
        colour = min(self.colour, COLOURS - 1)
        kind = f"line c{colour}{' each' if self.each else ''}"
        mark = f"hollow c{colour}" if self.each else f"f{colour}"
        return f"<svg viewBox='0 0 38 16' aria-hidden='true'><path class='{kind}' d='M2 8H36'/><circle class='{mark}' cx='19' cy='8' r='4.5'/></svg>"


@dataclass(frozen=True)
class Chart:
    """A chart with its words; ``svg`` empty stands for nothing to draw, and ``caption`` says why."""

    title: str
    caption: str
    svg: str
    legend: Sequence[Series | Part] = ()


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


def svg(label: str, body: str, height: int = HEIGHT) -> str:
    return f"<svg viewBox='0 0 {WIDTH} {height}' role='img' aria-label='{escaped(label)}'>{body}</svg>"


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
                f"<text class='axis' x='{x(position):.1f}' y='{bottom + 18}' text-anchor='middle'>{escaped(name)}</text>"
            )
    parts.append(
        f"<text class='axis' x='{(LEFT + right) / 2:.0f}' y='{HEIGHT - 6}' text-anchor='middle'>{escaped(below)}</text>"
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
                f"<circle class='{kind}' cx='{left:.1f}' cy='{top:.1f}' r='4.5'><title>{escaped(words)}</title></circle>"
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
    return Chart(title, caption, svg(f"{title}: {caption}", "".join(parts + labels)), series if len(series) > 1 else ())


def _free(left: float, top: float, taken: Sequence[tuple[float, float]]) -> float | None:
    """Return the height at which a value can stand, above its mark or below; None where both are taken."""
    for spot in (top - 10, top + 20):
        inside = 12 <= spot <= HEIGHT - BOTTOM - 2
        if inside and all(abs(left - other) > 34 or abs(spot - height) > 14 for other, height in taken):
            return spot
    return None


@dataclass(frozen=True)
class _Frame:
    """What lies around bars of one scale: names at the left, figures below."""

    rows: int
    top: float
    row: int
    right: int
    below: str
    start: int = 96

    @property
    def height(self) -> int:
        return TOP + self.row * self.rows + BOTTOM

    @property
    def scale(self) -> float:
        return (self.right - self.start) / ticks(self.top)[-1]

    def at(self, value: float) -> float:
        return self.start + value * self.scale

    def name(self, text: str, baseline: int) -> str:
        return f"<text class='axis' x='{self.start - 10}' y='{baseline}' text-anchor='end'>{escaped(text)}</text>"

    def drawn(self) -> list[str]:
        bottom, middle = self.height - BOTTOM, (self.start + self.right) / 2
        lines = [
            f"<path class='{'grid' if mark else 'base'}' d='M{self.at(mark):.1f} {TOP}V{bottom}'/>"
            f"<text class='axis' x='{self.at(mark):.1f}' y='{bottom + 18}' text-anchor='middle'>{short(mark)}</text>"
            for mark in ticks(self.top)
        ]
        below = escaped(self.below)
        return [
            *lines,
            f"<text class='axis' x='{middle:.0f}' y='{self.height - 6}' text-anchor='middle'>{below}</text>",
        ]


def stacked_bars(title: str, caption: str, rows: Sequence[tuple[str, Sequence[Part]]], unit: str) -> Chart:
    """Return one bar for each row, cut into its parts, all on one scale; the legend names the parts of the first row."""
    top = max((sum(part.value for part in parts) for _name, parts in rows), default=0)
    if top <= 0:
        return Chart(title, "There is nothing to show.", "")
    frame = _Frame(len(rows), top, row=46, right=WIDTH - RIGHT - 8, below=unit)
    drawn = frame.drawn()
    for number, (name, parts) in enumerate(rows):
        over, left = TOP + frame.row * number + 7, float(frame.start)
        drawn.append(frame.name(name, over + 20))
        for part in parts:
            width = part.value * frame.scale
            drawn.append(
                f"<rect class='{part.kind}' x='{left:.1f}' y='{over}' width='{max(width, 0):.1f}' height='30'>"
                f"<title>{escaped(part.name)}: {short(part.value)} {unit}</title></rect>"
            )
            if width > 34:
                drawn.append(
                    f"<text class='value' x='{left + width / 2:.1f}' y='{over + 20}' text-anchor='middle'>{short(part.value)}</text>"
                )
            left += max(width, 0)
    return Chart(title, caption, svg(f"{title}: {caption}", "".join(drawn), frame.height), rows[0][1])


def bars(title: str, caption: str, rows: Sequence[tuple[str, float, str]], below: str) -> Chart:
    """Return one bar for each row of name, value and class of its colour."""
    return _spans(title, caption, [(name, 0.0, value, kind, short(value)) for name, value, kind in rows], below)


def ranges(title: str, caption: str, rows: Sequence[tuple[str, float, float]], below: str, limit: float = 0) -> Chart:
    """Return a band from low to high for each row, with a dashed line at ``limit`` where that is not 0."""
    told = [
        (name, low, high, "f0", short(low) if short(low) == short(high) else f"{short(low)} to {short(high)}")
        for name, low, high in rows
    ]
    return _spans(title, caption, told, below, limit)


def _spans(
    title: str, caption: str, rows: Sequence[tuple[str, float, float, str, str]], below: str, limit: float = 0
) -> Chart:
    top = max([limit, *(high for _name, _low, high, _kind, _said in rows)], default=0)
    if top <= 0:
        return Chart(title, "There is nothing to show.", "")
    # Room for the words behind the longest bar.
    frame = _Frame(len(rows), top, row=30, right=WIDTH - RIGHT - 80, below=below)
    drawn = frame.drawn()
    if limit:
        drawn.append(f"<path class='limit' d='M{frame.at(limit):.1f} {TOP - 4}V{frame.height - BOTTOM}'/>")
    for number, (name, low, high, kind, said) in enumerate(rows):
        over = TOP + frame.row * number + 6
        left, width = frame.at(low), max((high - low) * frame.scale, 2)
        drawn.append(frame.name(name, over + 13))
        drawn.append(f"<rect class='{kind}' x='{left:.1f}' y='{over}' width='{width:.1f}' height='18' rx='2'/>")
        drawn.append(f"<text class='value' x='{left + width + 6:.1f}' y='{over + 13.5}'>{escaped(said)}</text>")
    return Chart(title, caption, svg(f"{title}: {caption}", "".join(drawn), frame.height))
