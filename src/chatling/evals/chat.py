"""Chat evaluation: a model answers a task's questions, by writing (tools and all) or by choosing a
letter, and the task judges.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from chatling.errors import DataError
from chatling.evals.config import write_results
from chatling.evals.loglikelihood import ModelScorer, OnProgress, Question, Scorer, crop
from chatling.hardware.distributed import DistContext
from chatling.inference.engine import Completion, Engine, Request, SamplingParams
from chatling.messages import Conversation, Part
from chatling.model.gpt import GPT
from chatling.run_dir import RunFolder
from chatling.tasks.judged import is_own, judged_tasks
from chatling.tasks.registry import CHAT_TASKS, check_judged, load_task, own_file
from chatling.tasks.task import Task
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import parse_completion, render_prompt
from chatling.toy.dataset import BUILT_IN
from chatling.toy.free import FREE, free

if TYPE_CHECKING:
    from chatling.data.hub import Fetcher

ALL = "all"
ORDER_SEED = 1337  # of a task's questions, before a part of them is taken
Z_95 = 1.959963984540054  # standard normal quantile at 0.975
GREEDY = SamplingParams(temperature=0.0, max_tokens=128)
SEED_STRIDE = 1_000_003  # from one question's seeds to the next one's


@dataclass(frozen=True)
class Result:
    """How many of a task's questions were answered correctly.

    With several answers to each, `correct` sums the shares of right ones.
    """

    name: str
    correct: float
    total: int
    baseline: float = 0.0  # accuracy of guessing
    # (k, pass@k), where there were several answers to each question
    passes: tuple[tuple[int, float], ...] = ()
    # questions that did not fit the context: unanswered, or in a categorical task cropped from the
    # left
    too_long: int = 0
    part: bool = False  # of the task before it: in no mean over tasks

    @property
    def accuracy(self) -> float:
        """Share of right answers; NaN where nothing was asked."""
        return self.correct / self.total if self.total else math.nan

    @property
    def centered(self) -> float:
        """(accuracy - baseline) / (1 - baseline): 0 for guessing, 1 for all right."""
        return (self.accuracy - self.baseline) / (1 - self.baseline)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the accuracy (Wilson 1927: sound at the ends, where the
        normal approximation is not).

        Several answers to one question do not count as several questions.
        """
        if not self.total:
            return 0.0, 1.0
        p, n, z = self.accuracy, self.total, Z_95
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        # p itself bounds the rounding errors.
        return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))

    def to_dict(self) -> dict[str, Any]:
        """What `evals/<stage>-chat.json` holds of it."""
        derived = ("accuracy", "interval", "centered")
        kept = asdict(self)
        if not self.part:
            del kept["part"]
        return (
            kept
            | {name: getattr(self, name) for name in derived}
            | {"passes": {str(k): rate for k, rate in self.passes}}
        )


@dataclass(frozen=True)
class Answer:
    """A question and its answer; `completion` is None when the question did not fit the context."""

    conversation: Conversation
    completion: tuple[Part, ...] | None
    correct: bool


def answer_task(
    engine: Engine,
    tokenizer: Tokenizer,
    task: Task,
    draws: Sequence[SamplingParams] = (GREEDY,),
    world: DistContext | None = None,
    *,
    seed_stride: int = SEED_STRIDE,
    progress: OnProgress | None = None,
) -> list[tuple[Answer, ...]]:
    """Answer every question of a generative task once with each of `draws`, and score the answers:
    a tuple for each question.

    The questions are strided over the ranks, and each rank returns its own. The draws' seeds move
    on by `seed_stride` from one question to the next.
    """
    world = world or DistContext()
    share = [(i, task[i]) for i in range(world.rank, len(task), world.size)]
    prompts = [tuple(render_prompt(tokenizer, example.prompt)) for _, example in share]
    fits = [len(prompt) < engine.context for prompt in prompts]
    asked = [
        Request(prompt, replace(draw, seed=draw.seed + seed_stride * i))
        for (i, _), prompt, fit in zip(share, prompts, fits, strict=True)
        if fit
        for draw in draws
    ]
    finished = itertools.count(1)

    def ended() -> None:
        if progress is not None:
            progress(next(finished), len(asked))

    completions = iter(engine.generate(asked, ended))

    def score(example: Conversation) -> Answer:
        parts = parse_completion(tokenizer, next(completions).ids)
        return Answer(example, parts, task.score(example, parts))

    return [
        tuple(score(example) if fit else Answer(example, None, False) for _ in draws)
        for (_, example), fit in zip(share, fits, strict=True)
    ]


def choose_answers(
    scorer: Scorer,
    tokenizer: Tokenizer,
    task: Task,
    world: DistContext | None = None,
    progress: OnProgress | None = None,
) -> tuple[list[bool], int]:
    """For each question of a categorical task, whether the right letter is the likeliest of those
    in play; and how many were cropped.

    The letters of a question are scored after one reading of it. Of a question that does not fit
    the context, the beginning is left out. The questions are strided over the ranks, and each rank
    returns its own. Raises DataError when a letter is not one token.
    """
    world = world or DistContext()
    questions, right, cropped = [], [], 0
    for i in range(world.rank, len(task), world.size):
        example = task[i]
        letters = task.choices(example)
        tokens = [tokenizer.encode(letter) for letter in letters]
        if any(len(each) != 1 for each in tokens):
            raise DataError(
                f"A choice of {task.name} is not one token: {', '.join(letters)}.",
                "Use another tokenizer.",
            )
        prompt = render_prompt(tokenizer, example.prompt)
        whole = Question(
            tuple(np.array([*prompt, *each]) for each in tokens), (len(prompt),) * len(letters)
        )
        # The letter itself is not read.
        questions.append(crop(whole, None if scorer.context is None else scorer.context + 1))
        cropped += questions[-1] is not whole
        right.append(letters.index(example.messages[-1].text))
    chosen = [
        min(range(len(scores)), key=lambda i: scores[i].nats)
        for scores in scorer.score(questions, progress)
    ]
    return [a == b for a, b in zip(chosen, right, strict=True)], cropped


def chat_task_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names with those that "all" stands for. Raises RecipeError, or DataError for a file of
    one's own, for what cannot be judged.
    """
    found = tuple(task for each in names for task in (CHAT_TASKS if each == ALL else (each,)))
    for name in found:
        if is_own(name):
            judged_tasks(own_file(name))
        elif name not in (*BUILT_IN, FREE):
            check_judged(name, "test")
    return found


def open_chat_tasks(
    names: Sequence[str], seed: int, questions: int | None, fetcher: Callable[[], Fetcher]
) -> list[Task]:
    """Tasks by name, their test questions; "all" is the reference's six, "pocket" every skill of
    the built-in world, "free" hand-written questions about it.

    With `questions`, at most so many of each, drawn from all over it. Raises DataError when data
    cannot be had.
    """
    tasks: list[Task] = []
    for name in chat_task_names(names):
        if made := BUILT_IN.get(name):
            tasks += [skill(seed, questions or made.skill_count) for skill in made.skills.values()]
        elif is_own(name):
            own = judged_tasks(own_file(name))
            tasks += [task if questions is None else task.sliced(0, questions) for task in own]
        else:
            task = free() if name == FREE else load_task(name, "test", fetcher())
            tasks.append(
                task if questions is None else task.shuffled(ORDER_SEED).sliced(0, questions)
            )
    return tasks


def evaluate_chat(
    engine: Engine,
    tokenizer: Tokenizer,
    tasks: Iterable[Task],
    max_tokens: int = 128,
    *,
    samples: int = 1,
    temperature: float = 0.0,
    top_k: int = 0,
    seed: int = 0,
    world: DistContext | None = None,
    progress: OnProgress | None = None,
) -> list[Result]:
    """The result of each task, in order and followed by those of its parts, on every rank.
    Generative tasks are answered `samples` times with at most `max_tokens` tokens.

    `progress` is told how much of a task is done. Whether a task can be judged here is found out
    before its questions are answered: HumanEval raises MachineError without a sandbox.
    """
    world = world or DistContext()
    draws = [
        SamplingParams(temperature=temperature, top_k=top_k, max_tokens=max_tokens, seed=seed + i)
        for i in range(samples)
    ]
    return [
        result
        for task in tasks
        for result in (
            [_chosen(engine.model, tokenizer, task, world, progress)]
            if task.kind == "categorical"
            else _written(engine, tokenizer, task, draws, world, progress)
        )
    ]


def _chosen(
    model: GPT,
    tokenizer: Tokenizer,
    task: Task,
    world: DistContext,
    progress: OnProgress | None,
) -> Result:
    verdicts, cropped = choose_answers(ModelScorer(model), tokenizer, task, world, progress)
    gathered = world.gather((sum(verdicts), len(verdicts), cropped))
    correct, total, too_long = (sum(numbers) for numbers in zip(*gathered, strict=True))
    return Result(task.name, correct, total, task.baseline, too_long=too_long)


def _written(
    engine: Engine,
    tokenizer: Tokenizer,
    task: Task,
    draws: Sequence[SamplingParams],
    world: DistContext,
    progress: OnProgress | None,
) -> list[Result]:
    """The result of a generative task, and those of its parts."""
    if len(task):
        task.score(task[0], task[0].messages[-1].parts)
    own = [
        (
            task.part(answers[0].conversation),
            sum(answer.correct for answer in answers),
            answers[0].completion is None,
        )
        for answers in answer_task(engine, tokenizer, task, draws, world, progress=progress)
    ]
    everyone = [row for theirs in world.gather(own) for row in theirs]
    ks = [2**i for i in range(len(draws).bit_length())] if len(draws) > 1 else []

    def result(name: str, part: str) -> Result:
        rows = [row for row in everyone if part in ("", row[0])]
        rights = [right for _, right, _ in rows]
        correct = sum(rights) if len(draws) == 1 else sum(rights) / len(draws)
        passes = tuple(
            (k, sum(pass_at_k(len(draws), right, k) for right in rights) / len(rights))
            for k in ks
            if rights
        )
        unread = sum(each for *_, each in rows)
        return Result(name, correct, len(rights), task.baseline, passes, unread, part != "")

    parts = sorted({part for part, *_ in everyone} - {""})
    return [result(task.name, ""), *(result(f"{task.name}: {part}", part) for part in parts)]


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Chance that at least one of k answers, drawn from `samples` of which `right` are right, is
    right (unbiased; arXiv 2107.03374).
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs at least {k} samples, not {samples}")
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def judge(tokenizer: Tokenizer, task: Task, example: Conversation, completion: Completion) -> float:
    """The reward of an answer that the engine gave."""
    return task.reward(example, parse_completion(tokenizer, completion.ids))


def sampled_scores(
    engine: Engine, task: Task, sampling: Sequence[SamplingParams], world: DistContext
) -> dict[str, float]:
    """Each question answered greedily and once with each of `sampling`: `val_accuracy` (greedy) and
    `pass@1` to as many as there are.

    The ranks share the questions. Those whose prompt does not fit the context count as wrong.
    """
    limit = max(each.max_tokens for each in sampling)
    draws = [SamplingParams(temperature=0.0, max_tokens=limit), *sampling]
    sums = [0.0] * (2 + len(sampling))
    for greedy, *drawn in answer_task(engine, engine.tokenizer, task, draws, world, seed_stride=0):
        hits = sum(answer.correct for answer in drawn)
        passes = (pass_at_k(len(drawn), hits, k) for k in range(1, len(drawn) + 1))
        sums = [a + b for a, b in zip(sums, (1, greedy.correct, *passes), strict=True)]
    count, right, *passed = world.all_reduce_scalars(sums, engine.device)
    return {"val_accuracy": right / count} | {
        f"pass@{k}": value / count for k, value in enumerate(passed, 1)
    }


def chatcore(results: Sequence[Result], tasks: Collection[str]) -> float | None:
    """The mean centred accuracy over `tasks`; None when one of them is missing, since the mean of
    others does not compare.
    """
    centered = {result.name: result.centered for result in results if result.total}
    return (
        sum(centered[name] for name in tasks) / len(tasks)
        if tasks and set(tasks) <= set(centered)
        else None
    )


def write_chat(
    folder: RunFolder, stage: str, results: Sequence[Result], tasks: Collection[str], **facts: Any
) -> None:
    """Write `evals/<stage>-chat.json`. `tasks` are those of the whole evaluation, `facts` how the
    answers were drawn.
    """
    rows = [result.to_dict() for result in results]
    write_results(folder, stage, "chat", rows, chatcore=chatcore(results, tasks), **facts)


def combined(results: Iterable[Result]) -> list[Result]:
    """Add up the results of several runs or seeds by task, in the order of the tasks."""
    sums: dict[str, Result] = {}
    for result in results:
        before = sums.get(result.name, Result(result.name, 0, 0, result.baseline, part=result.part))
        total, too_long = before.total + result.total, before.too_long + result.too_long
        sums[result.name] = replace(
            before, correct=before.correct + result.correct, total=total, too_long=too_long
        )
    return list(sums.values())
