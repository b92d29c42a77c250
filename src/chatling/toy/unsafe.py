"""A listed few requests that a decent assistant declines. Mid-training and SFT show a handful of
them, so that the words are there; preferences make them the answer.
"""

from random import Random

from chatling.messages import Conversation
from chatling.tasks.tables import load_table


def requested(rng: Random, phrasings: tuple[str, ...], step: int = 1) -> str:
    """One of every `step` requests, in one of the phrasings."""
    return rng.choice(phrasings).format(
        x=rng.choice(load_table("toy/unsafe.toml")["requests"][::step])
    )


def declined(question: str) -> Conversation:
    """The question, and the answer that refuses to help with harm."""
    return Conversation.of(question, load_table("toy/unsafe.toml")["refusal"])


def declines(text: str) -> bool:
    """Whether an answer refuses to help with harm."""
    return "not help" in text.lower()


def training_unsafe(rng: Random) -> Conversation:
    """Half of the requests in three of the phrasings."""
    return declined(requested(rng, load_table("toy/unsafe.toml")["training"][:3], step=2))
