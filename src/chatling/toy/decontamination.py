"""Keeps training text away from the questions in free wording: no seven words in a row of one, and
no whole one of four words and more.
"""

import re
from collections.abc import Callable
from functools import cache

from chatling.messages import Conversation
from chatling.tasks.tables import load_table
from chatling.toy.language import Random

RUN = 7  # words; fewer are shared by any two questions on one fact
WHOLE = 4


def words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z0-9]+", text.lower().replace("'", "")))


@cache
def _kept_out() -> tuple[frozenset[tuple[str, ...]], frozenset[tuple[str, ...]]]:
    """Whole questions, and runs of their words."""
    rows = (row for rows in load_table("toy/free.toml").values() for row in rows)
    asked = {words(text) for row in rows for text in row}
    return (
        frozenset(each for each in asked if len(each) >= WHOLE),
        frozenset(run for each in asked for run in _runs(each)),
    )


def _runs(text: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [text[i : i + RUN] for i in range(len(text) - RUN + 1)]


def comes_near(conversation: Conversation) -> bool:
    """Whether one of its questions is, or holds seven words of, a question in free wording."""
    whole, runs = _kept_out()
    for message in conversation.messages[::2]:
        asked = words(message.text)
        if asked in whole or not runs.isdisjoint(_runs(asked)):
            return True
    return False


def kept_away(make: Callable[[Random], Conversation], rng: Random) -> Conversation:
    """What `make` draws, drawn again where it comes near."""
    while comes_near(made := make(rng)):
        pass
    return made
