"""The interface that every task shares: examples to show, and a judge of what the model answers."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from chatling.data.token_shards import Indexed
from chatling.errors import DataError, RecipeError
from chatling.messages import Conversation, Part

if TYPE_CHECKING:
    from chatling.data.hub import Fetcher

Split = Literal["train", "validation", "test"]


class Task(ABC):
    """A fixed, indexable list of conversations, each ending on the assistant's reference answer.

    A *generative* task lets the model write an answer and judges it with `score`; a *categorical*
    one compares the probabilities of the `choices`, each one token. Example i is the same in every
    process and on every call.
    """

    name: str
    kind: Literal["generative", "categorical"] = "generative"
    # accuracy of guessing; a centered accuracy is (accuracy - baseline) / (1 - baseline)
    baseline: float = 0.0
    # what a person should know of its data, such as rows that were left out
    notes: tuple[str, ...] = ()

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
        """What reinforcement learning is paid for `completion`:
        1 when right, else 0, unless a task grades more finely.
        """
        return float(self.score(conversation, completion))

    def part(self, conversation: Conversation) -> str:
        """The part of the task that one of its examples is in, where parts have results of their
        own.
        """
        return ""

    def choices(self, conversation: Conversation) -> tuple[str, ...]:
        """The answers in play of a categorical example, each one
        token; the reference answer is the last message's text.
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


class IndexedTask(Task):
    """A task over items by index, each shown as a conversation when asked for."""

    def __init__(self, name: str, items: Sequence[Any] | Indexed[Any]):
        self.name, self.items = name, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Conversation:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} examples, asked for number {index}")
        return self.example(index)

    def example(self, index: int) -> Conversation:
        """Example `index`, which there is; an item that is a conversation stands for itself."""
        conversation: Conversation = self.items[index]
        return conversation


class Selection(IndexedTask):
    """Some examples of another task, in a given order."""

    def __init__(self, task: Task, indices: Sequence[int]):
        super().__init__(task.name, indices)
        self.task, self.kind = task, task.kind
        self.baseline, self.notes = task.baseline, task.notes

    def example(self, index: int) -> Conversation:
        return self.task[self.items[index]]

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        return self.task.score(conversation, completion)

    def part(self, conversation: Conversation) -> str:
        return self.task.part(conversation)

    def reward(self, conversation: Conversation, completion: tuple[Part, ...]) -> float:
        return self.task.reward(conversation, completion)

    def choices(self, conversation: Conversation) -> tuple[str, ...]:
        return self.task.choices(conversation)


@dataclass(frozen=True)
class TaskEntry:
    """A task by name: where its data come from, and how it is opened.

    `open` takes the task's files and, by name, split, size, identity and allow_weak of `load_task`,
    which most tasks have no use for. `rows` counts the examples of the complete data by split. A
    task without `repo` is synthetic.
    """

    name: str
    open: Callable[..., Task]
    rows: Mapping[str, int]
    repo: str = ""  # a data set on the Hub
    license: str = "MIT"  # of the data; chatling's own is that of what is made here
    files: Mapping[str, str] = field(default_factory=dict)  # path patterns in it, by split
    subset: str | None = None  # what "{subset}" of the patterns is by default
    source: tuple[str, str] | None = None  # address and checksum of what a synthetic task reads
    judged: bool = True  # False for conversations to learn from: no answer is right or wrong

    def split(self, name: Split) -> str:
        """The split that serves as one: the test split stands in for a validation split that there
        is not. Raises RecipeError for any other that there is not.
        """
        found = "test" if name == "validation" and name not in self.rows else name
        if found not in self.rows:
            raise RecipeError(
                f"{self.name} has no split {name!r}.", f"It has {', '.join(self.rows)}."
            )
        return found

    def fetch(self, fetcher: Fetcher, split: Split, subset: str | None) -> list[Path]:
        """The task's files; none for what is made from nothing. Raises DataError when there are
        none of the subset.
        """
        if self.source is not None:
            return [fetcher.url(*self.source)]
        if not self.repo:
            return []
        pattern = self.files[self.split(split)].format(subset=subset or self.subset)
        if not (files := fetcher.dataset(self.repo, pattern)):
            raise DataError(
                f"There is no {pattern} in the data set {self.repo}.",
                "Check the subset, or the folder that it is read from.",
            )
        return files


def visible_text(completion: Sequence[Part]) -> str:
    """What the model itself said: the text parts, without calculator expressions and outputs."""
    return "".join(part.text for part in completion if part.kind == "text")
