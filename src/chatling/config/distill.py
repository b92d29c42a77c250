"""The `[distill]` table: what a larger run of one's own teaches a smaller one."""

import os
from dataclasses import field, replace
from typing import Annotated, ClassVar

from chatling.config.stages import LaterStageConfig
from chatling.fields import (
    Count,
    CountOrZero,
    Epochs,
    Flag,
    Rate,
    Text,
    Width,
    absolute,
    bounded,
    config,
)
from chatling.model.losses import PolicyVariant
from chatling.run_dir import STAGES


@config
class DistillConfig(LaterStageConfig):
    """The `[distill]` table. The model answers questions of SFT's mixture, and a teacher says of
    each token how likely it and all others were.
    """

    teacher: Text
    """A run with the same tokenizer: its name or folder, and after a slash a stage; without one,
    the most advanced.
    """
    questions: Count = 4_000
    """How many are drawn from the mixture of [sft]."""
    questions_per_step: Count = 32
    """On all processes."""
    samples: Epochs = 1
    """Answers to each question."""
    temperature: Annotated[float, bounded(gt=0, le=100)] = 1.0
    """Of the sampling."""
    top_k: CountOrZero = 0
    """The likeliest tokens that are sampled from; 0: all."""
    max_tokens: Annotated[int, bounded(ge=1, le=2**20)] = 256
    """Sampled tokens of an answer."""
    learning_rate_fraction: Rate = field(default=0.1, kw_only=True)
    matrices_only: Flag = False
    """Embeddings, head and scales stay as they are."""
    steps: Count | None = None
    """The length, instead of epochs."""
    max_batch_size: Width = 256
    """Answers decoded at once."""
    evaluate_every: CountOrZero = field(default=60, metadata={"inert": True})
    """Steps between evaluations; 0: only in the end."""
    evaluate_questions: Count = field(default=64, metadata={"inert": True})
    """Held-out questions of an evaluation."""
    save_every: CountOrZero = field(default=20, metadata={"inert": True})
    """Steps between checkpoints; 0: only in the end."""

    # as rollouts ask: each answer is learned from once, and all of them
    updates: ClassVar[int] = 1
    kl: ClassVar[float] = 0.0
    method: ClassVar[PolicyVariant] = PolicyVariant()

    def anchored(self) -> "DistillConfig":
        """With the path of a folder made absolute."""
        run, slash, stage = self.run_and_stage
        found = os.path.isdir(os.path.expanduser(run))
        return replace(self, teacher=f"{absolute(run)}{slash}{stage}") if found else self

    @property
    def run_and_stage(self) -> tuple[str, str, str]:
        """(run, "/" or "", stage or "")."""
        run, slash, stage = self.teacher.rpartition("/")
        return (run, slash, stage) if run and stage in STAGES else (self.teacher, "", "")
