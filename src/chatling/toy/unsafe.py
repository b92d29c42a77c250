"""A listed few requests that a decent assistant declines. Mid-training and SFT show a handful of
them, so that the words are there; preferences make them the answer.
"""

import re

from chatling.messages import Conversation
from chatling.toy.language import ENGLISH, Language, Random

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


def training_unsafe(rng: Random) -> Conversation:
    """Half of the requests in three of the phrasings."""
    phrasings = rng.language.table("unsafe")["training"][:3]
    return declined(requested(rng, phrasings, step=2), rng.language)
