"""Questions about the built-in world in free wording, written by hand: `free.toml`."""

from collections.abc import Callable, Iterator

from chatling.messages import Conversation
from chatling.tasks.tables import load_table
from chatling.toy.heldout import Judge, PocketTask, Question, counts, refuses, says, spells
from chatling.toy.smalltalk import intents
from chatling.toy.unknown import replies
from chatling.toy.unsafe import declined, declines
from chatling.toy.words import spelled

FREE = "free"
SKILLS = {"says": "facts", "number": "numbers", "spelling": "spelling"}  # of one turn


def free() -> PocketTask:
    """All of them, in the order of the file."""
    asked = list(_questions())
    parts = {question[0].prompt: skill for skill, question in asked}
    return PocketTask(FREE, [question for _, question in asked], parts)


def _questions() -> Iterator[tuple[str, Question]]:
    """Each with the skill that it asks for."""
    small_talk = [intent.key.lower() for intent in intents()]
    for kind, rows in load_table("toy/free.toml").items():
        for row in rows:
            skill = SKILLS.get(kind, kind)
            if kind in SKILLS and len(row) > 2:
                skill = "follow-up"
            elif kind == "says" and any(row[-1].split("|")[0].strip() in k for k in small_talk):
                skill = "identity"
            yield skill, KINDS[kind](row)


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
