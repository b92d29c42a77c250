"""Questions with lettered choices: MMLU and ARC in one rendering."""

import re
from collections.abc import Callable, Sequence
from string import ascii_uppercase
from typing import Any

from chatling.errors import DataError
from chatling.messages import Conversation, Part
from chatling.tasks.rows import Rows
from chatling.tasks.task import IndexedTask, visible_text

Question = tuple[str, Sequence[str], int]  # the question, its choices, the index of the right one
_LETTERS = re.compile(r"\(([A-Z](?:, [A-Z])*)\)\.$")


class MultipleChoice(IndexedTask):
    """Each example asks for one letter. The letter stands behind its choice, where attention finds
    it right after the words that it stands for; small models learn that binding far more easily
    than a letter in front.
    """

    kind = "categorical"
    baseline = 0.25  # nearly all have four choices

    def __init__(self, name: str, rows: Rows, question: Callable[[dict[str, Any]], Question]):
        super().__init__(name, rows)
        self._question = question

    def example(self, index: int) -> Conversation:
        question, choices, right = self._question(self.items[index])
        if not 0 <= right < len(choices) <= len(ascii_uppercase):
            raise DataError(
                f"Question {index} of {self.name} has {len(choices)} choices and answer {right}."
            )
        return Conversation.of(choice_prompt(question, choices), ascii_uppercase[right])

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        return visible_text(completion).strip() == conversation.messages[-1].text

    def choices(self, conversation: Conversation) -> tuple[str, ...]:
        listed = _LETTERS.search(conversation.messages[0].text)
        if listed is None:
            raise ValueError(
                f"not a question of {self.name}: {conversation.messages[0].text[-80:]!r}"
            )
        return tuple(listed[1].split(", "))


def choice_prompt(question: str, choices: Sequence[str]) -> str:
    """No space before a letter, neither here nor in the answer, so that both are the same token."""
    letters = ascii_uppercase[: len(choices)]
    lines = "\n".join(
        f"- {choice}={letter}" for choice, letter in zip(choices, letters, strict=True)
    )
    return f"{question}\n{lines}\nAnswer with the letter only ({', '.join(letters)})."
