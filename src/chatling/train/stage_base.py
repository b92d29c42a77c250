"""A stage: one object that the pipeline runs, checks, plans, downloads for and reports on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from chatling.config.recipe import Recipe
from chatling.config.stages import LaterRates, LoopConfig
from chatling.data.loaders import MicroBatch, StepSource
from chatling.evals.bpb import score_tokens
from chatling.hardware.detect import peak_memory
from chatling.hardware.distributed import DistContext, main_process_first
from chatling.model.adapter import AdaptedGPT, merged
from chatling.model.config import ModelConfig, adapter_parameters, model_memory
from chatling.model.gpt import GPT
from chatling.model.sharding import gathered_blocks, gathered_weights
from chatling.optim.param_groups import Optimizer
from chatling.optim.schedule import Momentum, Schedule
from chatling.run_dir import RunFolder
from chatling.train.adapter_files import save_adapter
from chatling.train.callbacks import LiveEvals
from chatling.train.charts import ACCURACY, BPB, LOSS, OPTIMIZATION, Chart
from chatling.train.checkpoint import save_model, whole_checkpoint
from chatling.train.context import Context, tensors
from chatling.train.datasets import Sources
from chatling.train.survey import Held, Survey
from chatling.train.trainer import Evaluate, Loss, Progress, Trainer

# what follows from another size of the micro-batches
OTHER_BITS = "the last bits of its results are others from here on"
ORIGIN = "origin"  # the stage that brings a model from elsewhere


class RunProgress(Progress, Protocol):
    """Who is told how a run goes."""

    def machine(self, flops_per_token: float, peak: float, expected: float) -> None: ...
    def stage_done(self, stage: str, seconds: float) -> None: ...


@dataclass(frozen=True)
class Job:
    """What a stage's work is given.

    `execution` holds the choices made by measuring, once `save_runtime` has stored them; `record`
    adds facts to the stage's entry in the state, and to this attempt's there.
    """

    recipe: Recipe
    folder: RunFolder
    world: DistContext
    progress: RunProgress
    execution: Mapping[str, Any]
    save_runtime: Callable[[Mapping[str, Any]], None]
    record: Callable[[Mapping[str, Any]], None]
    # of the whole pipeline
    stages: tuple[Stage, ...] = ()

    def shards(self, stage: str, split: str) -> Path:
        """The token shards of a stage's training or validation split."""
        return self.folder.data / f"{stage}-{split}"


@dataclass(frozen=True)
class StagePlan:
    """What a training stage needs. `steps` and `tokens` of fine-tuning are estimates, since
    conversations differ in length.
    """

    name: str
    tokens: int
    steps: int
    flops: float
    exact: bool
    conversations: int | None = None
    # bytes of token shards
    data: int = 0
    # tokens that are generated one after another, in how many answers at once, and the part of
    # `flops` that this is
    decoded: float = 0.0
    decode_rows: int = 1
    decode_flops: float = 0.0


@dataclass(frozen=True)
class Use:
    """How often a stage goes through some data of one's own."""

    stage: str
    name: str
    unit: str
    held: Held
    # that the data hold, an estimate
    tokens: float
    epochs: float


@dataclass(frozen=True)
class StepShare:
    """What a step holds of one unit, by the recipe's key: the processes share it evenly."""

    key: str
    unit: str
    count: int


class Stage:
    """A node of the pipeline. `work` must resume where a broken attempt stopped, and leave each
    output as a whole folder.
    """

    # the stages before it; those of them that are enabled count
    requires: tuple[str, ...] = ()
    # folders with a manifest, relative to the run, that exist when it is done
    outputs: tuple[str, ...] = ()
    # what else it writes there
    scratch: tuple[str, ...] = ()
    # what it writes there and would write alike when it runs again
    data: tuple[str, ...] = ()
    # whether all processes work; otherwise the first one does and the others wait
    every_rank: bool = False
    # the report's figures of its metrics
    charts: tuple[Chart, ...] = ()
    # whether a token costs the same everywhere, so that FLOPs a second can be told
    even_cost: bool = False
    # whether a model from elsewhere stands for it
    imported: bool = False
    # whether its model answers; otherwise it continues texts, and is scored on CORE
    chats: bool = False

    def __init__(self, name: str, field: str | None = None):
        """`field` is its table in the recipe; without one there, it does not run."""
        self.name, self.field = name, field

    def config(self, recipe: Recipe) -> Any:
        """Its table; None where the recipe has none."""
        return getattr(recipe, self.field) if self.field else None

    def enabled(self, recipe: Recipe) -> bool:
        if self.imported and recipe.origin is not None:
            return False
        return self.field is None or self.config(recipe) is not None

    # ---- running ----

    def fingerprint_inputs(self, recipe: Recipe) -> Any:
        """What its result depends on, besides the stages before it."""
        return recipe.seed, self.config(recipe)

    def inputs(self, before: Sequence[Stage]) -> tuple[str, ...]:
        """The names of the stages whose results it needs, of those before it."""
        return self.requires

    def prepare(self, job: Job) -> None:
        """What the first process does beforehand; quick when it was done before."""

    def work(self, job: Job) -> None:
        raise NotImplementedError

    def lighten(self, job: Job, rows: int) -> bool:
        """Choose to work with less memory, after it ran out for a micro-batch of so many rows (0:
        for something else), and say so; False where there is no way.
        """
        return False

    def can_remake(self, folder: RunFolder, entry: Mapping[str, Any]) -> bool:
        """Whether a damaged output is cheap to make again."""
        return True

    # ---- what is known before it runs ----

    def shape(self, recipe: Recipe, model: ModelConfig) -> ModelConfig:
        """The shape of the model that it leaves, of the one that it begins with."""
        return model

    def check(self, recipe: Recipe, model: ModelConfig) -> None:
        """Raises RecipeError or DataError for what can be told to fail without looking at data."""

    def step_share(self, recipe: Recipe, model: ModelConfig) -> StepShare | None:
        """What the processes share in each step."""
        return None

    def survey(self, recipe: Recipe, seen: Survey) -> Survey:
        """With what its data of one's own hold. Raises DataError for what it could not use."""
        return seen

    def notes(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> Iterator[str]:
        """What looks wrong. Raises DataError where surely nothing is left to learn."""
        return iter(())

    def fetch(self, recipe: Recipe, sources: Sources, note: Callable[[str], None]) -> None:
        """Have what it needs from the network besides the text."""

    def reads_text(self, run: RunFolder | None) -> bool:
        """Whether it still needs the corpus."""
        return False

    def plan(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> StagePlan | None:
        """What training needs; None for a stage that does not train."""
        return None

    def disk(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> int:
        """Bytes that it writes into the run folder."""
        return 0

    def uses(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> Iterator[Use]:
        """How often it goes through the data that were looked into."""
        return iter(())


class TrainingStage(Stage, ABC):
    """A stage that trains a model and leaves it in `<name>/model`."""

    every_rank = True
    charts: tuple[Chart, ...] = (LOSS, BPB, ACCURACY, *OPTIMIZATION)
    chats = True
    # how to go through the data less often
    fewer = "a smaller count or fewer epochs in the mixture"

    def __init__(self, name: str, seed_id: int, requires: tuple[str, ...]):
        """`seed_id` gives its data a seed of their own: another stage must not change it."""
        super().__init__(name, name)
        self.seed_id, self.requires = seed_id, requires
        self.outputs = (f"{name}/model",)
        kinds = ("samples.jsonl", "core.json", "chat.json", "bpb.json", "harness.json", "long.json")
        # the evaluations speak of a model that is no more
        self.scratch = (name, f"tracker/{name}", *(f"evals/{name}-{kind}" for kind in kinds))
        self.data = tuple(f"data/{name}-{split}" for split in ("train", "validation"))

    def fingerprint_inputs(self, recipe: Recipe) -> Any:
        return recipe.seed, recipe.optim, self.config(recipe)

    def lighten(self, job: Job, rows: int) -> bool:
        """With half the rows, from the newest checkpoint on."""
        recipe = job.recipe
        model = recipe.model.resolve(recipe.tokenizer.vocab_size)
        known = {stage.name: shape for stage, shape in shapes(job.stages, recipe, model)}
        context = known.get(self.name, model).context
        # what was chosen may be more than a step holds
        micro_tokens = min(job.execution.get("micro_tokens", 0), rows * context) // 2
        if micro_tokens < context:
            return False
        job.save_runtime({"micro_tokens": micro_tokens})
        job.progress.message(
            f"{self.name}: memory ran out with {rows} rows at a time. It goes on from its last"
            f" checkpoint with half of them ({micro_tokens:,} tokens), and {OTHER_BITS}."
        )
        return True

    def can_remake(self, folder: RunFolder, entry: Mapping[str, Any]) -> bool:
        """From the last checkpoint, without training again."""
        return isinstance(entry.get("steps"), int) and whole_checkpoint(
            folder.stage(self.name), entry["steps"]
        )

    @abstractmethod
    def plan(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> StagePlan: ...

    def rank(self, recipe: Recipe) -> int:
        """Of the adapters that learn; 0 where the model itself does."""
        adapter = getattr(self.config(recipe), "adapter", None)
        return adapter.rank if adapter else 0

    def is_sharded(self, recipe: Recipe) -> bool:
        """Whether processes share the blocks: all learn, in as many micro-batches on each."""
        return False

    def disk(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> int:
        """The newest checkpoints, the best one and the finished model, and the token shards."""
        kept = checkpoint_bytes(model, self.rank(recipe)) * (recipe.loop.keep + 1)
        return kept + model_memory(model, training=False) + self.plan(recipe, model, survey).data

    def start_from(self, job: Job) -> str:
        """The stage whose model it begins with: the last one before it that the recipe has, or
        `origin`.
        """
        before = job.stages[: [stage.name for stage in job.stages].index(self.name)]
        there = [
            stage.name
            for stage in before
            if isinstance(stage, TrainingStage) and stage.enabled(job.recipe)
        ]
        return there[-1] if there else ORIGIN


def checkpoint_bytes(model: ModelConfig, rank: int = 0) -> int:
    """Weights and optimizer state, but no gradients. Of adapters of a rank, theirs alone."""
    if rank:
        return 2 * 4 * adapter_parameters(model, rank)
    return model_memory(model, training=True) - model_memory(model, training=False)


def adapter_rank(stages: Iterable[Stage], recipe: Recipe) -> int:
    """The largest rank of the adapters, if all training is of adapters; else 0."""
    training = [s for s in stages if isinstance(s, TrainingStage) and s.enabled(recipe)]
    ranks = [stage.rank(recipe) for stage in training]
    return max(ranks) if ranks and all(ranks) else 0


def token_bytes(model: ModelConfig) -> int:
    """Of a token in the shards."""
    return 2 if model.vocab_size <= 65_536 else 4


def shapes(
    stages: Iterable[Stage], recipe: Recipe, model: ModelConfig
) -> Iterator[tuple[Stage, ModelConfig]]:
    """The enabled stages in order, each with the shape of the model that it leaves; `model` is that
    of the first one.
    """
    for stage in stages:
        if stage.enabled(recipe):
            model = stage.shape(recipe, model)
            yield stage, model


def fractional_schedule(config: LaterRates, steps: int) -> Schedule:
    """The schedule of a stage after base: a fraction of its rates, and Muon's momentum as the
    stage has it.
    """
    warmup, held = min(config.warmup, steps // 4), config.momentum
    muon = Momentum() if held is None else Momentum(peak=held, warmup=0)
    return Schedule(steps, warmup, config.warmdown, peak=config.learning_rate_fraction, muon=muon)


def token_evaluation(context: Context, model: GPT, validation: Iterable[MicroBatch]) -> Evaluate:
    """Loss, accuracy and bits per byte over held-out tokens."""
    held_out = [
        (inputs, targets)
        for batch in validation
        for inputs, targets in [tensors(batch, context.device)]
    ]
    token_bytes = torch.from_numpy(context.tokenizer.token_bytes).to(context.device)

    def evaluate() -> dict[str, float]:
        with gathered_blocks(model):
            scores = score_tokens(model, held_out, token_bytes, context.world)
        return {"val_loss": scores.loss, "val_accuracy": scores.accuracy, "val_bpb": scores.bpb}

    return evaluate


def train_stage(
    context: Context,
    stage: TrainingStage,
    model: GPT,
    optimizer: Optimizer,
    schedule: Schedule,
    batches: StepSource,
    evaluate: Evaluate,
    *,
    loss: Loss | None = None,
    loop: LoopConfig | None = None,
    prefetch: bool = True,
    evaluate_first: bool = False,
    finish: Callable[[Trainer], None] | None = None,
) -> None:
    """Train a model and write it to `<stage>/model`; the loss is that of the next token unless
    another one is given. `finish` may change the trained model before it is written.
    """
    run, world = context.run, context.world
    trainer = Trainer(
        stage.name,
        run.stage(stage.name),
        model,
        optimizer,
        schedule,
        batches,
        loss or model.loss,
        evaluate,
        loop or context.recipe.loop,
        world,
        context.progress,
        prefetch,
        evaluate_first,
        callback=LiveEvals(context, stage.name, model, chats=stage.chats),
        deterministic=context.execution.deterministic,
    )
    state = trainer.fit()
    if finish:
        finish(trainer)
    weights = gathered_weights(model, world)
    with main_process_first(world):
        if world.is_main:
            facts = {
                "stage": stage.name,
                "step": state.step,
                "tokens": state.tokens,
                "seconds": state.seconds,
                "peak_memory": peak_memory(context.execution.device),
            }
            if isinstance(model, AdaptedGPT):
                save_adapter(model, run.stage(stage.name) / "adapter")
            save_model(merged(model), run.model(stage.name), facts, weights)
