"""A check: one question to the facts about a machine."""

import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from chatling.hardware.facts import Facts

Level = Literal["fault", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """What a check found: what is wrong, how that was seen, and what to do. `level` is None where
    nothing is wrong.
    """

    check: str
    level: Level | None
    symptom: str
    test: str
    hint: str


@dataclass(frozen=True)
class Check:
    """A question to the facts named in `needs`, which `wrong` gets in that order.

    A fault stops a run, a warning makes it slow or endangers it, a note is to be known.
    """

    name: str
    level: Level
    test: str
    needs: str
    wrong: Callable[..., bool]
    symptom: str
    hint: str

    def __call__(self, facts: Facts) -> Finding | None:
        """None where the machine has no such thing, or nobody looked."""
        values = [getattr(facts, name) for name in self.needs.split()]
        if any(value is None for value in values):
            return None
        if not self.wrong(*values):
            return Finding(self.name, None, "", self.test, "")
        shown = _Shown().vformat(self.symptom, (), vars(facts))
        return Finding(self.name, self.level, shown, self.test, self.hint)


class _Shown(string.Formatter):
    """Lists in words, and large floats without their digits."""

    def format_field(self, value: Any, spec: str) -> str:
        if isinstance(value, tuple):
            return ", ".join(map(str, value))
        if isinstance(value, float) and not spec:
            return f"{value:.0f}" if value >= 100 else f"{value:.1f}"
        return str(super().format_field(value, spec))
