"""Markdown of a report: escaped text, tables, parts that fold, and numbers in words."""

import re
from collections.abc import Mapping, Sequence
from html import escape as escape_html
from typing import Any

MISSING = "not measured"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    text = re.sub(r"([\\`*_\[\]|#])", r"\\\1", escape_html(text, quote=False))
    return re.sub(r"\s*\n\s*", "<br>", text)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """A table whose first column names the row; `numbers` sets the others flush right."""
    rule = ["---", *["---:" if numbers else "---"] * (len(columns) - 1)]
    lines = [map(escape, columns), rule, *(map(escape, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def folded(summary: str, text: str) -> str:
    """Text that opens at a click."""
    title = escape_html(summary, quote=False)
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>"


def missing(what: str) -> str:
    """The sentence that stands for what is not there."""
    return f"*{what}: {MISSING}.*"


def number(value: float | None, form: str = "{:,.0f}") -> str:
    return MISSING if value is None else form.format(value)


def percent(value: float | None, digits: int = 1) -> str:
    return MISSING if value is None else f"{100 * value:.{digits}f} %"


def large(value: float | None) -> str:
    """1,310,720 as "1.3 million"."""
    for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if value is not None and value >= size:
            return f"{value / size:.3g} {name}"
    return number(value)


def memory(value: float | None) -> str:
    """Bytes as GB or MB."""
    if value is not None and value < 1e9:
        return f"{value / 1e6:.0f} MB"
    return number(value and value / 1e9, "{:.1f} GB")


def interval(row: Mapping[str, Any]) -> str:
    """A result's accuracy with its 95 % interval and counts."""
    ends = row.get("interval")
    shown = f" ({100 * ends[0]:.0f} to {100 * ends[1]:.0f})" if ends else ""
    counts = f", {row['correct']:,} of {row['total']:,}" if row.get("total") else ""
    return f"{percent(row.get('accuracy'))}{shown}{counts}"


def plain(name: str) -> str:
    """A name in the code as words."""
    return name.replace("_", " ")


def enumerated(items: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
