"""What can be asked about the facts: each relation with
its answer and the many phrasings that training text uses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from chatling.toy.facts import Slots, capitalized, tables
from chatling.toy.language import ENGLISH, Language


@dataclass(frozen=True)
class Fact:
    """One true sentence: the slots of its templates, and
    the key words of its answer, any of which will do.
    """

    slots: Slots
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Relation:
    """One table of `relations.toml`, which says what its fields are."""

    name: str
    answer: str
    topic: str
    facts: tuple[Fact, ...]
    phrasings: Mapping[str, tuple[str, ...]]
    unknown: str
    value: str = ""

    def reply(self, fact: Fact) -> str:
        return capitalized(self.answer.format(**fact.slots))


@cache
def relations(language: Language = ENGLISH) -> dict[str, Relation]:
    """All relations by name, in a fixed order."""
    return {
        name: _relation(name, tables(language), **fields)
        for name, fields in language.table("relations").items()
    }


def _relation(
    name: str,
    known: Mapping[str, list[Slots]],
    *,
    facts: str,
    keys: tuple[str, ...],
    unknown: str = "",
    **fields: Any,
) -> Relation:
    found = tuple(
        Fact(slots, tuple(key.format(**slots) for key in keys))
        for slots in known[facts]
        if slots.get(name) != ""  # an animal without a sound of its own, say
    )
    return Relation(name, facts=found, unknown=unknown, **fields)
