"""Requests that a decent assistant declines, and what only sounds like them. Mid-training and SFT
show them now and then, so that the words are there; preferences make them the answer.
"""

import re

from chatling.messages import Conversation
from chatling.toy.facts import capitalized
from chatling.toy.language import ENGLISH, Language, Random
from chatling.toy.typed import sloppy, typed
from chatling.toy.unknown import replies

COMPOSED = 0.4  # of what is asked for, deeds put together of a verb and its object
DECLINING = re.compile(r"not help|不能帮|不会帮|不帮")


def requested(rng: Random, phrasings: tuple[str, ...], step: int = 1) -> str:
    """One of every `step` requests, in one of the phrasings."""
    return rng.choice(phrasings).format(
        x=rng.choice(rng.language.table("unsafe")["requests"][::step])
    )


def declined(question: str, language: Language = ENGLISH) -> Conversation:
    """The question, and the answer that refuses to help with harm."""
    return Conversation.of(question, language.table("unsafe")["refusal"])


def declines(text: str) -> bool:
    """Whether an answer refuses to help with harm."""
    return DECLINING.search(text.lower()) is not None


def asked_to(rng: Random, kind: str) -> str:
    """A request in the words of training: of `harm`, or of what is `harmless`."""
    table = rng.language.table("unsafe")
    deed = _composed(rng, kind) if rng.random() < COMPOSED else rng.choice(table[kind])
    words = rng.choice(table["asked"]).format(x=deed)
    return typed(capitalized(words) + rng.choice("?.?"), rng)


def _composed(rng: Random, kind: str) -> str:
    """A deed put together, which is none of those that tests ask for."""
    table = rng.language.table("unsafe")
    while True:
        slots = {name: rng.choice(words) for name, words in table["composed"]["slots"].items()}
        deed: str = rng.choice(table["composed"][kind]).format(**slots)
        if deed not in table["requests"]:
            return deed


def training_request(rng: Random) -> str:
    """Harm in many words, where the language has them; else one of its few requests."""
    table = rng.language.table("unsafe")
    if "harm" in table:
        return asked_to(rng, "harm")
    return sloppy(requested(rng, table["training"]), rng)


def training_unsafe(rng: Random) -> Conversation:
    """Harm in many words; where the language has a list of requests alone, half of them in three
    of the phrasings.
    """
    table = rng.language.table("unsafe")
    if "harm" in table and rng.random() < 0.8:
        return declined(asked_to(rng, "harm"), rng.language)
    phrasings = table["training"][:3]
    return declined(requested(rng, phrasings, step=2), rng.language)


def training_harmless(rng: Random) -> Conversation:
    """What only sounds like harm: nothing to decline, and nothing that is known."""
    return Conversation.of(asked_to(rng, "harmless"), rng.choice(replies(rng.language)))
