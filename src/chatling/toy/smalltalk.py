"""Greetings, small talk and who it is: intents, each with one answer, many training phrasings and
other ones held out for tests.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from chatling.messages import Conversation
from chatling.toy.facts import capitalized
from chatling.toy.language import ENGLISH, Language, Random
from chatling.toy.typed import sloppy, typed


@dataclass(frozen=True)
class Intent:
    """`key` is the part of the answer that no other intent's answer has."""

    name: str
    answer: str
    key: str
    training: tuple[str, ...]
    held_out: tuple[str, ...]


@cache
def intents(language: Language = ENGLISH) -> tuple[Intent, ...]:
    table = language.table("smalltalk")
    return tuple(Intent(name, **fields) for name, fields in table.items())


def addressed(text: str, rng: Random, type_: Callable[[str, Random], str] = sloppy) -> str:
    """Small talk as typed: now and then with the model's name or an opener."""
    luck, table = rng.random(), rng.language.table("dialogue")
    if luck < 0.1 and text[-1] in "?.!" and "hatling" not in text:
        text = f"{text[:-1]}, chatling{text[-1]}"
    elif luck < 0.3:
        openers = table["openers"] + table["asking_openers"] * text.endswith(("?", "？"))
        begun = text if text.startswith(("I ", "I'")) else text[:1].lower() + text[1:]
        text = f"{rng.choice(openers)}{rng.language.gap}{begun}"
    return type_(text, rng)


def terse(text: str, rng: Random) -> str:
    """The text with a filler word or two left out, as people
    type in haste: what is left must carry the meaning.
    """
    table, words = rng.language.table("dialogue"), text.split()
    fillers = [i for i, word in enumerate(words) if word.lower() in table["fillers"]]
    empty = table["fillers"] + table["question_words"]
    if not fillers or all(word.lower().strip("?.!,") in empty for word in words):
        return text
    dropped = rng.sample(fillers, min(len(fillers), rng.randint(1, 2)))
    return capitalized(" ".join(word for i, word in enumerate(words) if i not in dropped))


def training_identity(rng: Random) -> Conversation:
    intent = rng.choice(intents(rng.language))
    text = rng.choice(intent.training)
    short = terse(text, rng) if rng.random() < 0.3 else text
    return Conversation.of(
        addressed(text if _words(short) in _held_out_words(rng.language) else short, rng, typed),
        intent.answer,
    )


def _words(text: str) -> str:
    return " ".join(re.sub(r"[^\w ]", "", text.lower()).split())


@cache
def _held_out_words(language: Language) -> frozenset[str]:
    """Small talk that is kept for tests: a phrasing
    must not become one of these by losing a word.
    """
    return frozenset(_words(text) for intent in intents(language) for text in intent.held_out)
