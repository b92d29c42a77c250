"""What a report is made of. `render.py` writes the same blocks as Markdown and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chatling.report.figures import Figure


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it."""

    title: str
    blocks: tuple[Block, ...]
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph; `**strong**` and `code` in backquotes are all its markup. `kind`: "plain",
    "lead" or "note".
    """

    text: str
    kind: str = "plain"


@dataclass(frozen=True)
class Tiles:
    """Figures to be seen first: (label, value, remark)."""

    tiles: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Table:
    """The first column names the row. `numbers`: the others are set flush right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: bool = False


@dataclass(frozen=True)
class Figures:
    """Figures beside one another where there is room."""

    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class SampleTable:
    """What several models, or one as it learned, made of a prompt: (who, prompt, text), and
    earlier ones, oldest first.
    """

    topic: str
    latest: tuple[tuple[str, str, str], ...]
    earlier: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class List:
    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Text as it is."""

    text: str


@dataclass(frozen=True)
class Folded:
    """Blocks that open at a click."""

    summary: str
    blocks: tuple[Block, ...]


Block = Section | Text | Tiles | Table | Figures | SampleTable | List | Code | Folded


@dataclass(frozen=True)
class Report:
    title: str
    blocks: tuple[Block, ...]


def all_figures(blocks: Sequence[Block]) -> list[Figure]:
    """Every figure of a report, in order."""
    found: list[Figure] = []
    for block in blocks:
        if isinstance(block, Figures):
            found += block.figures
        elif isinstance(block, Section | Folded):
            found += all_figures(block.blocks)
    return found
