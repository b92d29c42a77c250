"""What tests of the training loop share: a run's weights, and an end before its time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from chatling.train.trainer import Trainer

Make = Callable[..., Trainer]


def weights(trainer: Trainer) -> list[Tensor]:
    return [p.detach().clone() for p in trainer.model.parameters()]


def same(a: Trainer, b: Trainer) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def stop_after(trainer: Trainer, steps: int) -> Trainer:
    """Make the trainer die (as by a bug) after some steps."""
    inner, calls = trainer.loss, [0]

    def loss(**tensors: Tensor) -> tuple[Tensor, Tensor]:
        calls[0] += 1
        if calls[0] > steps * 4:  # four micro-batches a step
            raise ZeroDivisionError
        return inner(**tensors)

    trainer.loss = loss
    return trainer
