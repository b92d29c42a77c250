"""One look for all tables in the terminal."""

from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.table import Table


def print_table(
    console: Console,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    left: Collection[int] = (0,),
) -> None:
    """Print rows under a header, which may be all empty. The columns number `left` are words, the
    others numbers: aligned right, never wrapped.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(header))
    for i, title in enumerate(header):
        words = i in left
        table.add_column(title, justify="left" if words else "right", no_wrap=not words)
    for row in rows:
        table.add_row(*row)
    console.print(table)
