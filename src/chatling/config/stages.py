"""The recipe's tables of training: the loop and the machine, and one table a stage."""

from __future__ import annotations

import os
from dataclasses import field, replace
from typing import Annotated, Literal

from chatling.errors import RecipeError
from chatling.fields import (
    BatchTokens,
    Count,
    CountOrZero,
    Epochs,
    Flag,
    Fraction,
    GradientNorm,
    Rate,
    Text,
    Tokens,
    Weight,
    Width,
    absolute,
    bounded,
    config,
)
from chatling.model.adapter import AdapterConfig
from chatling.model.attention import Kernel
from chatling.model.losses import POLICY_VARIANTS, PolicyVariant
from chatling.tasks.registry import Split, check_task, expected_length
from chatling.toy.dataset import BUILT_IN

TrackerName = Literal["none", "tensorboard", "trackio", "wandb", "swanlab"]
Money = Annotated[float, bounded(ge=0, le=10**9)]  # or watts


@config
class OriginConfig:
    """The `[origin]` table: a model from elsewhere, which stands for tokenizer, base and mid."""

    source: Text
    """A folder, a run, or OWNER/NAME on the Hub; its shape takes the place of [model]."""
    sha256: (
        Annotated[str, bounded(pattern="^[0-9a-f]{64}$", title="64 hexadecimal digits")] | None
    ) = None
    """Of tokenizer and weights; empty: written when they are first read."""
    stage: Literal["base", "extend", "mid", "sft", "distill", "dpo", "rl"] | None = None
    """Of a run, the stage whose model it is; empty: the most advanced one."""

    def anchored(self) -> OriginConfig:
        found = os.path.isdir(os.path.expanduser(self.source))
        return replace(self, source=absolute(self.source)) if found else self


@config
class LoopConfig:
    """The `[loop]` table: when to save and evaluate."""

    save_every: CountOrZero = field(default=500, metadata={"inert": True})
    """Steps between checkpoints; 0: only at the end."""
    evaluate_every: CountOrZero = field(default=250, metadata={"inert": True})
    """Steps between validations; 0: only at the end."""
    keep: Annotated[int, bounded(ge=1, le=10_000)] = field(default=2, metadata={"inert": True})
    """Newest checkpoints kept; the best by validation is kept besides."""
    tracker: TrackerName = field(default="none", metadata={"inert": True})
    """Gets the lines of `metrics.jsonl` besides, offline."""


@config
class MachineConfig:
    """The `[machine]` table: what is otherwise chosen by measuring."""

    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    """What computes."""
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """Of the matrix products."""
    kernel: Literal["auto", Kernel] = "auto"
    """Of attention."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the model is compiled."""
    fp8: Literal["off", "auto"] = "off"
    """auto: base and extend train in it where a probe finds it right and faster."""
    threads: Annotated[int, bounded(ge=0, le=1024)] = 0
    """On a processor; 0: all cores."""
    rows: Annotated[int, bounded(ge=0, le=2**20)] = 0
    """Of a micro-batch; 0: as many as fit."""
    deterministic: bool = False
    """The same bits each time on a GPU, too, where some steps are then slower."""
    shard: bool = False
    """Spread the weights of the blocks over the processes (FSDP), for models that no device trains
    whole: in base, and where rows are packed.
    """
    watts: Money | None = None
    """What the machine draws while it trains, for the report's energy."""
    price_per_hour: Money | None = None
    """What an hour of the machine costs, for the report."""


@config
class BaseConfig:
    """The `[base]` table. The length is the first one given of steps, tokens, tokens_per_parameter;
    else the preset's rule.
    """

    steps: Count | None = None
    """The length in steps; of the three lengths the first one given counts."""
    tokens: Tokens | None = None
    """The length in tokens."""
    tokens_per_parameter: Annotated[float, bounded(gt=0, le=10**6)] | None = None
    """The length in tokens for each parameter. With none of the three: classic 20, modern 12 for
    each of the matrices and the head.
    """
    batch_tokens: BatchTokens | None = None
    """Of a whole step, on all processes; a multiple of the context. Empty: classic 524,288, modern
    by the size of the model.
    """
    warmup: CountOrZero | None = None
    """Steps, at most a quarter of all; empty: classic 0, modern 40."""
    warmdown: Fraction | None = None
    """Fraction of the steps; empty: classic 0.2, modern 0.65."""
    final: Fraction | None = None
    """Learning rate at the end, a fraction; empty: classic 0, modern 0.05."""
    validation_tokens: Tokens = 10_485_760
    """Measured at each validation, at most one epoch of the validation file."""


@config
class LaterRates:
    """The rates of a stage after base."""

    learning_rate_fraction: Rate = field(default=1.0, kw_only=True)
    """Of the base stage's rates; usual: mid 1, sft 0.02, dpo 0.01, rl 0.05."""
    warmup: CountOrZero = field(default=0, kw_only=True)
    """Steps, at most a quarter of all."""
    warmdown: Fraction = field(default=1.0, kw_only=True)
    """Fraction of the steps."""
    gradient_clip: GradientNorm | None = field(default=None, kw_only=True, metadata={"later": True})
    """Largest gradient norm in this stage, 0 is off; empty: [optim] clip."""
    momentum: Fraction | None = field(default=None, kw_only=True, metadata={"later": True})
    """Muon's momentum throughout this stage; empty: it rises from 0.85 to 0.95 over 300 steps."""


@config
class LaterStageConfig(LaterRates):
    """What the tables of the stages that learn from conversations share."""

    epochs: Epochs = field(default=1, kw_only=True)
    """Times through the mixture, the pairs or the questions."""
    pad_to_multiple_of: Width = field(default=64, kw_only=True)
    """Conversations and answers are padded to multiples of this many tokens, when not packed."""
    adapter: AdapterConfig | None = field(default=None, kw_only=True, metadata={"later": True})
    """The model below is frozen, and adapters learn; without the table, the model itself does."""


@config
class MixtureEntry:
    """One part of a mixture. `epochs` times `count` conversations are taken."""

    task: Text
    """A task by name, the path of a file of conversations, or a built-in world ("pocket")."""
    epochs: Annotated[int, bounded(ge=0, le=10_000)] = 1
    """How many times it is gone through."""
    count: CountOrZero | None = None
    """Conversations taken each time, empty: all; a random part of data; of what is generated, so
    many are.
    """
    split: Split | None = None
    """Empty: "train" in mixtures and "validation" in validation sets."""
    subset: Text | None = None
    """A named part of the data set, where it has such."""

    def check(self, split: Split) -> None:
        """Raises RecipeError for what can be told to be wrong without looking at data; `split` is
        the one taken when none is named.
        """
        if self.task not in BUILT_IN:
            check_task(self.task, self.split or split, self.subset)

    @property
    def is_file(self) -> bool:
        return self.task not in BUILT_IN and expected_length(self.task, "test") is None

    @property
    def expected(self) -> int | None:
        """Conversations that it comes to, when its data are complete; None where only the file can
        tell.
        """
        made = BUILT_IN.get(self.task)
        length = (
            made.conversation_count if made else expected_length(self.task, self.split or "train")
        )
        each = length if self.count is None else self.count
        return None if each is None else each * self.epochs

    def anchored(self) -> MixtureEntry:
        """With the path of a file made absolute, so that it means the same from another working
        directory.
        """
        path = absolute(self.task)
        return replace(self, task=path) if self.is_file and os.path.exists(path) else self


@config
class FinetuneConfig(LaterStageConfig):
    """The `[mid]` or `[sft]` table."""

    mixture: tuple[MixtureEntry, ...]
    """What is trained on: a list of `{task = …, epochs = …, count = …, split = …, subset = …}`."""
    packed: Flag = False
    """true (the default of `[mid]`): rows packed end to end, all tokens trained on. false (that of
    `[sft]`): whole conversations, padded, only the assistant's tokens trained on.
    """
    answers_only: Flag = field(default=False, metadata={"later": True})
    """When packed, too, only the assistant's tokens are trained on."""
    batch_tokens: BatchTokens = 524_288
    """Of a step, when packed."""
    batch_conversations: Count = 32
    """Of a step, when not packed."""
    validation: tuple[MixtureEntry, ...] = ()
    """A validation set of its own, a list like the mixture; empty: what the mixture's parts hold
    out.
    """
    validation_conversations: Count = 500
    """In all, when there is no `validation` list."""

    def __post_init__(self) -> None:
        """Raises RecipeError for an empty mixture and tasks that there are not."""
        if not self.mixture:
            raise RecipeError(
                "The mixture of [mid] or [sft] is empty.",
                'Write for example mixture = [{task = "pocket", count = 1000}].',
            )
        if not self.validation and self.validation_conversations < len(self.mixture):
            raise RecipeError(
                "validation_conversations must be at least 1 for each entry of the mixture.",
                "Raise it.",
            )
        for entry in self.mixture:
            entry.check("train")
        for entry in self.validation:
            entry.check("validation")

    @property
    def held_out(self) -> tuple[MixtureEntry, ...]:
        """What is validated on: its own set, or what the parts of the mixture hold out."""
        return self.validation or tuple(
            replace(entry, epochs=1, split=None) for entry in self.mixture
        )

    def anchored(self) -> FinetuneConfig:
        """With the paths of its own files made absolute."""
        mixture, validation = (
            tuple(entry.anchored() for entry in entries)
            for entries in (self.mixture, self.validation)
        )
        return replace(self, mixture=mixture, validation=validation)


@config
class DPOConfig(LaterStageConfig):
    """The `[dpo]` table."""

    data: Text
    """A built-in world ("pocket"), a file or folder of preference pairs, or a data set of the Hub
    as OWNER/NAME.
    """
    pairs: Count | None = None
    """How many to make of the pocket world; empty: 1,200."""
    beta: Annotated[float, bounded(gt=0, le=1_000)] = 0.1
    """The price of moving away from the model that DPO began with (the KL constraint)."""
    label_smoothing: Annotated[float, bounded(ge=0, lt=0.5)] = 0.0
    """Share of the labels that may be wrong (cDPO)."""
    length_normalize: Flag = False
    """Mean log-probability of an answer instead of the sum, so that length does not count."""
    sft_loss_weight: Weight = 0.0
    """Weight of the chosen answers' next-token loss, for answers the model would never give by
    itself.
    """
    learning_rate_fraction: Rate = field(default=0.01, kw_only=True)
    matrices_only: Flag = False
    """Embeddings, head and scales stay as they are, which keeps other skills."""
    batch_pairs: Count = 32
    """Of a step, on all processes."""
    validation_pairs: Count = 500
    """At most, of those held out."""
    evaluate_every: CountOrZero = field(default=50, metadata={"inert": True})
    """Steps between validations; 0: only in the end."""
    watch: tuple[Text, ...] = field(default=(), metadata={"later": True})
    """Chat tasks whose held-out questions must not be lost, as in `eval.chat`: where they are, the
    finished model goes back towards the one that DPO began with.
    """
    watch_questions: Count = field(default=400, metadata={"later": True})
    """Of all watched tasks together."""
    watch_loss: Fraction = field(default=0.03, metadata={"later": True})
    """Of their accuracy, how much may be lost."""

    def anchored(self) -> DPOConfig:
        """With the path of a file or folder made absolute, so that it means the same from another
        working directory.
        """
        path = absolute(self.data)
        return (
            replace(self, data=path) if self.data not in BUILT_IN and os.path.exists(path) else self
        )


@config
class RLConfig(LaterStageConfig):
    """The `[rl]` table."""

    task: Text = "GSM8K"
    """Any task with a reward; "pocket" is the built-in world's hard arithmetic."""
    questions: Count | None = None
    """How many to make or use of the task; empty: all there are."""
    questions_per_step: Count = 16
    """On all processes."""
    samples: Annotated[int, bounded(ge=2, le=10_000)] = 16
    """Answers to each question: a group, in which each is judged against the others."""
    temperature: Annotated[float, bounded(gt=0, le=100)] = 1.0
    """Of the sampling."""
    top_k: CountOrZero = 50
    """The likeliest tokens that are sampled from; 0: all."""
    max_tokens: Annotated[int, bounded(ge=1, le=2**20)] = 256
    """Sampled tokens of an answer."""
    learning_rate_fraction: Rate = field(default=0.05, kw_only=True)
    interpolation: Annotated[float, bounded(gt=0, le=1)] = 1.0
    """How far the finished model goes from where RL began to where it ended; below 1 keeps more of
    the rest.
    """
    matrices_only: Flag = False
    """Embeddings, head and scales stay as they are, which keeps other skills."""
    replay: Weight = 0.0
    """Weight of the next-token loss of a step of SFT's conversations beside each step, which keeps
    other skills.
    """
    steps: Count | None = None
    """The length, instead of epochs."""
    normalize_advantage: Flag = field(default=False, metadata={"hashed_as": "normalise_advantage"})
    """Divide by the group's standard deviation."""
    kl: Weight = 0.0
    """Weight of the divergence from the model that RL began with."""
    variant: Literal["reinforce", "dapo", "dr_grpo", "cispo"] = field(
        default="reinforce", metadata={"later": True}
    )
    """The published method that loss and advantages follow."""
    clip: Annotated[float, bounded(ge=0, lt=1)] = 0.0
    """Keep probability ratios in 1 ± clip; for several updates. 0: the variant's own; dapo and
    dr_grpo 0.2, the others none.
    """
    clip_high: Annotated[float, bounded(gt=0, le=1_000)] | None = field(
        default=None, metadata={"later": True}
    )
    """Keep them below 1 + this instead; empty: dapo and cispo 0.28, the others as `clip`."""
    updates: Epochs = 1
    """Passes over each step's answers; above 1 wants a clip."""
    max_batch_size: Width = 256
    """Answers decoded at once."""
    evaluate_every: CountOrZero = field(default=60, metadata={"inert": True})
    """Steps between evaluations; 0: only in the end."""
    evaluate_questions: Count = field(default=400, metadata={"inert": True})
    """Questions of an evaluation."""
    evaluate_samples: Epochs = field(default=8, metadata={"inert": True})
    """Answers to each question then: pass@1 to pass@ this."""
    save_every: CountOrZero = field(default=20, metadata={"inert": True})
    """Steps between checkpoints; 0: only in the end."""

    def __post_init__(self) -> None:
        """Raises RecipeError for settings that the variant has no use for."""
        if self.variant == "dr_grpo" and self.normalize_advantage:
            raise RecipeError(
                "rl.variant dr_grpo is the one that does not divide by the standard deviation.",
                "Leave rl.normalize_advantage out, or choose another variant.",
            )
        if self.variant == "cispo" and self.clip:
            raise RecipeError(
                "rl.variant cispo has no lower bound, so rl.clip means nothing there.",
                "Set rl.clip_high instead.",
            )
        if self.variant == "reinforce" and self.clip_high and not self.clip:
            raise RecipeError(
                "rl.clip_high is the upper bound beside rl.clip, which is 0.",
                "Set rl.clip, for example 0.2.",
            )
        if self.updates > 1 and not self.method.clip_high:
            raise RecipeError(
                "rl.updates above 1 learn from answers of older weights, which wants rl.clip.",
                "Set rl.clip, for example 0.2.",
            )

    @property
    def method(self) -> PolicyVariant:
        """The variant, with what the table says of its bounds and its advantages."""
        known = POLICY_VARIANTS[self.variant]
        clip = self.clip or known.clip
        return replace(
            known,
            clip=clip,
            clip_high=self.clip_high or known.clip_high or clip,
            normalize=known.normalize or self.normalize_advantage,
        )
