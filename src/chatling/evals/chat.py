"""Chat evaluation: the model answers a task's questions greedily, tools and all, and the task judges."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from chatling.conversation import Conversation, Part
from chatling.inference.engine import Completion, Request, Sampling
from chatling.tasks.task import Task
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_format import parse_completion, render_prompt

Z_95 = 1.959963984540054  # standard normal quantile at 0.975


class Generator(Protocol):
    """What is needed of an engine."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]: ...


@dataclass(frozen=True)
class Result:
    """How many of a task's questions were answered rightly."""

    name: str
    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        """Share of right answers; NaN where nothing was asked."""
        return self.correct / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the accuracy (Wilson 1927: sound at the ends, where the normal approximation is not)."""
        if not self.total:
            return 0.0, 1.0
        p, n, z = self.accuracy, self.total, Z_95
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))  # p itself bounds the rounding errors


@dataclass(frozen=True)
class Answer:
    """One question with what the model said."""

    conversation: Conversation
    completion: tuple[Part, ...]
    correct: bool


def answer_task(engine: Generator, tokenizer: Tokenizer, task: Task, max_tokens: int = 128) -> list[Answer]:
    """Every question of a generative task, answered greedily with at most `max_tokens` sampled tokens, and judged."""
    sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
    examples = list(task)
    requests = [Request(tuple(render_prompt(tokenizer, example.prompt)), sampling) for example in examples]
    answers = []
    for example, completion in zip(examples, engine.generate(requests), strict=True):
        parts = parse_completion(tokenizer, completion.ids)
        answers.append(Answer(example, parts, task.score(example, parts)))
    return answers


def evaluate_chat(engine: Generator, tokenizer: Tokenizer, tasks: Iterable[Task], max_tokens: int = 128) -> list[Result]:
    """The result of each generative task, in order. The engine batches; all questions of a task are handed over at once."""
    results = []
    for task in tasks:
        answers = answer_task(engine, tokenizer, task, max_tokens)
        results.append(Result(task.name, sum(answer.correct for answer in answers), len(answers)))
    return results


def combined(results: Iterable[Result]) -> list[Result]:
    """Results of several runs or seeds added up by task, in the order in which the tasks first come up."""
    sums: dict[str, tuple[int, int]] = {}
    for result in results:
        correct, total = sums.get(result.name, (0, 0))
        sums[result.name] = correct + result.correct, total + result.total
    return [Result(name, correct, total) for name, (correct, total) in sums.items()]
