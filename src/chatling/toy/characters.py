"""The characters of a word: how many there are, which stands at a place, all of them backward. For
a language that is written in characters, this is what spelling is for one with letters.
"""

from collections.abc import Callable, Mapping
from functools import cache
from zlib import crc32

from chatling.messages import Conversation
from chatling.toy.facts import tables
from chatling.toy.language import CHINESE, Random
from chatling.toy.typed import sloppy

HELD_OUT_ONE_IN = 6
NUMERALS = "一二三四五六七八"


@cache
def terms() -> tuple[str, ...]:
    """The words whose characters are asked for: two to eight characters each."""
    table = CHINESE.table("words")
    found = {
        slots[column]
        for name, columns in table["columns"].items()
        for slots in tables(CHINESE)[name]
        for column in columns
    }
    return tuple(sorted(word for word in found.union(table["extra"]) if 2 <= len(word) <= 8))


def apart(word: str) -> str:
    return "-".join(word)


def numbered(word: str) -> str:
    """ "苹1果2": the characters with their places."""
    return "".join(f"{each}{place}" for place, each in enumerate(word, 1))


def _length(word: str, place: int) -> str:
    return f"{numbered(word)}，共{len(word)}个字。\n#### {len(word)}"


def _place(word: str, place: int) -> str:
    return f"{numbered(word)}，第{place}个字是{word[place - 1]}。"


def _reverse(word: str, place: int) -> str:
    return f"{apart(word)}，倒过来是{apart(word[::-1])}。"


ANSWERS: Mapping[str, Callable[[str, int], str]] = {
    "length": _length,
    "place": _place,
    "reverse": _reverse,
}
CHARACTER_KINDS = tuple(ANSWERS)


def is_held_out(kind: str, word: str, place: int) -> bool:
    """What is kept for tests: its question is in no training text."""
    told = f"{kind}/{word}/{place if kind == 'place' else 0}"
    return crc32(told.encode()) % HELD_OUT_ONE_IN == 0


def asked(kind: str, rng: Random, held_out: bool) -> tuple[str, int]:
    """A word and a place in it, of those kept for tests or of the others."""
    while True:
        word = rng.choice(terms())
        place = rng.randint(1, len(word))
        if is_held_out(kind, word, place) == held_out:
            return word, place


def characters(kind: str, word: str, place: int, question: str, rng: Random) -> Conversation:
    """A question, as a template, and its worked answer."""
    number = rng.choice((NUMERALS[place - 1], str(place)))
    return Conversation.of(
        sloppy(question.format(w=word, n=number), rng), ANSWERS[kind](word, place)
    )


def training_characters(rng: Random, kind: str) -> Conversation:
    word, place = asked(kind, rng, held_out=False)
    return characters(kind, word, place, rng.choice(CHINESE.table("words")[kind]), rng)
