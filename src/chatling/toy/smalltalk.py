"""Greetings, small talk and who it is: intents, each with one answer, many training phrasings and
other ones held out for tests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Intent:
    """`key` is the part of the answer that no other intent's answer has."""

    name: str
    answer: str
    key: str
    training: tuple[str, ...]
    held_out: tuple[str, ...]


@cache
def intents() -> tuple[Intent, ...]:
    """`smalltalk.txt`, a block an intent: name | answer with its key in [brackets], training
    phrasings, held-out phrasings.
    """
    found = []
    for block in (
        files("chatling.toy").joinpath("smalltalk.txt").read_text("utf-8").strip().split("\n\n")
    ):
        head, phrasings = block.split("\n", 1)
        training, held_out = phrasings.replace("\n", " ").split(" Held out: ")
        name, answer = head.split(" | ")
        key = answer[answer.index("[") + 1 : answer.index("]")]
        found.append(
            Intent(
                name,
                answer.replace("[", "").replace("]", ""),
                key,
                _sentences(training),
                _sentences(held_out),
            )
        )
    return tuple(found)


def _sentences(text: str) -> tuple[str, ...]:
    """Cut after each mark that ends a sentence."""
    return tuple(re.split(r"(?<=[?!.]) ", text))
