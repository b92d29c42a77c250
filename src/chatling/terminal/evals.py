"""Evaluation results as a table: several runs side by side, and together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from chatling.evals.chat import Result, combined


def show_results(results: Mapping[str, Sequence[Result]], console: Console) -> None:
    """Print a row a task and a column a run (by its label); with several runs, also their sum. Intervals are 95 % (Wilson)."""
    columns = dict(results)
    if len(columns) > 1:
        columns["together"] = combined(result for run in results.values() for result in run)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for label in columns:
        table.add_column(label, justify="right", no_wrap=True)
    names = dict.fromkeys(result.name for run in results.values() for result in run)
    for name in names:
        cells = [next((_cell(result) for result in run if result.name == name), "") for run in columns.values()]
        table.add_row(name.replace("_", " "), *cells)
    console.print(table)


def _cell(result: Result) -> str:
    low, high = result.interval
    return f"{result.accuracy:6.1%} ({low:.1%}–{high:.1%}, {result.correct}/{result.total})"
