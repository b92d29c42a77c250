"""Pretraining: next-token prediction over packed documents."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from chatling.data.batches import PretrainBatches
from chatling.data.packing import PackedRows
from chatling.errors import RecipeError
from chatling.model.config import ModelConfig, ModelRecipe, parameter_counts
from chatling.optim.groups import OptimConfig, resolve_rates
from chatling.optim.schedule import Schedule, check_trapezoid
from chatling.train.stage import Context, checked_shards, train_stage


@dataclass(frozen=True)
class BaseConfig:
    """The `[base]` table. The length is the first one given of steps, tokens, tokens_per_parameter; else the preset's rule."""

    steps: int | None = None
    tokens: int | None = None
    tokens_per_parameter: float | None = None
    batch_tokens: int = 524_288  # of a whole step, on all ranks
    warmup: int | None = None  # steps; classic 0, modern 40
    warmdown: float | None = None  # fraction of the steps; classic 0.2, modern 0.65
    final: float | None = None  # rate at the end, a fraction; classic 0, modern 0.05
    validation_tokens: int = 10_485_760

    def __post_init__(self) -> None:
        lengths = (self.steps, self.tokens, self.tokens_per_parameter, self.batch_tokens, self.validation_tokens)
        if any(length is not None and length <= 0 for length in lengths):
            raise RecipeError("base.steps, tokens, tokens_per_parameter, batch_tokens and validation_tokens must be above 0.")
        check_trapezoid("base", self.warmup or 0, self.warmdown or 0.0, self.final or 0.0)


def training_tokens(config: BaseConfig, model: ModelConfig, preset: str) -> int:
    """How many tokens the recipe trains on: classic 20 a parameter, modern 12 for each of the matrices and the head."""
    counts = parameter_counts(model)
    if config.steps is not None:
        return config.steps * config.batch_tokens
    if config.tokens is not None:
        return config.tokens
    if config.tokens_per_parameter is not None:
        return int(config.tokens_per_parameter * counts["total"])
    return 12 * (counts["matrices"] + counts["head"]) if preset == "modern" else 20 * counts["total"]


def base_steps(config: BaseConfig, model: ModelConfig, preset: str) -> int:
    """Whole steps that cover the tokens. Raises RecipeError when the batch does not hold whole rows."""
    if config.batch_tokens < 1 or config.batch_tokens % model.context:
        raise RecipeError(
            f"base.batch_tokens {config.batch_tokens} is not a multiple of the context, {model.context}.",
            f"Choose {max(1, round(config.batch_tokens / model.context)) * model.context}.",
        )
    return max(1, training_tokens(config, model, preset) // config.batch_tokens)


def base_schedule(config: BaseConfig, steps: int, preset: str) -> Schedule:
    """classic: no warmup, last 20 % linear to 0. modern: 40 steps, last 65 % linear to 5 %, weight decay falling to 0."""
    warmup, warmdown, final = (40, 0.65, 0.05) if preset == "modern" else (0, 0.2, 0.0)
    return Schedule(
        steps,
        warmup=min(warmup if config.warmup is None else config.warmup, steps // 4),
        warmdown=warmdown if config.warmdown is None else config.warmdown,
        final=final if config.final is None else config.final,
        decay_weight_decay=preset == "modern",
    )


def train_base(context: Context, config: BaseConfig, model_recipe: ModelRecipe, optim: OptimConfig, train: Path, validation: Path) -> None:
    """Pretrain on the token shards in `train`, validating on those in `validation`. Writes `base/model`."""
    model = model_recipe.resolve(context.tokenizer.vocab_size)
    preset = model_recipe.preset
    steps = base_steps(config, model, preset)
    tokens = steps * config.batch_tokens
    d12 = replace(model_recipe, depth=12, width=None).resolve(model.vocabulary)
    tokens_d12 = training_tokens(replace(config, steps=None, tokens=None), d12, preset)
    rates = resolve_rates(optim, preset, model.width, config.batch_tokens, tokens, tokens_d12)
    rows = config.batch_tokens // model.context
    batches, held_out = (packed_batches(context, shards, rows, model.context) for shards in (train, validation))
    scored = held_out.once(config.validation_tokens)
    train_stage(context, "base", model, None, rates, base_schedule(config, steps, preset), batches, scored)


def packed_batches(context: Context, shards: Path, rows_per_step: int, row_tokens: int) -> PretrainBatches:
    """Packed rows of a token corpus, in micro-batches that fit this machine."""
    world = context.world
    if rows_per_step % world.size:
        message = f"A step of {rows_per_step} rows does not divide over {world.size} processes."
        raise RecipeError(message, "Change the batch or their number.")
    rows = PackedRows(checked_shards(context, shards), row_tokens, context.tokenizer.bos, context.seed)
    micro = context.execution.micro_rows(row_tokens, rows_per_step // world.size)
    return PretrainBatches(rows, rows_per_step, micro, world.rank, world.size)
