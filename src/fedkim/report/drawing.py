"""Plots as inline SVG: lines over rounds, stacked bars, and one-line interval strips.

Written by hand rather than by a plotting library so that they take the page's own colours (light and dark), stay a few
kilobytes small, and carry their values as hover titles. Colours are the classes ``c0``–``c7`` of the style sheet.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

COLOURS = 8

WIDTH = 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 10, 34
_LEGEND_ROW, _LEGEND_COLUMNS = 18, 3


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a plot: points ``(x, y)``; a y of None is a gap."""

    name: str
    points: Sequence[tuple[float, float | None]]
    colour: int = 0
    style: str = ""
    """Further classes: ``faint`` (thin, no dots), ``dashed``."""


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    width: int = WIDTH,
    height: int = 230,
    y_range: tuple[float, float] | None = None,
    baseline: float | None = None,
    whole: bool = True,
    legend: bool = False,
) -> Markup:
    """Lines over a common x, with rounded ticks.

    Args:
        series: what is drawn.
        x_label: stands beneath.
        y_label: is read aloud, and stands above where there is a legend.
        width: of everything, in units of the drawing.
        height: likewise, without the legend.
        y_range: None: what the values need.
        baseline: a level to dot, such as 0.5.
        whole: whether x counts something.
        legend: name the axis and, beneath, every series, for a drawing that stands alone.
    """
    xs = [x for line in series for x, y in line.points if y is not None]
    ys = [y for line in series for _, y in line.points if y is not None]
    if not ys:
        return Markup("")
    x_low, x_high = min(xs), max(xs)
    if x_low == x_high:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    y_ticks = ticks(*(y_range or _padded(ys)))
    y_low, y_high = y_range or (y_ticks[0], y_ticks[-1])
    bottom, top = height - _BOTTOM, _TOP + (18 if legend else 0)

    def px(x: float) -> float:
        return _LEFT + (x - x_low) / (x_high - x_low) * (width - _LEFT - _RIGHT)

    def py(y: float) -> float:
        return bottom - (min(max(y, y_low), y_high) - y_low) / (y_high - y_low) * (bottom - top)

    rows = -(-len(series) // _LEGEND_COLUMNS) if legend else 0
    parts = [_open(width, height + rows * _LEGEND_ROW, f"{y_label} by {x_label}")]
    if legend:
        parts.append(_text(0, 12, y_label, "start", "axis"))
        parts += [_named(line, place, width, height) for place, line in enumerate(series)]
    for y in y_ticks:
        if y_low <= y <= y_high:
            parts.append(_line(_LEFT, py(y), width - _RIGHT, py(y), "grid"))
            parts.append(_text(_LEFT - 6, py(y) + 4, number(y), "end"))
    for x in ticks(x_low, x_high, whole=whole, about=max(2, width // 80)):
        if x_low <= x <= x_high:
            parts.append(_text(px(x), bottom + 16, number(x), "middle"))
    if baseline is not None:
        parts.append(_line(_LEFT, py(baseline), width - _RIGHT, py(baseline), "chance"))
    for line in series:
        parts.append(_path(line, px, py))
    parts.append(_text((_LEFT + width) / 2, height - 3, x_label, "middle", "axis"))
    return Markup("".join(parts) + "</svg>")


def stacked_bars(
    labels: Sequence[str], layers: Sequence[tuple[str, Sequence[float]]], *, x_label: str, unit: str
) -> Markup:
    """One bar per label, a layer per series, values in ``unit`` on the y axis."""
    totals = [sum(values[i] for _, values in layers) for i in range(len(labels))]
    if not totals or max(totals) <= 0:
        return Markup("")
    y_ticks = ticks(0, max(totals))
    top = max(y_ticks[-1], max(totals))
    height = 230
    bottom = height - _BOTTOM
    step = (WIDTH - _LEFT - _RIGHT) / len(labels)
    every = math.ceil(len(labels) / 15)
    parts = [_open(WIDTH, height, f"{unit} by {x_label}")]
    for y in y_ticks:
        level = bottom - y / top * (bottom - _TOP)
        parts.append(_line(_LEFT, level, WIDTH - _RIGHT, level, "grid"))
        parts.append(_text(_LEFT - 6, level + 4, number(y), "end"))
    for i, label in enumerate(labels):
        base = float(bottom)
        for colour, (name, values) in enumerate(layers):
            tall = values[i] / top * (bottom - _TOP)
            title = escape(f"{name}, {x_label} {label}: {values[i]:.3g} {unit}")
            parts.append(
                f'<rect class="bar c{colour % COLOURS}" x="{_LEFT + (i + 0.15) * step:.1f}" y="{base - tall:.1f}" '
                f'width="{0.7 * step:.1f}" height="{max(tall, 0):.1f}"><title>{title}</title></rect>'
            )
            base -= tall
        if i % every == 0:
            parts.append(_text(_LEFT + (i + 0.5) * step, bottom + 16, label, "middle"))
    parts.append(_text((_LEFT + WIDTH) / 2, height - 3, x_label, "middle", "axis"))
    return Markup("".join(parts) + "</svg>")


def strip(
    value: float | None,
    low: float | None,
    high: float | None,
    *,
    marker: str,
    title: str,
    marks: Iterable[float],
    chance: float | None = None,
    span: tuple[float, float],
) -> Markup:
    """One row of a forest plot as wide as its cell: an interval and a marker over shared levels ``marks``.

    The level ``chance`` is dotted.
    """

    def at(x: float) -> str:
        return f"{100 * min(max((x - span[0]) / (span[1] - span[0]), 0), 1):.2f}%"

    parts = [f'<svg class="strip" width="100%" height="18" role="img"><title>{escape(title)}</title>']
    for mark in marks:
        kind = "chance" if mark == chance else "grid"
        parts.append(f'<line class="{kind}" x1="{at(mark)}" x2="{at(mark)}" y1="0" y2="18"/>')
    if low is not None and high is not None:
        parts.append(f'<line class="interval {marker}" x1="{at(low)}" x2="{at(high)}" y1="9" y2="9"/>')
    if value is not None:
        parts.append(f'<svg x="{at(value)}" y="9" class="inner {marker}"><path d="{_MARKERS[marker]}"/></svg>')
    return Markup("".join(parts) + "</svg>")


_MARKERS = {
    "main": "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0",
    "small": "M-4,-4h8v8h-8z",
    "proxy": "M0,-5.5L5.5,0L0,5.5L-5.5,0z",
    "control": "M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0",
    "constant": "M-1,-5h2v10h-2z",
}


def ticks(low: float, high: float, *, whole: bool = False, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 × 10ᵏ apart) that cover ``[low, high]``."""
    if high <= low:
        high = low + 1
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    if whole:
        step = max(1.0, round(step))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def number(value: float) -> str:
    """A tick's label: as short as it can be."""
    return f"{value:.10g}"


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - abs(low) * 0.1 - 1e-6, high + abs(high) * 0.1 + 1e-6)


def _path(line: Series, px: Callable[[float], float], py: Callable[[float], float]) -> str:
    kind = f"line c{line.colour % COLOURS} {line.style}".strip()
    parts, pen = [], "M"
    for x, y in line.points:
        if y is None:
            pen = "M"
            continue
        parts.append(f"{pen}{px(x):.1f},{py(y):.1f}")
        pen = "L"
    drawn = f'<path class="{kind}" d="{"".join(parts)}"><title>{escape(line.name)}</title></path>'
    if "faint" in line.style:
        return drawn
    dots = (
        f'<circle class="dot c{line.colour % COLOURS}" cx="{px(x):.1f}" cy="{py(y):.1f}" r="2.6">'
        f"<title>{escape(f'{line.name}: {y:.3f} at {number(x)}')}</title></circle>"
        for x, y in line.points
        if y is not None
    )
    return drawn + "".join(dots)


def _named(line: Series, place: int, width: int, below: float) -> str:
    """One series of a legend beneath a drawing: a stroke as in the drawing, and its name."""
    row, column = divmod(place, _LEGEND_COLUMNS)
    x, y = _LEFT + column * (width - _LEFT) / _LEGEND_COLUMNS, below + (row + 0.5) * _LEGEND_ROW
    kind = f"line c{line.colour % COLOURS} {line.style}".strip()
    return f'<path class="{kind}" d="M{x:.1f},{y:.1f}h16"/>{_text(x + 22, y + 4, line.name, "start")}'


def _open(width: int, height: int, label: str) -> str:
    return f'<svg class="plot" viewBox="0 0 {width} {height}" style="max-width:{1.3 * width:.0f}px" role="img" aria-label="{escape(label)}">'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
