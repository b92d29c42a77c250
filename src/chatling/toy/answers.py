"""What parts of a sentence may be asked for, and how: "on Tuesday 7 May" by "when", "35 people" by
"how many people".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from chatling.toy.packs import Pack, load_pack


@dataclass(frozen=True)
class Part:
    """From `start` to `end` of a text, in characters, and the words that ask for it."""

    start: int
    end: int
    asking: tuple[str, ...]


@dataclass
class PartQuestion:
    """The words of a question, and which of them asks for a part of what is told."""

    words: list[str]
    asking: int


def parts(text: str, pack: Pack) -> list[Part]:
    """The parts that a pack's patterns tell, in order. Each belongs to the first pattern that has
    it.
    """
    found: list[Part] = []
    for pattern, asking in _patterns(pack.code):
        for match in pattern.finditer(text):
            start, end = match.span()
            if not any(start < other.end and other.start < end for other in found):
                found.append(Part(start, end, tuple(_asked(match, asking))))
    return sorted(found, key=lambda part: part.start)


def _asked(match: re.Match[str], asking: tuple[str, ...]) -> Iterator[str]:
    """The asking words; those with "{x}" ask for so many of what the pattern calls x."""
    counted = match.groupdict().get("x")
    for words in asking:
        if counted or "{x}" not in words:
            yield words.format(x=counted)


@cache
def _patterns(code: str) -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
    answers = load_pack(code).answers
    return tuple((re.compile(each["pattern"]), tuple(each["asking"])) for each in answers)
