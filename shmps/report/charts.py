"""Charts as SVG text. Colours come from the page's style sheet, by class; title and description name each."""

import itertools
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

_WIDTH, _HEIGHT = 400, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 32, 12, 42  # margins, for the labels of the axes
_MOST_POINTS = 300
_MOST_BARS = 30

Point = tuple[float, float]


def scale(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` + 1 round numbers, equally far apart, from at most `low` to at least `high`."""
    if not high > low:
        low, high = low - (abs(low) or 1.0) / 10, high + (abs(high) or 1.0) / 10
    least = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= least)
    digits = max(0, 1 - math.floor(math.log10(step)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, digits) for number in range(first, last + 1)]


def number(value: float) -> str:
    """As an axis shows it."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.6g}"


def line_chart(
    name: str, title: str, points: Sequence[Point], x_name: str, level: float | None = None
) -> str:
    """A line through the points (x, y), a dashed one at the height `level`. `name` is unique on the page."""
    points = thinned([point for point in points if all(map(math.isfinite, point))], _MOST_POINTS)
    if not points:
        return "<p>None of these values is a number.</p>"
    xs, ys = [x for x, _ in points], [y for _, y in points]
    heights = ys if level is None else [*ys, level]
    across, up = scale(min(0.0, *xs), max(xs)), scale(min(heights), max(heights))
    path = " ".join(f"{_x(x, across):.1f},{_y(y, up):.1f}" for x, y in points)
    drawn = _axes(across, up, x_name)
    if level is not None:
        y = _y(level, up)
        drawn += f'<line class="level" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    drawn += f'<polyline class="curve" points="{path}"/>'
    if len(points) <= 60:
        drawn += "".join(
            f'<circle class="dot" cx="{_x(x, across):.1f}" cy="{_y(y, up):.1f}" r="2.5"/>' for x, y in points
        )
    told = (
        f"{len(points)} points, from {number(ys[0])} at {number(xs[0])} to {number(ys[-1])} at "
        f"{number(xs[-1])} {x_name}; least {number(min(ys))}, most {number(max(ys))}."
    )
    return _svg(name, title, told, drawn)


def bar_chart(name: str, title: str, counts: Sequence[int], x_name: str) -> str:
    """counts[i] as a bar over i; neighbours share one where there are many."""
    together = -(-len(counts) // _MOST_BARS)
    sums = [sum(counts[begin : begin + together]) for begin in range(0, len(counts), together)]
    up = scale(0.0, max(sums))
    wide = (_WIDTH - _LEFT - _RIGHT) / max(len(sums), 8)
    drawn = _axes([], up, x_name)
    every = -(-len(sums) // 8)
    for place, count in enumerate(sums):
        top, left = _y(count, up), _LEFT + place * wide
        drawn += (
            f'<rect class="bar" x="{left + wide * 0.1:.1f}" y="{top:.1f}" width="{wide * 0.8:.1f}" '
            f'height="{_HEIGHT - _BOTTOM - top:.1f}"/>'
        )
        if place % every == 0:
            drawn += _text(left + wide / 2, _HEIGHT - _BOTTOM + 16, number(place * together), "middle")
    most = max(range(len(counts)), key=counts.__getitem__)
    told = f"From 0 to {len(counts) - 1} {x_name}, most often {most}, {number(counts[most])} times."
    return _svg(name, title, told, drawn)


def strip(name: str, title: str, told: str, shares: np.ndarray, classes: Sequence[str]) -> str:
    """Shares (bins, kinds) of equal stretches of time, stacked from below; as wide as there is room."""
    bins = len(shares)
    tops = 1.0 - np.cumsum(shares, axis=1)
    layers = "".join(
        f'<path class="{each}" d="{_steps(tops[:, kind])}"/>'
        for kind, each in reversed([*enumerate(classes)])
    )
    return (
        f'<svg class="strip" viewBox="0 0 {bins} 1" preserveAspectRatio="none" role="img" '
        f'aria-labelledby="{name}-title {name}-told"><title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-told">{escape(told)}</desc>{layers}</svg>'
    )


def _steps(tops: Iterable[float]) -> str:
    """The area from the floor, 1, up to these heights, each one wide."""
    path, x = "M0 1", 0
    for top, run in itertools.groupby(f"{top:.2f}" for top in tops):
        x += len(list(run))
        path += f"V{top}H{x}"
    return path + "V1Z"


def thinned(items: Sequence[Any], most: int) -> list[Any]:
    """At most about so many of them, equally far apart; the last is among them."""
    every = -(-len(items) // most) if items else 1
    return list(items[(len(items) - 1) % every :: every]) if items else []


def _x(value: float, across: Sequence[float]) -> float:
    share = (value - across[0]) / (across[-1] - across[0])
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share


def _y(value: float, up: Sequence[float]) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * (value - up[0]) / (up[-1] - up[0])


def _axes(across: Sequence[float], up: Sequence[float], x_name: str) -> str:
    drawn = ""
    for value in up:
        y = _y(value, up)
        drawn += f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        drawn += _text(_LEFT - 6, y + 4, number(value), "end")
    for value in across:
        drawn += _text(_x(value, across), _HEIGHT - _BOTTOM + 16, number(value), "middle")
    return drawn + _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, x_name, "middle")


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(name: str, title: str, told: str, drawn: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-labelledby="{name}-title {name}-told"><title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-told">{escape(told)}</desc>{drawn}</svg>'
    )
