"""What a report says, in the language of its run: sentences by their English, numbers in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args

from chatling.tasks.tables import load_table

MISSING = "not measured"
Language = Literal["en", "zh", "de"]


@dataclass(frozen=True)
class Words:
    """A language: what it says for each English text (itself where it says nothing), and its names
    of large numbers.
    """

    code: str = "en"
    said: Mapping[str, str] = field(default_factory=dict)
    units: Sequence[tuple[float, str]] = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))

    def __call__(self, text: str, **values: object) -> str:
        """The text in this language, its {names} filled in."""
        text = self.said.get(text, text)
        return text.format(**values) if values else text

    def name(self, name: str) -> str:
        """A task's or skill's name in the code, as words: "hard_arithmetic", "free: facts"."""
        return ": ".join(map(self, name.replace("_", " ").split(": ")))

    def missing(self, what: str) -> str:
        """The sentence that stands for what is not there."""
        return self("*{what}: {missing}.*", what=self(what), missing=self(MISSING))

    def number(self, value: float | None, form: str = "{:,.0f}") -> str:
        return self(MISSING) if value is None else form.format(value)

    def percent(self, value: float | None, digits: int = 1) -> str:
        return self.number(value and 100 * value, f"{{:.{digits}f}} %")

    def large(self, value: float | None) -> str:
        """1,310,720 as "1.31 million"."""
        for size, name in self.units:
            if value is not None and value >= size:
                return f"{float(f'{value / size:.3g}'):,g} {name}"
        return self.number(value)

    def memory(self, value: float | None) -> str:
        """Bytes as GB or MB."""
        if value is not None and value < 1e9:
            return f"{value / 1e6:.0f} MB"
        return self.number(value and value / 1e9, "{:.1f} GB")

    def interval(self, row: Mapping[str, Any]) -> str:
        """A result's accuracy with its 95 % interval and counts."""
        shown = self.percent(row.get("accuracy"))
        if ends := row.get("interval"):
            shown += self(" ({low:.0f} to {high:.0f})", low=100 * ends[0], high=100 * ends[1])
        if row.get("total"):
            shown += self(", {correct:,} of {total:,}", **row)
        return shown

    def enumerated(self, items: Sequence[str]) -> str:
        """ "a, b and c"."""
        first, last = self(", ").join(items[:-1]), items[-1]
        return first + self(" and ") + last if first else last


ENGLISH = Words()


@cache
def load_words(code: str | None) -> Words:
    """Those of a language; English where there are none."""
    if code is None or code == ENGLISH.code or code not in get_args(Language):
        return ENGLISH
    table = load_table(f"report/languages/{code}.toml")
    return Words(code, table["said"], table["units"])
