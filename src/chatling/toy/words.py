"""Spelling and letter counting over the words of the world."""

import re
from functools import cache
from string import ascii_lowercase
from zlib import crc32

from chatling.messages import Conversation, Message, Part
from chatling.tasks.spelling import count_check, running_count
from chatling.toy.facts import tables
from chatling.toy.language import ENGLISH, Random
from chatling.toy.typed import typed_about

HELD_OUT_ONE_IN = 6


@cache
def words() -> tuple[str, ...]:
    """The words that it can spell: the common words
    of the tables, three to eleven small letters each.
    """
    table = ENGLISH.table("words")
    found = {
        word
        for name, columns in table["columns"].items()
        for slots in tables()[name]
        for column in columns
        for word in slots[column].split()
        if re.fullmatch("[a-z]{3,11}", word)
    }
    return tuple(sorted(found.union(table["extra"])))


@cache
def _repetitive_words() -> tuple[str, ...]:
    return tuple(word for word in words() if len(set(word)) < len(word))


def spelled(word: str) -> str:
    return "-".join(word)


def tallied(word: str, letter: str) -> str:
    """ "b-e-r1-r2-y": the word spelled, with a running count behind the letter that is counted."""
    return "-".join(running_count(word, letter, ""))


def is_held_out(word: str, letter: str) -> bool:
    """Pairs kept for tests: their question is in no training text."""
    return crc32(f"{word}/{letter}".encode()) % HELD_OUT_ONE_IN == 0


def spelling(word: str, question: str) -> Conversation:
    return Conversation.of(question.format(w=word), f"{word} is spelled {spelled(word)}.")


def counting(word: str, letter: str, question: str, by_hand: bool = False) -> Conversation:
    """A worked answer: spelled with a running count, then checked with the calculator unless by
    hand, then the number.
    """
    found = f"{tallied(word, letter)}, so {word.count(letter)}."
    check = () if by_hand else count_check(word, letter)
    parts = (
        Part("text", found if by_hand else f"{found} Check: "),
        *check,
        Part("text", f"\n#### {word.count(letter)}"),
    )
    return Conversation((Message.of("user", question), Message("assistant", parts)))


def random_pair(rng: Random) -> tuple[str, str]:
    """A word and a letter: absent one time in eight, repeated in nearly half, so that "1" is no
    safe guess. Held-out pairs come up too.
    """
    luck = rng.random()
    if luck < 0.45:
        word = rng.choice(_repetitive_words())
        return word, rng.choice([letter for letter in word if word.count(letter) > 1])
    word = rng.choice(words())
    return word, rng.choice(word if luck < 0.875 else ascii_lowercase)


def training_pair(rng: Random) -> tuple[str, str]:
    """A random pair that is not held out."""
    while is_held_out(*(pair := random_pair(rng))):
        pass
    return pair


def training_spelling(rng: Random) -> Conversation:
    word = rng.choice(words())
    question = rng.choice(ENGLISH.table("words")["spell"])
    return spelling(word, typed_about(question, rng, w=word))


def training_counting(rng: Random, by_hand: bool = False) -> Conversation:
    table = ENGLISH.table("words")
    word, letter = training_pair(rng)
    question = rng.choice(table["count"])
    if by_hand:
        question = rng.choice(table["by_hand"]).format(q=question)
    return counting(word, letter, typed_about(question, rng, w=word, l=letter), by_hand)
