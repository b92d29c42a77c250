"""A tiny corpus of token shards and the pieces of a trainer over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chatling.config.stages import LoopConfig
from chatling.data.loaders import PretrainBatches
from chatling.data.packing import PackedRows
from chatling.data.shard_writer import write_conversation_shards
from chatling.data.token_shards import TokenShards
from chatling.evals.samples import Sample
from chatling.hardware.distributed import DistContext
from chatling.model.config import ModelRecipe
from chatling.model.gpt import GPT
from chatling.optim.param_groups import OptimConfig, Optimizer, resolve_optim
from chatling.optim.schedule import Schedule
from chatling.tokenizer.chat_template import Rendered
from chatling.train.trainer import Trainer

VOCABULARY, CONTEXT, BOS = 61, 24, 60


class Silent:
    """A progress that keeps what it was told."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.activities: list[tuple[str, int, int]] = []
        self.lines: list[dict[str, Any]] = []
        self.said: list[Sequence[Sample]] = []

    def start(self, stage: str, steps: int, done: int) -> None:
        self.started = (stage, steps, done)

    def step(self, metrics: dict[str, Any]) -> None:
        self.lines.append(metrics)

    def message(self, text: str) -> None:
        self.messages.append(text)

    def activity(self, name: str, done: int = 0, total: int = 0) -> None:
        self.activities.append((name, done, total))

    def samples(self, found: Sequence[Sample]) -> None:
        self.said.append(found)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    """200 documents in which each token follows from the one before, so that there is something to
    learn.
    """
    generator = np.random.default_rng(0)
    documents = []
    for _ in range(200):
        start, step, length = (
            generator.integers(0, 60),
            generator.integers(1, 4),
            generator.integers(3, 40),
        )
        ids = [BOS, *((start + step * np.arange(length)) % 60).tolist()]
        documents.append(Rendered(ids, [False] + [True] * int(length)))
    return write_conversation_shards(
        tmp_path_factory.mktemp("corpus") / "shards", documents, VOCABULARY, fingerprint="test"
    )


@pytest.fixture
def trainer(corpus: TokenShards) -> Callable[..., Trainer]:
    """Make a trainer in a folder; the same arguments give the same training."""

    def make(
        folder: Path,
        *,
        steps: int = 12,
        save_every: int = 4,
        dtype: torch.dtype = torch.float32,
        **changes: Any,
    ) -> Trainer:
        model = GPT(
            ModelRecipe(depth=2, width=32, head_width=16, context=CONTEXT).resolve(VOCABULARY),
            compute_dtype=dtype,
        )
        model.initialize(torch.Generator().manual_seed(0))
        model.to(dtype)
        world = changes.get("world", DistContext())
        optimizer = Optimizer(
            model,
            resolve_optim(OptimConfig(), "classic", 32, 192, 1, 0),
            world,
            torch.float32,
        )
        batches = PretrainBatches(PackedRows(corpus, CONTEXT, BOS, 7), 8, 2, world.rank, world.size)
        parts: dict[str, Any] = {
            "name": "base",
            "folder": folder,
            "model": model,
            "optimizer": optimizer,
            "schedule": Schedule(steps),
            "batches": batches,
            "loss": model.loss,
            "evaluate": lambda: {"val_loss": 1.0},
            "config": LoopConfig(save_every=save_every, evaluate_every=0),
            "world": world,
            "progress": Silent(),
        }
        return Trainer(**{**parts, **changes})

    return make
