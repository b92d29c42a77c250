"""Markdown of a report: escaped text, tables, and parts that fold."""

import re
from collections.abc import Sequence
from html import escape as escape_html


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
