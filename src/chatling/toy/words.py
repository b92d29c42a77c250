"""Spelling and letter counting over the words of the world."""

from __future__ import annotations

import re
from functools import cache
from random import Random
from zlib import crc32

from chatling.messages import Conversation, Message, Part
from chatling.toy import facts
from chatling.toy.templates import sloppy

EXTRA = """
hello friend because people number letter question answer strawberry blueberry chocolate school family mother father sister brother
water summer winter spring autumn little beautiful apple banana cherry orange house garden window kitchen bottle pepper balloon tennis
coffee cheese butter dinner happy sunny funny monkey rabbit puzzle bubble rainbow tomorrow yesterday computer language model planet
country capital continent animal opposite world robot music berry cookie pizza
"""

SPELL = (
    "How do you spell {w}?",
    "How is {w} spelled?",
    "Spell {w}.",
    "Please spell {w}.",
    "Can you spell {w}?",
    "Spell the word {w}.",
    "Could you spell {w}?",
    "What are the letters of {w}?",
    "What letters are in {w}?",
    "Tell me how to spell {w}.",
    "Do you know how to spell {w}?",
    "How do I write {w}?",
    "Write {w} letter by letter.",
    "Spell {w} for me.",
    "Spell {w}, please.",
    "Which letters make the word {w}?",
    "How do you write {w}?",
    "Can you write {w} letter by letter?",
    "I want to spell {w}.",
    "What is the spelling of {w}?",
    "The spelling of {w}?",
    "Give me the letters of {w}.",
    "Say {w} letter by letter.",
    "I need the spelling of {w}.",
    "Could you tell me how {w} is spelled?",
    "Hi, how do you spell {w}?",
    "{w}: how is it spelled?",
    "How do people spell {w}?",
    "Help me spell {w}.",
    "Name the letters of {w}.",
    "How would you spell '{w}'?",
    "Please spell the word '{w}'.",
    "Spell '{w}'.",
    "How do you spell the word {w}?",
    "Letters of {w}, please.",
    "I forgot how to spell {w}.",
    "{w}, letter by letter, please.",
    "Go through the letters of {w}.",
    "What is {w} letter by letter?",
    "My teacher asks how {w} is spelled.",
)
COUNT = (
    "How many {l} are in {w}?",
    "How many {l}'s are in {w}?",
    "How many {l}s are there in {w}?",
    "How many {l} does {w} have?",
    "Count the {l} in {w}.",
    "Count the {l}'s in {w}.",
    "How often does {l} come in {w}?",
    "How many times is {l} in {w}?",
    "How many times does {l} come up in {w}?",
    "How many of the letter {l} are in {w}?",
    "How many times is the letter {l} in {w}?",
    "What is the number of {l} in {w}?",
    "Please count the {l} in {w}.",
    "Can you count the {l}'s in {w}?",
    "Tell me how many {l} are in {w}.",
    "In {w}, how many {l} are there?",
    "How many letters {l} does {w} have?",
    "How many {l} are in the word {w}?",
    "How many {l}'s are there in the word '{w}'?",
    "How many {l} can you find in {w}?",
    "How many {l}'s has {w}?",
    "The word {w} has how many {l}'s?",
    "Do you know how many {l}'s are in {w}?",
    "Count how many {l} there are in '{w}'.",
    "I need the number of {l}'s in {w}.",
    "How often is the letter {l} in {w}?",
    "Count the letter {l} in {w}.",
    "How many times do you see {l} in {w}?",
    "Find the number of {l} in {w}.",
    "Hi, how many {l} are in {w}?",
    "How many '{l}' are in '{w}'?",
    "Can you tell me how many {l}'s {w} has?",
)
BY_HAND = (
    "{Q} Count by hand.",
    "By hand: {q}",
    "{Q} No calculator, please.",
    "Without the calculator: {q}",
    "{Q} Do it by hand.",
    "Count by hand: {q}",
)
HELD_OUT_ONE_IN = 6


@cache
def words() -> tuple[str, ...]:
    """The words that it can spell: the common words of the tables, three to eleven small letters
    each.
    """
    tables = (
        facts.COLOURS,
        facts.MADE_OF,
        facts.OPPOSITES,
        facts.CATEGORIES,
        facts.USES,
        facts.JOBS,
    )
    texts = [side for table in tables for pair in facts.pairs(table) for side in pair]
    texts += [
        text
        for animal in facts.animals()
        for text in (animal.name, animal.eats, animal.young, animal.kind)
    ]
    found = {word for text in texts for word in text.split() if re.fullmatch("[a-z]{3,11}", word)}
    return tuple(sorted(found.union(EXTRA.split())))


@cache
def _repetitive_words() -> tuple[str, ...]:
    return tuple(word for word in words() if len(set(word)) < len(word))


def spelled(word: str) -> str:
    return "-".join(word)


def tallied(word: str, letter: str) -> str:
    """ "b-e-r1-r2-y": the word spelled, with a running count behind the letter that is counted."""
    count, shown = 0, []
    for each in word:
        count += each == letter
        shown.append(f"{each}{count}" if each == letter else each)
    return "-".join(shown)


def is_held_out(word: str, letter: str) -> bool:
    """Pairs kept for tests: their question is in no training text."""
    return crc32(f"{word}/{letter}".encode()) % HELD_OUT_ONE_IN == 0


def spelling(word: str, question: str) -> Conversation:
    return Conversation.of(question.format(w=word), f"{word} is spelled {spelled(word)}.")


def counting(word: str, letter: str, question: str, by_hand: bool = False) -> Conversation:
    """A worked answer: spelled with a running count, then checked with the calculator unless by
    hand, then the number.
    """
    count = word.count(letter)
    found = f"{tallied(word, letter)}, so {count}."
    check = (
        ()
        if by_hand
        else (Part("python", f"'{word}'.count('{letter}')"), Part("output", str(count)))
    )
    parts = (
        Part("text", found if by_hand else f"{found} Check: "),
        *check,
        Part("text", f"\n#### {count}"),
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
    return word, rng.choice(word if luck < 0.875 else "abcdefghijklmnopqrstuvwxyz")


def training_spelling(rng: Random) -> Conversation:
    word = rng.choice(words())
    return spelling(word, sloppy(rng.choice(SPELL), rng))


def training_counting(rng: Random, by_hand: bool = False) -> Conversation:
    while is_held_out(*(pair := random_pair(rng))):
        pass
    word, letter = pair
    question = rng.choice(COUNT)
    if by_hand:
        question = rng.choice(BY_HAND).format(q=question, Q=question)
    return counting(word, letter, sloppy(question.format(w=word, l=letter), rng), by_hand)
