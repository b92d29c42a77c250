"""Judging sampled answers: pass@k, and whether one model is better than another on the same
questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from chatling.evals.chat import Z_95, pass_at_k
from chatling.hardware.distributed import DistContext
from chatling.inference.engine import Completion, Engine, Request, SamplingParams
from chatling.messages import Conversation
from chatling.tasks.task import Task
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import parse_completion, render_prompt


def judge(tokenizer: Tokenizer, task: Task, example: Conversation, completion: Completion) -> float:
    """The reward of an answer that the engine gave."""
    return task.reward(example, parse_completion(tokenizer, completion.ids))


@dataclass(frozen=True)
class Difference:
    """By how much a second model is right more often than a first on the same questions."""

    questions: int
    gained: int  # wrong before, right after
    lost: int  # right before, wrong after

    @property
    def mean(self) -> float:
        return (self.gained - self.lost) / self.questions

    @property
    def half_width(self) -> float:
        """Of the 95 % interval: the normal approximation to the mean of paired differences, each
        -1, 0 or 1 (as in McNemar's test).
        """
        changed = (self.gained + self.lost) / self.questions
        return Z_95 * math.sqrt(max(changed - self.mean**2, 0.0) / self.questions)

    @property
    def interval(self) -> tuple[float, float]:
        return self.mean - self.half_width, self.mean + self.half_width


def paired_difference(before: Sequence[bool], after: Sequence[bool]) -> Difference:
    """Compare answers to the same questions in the same order. What both got right or both got
    wrong adds no uncertainty.
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"{len(before)} answers cannot be compared with {len(after)}")
    gained = sum(new and not old for old, new in zip(before, after, strict=True))
    lost = sum(old and not new for old, new in zip(before, after, strict=True))
    return Difference(len(before), gained, lost)


def sampled_scores(
    engine: Engine, task: Task, sampling: Sequence[SamplingParams], world: DistContext
) -> dict[str, float]:
    """Each question answered greedily and once with each of `sampling`: `val_accuracy` (greedy) and
    `pass@1` to as many as there are.

    The ranks share the questions. Those whose prompt does not fit the context count as wrong.
    """
    limit = max(each.max_tokens for each in sampling)
    examples = [task[i] for i in range(world.rank, len(task), world.size)]
    prompts = [tuple(render_prompt(engine.tokenizer, example.prompt)) for example in examples]
    fits = [len(prompt) < engine.context for prompt in prompts]
    ways = [SamplingParams(temperature=0.0, max_tokens=limit), *sampling]
    asked = [
        Request(prompt, way)
        for prompt, fit in zip(prompts, fits, strict=True)
        if fit
        for way in ways
    ]
    completions = iter(engine.generate(asked))
    sums = [0.0] * (2 + len(sampling))
    for example, fit in zip(examples, fits, strict=True):
        sums[0] += 1
        if fit:
            greedy, *drawn = (
                task.score(example, parse_completion(engine.tokenizer, next(completions).ids))
                for _ in ways
            )
            sums[1] += greedy
            for k in range(1, len(sampling) + 1):
                sums[1 + k] += pass_at_k(len(drawn), sum(drawn), k)
    count, right, *passed = world.all_reduce_scalars(sums, engine.device)
    return {"val_accuracy": right / count} | {
        f"pass@{k}": value / count for k, value in enumerate(passed, 1)
    }
