"""Whether a model that learned a longer context uses it, and still does what it did in the shorter
one: a needle in a haystack by length and depth, the loss by place, bits per byte.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, product
from typing import Any

import numpy as np

from chatling.data.token_shards import TokenShards
from chatling.evals.bpb import TokenScores, score_shards
from chatling.evals.chat import Z_95, Result
from chatling.evals.config import write_results
from chatling.evals.loglikelihood import ModelScorer, Question
from chatling.hardware.distributed import DistContext
from chatling.model.gpt import GPT
from chatling.run_dir import RunFolder
from chatling.tokenizer.bpe import Tokenizer

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)  # where the needle stands in the text before the question
ASKED = 20  # needles at each length and depth
CHOICES = 4  # numbers, of which the text has one
NAMES = ("Alice", "Bruno", "Clara", "David", "Emma", "Felix", "Grace", "Hugo")
FACT, ASK = " The secret number of {} is {}.", " The secret number of {} is"
MOST_BPB = 1.005  # of what it was
MOST_LOSS = 1.02  # at later places, of that at the last ones of the shorter context


@dataclass(frozen=True)
class NeedleScore:
    """Needles found in texts of a length, at a depth from 0 (the beginning) to 1."""

    length: int
    depth: float
    correct: int
    total: int


@dataclass(frozen=True)
class GateResult:
    """A condition on a model that learned a longer context, and what was found."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class LongScores:
    """`positions` are losses by place in nats; `before` those of the model before, which did not
    learn the longer context.
    """

    short: int
    context: int
    needles: tuple[NeedleScore, ...]
    bpb: float
    bpb_before: float
    positions: tuple[float, ...]
    before: tuple[float, ...]

    @property
    def gates(self) -> tuple[GateResult, ...]:
        return self._needle_gate(), self._position_gate(), self._bpb_gate()

    def found(self, length: int) -> Result:
        """The needles of a length, over all depths."""
        own = [each for each in self.needles if each.length == length]
        correct, total = sum(each.correct for each in own), sum(each.total for each in own)
        return Result(f"{length:,} tokens", correct, total, 1 / CHOICES)

    def _needle_gate(self) -> GateResult:
        """At each longer length above guessing, and not below the shorter context's."""
        short, *longer = map(self.found, sorted({each.length for each in self.needles}))
        passed = all(
            each.interval[0] > each.baseline
            # Newcombe 1998: a difference is no noise where it leaves this
            and short.accuracy - each.accuracy
            <= math.hypot(each.interval[1] - each.accuracy, short.accuracy - short.interval[0])
            for each in longer
        )
        listed = ", ".join(f"{each.accuracy:.0%} in {each.name}" for each in (short, *longer))
        return GateResult("needle", passed, f"found {listed}; guessing finds {short.baseline:.0%}")

    def _position_gate(self) -> GateResult:
        """No later place is harder than the last ones of the shorter context."""
        last = mean(self.positions[self.short // 2 : self.short])
        later = mean(self.positions[self.short :])
        other = mean(self.before[self.short :])
        found = (
            f"{later:.3f} nats a token beyond {self.short:,} tokens, {last:.3f} in the half before"
            f" ({other:.3f} beyond in the model that was not extended)"
        )
        return GateResult("loss by place", later <= MOST_LOSS * last, found)

    def _bpb_gate(self) -> GateResult:
        change = self.bpb / self.bpb_before - 1
        found = (
            f"{self.bpb:.4f} in {self.short:,} tokens, {self.bpb_before:.4f} before ({change:+.2%})"
        )
        return GateResult("bits per byte", self.bpb <= MOST_BPB * self.bpb_before, found)

    def to_dict(self) -> dict[str, Any]:
        found = asdict(self)
        found |= {"gates": [*map(asdict, self.gates)], "needles": [*map(asdict, self.needles)]}
        for name in ("positions", "before"):
            found[name] = [None if math.isnan(loss) else loss for loss in found[name]]
        return found


def mean(losses: Sequence[float]) -> float:
    """Of those that are known."""
    known = [loss for loss in losses if not math.isnan(loss)]
    return sum(known) / len(known) if known else math.nan


def core_gate(before: Mapping[str, Any], after: Mapping[str, Any]) -> GateResult:
    """Of two results of CORE on the same bundle: no worse, but for the noise of its examples."""
    change, noise = after["core"] - before["core"], math.hypot(_noise(before), _noise(after))
    found = f"{after['core']:.4f}, {before['core']:.4f} before; ±{Z_95 * noise:.4f} is noise"
    return GateResult("CORE", change >= -Z_95 * noise, found)


def _noise(result: Mapping[str, Any]) -> float:
    """The standard error of CORE, a mean of independent tasks."""
    tasks = result["tasks"].values()
    variances = (
        t["accuracy"] * (1 - t["accuracy"]) / t["count"] / (1 - t["baseline"]) ** 2 for t in tasks
    )
    return math.sqrt(sum(variances)) / max(1, len(tasks))


def lengths(short: int, context: int) -> list[int]:
    """The shorter context, its doublings, and the longer one."""
    doubled = [short << i for i in range((context // short).bit_length())]
    return sorted({*(length for length in doubled if length < context), context})


def needle_questions(
    tokenizer: Tokenizer, text: TokenShards, length: int, depth: float, seed: int
) -> list[Question]:
    """Texts of `length` tokens, with a number told at a depth and asked for in the end; of the
    choices the first is right.
    """
    questions = []
    for number in range(ASKED):
        random = np.random.default_rng((seed, length, int(100 * depth), number))
        name = NAMES[int(random.integers(len(NAMES)))]
        told = [str(value) for value in random.choice(9_000, CHOICES, replace=False) + 1_000]
        ask = tokenizer.encode(ASK.format(name))
        answers = [tokenizer.encode(f" {value}") for value in told]
        fact = tokenizer.encode(FACT.format(name, told[0]))
        # the last token of a sequence is not read
        room = length - len(fact) - len(ask) - max(map(len, answers))
        hay = _hay(text, max(0, room), random)
        at = round(depth * len(hay))
        beginning = [tokenizer.bos, *hay[:at], *fact, *hay[at:], *ask]
        sequences = tuple(np.array([*beginning, *answer]) for answer in answers)
        questions.append(Question(sequences, (len(beginning),) * CHOICES))
    return questions


def _hay(text: TokenShards, count: int, random: np.random.Generator) -> list[int]:
    """So many tokens of neighboring documents, as if they were one."""
    found: list[int] = []
    document = int(random.integers(text.documents))
    while len(found) < count:
        found += text.document(document % text.documents)[: count - len(found)].tolist()
        document += 1
    return found


def find_needles(
    model: GPT,
    tokenizer: Tokenizer,
    text: TokenShards,
    short: int,
    *,
    seed: int = 0,
    world: DistContext | None = None,
) -> tuple[NeedleScore, ...]:
    """How many needles a model finds at each length and depth. The places are strided over the
    ranks; every rank calls it, and has the result.
    """
    world, scorer = world or DistContext(), ModelScorer(model)
    places = list(product(lengths(short, model.config.context), DEPTHS))
    own = []
    for length, depth in places[world.rank :: world.size]:
        questions = needle_questions(tokenizer, text, length, depth, seed)
        scores = [
            [each.nats / max(1, each.tokens) for each in four] for four in scorer.score(questions)
        ]
        correct = sum(nats[0] < min(nats[1:]) for nats in scores)
        own.append(NeedleScore(length, depth, correct, len(scores)))
    everyone = chain.from_iterable(world.gather(own))
    return tuple(sorted(everyone, key=lambda each: (each.length, each.depth)))


def evaluate_long(
    model: GPT,
    before: GPT,
    tokenizer: Tokenizer,
    text: TokenShards,
    *,
    tokens: int | None = None,
    seed: int = 0,
    world: DistContext | None = None,
) -> LongScores:
    """Measure a model beside the one with the shorter context that it came from, on held-out text.
    Every rank calls it.
    """
    short, context = before.config.context, model.config.context

    def score(each: GPT, length: int) -> TokenScores:
        return score_shards(
            each, tokenizer, text, context=length, tokens=tokens, seed=seed, world=world
        )

    return LongScores(
        short,
        context,
        find_needles(model, tokenizer, text, short, seed=seed, world=world),
        score(model, short).bpb,
        score(before, short).bpb,
        score(model, context).positions,
        score(before, context).positions,
    )


def is_long(data: Mapping[str, Any]) -> bool:
    """Whether data are what `LongScores.to_dict` gives: a run is untrusted input."""
    numbers = (int, float)

    def rows(name: str, kinds: Mapping[str, Any]) -> bool:
        found = data.get(name)
        return isinstance(found, list) and all(
            isinstance(row, dict) and all(type(row.get(key)) in kind for key, kind in kinds.items())
            for row in found
        )

    curves = (data.get(name) for name in ("positions", "before"))
    return (
        all(type(data.get(name)) is int for name in ("short", "context"))
        and rows("gates", {"name": (str,), "passed": (bool,), "found": (str,)})
        and rows("needles", dict.fromkeys(("length", "depth", "correct", "total"), numbers))
        and all(needle["total"] for needle in data["needles"])
        and all(
            isinstance(curve, list) and all(type(x) in (*numbers, type(None)) for x in curve)
            for curve in curves
        )
    )


def write_long(folder: RunFolder, stage: str, scores: LongScores) -> None:
    """Write `evals/<stage>-long.json`."""
    write_results(folder, stage, "long", scores.to_dict())
