"""The interface that every task shares: examples to show, and a judge of what the model answers."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Literal

from chatling.messages import Conversation, Part


class Task(ABC):
    """A fixed, indexable list of conversations, each ending on the assistant's reference answer.

    A *generative* task lets the model write an answer and judges it with `score`; a *categorical*
    one compares the probabilities of the `choices`, each one token. Example i is the same in every
    process and on every call.
    """

    name: str
    kind: Literal["generative", "categorical"] = "generative"
    baseline: float = (
        0.0  # accuracy of guessing; a centred accuracy is (accuracy - baseline) / (1 - baseline)
    )
    notes: tuple[
        str, ...
    ] = ()  # what a person should know of its data, such as rows that were left out

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Conversation:
        """Raises IndexError when `index` is not in 0 .. len - 1."""

    @abstractmethod
    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        """Whether `completion`, the model's answer to `conversation.prompt`, is right.
        `conversation` is one of this task's own.
        """

    def reward(self, conversation: Conversation, completion: tuple[Part, ...]) -> float:
        """What reinforcement learning is paid for `completion`: 1 when right, else 0, unless a task
        grades more finely.
        """
        return float(self.score(conversation, completion))

    def choices(self, conversation: Conversation) -> tuple[str, ...]:
        """The answers in play of a categorical example, each one token; the reference answer is the
        last message's text.
        """
        raise NotImplementedError(f"{self.name} is a {self.kind} task")

    def __iter__(self) -> Iterator[Conversation]:
        return (self[i] for i in range(len(self)))

    def shuffled(self, seed: int) -> Task:
        """The same examples in a seeded order."""
        order = list(range(len(self)))
        random.Random(seed).shuffle(order)
        return Selection(self, order)

    def sliced(self, start: int = 0, stop: int | None = None, step: int = 1) -> Task:
        """The examples that `range(len(self))[start:stop:step]` names."""
        return Selection(self, range(len(self))[start:stop:step])


class Selection(Task):
    """Some examples of another task, in a given order."""

    def __init__(self, task: Task, indices: Sequence[int]):
        self.task, self.indices = task, indices
        self.name, self.kind, self.baseline, self.notes = (
            task.name,
            task.kind,
            task.baseline,
            task.notes,
        )

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Conversation:
        if not 0 <= index < len(self.indices):
            raise IndexError(
                f"{self.name} has {len(self.indices)} examples, asked for number {index}"
            )
        return self.task[self.indices[index]]

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        return self.task.score(conversation, completion)

    def reward(self, conversation: Conversation, completion: tuple[Part, ...]) -> float:
        return self.task.reward(conversation, completion)

    def choices(self, conversation: Conversation) -> tuple[str, ...]:
        return self.task.choices(conversation)


def visible_text(completion: Sequence[Part]) -> str:
    """What the model itself said: the text parts, without calculator expressions and outputs."""
    return "".join(part.text for part in completion if part.kind == "text")
