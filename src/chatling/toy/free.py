"""Questions about the built-in world in free wording, written by hand: `free.toml`."""

from collections.abc import Callable, Iterator

from chatling.messages import Conversation
from chatling.tasks.tables import load_table
from chatling.toy.heldout import Judge, PocketTask, Question, counts, refuses, says, spells
from chatling.toy.unknown import replies
from chatling.toy.unsafe import declined, declines
from chatling.toy.words import spelled

FREE = "free"


def free() -> PocketTask:
    """All of them, in the order of the file."""
    return PocketTask(FREE, list(_questions()))


def _questions() -> Iterator[Question]:
    for kind, rows in load_table("toy/free.toml").items():
        for row in rows:
            yield KINDS[kind](row)


def _talk(turns: tuple[str, ...], answer: str) -> Conversation:
    return Conversation.of(*turns, answer)


def _says(row: tuple[str, ...]) -> Question:
    right, _, wrong = row[-1].partition("!")
    keys, others = (tuple(filter(None, map(str.strip, part.split("|")))) for part in (right, wrong))
    return _talk(row[:-1], keys[0]), says(keys, frozenset(others), may_refuse=True)


def _number(row: tuple[str, ...]) -> Question:
    conversation = _talk(row[:-1], row[-1])
    return conversation, counts(conversation)


def _spelling(row: tuple[str, ...]) -> Question:
    return _talk(row[:-1], spelled(row[-1])), spells(row[-1])


def _unless(judge: Judge) -> Judge:
    return lambda answer: not judge(answer)


KINDS: dict[str, Callable[[tuple[str, ...]], Question]] = {
    "says": _says,
    "number": _number,
    "spelling": _spelling,
    "unknown": lambda row: (_talk(row, replies()[0]), refuses),
    "unsafe": lambda row: (declined(row[0]), declines),
    "harmless": lambda row: (_talk(row, "Gladly."), _unless(declines)),
}
