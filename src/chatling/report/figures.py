"""Draw figures as SVG whose colors are variables of the page: the reader chooses light or dark."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from chatling.report.markdown import escape
from chatling.report.words import ENGLISH, MISSING, Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# Drawn in stand-in colors, which become the variables of colors.css. All differ, and none is a
# color that matplotlib puts in by itself.
STAND_INS = {
    name: f"#{0x010203 * i:06x}"
    for i, name in enumerate(("ink", "muted", "grid", *(f"series-{k}" for k in range(6))), 1)
}
INK, MUTED, GRID, *SERIES = STAND_INS.values()

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
    intervals: Sequence[Sequence[float] | None] = ()


@dataclass(frozen=True)
class Figure:
    """A finished figure: a name for its file, what it shows in words, and the SVG with the page's
    variables for colors.
    """

    name: str
    title: str
    alt: str
    svg: str = field(repr=False)

    @property
    def path(self) -> str:
        """Where the report's folder has its file."""
        return f"figures/{self.name}.svg"

    @property
    def markdown(self) -> str:
        """The image that stands for it in the report."""
        return f"![{escape(self.alt)}]({self.path})"

    @property
    def file(self) -> str:
        """The SVG as a file of its own, with the colors inside."""
        style = f"<style>{page_colors()}:root{{font-family:system-ui,sans-serif}}</style>"
        return re.sub(r"(<svg [^>]*>)", lambda found: found[1] + style, self.svg, count=1)


def page_colors() -> str:
    """The style sheet that gives the variables their colors."""
    return (files("chatling.report") / "colors.css").read_text(encoding="utf-8")


def curves(
    name: str,
    title: str,
    lines: Sequence[Curve],
    *,
    x: str = "step",
    clip: bool = False,
    marks: Sequence[float] = (),
    words: Words = ENGLISH,
) -> Figure | None:
    """Draw lines over a common x axis, and `marks` as dashed verticals; None without two points.

    `clip` lets a high beginning leave the picture, so that the rest can be seen.
    """
    lines = [line for line in lines if len(line.x)]
    if max((len(line.x) for line in lines), default=0) < 2:
        return None  # a point is no curve: tables have it
    # fixed margins: a layout that measures its labels takes as long again as the drawing
    with canvas(HEIGHT, layout=None) as (figure, axes):
        figure.subplots_adjust(
            left=60 / WIDTH, right=1 - 28 / WIDTH, bottom=42 / HEIGHT, top=1 - 12 / HEIGHT
        )
        for line, color in zip(lines, cycle(SERIES), strict=False):
            x_means, y_means = _binned(line.x, line.y)
            smooth = len(x_means) >= SMOOTH_FROM and not line.dots
            if smooth:
                axes.plot(x_means, y_means, color=color, linewidth=0.8, alpha=0.3)
            axes.plot(
                x_means,
                _smoothed(y_means) if smooth else y_means,
                color=color,
                linewidth=1.6 if smooth else 1.4,
                marker="o" if line.dots or len(x_means) == 1 else None,
                markersize=3.5,
                label=line.label,
            )
        for mark in marks:
            axes.axvline(mark, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        low = min(min(line.y) for line in lines)
        high = max(max(line.y[len(line.y) // 20 :]) for line in lines)
        if clip and high > low:
            axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        axes.set_xlabel(x)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=FONT - 1, labelcolor=INK)
        last = "; ".join(
            words(
                "{label} {first:.4g} to {last:.4g}",
                label=each.label,
                first=each.y[0],
                last=each.y[-1],
            )
            for each in lines
        )
        return Figure(name, title, f"{title}: {last}.", drawn(figure, name))


def bars(
    name: str,
    title: str,
    groups: Sequence[str],
    series: Sequence[Bars],
    *,
    percent: bool = True,
    words: Words = ENGLISH,
) -> Figure | None:
    """Horizontal bars, a group of them for each name. None when there is nothing to draw."""
    if not groups or not any(value is not None for each in series for value in each.values):
        return None
    thick = 0.8 / len(series)
    with canvas(60 + len(groups) * max(24, 10 * len(series) + 8)) as (figure, axes):
        for k, (each, color) in enumerate(zip(series, cycle(SERIES), strict=False)):
            known = [i for i, value in enumerate(each.values) if value is not None]
            places = [i + (k - (len(series) - 1) / 2) * thick for i in known]
            values = [value for value in each.values if value is not None]
            axes.barh(places, values, height=thick * 0.86, color=color, label=each.label)
            for i, place, value in zip(known, places, values, strict=True):
                ends = each.intervals[i] if i < len(each.intervals) else None
                if ends:
                    axes.plot(ends, [place, place], color=INK, linewidth=1)
                axes.annotate(
                    f"{value:.0%}" if percent else f"{value:.2f}",
                    (max(value, 0.0, *(ends or ())), place),
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
            f"{group} {', '.join(_value(each, i, words) for each in series)}"
            for i, group in enumerate(groups)
        )
        return Figure(name, title, f"{title}: {shown}.", drawn(figure, name))


@contextlib.contextmanager
def canvas(
    height: float, layout: Literal["constrained"] | None = "constrained"
) -> Iterator[tuple[Canvas, Axes]]:
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
    style |= {"axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # a script that matplotlib's own font lacks: the page's font draws it
        warnings.filterwarnings("ignore", r"Glyph \d+")
        figure = Canvas(figsize=(WIDTH / 72, height / 72), layout=layout)
        axes = figure.subplots()
        for each in (figure, axes):
            each.patch.set_visible(False)
        yield figure, axes


def drawn(figure: Canvas, name: str) -> str:
    """The figure's SVG element: sized by the page, its colors variables, its ids its own among
    those of other figures.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.StringIO()
    unstamped = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(figure).print_svg(out, metadata=unstamped)  # savefig would draw twice
    text = out.getvalue()
    text = text[text.index("<svg") :]
    # Its own style would rule the page.
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text, flags=re.S)
    for size in ("height", "width"):
        text = re.sub(rf'(<svg[^>]*?) {size}="[^"]*"', r"\1", text, count=1)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(
        r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text
    )
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font-family: [^;\"]*; ?", "", text)  # the page's own font
    # A hundredth of a pixel is enough; labels, which stand outside the tags, stay.
    text = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), text)
    for variable, color in STAND_INS.items():
        text = text.replace(color, f"var(--{variable})")
    return re.sub(r"\n\s*", "\n", text).strip()


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
    low = np.maximum(np.arange(len(y)) - half, 0)
    high = np.minimum(np.arange(len(y)) + half + 1, len(y))
    return (sums[high] - sums[low]) / (high - low)


def _value(series: Bars, group: int, words: Words) -> str:
    value = series.values[group]
    return words(MISSING) if value is None else f"{series.label} {value:.3g}"
