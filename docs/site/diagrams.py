"""Mermaid diagrams drawn as SVG in the colors of the page: graphs as boxes in layers, sequences as
messages between columns. Mermaid's own script would be 3 MB.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape

LETTER, LINE, PAD = 7.4, 18, 10  # points
GAP, LANE = 26, 22  # between boxes; between arrows that pass by at a side
NODE = re.compile(r'(\[\*\]|\w+)(?:(?:\[\(|\[|\{)"?(.*?)"?(?:\)\]|\]|\}))?$')
ARROW = re.compile(r'\s*-->(?:\|"?([^|]*?)"?\|)?\s*')
MESSAGE = re.compile(r"(\w+)(--?)>>(\w+): (.*)")


@dataclass
class Box:
    text: str
    layer: int = 0
    x: float = 0  # of its middle
    y: float = 0  # of its top
    told: float = 0  # the width of what stands at the arrows that lead to it

    @property
    def lines(self) -> list[str]:
        return re.split(r"<br ?/?>", self.text)

    @property
    def width(self) -> float:
        return max(28, 2 * PAD + LETTER * max(map(_length, self.lines)))

    @property
    def height(self) -> float:
        return PAD + LINE * len(self.lines)


@dataclass
class Graph:
    boxes: dict[str, Box] = field(default_factory=dict)
    arrows: list[tuple[str, str, str]] = field(default_factory=list)  # from, to, label


def drawn(diagram: str) -> str:
    """The `<svg>` of a diagram's text."""
    kind, _, body = diagram.strip().partition("\n")
    return _sequence(body) if kind.startswith("sequence") else _graph(read_graph(body))


def read_graph(text: str) -> Graph:
    """Of a flowchart or a state diagram. Of states, what begins and what ends are two boxes."""
    graph = Graph()

    def known(word: str, at_start: bool) -> str:
        name, label = NODE.match(word.strip()).groups()  # type: ignore[union-attr]
        if name == "[*]":
            name, label = ("start" if at_start else "end"), "●"
        box = graph.boxes.setdefault(name, Box(label or name))
        box.text = label or box.text
        return name

    for line in filter(None, map(str.strip, text.splitlines())):
        chain, _, event = (
            line.partition(": ") if "|" not in line and '"' not in line else (line, "", "")
        )
        words = ARROW.split(chain)
        ends = [known(word, i == 0) for i, word in enumerate(words[::2])]
        for a, b, label in zip(ends, ends[1:], words[1::2], strict=False):
            graph.arrows.append((a, b, label or event))
    return graph


def _graph(graph: Graph) -> str:
    back = _place(graph)
    boxes = graph.boxes
    left = min(box.x - box.width / 2 for box in boxes.values())
    right = max(box.x + box.width / 2 for box in boxes.values())
    middle, shapes = (left + right) / 2, []
    for a, b, label in graph.arrows:
        one, other = boxes[a], boxes[b]
        if (a, b) not in back and other.layer == one.layer + 1:
            start, end = (one.x, one.y + one.height), (other.x, other.y - 3)
            shapes.append(_arrow(f"M{start[0]:.0f} {start[1]:.0f}L{end[0]:.0f} {end[1]:.0f}"))
            x = start[0] + 0.75 * (end[0] - start[0])
            y = start[1] + 0.6 * (end[1] - start[1])
            shapes.append(_label(_wrapped(label), x, y))
            wide = _width(label) / 2
            left, right = min(left, x - wide), max(right, x + wide)
            continue
        side = -1 if one.x < middle else 1  # round the other boxes
        if side < 0:
            left -= LANE
        else:
            right += LANE
        lane = left if side < 0 else right
        y, to_y = one.y + one.height * 0.6, other.y + other.height * 0.4
        x, to_x = one.x + side * one.width / 2, other.x + side * (other.width / 2 + 3)
        shapes.append(_arrow(f"M{x:.0f} {y:.0f}H{lane:.0f}V{to_y:.0f}H{to_x:.0f}"))
        if label:
            wide = _width(label)
            x, y = lane + side * (wide / 2 + 4), (y + to_y) / 2 + 4
            shapes.append(_label(_wrapped(label), x, y))
            left, right = min(left, lane - wide - 4), max(right, lane + wide + 4)
    for box in boxes.values():
        shapes.append(_box(box))
    bottom = max(box.y + box.height for box in boxes.values())
    told = "; ".join(
        f"{_plain(boxes[a].text)} → {_plain(boxes[b].text)}{f' ({label})' if label else ''}"
        for a, b, label in graph.arrows
    )
    return _svg((left - 2, -2, right - left + 4, bottom + 4), shapes, told)


def _place(graph: Graph) -> set[tuple[str, str]]:
    """Put each box below those that lead to it; returns the arrows that lead back."""
    after: dict[str, list[str]] = {name: [] for name in graph.boxes}
    for a, b, _ in graph.arrows:
        after[a].append(b)
    back: set[tuple[str, str]] = set()
    done: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        for other in after[name]:
            if other in (*above, name):
                back.add((name, other))
            elif other not in done:
                visit(other, (*above, name))
        if name not in done:
            done.append(name)

    for name in graph.boxes:
        if name not in done:
            visit(name, ())
    for name in reversed(done):
        for other in after[name]:
            if (name, other) not in back:
                graph.boxes[other].layer = max(
                    graph.boxes[other].layer, graph.boxes[name].layer + 1
                )
    for name in done:  # a source that is needed late stands just above
        onward = [graph.boxes[b].layer for b in after[name] if (name, b) not in back]
        if onward and not any(b == name for _, b, _ in graph.arrows):
            graph.boxes[name].layer = min(onward) - 1
    for a, b, label in graph.arrows:
        if (a, b) not in back and graph.boxes[b].layer == graph.boxes[a].layer + 1:
            graph.boxes[b].told = max(graph.boxes[b].told, _width(label))
    y = 0.0
    for layer in range(max(box.layer for box in graph.boxes.values()) + 1):
        row = [box for box in graph.boxes.values() if box.layer == layer]
        rooms = [max(box.width, box.told) for box in row]
        x = -(sum(rooms) + GAP * (len(row) - 1)) / 2
        for box, room in zip(row, rooms, strict=True):
            box.x, box.y = x + room / 2, y
            x += room + GAP
        told = [_wrapped(label) for a, _, label in graph.arrows if graph.boxes[a].layer == layer]
        y += max(box.height for box in row) + GAP + max(map(len, told), default=0) * (LINE - 4)
    return back


def _sequence(text: str) -> str:
    who: dict[str, Box] = {}
    shapes: list[str] = []
    y, loops, told = 64.0, [], []
    for line in map(str.strip, text.splitlines()):
        if found := re.match(r"participant (\w+) as (.*)", line):
            short = "<br/>".join(textwrap.wrap(found[2], 16))
            who[found[1]] = Box(short, x=75 + 150 * len(who))
        elif line.startswith("loop"):
            loops.append((y, line.removeprefix("loop ")))
            y += 26
        elif line == "end":
            top, name = loops.pop()
            width = 150 * len(who) - 8
            shapes.append(
                f'<rect x="4" y="{top:.0f}" width="{width}" height="{y - top:.0f}" rx="6" fill="none" stroke="var(--muted)" stroke-dasharray="4 4"/>'
            )
            shapes.append(_label([name], 12 + LETTER * _length(name) / 2, top + 16))
            y += 14
        elif found := MESSAGE.match(line):
            a, b = who[found[1]], who[found[3]]
            for words in textwrap.wrap(found[4], max(20, int(abs(a.x - b.x) / LETTER) - 2)):
                shapes.append(_label([words], (a.x + b.x) / 2, y + 12))
                y += LINE - 2
            end = b.x - 4 if b.x > a.x else b.x + 4
            shapes.append(_arrow(f"M{a.x:.0f} {y + 2:.0f}H{end:.0f}", dashed=len(found[2]) > 1))
            told.append(f"{_plain(a.text)} → {_plain(b.text)} ({found[4]})")
            y += 18
    lines = [f'<path d="M{box.x:.0f} 40V{y:.0f}" stroke="var(--grid)"/>' for box in who.values()]
    heads = [_box(box) for box in who.values()]
    return _svg((0, -2, 150 * len(who), y + 4), [*lines, *shapes, *heads], "; ".join(told))


def _svg(view: tuple[float, float, float, float], shapes: list[str], told: str) -> str:
    head = '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="var(--muted)"/></marker>'
    size = " ".join(f"{number:.0f}" for number in view)
    return (
        f'<svg class="diagram" role="img" aria-label="{escape(told)}" viewBox="{size}"'
        f' style="max-width:{view[2]:.0f}px;min-width:{min(view[2], 480):.0f}px" font-size="13">{head}{"".join(filter(None, shapes))}</svg>'
    )


def _box(box: Box) -> str:
    x, lines = box.x - box.width / 2, []
    for i, line in enumerate(box.lines):
        y = box.y + PAD / 2 + LINE * (i + 0.72)
        lines.append(
            f'<text x="{box.x:.0f}" y="{y:.0f}" text-anchor="middle">{escape(line)}</text>'
        )
    return (
        f'<rect x="{x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}" rx="6" class="box"/>'
        + "".join(lines)
    )


def _arrow(path: str, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="4 4"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="var(--muted)" marker-end="url(#head)"{dashes}/>'


def _label(lines: list[str], x: float, y: float) -> str:
    """Words at an arrow, around the height y."""
    first = y - (LINE - 4) * (len(lines) - 1) / 2
    return "".join(
        f'<text class="said" x="{x:.0f}" y="{first + (LINE - 4) * i:.0f}" text-anchor="middle">'
        f"{escape(line)}</text>"
        for i, line in enumerate(lines)
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 30)


def _width(text: str) -> float:
    return LETTER * max(map(_length, _wrapped(text)), default=0)


def _length(text: str) -> float:
    """In letters; a Chinese character takes two."""
    return sum(2 if "\u2e80" <= sign else 1 for sign in text)


def _plain(text: str) -> str:
    return " ".join(re.split(r"<br ?/?>", text))
