"""The tokenizer's evaluation as a table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from chatling.evals.tokenizer import OURS, TokenizerReport


def show_tokenizer(report: TokenizerReport, console: Console) -> None:
    """Print a row a text: bytes, tokens, bytes per token and the uniform bound, then each other
    tokenizer and the difference in tokens.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    others = [name for name in report.tokenizers if name != OURS]
    for title in ("bytes", "tokens", "bytes/token", "uniform\nbpb"):
        table.add_column(title, justify="right", no_wrap=True)
    for name in others:
        for title in (f"{name}\nbytes/token", "uniform\nbpb", f"our tokens\nagainst {name}"):
            table.add_column(title, justify="right", no_wrap=True)
    for text in report.texts:
        ours = report.row(text)
        cells = [
            f"{ours.bytes:,}",
            f"{ours.tokens:,}",
            f"{ours.bytes_per_token:.2f}",
            f"{ours.bound:.2f}",
        ]
        for name in others:
            other = report.row(text, name)
            cells += [
                f"{other.bytes_per_token:.2f}",
                f"{other.bound:.2f}",
                f"{report.difference(text, name):+.1%}",
            ]
        table.add_row(text, *cells)
    console.print(table)
    if report.note:
        console.print(Text(report.note), soft_wrap=True)
