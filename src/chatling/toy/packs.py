"""Language packs: how people of a language ask, greet and stay unanswered, for assistants that are
made of a user's own files.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any
from zlib import crc32

from chatling.data.note_sentences import Grammar
from chatling.tasks.tables import load_table

LANGUAGES = ("en", "de", "zh")
WIDE = re.compile(r"[\u3400-\u9fff]")
PAIR = re.compile(r"(?=([\u3400-\u9fff]{2}))")
LATIN = re.compile(r"[a-z0-9]+")
WORD = re.compile(r"[^\W_]+(?:['’\-.@][^\W_]+)*")
LETTERS = re.compile(r"[^\W\d_]+")
TITLED = 0.12  # of persons
NEAR, NEAR_MISSES = 0.2, 800  # how often a name is one of them, and how many there are

# for a language without a pack: questions as they stand, tables without words
NEUTRAL: Mapping[str, Any] = {
    "frames": {"training": ("{Q}",), "held_out": ("{Q}",), "topic": ("{t}",)},
    "things": {
        "training": ("{s}: {a}?", "{a}, {s}?", "{s} {a}", "{a} {s}"),
        "held_out": ("{s}, {a}?",),
        "answer": "{s}, {a}: {v}",
        "plain": "{s}, {a}: {v}",
        "verbs": (),
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
    synonyms: tuple[tuple[str, ...], ...] = ()
    answers: tuple[Mapping[str, Any], ...] = ()  # patterns of what may be asked for, and how
    language: str = ""

    @property
    def wide(self) -> bool:
        """Whether words stand side by side, without a blank."""
        return not self.joiner

    @property
    def grammar(self) -> Grammar:
        """How sentences are read."""
        words = self.words
        return Grammar(
            copulas=words.get("copulas", ()),
            leaning=words.get("leaning", ()),
            wide=self.wide,
            joined=self.notes.get("and", ","),
            pronouns=words.get("pronouns", ()),
            persons=words.get("persons", ()),
            pointing=words.get("pointing", ()),
            existing=words.get("existing", ()),
            places=words.get("places", ()),
            small=(*words.get("function", ()), *words.get("question", ())),
            clauses=words.get("clauses", ()),
            determiners=words.get("determiners", ()),
        )

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
    """A quarter of all names and things are kept for questions that are not trained on."""
    return crc32(name.lower().encode()) % 4 == 0


class UnknownNames:
    """Names, things and attributes of which the user's files say nothing."""

    def __init__(
        self,
        pack: Pack,
        known: Collection[str],
        held_out: bool = False,
        near: Sequence[str] = (),
    ):
        """`known` are the words of the files, in lower case; `near` are names that are nearly like
        those of the files.
        """
        self._pack, self._known, self._held_out = pack, frozenset(known), held_out
        self._small = frozenset(pack.grammar.small)

        def new(kind: str) -> list[str]:
            return [word for word in pack.unknown[kind] if self._is_new(word)]

        self._first, self._last, self._things = new("first"), new("last"), new("things")
        self._attributes = new("attributes")
        self._signs = sorted({*"".join(pack.unknown["things"])})
        self._near = [name for name in near if self._is_new(name)]

    def _is_new(self, name: str) -> bool:
        """Whether it is on the side asked for, not known, and more than words like "will" and "for"
        that a question may go without.
        """
        new = held_out_name(name) == self._held_out and not self.is_known(name)
        return new and not own_words([name]) <= self._small

    def is_known(self, name: str) -> bool:
        """Whether one of its words stands in the files, or of a language without blanks all of its
        pairs of signs do.
        """
        words = own_names([name.lower()])
        found = words & self._known
        return bool(found) and (found == words or not self._pack.wide)

    def person(self, rng: Random) -> str:
        """A first name, a surname, both, or one with a title; one in three made up."""
        first = self._word(self._first, rng)
        last = self._word(self._last, rng)
        if rng.random() < TITLED:
            return str(rng.choice(self._pack.unknown["titles"])).format(x=last)
        if self._pack.wide:
            name = rng.choice((last + first, last + first, first))
            return self.made_up(rng) if self.is_known(name) else name
        return rng.choice((first, last, f"{first} {last}", f"{first} {last}"))

    def thing(self, rng: Random) -> str:
        word = self._word(self._things, rng)
        return word if word in self._things or self._pack.verb_last else word.lower()

    def any(self, rng: Random) -> str:
        """A person, a thing, or nearly a name of the files."""
        if self._near and rng.random() < NEAR:
            return rng.choice(self._near)
        return self.person(rng) if rng.random() < 0.5 else self.thing(rng)

    def attribute(self, rng: Random) -> str:
        """One of the pack's, or a thing in its place, of which there are more."""
        return rng.choice(self._attributes) if rng.random() < 0.6 else self.thing(rng)

    def _word(self, known: list[str], rng: Random) -> str:
        return rng.choice(known) if known and rng.random() < 0.67 else self.made_up(rng)

    def made_up(self, rng: Random) -> str:
        """A word of two or three syllables, of a language without blanks half of the time of two
        or three signs of the pack's things, on the side asked for and not one of the files'.
        """
        table = self._pack.unknown
        while True:
            if self._pack.wide and rng.random() < 0.5:
                word = "".join(rng.choices(self._signs, k=rng.choice((2, 2, 3))))
            else:
                word = "".join(
                    rng.choice(table["onsets"]) + rng.choice(table["vowels"])
                    for _ in range(rng.choice((1, 2, 2)))
                ) + rng.choice(table["codas"])
            if self._is_new(word):
                return word.capitalize()


def near_misses(names: Sequence[str], pack: Pack) -> list[str]:
    """Names made of the beginning of one and the end of another, none of them a slip away from a
    known one.
    """
    words = sorted({word for name in names for word in WORD.findall(name) if len(word) > 1})
    slips = {slip for word in words for slip in _slips(word.lower())}
    rng, found, part = Random(1), dict[str, None](), 1 if pack.wide else 2
    for _ in range(4 * NEAR_MISSES if len(words) > 1 else 0):
        first, last = rng.sample(words, 2)
        if min(len(first), len(last)) <= part:
            continue
        name = first[: rng.randint(part, len(first) - 1)] + last[rng.randint(1, len(last) - part) :]
        low = name.lower()
        near = {low} & slips if pack.wide else _slips(low) & slips
        if not near and len(found) < NEAR_MISSES:
            found[name] = None
    return list(found)


def _slips(word: str) -> set[str]:
    """A word, and what is left without one of its signs: two words that are one slip apart share
    one of these.
    """
    return {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}


def pieces(text: str) -> list[str]:
    """The words of a text; of one without blanks its characters."""
    return WIDE.findall(text) if WIDE.search(text) else WORD.findall(text)


def own_words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in pieces(text.lower())}


def own_names(texts: Iterable[str]) -> set[str]:
    """The words of texts; of one without blanks every two signs that stand side by side."""
    found = set[str]()
    for text in texts:
        wide = WIDE.search(text)
        found.update(PAIR.findall(text) if wide else ())
        found.update((LATIN if wide else WORD).findall(text.lower()))
    return found
