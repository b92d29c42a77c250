"""A step of SFT's conversations beside every step of another kind of learning, so that what was
known stays known (PPO-ptx of InstructGPT, arXiv 2203.02155).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chatling.config.stages import FinetuneConfig
from chatling.data.loaders import MicroBatch, Step, StepSource
from chatling.hardware.distributed import DistContext
from chatling.model.gpt import GPT
from chatling.train.batch_sources import finetune_batches
from chatling.train.context import Context
from chatling.train.stage_base import Job, Stage
from chatling.train.trainer import Loss


@dataclass(frozen=True)
class Replay:
    """What is seen again: SFT's table, which says how many conversations a step takes, and the
    shards it was trained on.
    """

    config: FinetuneConfig
    shards: Path

    @staticmethod
    def of(job: Job) -> Replay | None:
        """None when the recipe has no SFT."""
        config = job.recipe.sft
        return None if config is None else Replay(config, job.shards(_replayed(job).name, "train"))


@dataclass(frozen=True)
class ReplayBatch(MicroBatch):
    """Conversations that SFT has seen before."""

    weights: np.ndarray  # (1,) float32: what each token's loss counts


@dataclass(frozen=True)
class Replayed:
    """The steps of `source`, each with a step of `conversations`, whose mean next-token loss counts
    `weight` times the source's mean loss.

    Made on all ranks together: never prefetch them.
    """

    source: StepSource
    conversations: StepSource
    weight: float
    world: DistContext
    device: torch.device

    def steps(self, state: dict[str, Any] | None = None) -> Iterator[Step]:
        """Without end, from the beginning or from the state after a step."""
        state = state or {"source": None, "replay": None}
        beside = self.conversations.steps(state["replay"])
        for step in self.source.steps(state["source"]):
            known = next(beside)
            count, known_count = self.world.all_reduce_scalars(
                [float(step.count), float(known.count)], self.device
            )
            weights = np.array([self.weight * count / max(known_count, 1.0)], np.float32)
            micro = (
                *step.micro_batches,
                *(
                    ReplayBatch(batch.inputs, batch.targets, weights)
                    for batch in known.micro_batches
                ),
            )
            after = {"source": step.state, "replay": known.state}
            yield replace(step, micro_batches=micro, state=after, tokens=step.tokens + known.tokens)


def prepare_replay(job: Job) -> None:
    """The shards were written before; what is damaged is written again."""
    _replayed(job).prepare(job)


def _replayed(job: Job) -> Stage:
    """The stage whose table is [sft]."""
    return next(stage for stage in job.stages if stage.config(job.recipe) is job.recipe.sft)


def with_replay(
    context: Context,
    model: GPT,
    batches: StepSource,
    loss: Loss,
    weight: float,
    replay: Replay | None,
) -> tuple[StepSource, Loss]:
    """A stage's batches and loss with SFT's conversations beside them."""
    assert replay is not None, "a recipe with rl.replay has an [sft]"
    conversations = finetune_batches(context, replay.config, replay.shards, model.config)

    def either(weights: Tensor | None = None, **tensors: Tensor) -> tuple[Tensor, Tensor]:
        if weights is None:
            return loss(**tensors)
        value, count = model.loss(**tensors)
        return value * weights[0], count

    return Replayed(batches, conversations, weight, context.world, context.device), either
