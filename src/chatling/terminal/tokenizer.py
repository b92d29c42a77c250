"""The tokenizer's evaluation as a table."""

from rich.console import Console
from rich.text import Text

from chatling.evals.tokenizer import OURS, TokenizerReport
from chatling.terminal.tables import print_table


def show_tokenizer(report: TokenizerReport, console: Console) -> None:
    """Print a row a text: bytes, tokens, bytes per token and the uniform bound, then each other
    tokenizer and the difference in tokens.
    """
    others = [name for name in report.tokenizers if name != OURS]
    header = ["", "bytes", "tokens", "bytes/token", "uniform\nbpb"]
    for name in others:
        header += [f"{name}\nbytes/token", "uniform\nbpb", f"our tokens\nagainst {name}"]
    rows = []
    for text in report.texts:
        ours = report.row(text)
        row = [text, f"{ours.bytes:,}", f"{ours.tokens:,}"]
        row += [f"{ours.bytes_per_token:.2f}", f"{ours.bound:.2f}"]
        for name in others:
            other = report.row(text, name)
            row += [f"{other.bytes_per_token:.2f}", f"{other.bound:.2f}"]
            row.append(f"{report.difference(text, name):+.1%}")
        rows.append(row)
    print_table(console, header, rows)
    if report.note:
        console.print(Text(report.note), soft_wrap=True)
