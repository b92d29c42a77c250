"""Rollouts as batches: sample several answers to each question with the present weights, judge
them, and learn from what differs.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from chatling.data import IGNORE
from chatling.data.loaders import Step
from chatling.data.shuffle import seeded_order
from chatling.errors import DataError, RecipeError
from chatling.evals.chat import judge
from chatling.hardware.distributed import DistContext
from chatling.inference.engine import Completion, Engine, Request, SamplingParams
from chatling.messages import Conversation
from chatling.model.gpt import GPT
from chatling.model.losses import PolicyVariant
from chatling.tasks.task import Task
from chatling.tokenizer.chat_template import render_prompt

ROOM_FOR_TOOLS = 128  # tokens that the calculator may put in, beyond those that are sampled


class RolloutConfig(Protocol):
    """How answers are sampled, and how they are learned from."""

    @property
    def questions_per_step(self) -> int: ...
    @property
    def samples(self) -> int: ...
    @property
    def temperature(self) -> float: ...
    @property
    def top_k(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def pad_to_multiple_of(self) -> int: ...
    @property
    def updates(self) -> int: ...
    @property
    def kl(self) -> float: ...
    @property
    def method(self) -> PolicyVariant: ...


@dataclass(frozen=True)
class Rollout:
    """A question with one answer, and what it was worth."""

    ids: list[int]  # prompt and answer, the closing token included
    loss_mask: list[bool]  # which of them the model sampled
    advantage: float
    reward: float
    old: list[float] | None = None  # log-probabilities of the sampled ones before the first update

    @property
    def count(self) -> int:
        return sum(self.loss_mask)


@dataclass(frozen=True)
class PolicyBatch:
    """What one forward and backward pass takes."""

    inputs: np.ndarray  # (B, T) int32
    targets: np.ndarray  # (B, T) int64, IGNORE where not sampled
    advantages: np.ndarray  # (B,) float32
    places: np.ndarray  # (N,) int64, where targets count in the flattened rows


@dataclass(frozen=True)
class AnchoredBatch(PolicyBatch):
    """With the log-probabilities that clip and KL refer to."""

    old: np.ndarray  # (B, T) float32
    reference: np.ndarray  # (B, T) float32


def advantages(rewards: Sequence[float], normalize: bool) -> list[float]:
    """How much better than its group's mean each answer was; divided by the group's standard
    deviation where asked (GRPO).
    """
    mean = sum(rewards) / len(rewards)
    if max(rewards) == min(rewards):
        return [0.0] * len(rewards)  # exactly, whatever the mean rounds to
    scale = (
        math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / len(rewards))
        if normalize
        else 1.0
    )
    return [(reward - mean) / scale for reward in rewards]


def sample_seed(*place: int | str) -> int:
    """A seed of its own for each answer of a run."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, place)).encode()).digest()[:7], "big")


class RolloutBatches:
    """Steps of rollouts. Each is made with the weights that the step before it left: never prefetch
    them.

    Question number g of the run (g counts on over the epochs) is the same on any number of ranks,
    and answer j to it is sampled with a seed of (run, g, j): with the engine's promise, a step's
    answers depend on weights and place alone. All answers to a question stay on one rank. The state
    is the place, and within several updates of one step also its answers, of all ranks.
    """

    def __init__(
        self,
        model: GPT,
        engine: Engine,
        task: Task | Sequence[Conversation],
        config: RolloutConfig,
        world: DistContext,
        seed: int,
        micro_tokens: int,
        *,
        one_shape: bool = False,
        reference: GPT | None = None,
    ):
        """`micro_tokens` bounds a micro-batch; `one_shape` pads all of them alike, for compiled
        models. `reference` is needed by `kl`.

        Raises RecipeError when the questions of a step do not divide over the ranks, DataError when
        no question fits the context.
        """
        if config.questions_per_step % world.size:
            what = (
                f"{config.questions_per_step} questions a step do not divide over {world.size}"
                " processes."
            )
            raise RecipeError(what, "Change rl.questions_per_step or their number.")
        self.model, self.engine, self.config, self.world, self.seed = (
            model,
            engine,
            config,
            world,
            seed,
        )
        self.task, self.reference, self.micro_tokens = task, reference, micro_tokens
        self.longest = engine.context
        self.width_step = (
            -(-self.longest // config.pad_to_multiple_of) * config.pad_to_multiple_of
            if one_shape
            else config.pad_to_multiple_of
        )
        self.one_shape = one_shape
        prompts = [tuple(render_prompt(engine.tokenizer, question.prompt)) for question in task]
        self.usable = [i for i, prompt in enumerate(prompts) if len(prompt) < engine.context]
        self.prompts = prompts
        if not self.usable:
            where = getattr(task, "name", "the mixture")
            raise DataError(
                f"No question of {where} fits the model's context of {engine.context} tokens.",
                "Choose a longer context.",
            )

    @property
    def left_out(self) -> int:
        """Questions that are too long for the context."""
        return len(self.prompts) - len(self.usable)

    @property
    def anchored(self) -> bool:
        """Whether the loss refers to the weights before the step, or to the reference."""
        return bool(self.config.method.clip_high or self.config.kl)

    def question(self, place: int) -> int:
        """Which question of the task stands at a place of the run."""
        epoch, row = divmod(place, len(self.usable))
        return self.usable[int(seeded_order(len(self.usable), self.seed, epoch)[row])]

    def steps(self, state: dict[str, Any] | None = None) -> Iterator[Step]:
        """Without end, from the beginning or from the state after a step."""
        state = state or {"place": 0, "update": 0}
        place, update = state["place"], state["update"]
        while True:
            metrics: dict[str, float] = {}
            if update:  # in the middle of several updates: their answers were kept
                held = [[Rollout(**saved) for saved in group] for group in state["rollouts"]]
                groups = held[self.world.rank :: self.world.size]
            else:
                groups, metrics = self._roll_out(place)
                held = self._gathered(groups) if self.config.updates > 1 else []
            rollouts = [rollout for group in groups for rollout in group]
            micro = tuple(self._micro(part) for part in self._parts(self._used(rollouts)))
            count = self._divisor(groups)
            tokens = int(
                self.world.all_reduce_scalars(
                    [float(sum(len(rollout.ids) for rollout in rollouts))], self.engine.device
                )[0]
            )
            for at in range(update, self.config.updates):
                if at + 1 < self.config.updates:
                    after = {
                        "place": place,
                        "update": at + 1,
                        "rollouts": [[vars(rollout) for rollout in group] for group in held],
                    }
                else:
                    after = {"place": place + self.config.questions_per_step, "update": 0}
                yield Step(
                    micro, count, after, f"{place}:{at}", tokens, metrics if at == update else {}
                )
            place, update = place + self.config.questions_per_step, 0

    def _used(self, rollouts: list[Rollout]) -> list[Rollout]:
        """Those that have a gradient."""
        return rollouts if self.config.kl else [each for each in rollouts if each.advantage]

    def _divisor(self, groups: list[list[Rollout]]) -> int:
        """What this rank's part of the loss is divided by, with those of the others."""
        method = self.config.method
        if method.skip_equal and not self.config.kl:
            groups = [group for group in groups if any(each.advantage for each in group)]
        counts = [each.count for group in groups for each in group]
        return len(counts) * self.config.max_tokens if method.constant_length else sum(counts)

    def _roll_out(self, place: int) -> tuple[list[list[Rollout]], dict[str, float]]:
        """This rank's groups of the step at a place, and what to log of all ranks' together."""
        config = self.config
        self.engine.load_weights(self.model)
        share = range(place + self.world.rank, place + config.questions_per_step, self.world.size)
        requests, questions = [], [self.question(at) for at in share]
        for at, question in zip(share, questions, strict=True):
            for sample in range(config.samples):
                sampling = SamplingParams(
                    config.temperature,
                    config.top_k,
                    seed=sample_seed(self.seed, at, sample),
                    max_tokens=config.max_tokens,
                )
                requests.append(Request(self.prompts[question], sampling))
        completions = iter(self.engine.generate(requests))
        groups = []
        for question in questions:
            answers = [next(completions) for _ in range(config.samples)]
            rewards = self._rewards(self.task[question], answers)
            worth = advantages(rewards, config.method.normalize)
            prompt = self.prompts[question]
            groups.append(
                [
                    rollout(prompt, answer, *each)
                    for answer, each in zip(answers, zip(worth, rewards, strict=True), strict=True)
                ]
            )
        if self.anchored:
            groups = self._with_old(groups)
        return groups, self._metrics(groups)

    def _rewards(self, question: Conversation, answers: Sequence[Completion]) -> list[float]:
        assert isinstance(self.task, Task)
        return [judge(self.engine.tokenizer, self.task, question, answer) for answer in answers]

    def _with_old(self, groups: list[list[Rollout]]) -> list[list[Rollout]]:
        """The same rollouts with the log-probabilities that the training model gives them before it
        learns from them.
        """
        flat = [rollout for group in groups for rollout in group]
        old: dict[int, list[float]] = {}
        for part in self._parts(flat):
            batch = self._plain(part)
            logprobs = self._score(self.model, batch)
            for b, each in enumerate(part):
                old[id(each)] = logprobs[b][batch.targets[b] != IGNORE].tolist()
        return [[replace(each, old=old[id(each)]) for each in group] for group in groups]

    @torch.no_grad()
    def _score(self, model: GPT, batch: PolicyBatch) -> np.ndarray:
        """(B, T) log-probabilities of a batch's targets."""
        inputs, targets, places = (
            torch.from_numpy(array).to(self.engine.device)
            for array in (batch.inputs, batch.targets, batch.places)
        )
        return model.logprobs(inputs, targets, places).float().cpu().numpy()

    def _metrics(self, groups: list[list[Rollout]]) -> dict[str, float]:
        flat = [rollout for group in groups for rollout in group]
        equal = sum(not any(rollout.advantage for rollout in group) for group in groups)
        totals = [
            sum(each.reward for each in flat),
            len(flat),
            equal,
            len(groups),
            sum(each.count for each in flat),
        ]
        if self.config.kl:
            totals.append(self._divergence(flat))
        reward, answers, alike, questions, sampled, *divergence = self.world.all_reduce_scalars(
            [float(x) for x in totals], self.engine.device
        )
        found = {
            "reward": reward / answers,
            "equal_groups": alike / questions,
            "answer_tokens": sampled / answers,
        }
        if divergence:
            found["kl"] = divergence[0] / max(sampled, 1.0)
        return found

    def _divergence(self, rollouts: list[Rollout]) -> float:
        """Sum over the sampled tokens of log p - log p_reference: an unbiased estimate, before the
        update.
        """
        total = 0.0
        for part in self._parts(rollouts):
            batch = self._micro(part)
            assert isinstance(batch, AnchoredBatch)
            total += float((batch.old - batch.reference).sum())
        return total

    def _gathered(self, groups: list[list[Rollout]]) -> list[list[Rollout]]:
        """The groups of all ranks in the order of their questions."""
        shares = self.world.gather(groups)
        return [group for each in zip(*shares, strict=True) for group in each]

    def _parts(self, rollouts: Sequence[Rollout]) -> Iterator[list[Rollout]]:
        """Micro-batches of answers alike in length, the longest first, so that memory runs out at
        once or not at all.
        """
        left = sorted(rollouts, key=lambda each: -len(each.ids))
        while left:
            rows = max(1, self.micro_tokens // self._width(left))
            yield left[:rows]
            left = left[rows:]

    def _width(self, part: Sequence[Rollout]) -> int:
        return -(-(len(part[0].ids) - 1) // self.width_step) * self.width_step

    def _plain(self, part: Sequence[Rollout]) -> PolicyBatch:
        width = self._width(part)
        rows = max(1, self.micro_tokens // width) if self.one_shape else len(part)
        inputs = np.full((rows, width), self.engine.tokenizer.bos, np.int32)
        targets = np.full((rows, width), IGNORE, np.int64)
        worth = np.zeros(rows, np.float32)
        for b, each in enumerate(part):
            length = len(each.ids) - 1
            inputs[b, :length] = each.ids[:-1]
            targets[b, :length] = np.where(each.loss_mask[1:], each.ids[1:], IGNORE)
            worth[b] = each.advantage
        return PolicyBatch(inputs, targets, worth, np.flatnonzero(targets != IGNORE))

    def _micro(self, part: Sequence[Rollout]) -> PolicyBatch:
        batch = self._plain(part)
        if not self.anchored:
            return batch
        old = np.zeros(batch.targets.shape, np.float32)
        for b, each in enumerate(part):
            old[b, batch.targets[b] != IGNORE] = each.old
        reference = old if self.reference is None else self._score(self.reference, batch)
        return AnchoredBatch(**vars(batch), old=old, reference=reference)


def rollout(prompt: Sequence[int], answer: Completion, advantage: float, reward: float) -> Rollout:
    """What is trained on of an answer: its sampled tokens and the one that closed it; neither the
    prompt nor what the calculator put in.
    """
    closing = [] if answer.closing is None else [answer.closing]
    loss_mask = [
        *[False] * len(prompt),
        *(not injected for injected in answer.injected),
        *[True] * len(closing),
    ]
    return Rollout([*prompt, *answer.ids, *closing], loss_mask, advantage, reward)
