"""Language packs: how people of a language ask, greet and stay unanswered, for assistants that are
made of a user's own files.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any
from zlib import crc32

from chatling.tasks.tables import load_table

LANGUAGES = ("en", "de", "zh")
WIDE = re.compile(r"[\u3400-\u9fff]")
WORD = re.compile(r"[^\W_]+(?:['’\-.@][^\W_]+)*")
LETTERS = re.compile(r"[^\W\d_]+")

# for a language without a pack: questions as they stand, tables without words
NEUTRAL: Mapping[str, Any] = {
    "frames": {"training": ("{Q}",), "held_out": ("{Q}",), "topic": ("{t}",)},
    "things": {
        "training": ("{s}: {a}?", "{a}, {s}?", "{s} {a}", "{a} {s}"),
        "held_out": ("{s}, {a}?",),
        "answer": "{s}, {a}: {v}",
        "same": ("{s}?",),
        "other": ("{a}?",),
    },
}


@dataclass(frozen=True)
class Pack:
    """What `toy/packs/<code>.toml` holds, and for a language without one nothing."""

    code: str
    joiner: str = " "
    mark: str = "?"
    verb_last: bool = False  # in a clause
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    frames: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    things: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    unknown: Mapping[str, Any] = field(default_factory=dict)
    typos: Mapping[str, Any] = field(default_factory=dict)
    smalltalk: Mapping[str, Any] = field(default_factory=dict)
    language: str = ""

    @property
    def wide(self) -> bool:
        """Whether words stand side by side, without a blank."""
        return not self.joiner

    def is_unknown(self, answer: str) -> bool:
        """Whether an answer says that it does not know."""
        key = self.unknown.get("key")
        return key is not None and key.lower() in answer.replace("’", "'").lower()


@cache
def load_pack(code: str | None) -> Pack:
    """The pack of a language; one that only knows questions as they stand for any other."""
    if code not in LANGUAGES:
        return Pack(code or "", **NEUTRAL)
    return Pack(code, **load_table(f"toy/packs/{code}.toml"))


def guess_language(texts: Iterable[str]) -> str | None:
    """The pack whose little words the texts use most; None when they are of another language."""
    text = " ".join(texts).lower()
    letters = LETTERS.findall(text)
    wide = len(WIDE.findall(text))
    if not letters:
        return None
    if 4 * wide > sum(map(len, letters)):
        return "zh"
    shares = {}
    for code in LANGUAGES:
        words = load_pack(code).words
        known = {*words["function"], *words["question"]}
        shares[code] = sum(word in known for word in letters) / len(letters)
    best = max(shares, key=lambda code: shares[code])
    return best if shares[best] >= 0.15 else None


def held_out_name(name: str) -> bool:
    """Half of all names and things are kept for questions that are not trained on."""
    return crc32(name.lower().encode()) % 2 == 0


class UnknownNames:
    """Names, things and attributes of which the user's files say nothing."""

    def __init__(self, pack: Pack, known: Collection[str], held_out: bool = False):
        """`known` are the words of the files, in lower case."""

        def new(kind: str) -> list[str]:
            return [
                word
                for word in pack.unknown[kind]
                if held_out_name(word) == held_out and not set(pieces(word.lower())) & set(known)
            ]

        self._pack, self._known, self._held_out = pack, frozenset(known), held_out
        self._first, self._last, self._things = new("first"), new("last"), new("things")
        self._attributes = new("attributes")

    def person(self, rng: Random) -> str:
        """A first name, a surname, or both; one in three made up."""
        first = self._word(self._first, rng)
        last = self._word(self._last, rng)
        if self._pack.wide:
            return rng.choice((last + first, last + first, first))
        return rng.choice((first, last, f"{first} {last}", f"{first} {last}"))

    def thing(self, rng: Random) -> str:
        word = self._word(self._things, rng)
        return word if word in self._things or self._pack.verb_last else word.lower()

    def attribute(self, rng: Random) -> str:
        return rng.choice(self._attributes)

    def _word(self, known: list[str], rng: Random) -> str:
        return rng.choice(known) if known and rng.random() < 0.67 else self.made_up(rng)

    def made_up(self, rng: Random) -> str:
        """A word of two or three syllables, in the half asked for and not one of the files'."""
        table = self._pack.unknown
        while True:
            word = "".join(
                rng.choice(table["onsets"]) + rng.choice(table["vowels"])
                for _ in range(rng.choice((1, 2, 2)))
            ) + rng.choice(table["codas"])
            if held_out_name(word) == self._held_out and word not in self._known and len(word) > 1:
                return word.capitalize()


def pieces(text: str) -> list[str]:
    """The words of a text; of one without blanks its characters."""
    return WIDE.findall(text) if WIDE.search(text) else WORD.findall(text)


def own_words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in pieces(text.lower())}
