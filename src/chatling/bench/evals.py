"""CORE's speed: one example at a time as the reference does it, then what each of our ways of
saving work brings, on the same examples.
"""

import functools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from chatling.bench.measure import SMALL, Rows, figure, random_model, seconds
from chatling.data.parquet import iter_texts
from chatling.evals.core import CoreTokenizer, Outcome, build_questions, judge
from chatling.evals.core_bundle import CoreTask, read_bundle
from chatling.evals.loglikelihood import ModelScorer, Question, Scores, SpanScore
from chatling.model.gpt import GPT
from chatling.run_dir import RunFolder
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer
from chatling.toy.core_bundle import write_core_bundle
from chatling.train.checkpoint import load_model

Scoring = Callable[[Sequence[Question]], Scores]


@dataclass
class Work:
    """What a way of scoring took for the whole bundle, going by the examples measured."""

    seconds: float = 0.0
    passes: float = 0.0  # of the model
    tokens: float = 0.0  # read, padding included
    outcomes: list[Outcome] = field(default_factory=list)


@dataclass(frozen=True)
class Way:
    """A way to score questions, some of them at once or one by one."""

    name: str
    score: Scoring
    at_once: bool = False


def measure_evals(model: GPT, tokenizer: CoreTokenizer, bundle: Path, *, examples: int = 4) -> Rows:
    """Rows {"measure", "value", "unit"} for the first `examples` (in the evaluation's order) of
    each task, weighted by its size.

    Reading prompts is inside all times. Examples on which a way differs from the reference are
    counted; in fp32 only ties can.
    """
    scorer = ModelScorer(model)
    ways = (
        Way("one at a time", lambda questions: _everything(model, questions[0])),
        Way("+ logits where wanted", lambda questions: _apart(scorer, questions[0])),
        Way("+ beginnings read once", scorer.score),
        Way("+ batches of like lengths", scorer.score, at_once=True),
    )
    tasks, _ = read_bundle(bundle)
    _measure(ways[-1], model, tokenizer, tasks[0], min(2, len(tasks[0].items)))  # warms up
    found = {way.name: Work() for way in ways}
    prompts = 0.0
    for task in tasks:
        count = min(examples, len(task.items))
        weight = len(task.items) / count
        build = functools.partial(
            build_questions, tokenizer, task, task.items, range(count), scorer.context
        )
        prompts += weight * seconds(build)
        for way in ways:
            work, total = _measure(way, model, tokenizer, task, count), found[way.name]
            total.seconds += weight * work.seconds
            total.passes += weight * work.passes
            total.tokens += weight * work.tokens
            total.outcomes += work.outcomes
    return _rows(found, prompts, sum(len(task.items) for task in tasks))


def _measure(way: Way, model: GPT, tokenizer: CoreTokenizer, task: CoreTask, count: int) -> Work:
    """Shuffling is left out: any examples will do, as long as all ways take the same."""
    work, context = Work(), model.config.context

    def count_pass(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        work.passes, work.tokens = work.passes + 1, work.tokens + inputs[0].numel()

    def score() -> None:
        for part in [range(count)] if way.at_once else [range(i, i + 1) for i in range(count)]:
            questions, cropped = build_questions(tokenizer, task, task.items, part, context)
            found = zip(part, way.score(questions), cropped, strict=True)
            work.outcomes += [
                judge(task, task.items[i], scores, short) for i, scores, short in found
            ]

    with model.register_forward_pre_hook(count_pass):
        work.seconds = seconds(score)
    return work


@torch.no_grad()
def _everything(model: GPT, question: Question) -> Scores:
    """Every sequence a padded row; losses and predictions at all places, most of them unused."""
    rows = [torch.from_numpy(sequence).long() for sequence in question.sequences]
    ids = pad_sequence(rows, batch_first=True).to(model.embed_tokens.weight.device)
    logits = model.logits(model(ids))  # (B, T, V)
    targets = ids.roll(-1, dims=1)
    losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")  # (B, T)
    likeliest = logits.argmax(dim=-1)
    scores = []
    for b, (sequence, start) in enumerate(zip(question.sequences, question.starts, strict=True)):
        span = slice(start - 1, len(sequence) - 1)
        hits = likeliest[b, span] == ids[b, start : len(sequence)]
        scores.append(
            SpanScore(losses[b, span].sum().item(), len(sequence) - start, bool(hits.all()))
        )
    return [tuple(scores)]


def _apart(scorer: ModelScorer, question: Question) -> Scores:
    """Sequences that do not know of each other."""
    alone = [
        Question((ids,), (start,))
        for ids, start in zip(question.sequences, question.starts, strict=True)
    ]
    return [tuple(score for scores in scorer.score(alone) for score in scores)]


def _rows(found: dict[str, Work], prompts: float, examples: int) -> Rows:
    reference, *_, ours = found.values()
    rows: Rows = []
    for name, work in found.items():
        pairs = zip(work.outcomes, reference.outcomes, strict=True)
        unlike = sum(a.correct != b.correct for a, b in pairs)
        ratio = reference.seconds / work.seconds
        rows += [
            figure(f"evals, {name}", examples / work.seconds, "examples/s"),
            figure(f"evals, {name}, times the first", ratio, "x"),
            figure(f"evals, {name}, passes", work.passes / examples, "an example"),
            figure(f"evals, {name}, tokens read", work.tokens / examples, "an example"),
            figure(f"evals, {name}, other outcomes", unlike, f"of {len(work.outcomes)}"),
        ]
    share = 100 * prompts / ours.seconds
    return [*rows, figure("evals, share of the last that prompts take", share, "%")]


def bench_evals(files: Sequence[Path], run: str | None = None, bundle: Path | None = None) -> Rows:
    """`measure_evals` of a run's most advanced model, or one with random weights; on a bundle, or
    the pocket world's.

    `files` are parquet files of text for the tokenizer, where there is no run.
    """
    if run is None:
        tokenizer = train_tokenizer(iter_texts(files), TokenizerConfig(vocab_size=8192))
        model = random_model(SMALL, tokenizer.vocab_size)
    else:
        folder = RunFolder.open(run)
        tokenizer = Tokenizer.load(folder.tokenizer)
        model = load_model(folder.model(folder.finished_stage()))
    if bundle is not None:
        return measure_evals(model, tokenizer, bundle)
    with tempfile.TemporaryDirectory() as temporary:
        write_core_bundle(Path(temporary) / "bundle", seed=0)
        return measure_evals(model, tokenizer, Path(temporary) / "bundle", examples=30)
