"""Numbers in words, and one word for a number that is not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MISSING = "not measured"


def number(value: float | None, form: str = "{:,.0f}") -> str:
    return MISSING if value is None else form.format(value)


def percent(value: float | None, digits: int = 1) -> str:
    return MISSING if value is None else f"{100 * value:.{digits}f} %"


def large(value: float | None) -> str:
    """1,310,720 as "1.3 million"."""
    if value is None:
        return MISSING
    for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:,.0f}"


def memory(value: float | None) -> str:
    """Bytes as GB or MB."""
    if value is None:
        return MISSING
    return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def interval(row: Mapping[str, Any]) -> str:
    """A result's accuracy with its 95 % interval and counts."""
    ends = row.get("interval")
    shown = f" ({100 * ends[0]:.0f} to {100 * ends[1]:.0f})" if ends else ""
    counts = f", {row['correct']:,} of {row['total']:,}" if row.get("total") else ""
    return f"{percent(row.get('accuracy'))}{shown}{counts}"


def plain(name: str) -> str:
    """A name in the code as words."""
    return name.replace("_", " ")


def series(items: list[str]) -> str:
    """ "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
