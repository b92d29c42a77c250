"""CORE, the centred accuracy over the 22 tasks of DCLM (Li et al. 2024, arXiv 2406.11794), with the
numbers of the reference run's code.

Everything that decides a number is here: which examples are shown, how a prompt is written, which
tokens are scored and what counts as right. How the tokens get their scores is `loglikelihood.py`'s.
"""

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from chatling.evals.config import write_results
from chatling.evals.core_bundle import CoreTask, Item, read_bundle
from chatling.evals.loglikelihood import (
    ModelScorer,
    OnProgress,
    Question,
    Scorer,
    SpanScore,
    common_prefix,
    common_suffix,
    crop,
)
from chatling.hardware.distributed import DistContext
from chatling.model.gpt import GPT
from chatling.run_dir import RunFolder

ORDER_SEED, SHOTS_SEED = 1337, 1234
AT_ONCE = 2048  # questions in memory together


class CoreTokenizer(Protocol):
    """What is needed of a tokenizer."""

    bos: int

    def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of many texts end to end, without specials, and offsets (texts + 1,) into them."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What became of one example: `losses` are the mean nats a token of each choice (one in
    language modelling; NaN: no token).
    """

    line: int
    correct: bool
    losses: tuple[float, ...]
    cropped: bool  # did not fit the context


@dataclass(frozen=True)
class TaskScore:
    """`centered` is (accuracy - baseline) / (1 - baseline): 0 for guessing, 1 for all right."""

    accuracy: float
    centered: float
    count: int
    baseline: float
    cropped: int  # examples cropped from the left, to fit the context


@dataclass(frozen=True)
class CoreResult:
    """Scores by task. `cut`: the bundle's files are not whole, so they do not compare with
    published ones; `limit`: nor were they used.
    """

    tasks: dict[str, TaskScore]
    core: float
    cut: bool
    limit: int | None
    problems: tuple[str, ...]  # rows left out and the like, by file and line

    def to_dict(self) -> dict[str, Any]:
        """What `evals/<stage>-core.json` holds as "results"."""
        return asdict(self)


def evaluate_core(
    model: GPT | Scorer,
    tokenizer: CoreTokenizer,
    bundle: Path,
    *,
    limit: int | None = None,
    world: DistContext | None = None,
    note: Callable[[str], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> CoreResult:
    """Score a model on every task of a bundle, at most `limit` examples of each. Every rank calls
    it, and has the result.

    `note` is called with a line for each finished task, `progress` with a task and how many of how
    many of its examples are scored. Raises DataError for an unusable bundle.
    """
    scorer = ModelScorer(model) if isinstance(model, GPT) else model
    tasks, problems = read_bundle(bundle)
    scores: dict[str, TaskScore] = {}
    for task in tasks:
        own = functools.partial(progress, task.label) if progress else None
        outcomes, faults = score_task(scorer, tokenizer, task, limit, world or DistContext(), own)
        problems += faults
        accuracy = sum(outcome.correct for outcome in outcomes) / len(outcomes)
        centered = (accuracy - task.baseline) / (1 - task.baseline)
        scores[task.label] = TaskScore(
            accuracy,
            centered,
            len(outcomes),
            task.baseline,
            sum(outcome.cropped for outcome in outcomes),
        )
        if note is not None:
            note(
                f"{task.label}: accuracy {accuracy:.4f}, centred {centered:.4f}, {len(outcomes):,}"
                " examples"
            )
    core = sum(score.centered for score in scores.values()) / len(scores)
    return CoreResult(scores, core, any(task.cut for task in tasks), limit, tuple(problems))


def write_core(folder: RunFolder, stage: str, result: CoreResult, step: int | None = None) -> None:
    """Write `evals/<stage>-core.json`; `step` when the stage is still training."""
    live = {} if step is None else {"step": step}
    write_results(folder, stage, "core", result.to_dict(), **live)


def score_task(
    scorer: Scorer,
    tokenizer: CoreTokenizer,
    task: CoreTask,
    limit: int | None = None,
    world: DistContext | None = None,
    progress: OnProgress | None = None,
) -> tuple[list[Outcome], list[str]]:
    """The outcome of each example in the shuffled order, and what was odd about some. The examples
    are strided over the ranks.
    """
    world = world or DistContext()
    items = list(task.items)
    random.Random(ORDER_SEED).shuffle(items)
    items = items[:limit]
    problems = []
    if task.shots > len(items) - 1:
        problems.append(
            f"{task.file}: {task.label} shows {len(items) - 1} examples instead of {task.shots},"
            " since there are no more."
        )
    share = range(world.rank, len(items), world.size)
    found: dict[int, Outcome] = {}
    for at in range(0, len(share), AT_ONCE):
        part = share[at : at + AT_ONCE]
        questions, cropped = build_questions(tokenizer, task, items, part, scorer.context)

        def read(rows: int, of: int, at: int = at, count: int = len(part)) -> None:
            if progress:
                progress(at + count * rows // of, len(share))

        for index, short, scores in zip(part, cropped, scorer.score(questions, read), strict=True):
            found[index] = judge(task, items[index], scores, short)
    everyone = dict(chain.from_iterable(theirs.items() for theirs in world.gather(found)))
    outcomes = [everyone[index] for index in range(len(items))]
    silent = [outcome.line for outcome in outcomes if any(loss != loss for loss in outcome.losses)]
    if silent:
        lines = ", ".join(map(str, sorted(silent)))
        problems.append(
            f"{task.file}: a choice has no token of its own in line {lines}, since another begins"
            " with it."
        )
    return outcomes, problems


def judge(task: CoreTask, item: Item, scores: Sequence[SpanScore], cropped: bool) -> Outcome:
    """Right is the choice whose tokens have the least mean loss, the first of equals; in language
    modelling, every token the likeliest.
    """
    losses = [score.nats / score.tokens if score.tokens else float("nan") for score in scores]
    if task.kind == "language_modeling":
        return Outcome(item.line, scores[0].greedy, tuple(losses), cropped)
    # Python's own minimum, as in the reference, also for the NaN of a choice without tokens: it
    # wins in the first place and nowhere else
    return Outcome(item.line, losses.index(min(losses)) == item.gold, tuple(losses), cropped)


def build_questions(
    tokenizer: CoreTokenizer,
    task: CoreTask,
    items: Sequence[Item],
    indices: Sequence[int],
    context: int | None,
) -> tuple[list[Question], list[bool]]:
    """Token sequences of some examples, and which were cropped from the left to the context."""
    texts = [
        render(task, items[i], [items[j] for j in shots(i, task.shots, len(items))])
        for i in indices
    ]
    ids, offsets = tokenizer.encode_flat([prompt for prompts in texts for prompt in prompts])
    encoded = (
        np.concatenate(([tokenizer.bos], ids[start:end])) for start, end in pairwise(offsets)
    )
    questions, cropped = [], []
    for prompts in texts:
        sequences = [next(encoded) for _ in prompts]
        if task.kind == "language_modeling":
            without, whole = sequences
            sequences, starts = [whole], [common_prefix([without, whole])]
        elif task.kind == "multiple_choice":
            starts = [common_prefix(sequences)] * len(sequences)
        else:
            alike = common_suffix(sequences)
            starts = [len(sequence) - alike for sequence in sequences]
        question = Question(tuple(sequences), tuple(max(1, start) for start in starts))
        questions.append(crop(question, context))
        cropped.append(questions[-1] is not question)
    return questions, cropped


def shots(index: int, wanted: int, count: int) -> list[int]:
    """Which examples are shown before example `index` of `count`: `wanted` others, or all there
    are, drawn by its own seed.
    """
    drawn = random.Random(SHOTS_SEED + index).sample(range(count - 1), min(wanted, count - 1))
    # as if drawn from a list without the example itself
    return [other + (other >= index) for other in drawn]


def render(task: CoreTask, item: Item, shown: Sequence[Item]) -> list[str]:
    """The prompts of an example, one a choice; in language modelling, without and with its end."""
    delimiter = task.delimiter
    if task.kind == "multiple_choice":
        before = "".join(f"{each.text}{delimiter}{each.options[each.gold]}\n\n" for each in shown)
        return [f"{before}{item.text}{delimiter}{choice}" for choice in item.options]
    if task.kind == "schema":
        before = "".join(f"{each.options[each.gold]}{delimiter}{each.text}\n\n" for each in shown)
        return [f"{before}{option}{delimiter}{item.text}" for option in item.options]
    before = "".join(f"{each.text.strip()}{delimiter}{each.continuation}\n\n" for each in shown)
    context = f"{before}{item.text.strip()}{delimiter}"
    # The context's last space is part of the token that follows.
    return [context.strip(), f"{context}{item.continuation}"]
