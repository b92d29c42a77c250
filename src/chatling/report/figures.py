"""Figures as SVG text that takes its colours from the page: light or dark is the reader's choice,
not the file's.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# Drawn in stand-in colours, which become the page's variables. All differ, and none is a colour
# that matplotlib puts in by itself.
INK, MUTED, GRID = "#010203", "#020304", "#030405"
SERIES = ("#040506", "#050607", "#060708", "#070809", "#08090a", "#090a0b")
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid"} | {
    colour: f"--series-{i}" for i, colour in enumerate(SERIES)
}
# The same values as page.css gives, for the files in figures/, which stand alone.
LIGHT = (
    "#1f2328",
    "#59636e",
    "#e4e2dc",
    "#0b64c4",
    "#c2410c",
    "#15803d",
    "#8b3fc7",
    "#be185d",
    "#6b7280",
)
DARK = (
    "#e6e3dd",
    "#a3a8ae",
    "#3a3d42",
    "#6cb2ff",
    "#ff9d5c",
    "#5ed08a",
    "#cf9bff",
    "#ff8fc0",
    "#a5abb5",
)

WIDTH, HEIGHT = 400, 240  # points; a point is a pixel where the page is 400 pixels wide
FONT = 11
POINTS = 300  # of a line; longer ones are averaged in bins
SMOOTH_FROM = 60  # points: longer lines get a moving average, with the raw one pale behind it


@dataclass(frozen=True)
class Curve:
    """A line over steps (or tokens). `dots` marks few points rather than smoothing many."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    dots: bool = False


@dataclass(frozen=True)
class Bars:
    """One bar a group, with 95 % intervals where they are known; a missing value is None."""

    label: str
    values: Sequence[float | None]
    intervals: Sequence[tuple[float, float] | None] = ()


@dataclass(frozen=True)
class Figure:
    """A finished figure: a name for its file, what it shows in words, and the SVG with the page's
    variables for colours.
    """

    name: str
    title: str
    alt: str
    svg: str = field(repr=False)

    @property
    def file(self) -> str:
        """The SVG as a file of its own, with the colours inside."""
        names = list(VARIABLES.values())
        light, dark = (
            ";".join(f"{name}:{value}" for name, value in zip(names, theme, strict=True))
            for theme in (LIGHT, DARK)
        )
        font = "font-family:system-ui,sans-serif"
        style = (
            f"<style>:root{{{light};{font}}}@media"
            f" (prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
        )
        return re.sub(r"(<svg [^>]*>)", lambda found: found[1] + style, self.svg, count=1)


def curves(
    name: str,
    title: str,
    lines: Sequence[Curve],
    *,
    x: str = "step",
    clip: bool = False,
    marks: Sequence[float] = (),
) -> Figure | None:
    """Lines over a common x axis; `marks` are dashed verticals (resumes). None when no line has two
    points.

    `clip` lets a high beginning leave the picture, so that the rest can be seen.
    """
    lines = [line for line in lines if len(line.x)]
    if max((len(line.x) for line in lines), default=0) < 2:
        return None  # a point is no curve: tables have it
    with _canvas(HEIGHT) as (figure, axes):
        for line, colour in zip(lines, _cycle(len(lines)), strict=True):
            px, py = _binned(line.x, line.y)
            if line.dots or len(px) == 1:
                axes.plot(
                    px,
                    py,
                    color=colour,
                    marker="o",
                    markersize=3.5,
                    linewidth=1.4,
                    label=line.label,
                )
            elif len(px) < SMOOTH_FROM:
                axes.plot(px, py, color=colour, linewidth=1.4, label=line.label)
            else:
                axes.plot(px, py, color=colour, linewidth=0.8, alpha=0.3)
                axes.plot(px, _smoothed(py), color=colour, linewidth=1.6, label=line.label)
        for mark in marks:
            axes.axvline(mark, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        if clip:
            low, high = (
                min(min(line.y) for line in lines),
                max(max(line.y[len(line.y) // 20 :]) for line in lines),
            )
            if high > low:
                axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        axes.set_xlabel(x)
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=FONT - 1, labelcolor=INK)
        last = "; ".join(f"{line.label} {line.y[0]:.4g} to {line.y[-1]:.4g}" for line in lines)
        return Figure(name, title, f"{title}: {last}.", _svg(figure, name))


def bars(
    name: str, title: str, groups: Sequence[str], series: Sequence[Bars], *, percent: bool = True
) -> Figure | None:
    """Horizontal bars, a group of them for each name. None when there is nothing to draw."""
    if not groups or not any(value is not None for each in series for value in each.values):
        return None
    thick = 0.8 / len(series)
    with _canvas(60 + len(groups) * max(24, 10 * len(series) + 8)) as (figure, axes):
        for k, (each, colour) in enumerate(zip(series, _cycle(len(series)), strict=True)):
            places = [i + (k - (len(series) - 1) / 2) * thick for i in range(len(groups))]
            known = [
                (place, value, i)
                for i, (place, value) in enumerate(zip(places, each.values, strict=True))
                if value is not None
            ]
            axes.barh(
                [place for place, *_ in known],
                [value for _, value, _ in known],
                height=thick * 0.86,
                color=colour,
                label=each.label,
            )
            for place, value, i in known:
                ends = each.intervals[i] if i < len(each.intervals) else None
                if ends is not None:
                    axes.plot(ends, [place, place], color=INK, linewidth=1)
                text = f"{value:.0%}" if percent else f"{value:.2f}"
                at = max(value, 0.0, *(ends or ()))
                axes.annotate(
                    text,
                    (at, place),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=FONT - 2,
                    annotation_clip=False,
                )
        axes.set_yticks(range(len(groups)), groups)
        axes.invert_yaxis()
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.margins(x=0.12)  # room for the numbers
        if percent:
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        if len(series) > 1:
            figure.legend(
                frameon=False,
                fontsize=FONT - 1,
                labelcolor=INK,
                loc="outside lower center",
                ncols=min(4, len(series)),
            )
        shown = "; ".join(
            f"{group} {', '.join(_value(each, i) for each in series)}"
            for i, group in enumerate(groups)
        )
        return Figure(name, title, f"{title}: {shown}.", _svg(figure, name))


@contextlib.contextmanager
def _canvas(height: float) -> Iterator[tuple[Canvas, Axes]]:
    """A matplotlib figure with one pair of axes, `height` points high, in the page's style; global
    settings stay as they are.
    """
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    style: dict[Any, Any] = dict.fromkeys(
        ("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), MUTED
    )
    style |= {
        "svg.fonttype": "none",
        "svg.hashsalt": "chatling",
        "font.size": FONT,
        "text.color": INK,
        "axes.axisbelow": True,
    }
    with matplotlib.rc_context(style | {"axes.spines.top": False, "axes.spines.right": False}):
        figure = Canvas(figsize=(WIDTH / 72, height / 72), layout="constrained")
        axes = figure.subplots()
        for each in (figure, axes):
            each.patch.set_visible(False)
        yield figure, axes


def _svg(figure: Canvas, name: str) -> str:
    """The figure's SVG element: sized by the page, its colours variables, its ids its own among
    those of other figures.
    """
    out = io.StringIO()
    figure.savefig(
        out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(
        r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text, flags=re.DOTALL
    )  # its style would rule the page
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(
        r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text
    )
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font-family: [^;\"]*; ?", "", text)  # the page's own font
    text = re.sub(
        r"<[^>]+>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), text
    )  # a hundredth of a pixel is enough; labels stay
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return re.sub(r"\n\s*", "\n", text).strip()


def _cycle(count: int) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(count)]


def _binned(x: Sequence[float], y: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """At most POINTS points: means over equal runs of neighbours."""
    px, py = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(px) <= POINTS:
        return px, py
    edges = np.linspace(0, len(px), POINTS + 1).astype(int)[:-1]
    sizes = np.diff([*edges, len(px)])
    return np.add.reduceat(px, edges) / sizes, np.add.reduceat(py, edges) / sizes


def _smoothed(y: np.ndarray) -> np.ndarray:
    """Mean over a window of a thirtieth of the line, narrower at its ends."""
    half = max(2, len(y) // 60)
    sums = np.concatenate(([0.0], np.cumsum(y)))
    low, high = (
        np.maximum(np.arange(len(y)) - half, 0),
        np.minimum(np.arange(len(y)) + half + 1, len(y)),
    )
    return (sums[high] - sums[low]) / (high - low)


def _value(series: Bars, group: int) -> str:
    value = series.values[group]
    return "not measured" if value is None else f"{series.label} {value:.3g}"
