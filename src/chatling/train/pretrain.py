"""Pretraining: next-token prediction over packed documents."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

from chatling.data.loaders import PretrainBatches
from chatling.data.packing import PackedRows
from chatling.errors import RecipeError
from chatling.fields import BatchTokens, Count, CountOrZero, Fraction, Tokens, bounded, config
from chatling.model.config import (
    ModelConfig,
    ModelRecipe,
    counted_at_depth_12,
    counted_parameters,
    parameter_counts,
)
from chatling.optim.param_groups import REFERENCE_BATCH, OptimConfig, OptimSettings, resolve_optim
from chatling.optim.schedule import Schedule
from chatling.train.context import Context, checked_shards, train_stage

BATCH_EXPONENT = 0.383  # of the tokens: Power Lines, arXiv 2505.13738


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


def base_batch(config: BaseConfig, model: ModelConfig, preset: str) -> int:
    """Tokens of a step. Raises RecipeError when the recipe's batch does not hold whole rows.

    Where the recipe gives none: classic 524,288; modern that times (tokens / tokens at depth
    12)^0.383, the nearest power of two. Both numbers of tokens are the preset's, whatever length
    the recipe asks for. The nearest whole rows of that, at least one.
    """
    context = model.context
    if config.batch_tokens is not None:
        if config.batch_tokens < 1 or config.batch_tokens % context:
            raise RecipeError(
                f"base.batch_tokens {config.batch_tokens} is not a multiple of the context,"
                f" {context}.",
                f"Choose {_whole_rows(config.batch_tokens, context)}.",
            )
        return config.batch_tokens
    if preset != "modern":
        return _whole_rows(REFERENCE_BATCH, context)
    size = counted_parameters(model, preset) / counted_at_depth_12(model, preset)
    return _whole_rows(2 ** round(math.log2(REFERENCE_BATCH * size**BATCH_EXPONENT)), context)


def _whole_rows(tokens: int, context: int) -> int:
    return max(1, round(tokens / context)) * context


def training_tokens(config: BaseConfig, model: ModelConfig, preset: str) -> int:
    """How many tokens the recipe trains on: classic 20 a parameter, modern 12 for each of the
    matrices and the head.
    """
    if config.steps is not None:
        return config.steps * base_batch(config, model, preset)
    if config.tokens is not None:
        return config.tokens
    if config.tokens_per_parameter is not None:
        return int(config.tokens_per_parameter * parameter_counts(model)["total"])
    return (12 if preset == "modern" else 20) * counted_parameters(model, preset)


def base_steps(config: BaseConfig, model: ModelConfig, preset: str) -> int:
    """Whole steps that the tokens give. Raises RecipeError when the batch does not hold whole rows,
    or the tokens asked for no step.
    """
    batch, tokens = base_batch(config, model, preset), training_tokens(config, model, preset)
    if tokens < batch and (config.tokens is not None or config.tokens_per_parameter is not None):
        raise RecipeError(
            f"[base] asks for {tokens:,} tokens, and one step takes {batch:,}: not one step would"
            " be trained.",
            "Ask for more with base.tokens, or set a smaller base.batch_tokens.",
        )
    return max(1, tokens // batch)


def base_rates(
    config: BaseConfig, optim: OptimConfig, model: ModelConfig, preset: str
) -> OptimSettings:
    """The rates of the base stage. Modern's weight decay goes by the size of the model, whatever
    the number of steps asked for.
    """
    batch = base_batch(config, model, preset)
    sizes = counted_parameters(model, preset), counted_at_depth_12(model, preset)
    return resolve_optim(optim, preset, model.width, batch, *sizes)


def base_schedule(config: BaseConfig, steps: int, preset: str) -> Schedule:
    """classic: no warmup, last 20 % linear to 0. modern: 40 steps, last 65 % linear to 5 %, weight
    decay falling to 0.
    """
    warmup, warmdown, final = (40, 0.65, 0.05) if preset == "modern" else (0, 0.2, 0.0)
    return Schedule(
        steps,
        warmup=min(warmup if config.warmup is None else config.warmup, steps // 4),
        warmdown=warmdown if config.warmdown is None else config.warmdown,
        final=final if config.final is None else config.final,
        decay_weight_decay=preset == "modern",
    )


def train_base(
    context: Context,
    config: BaseConfig,
    model_recipe: ModelRecipe,
    optim: OptimConfig,
    train: Path,
    validation: Path,
) -> None:
    """Pretrain on the token shards in `train`, validating on those in `validation`. Writes
    `base/model`.
    """
    model = model_recipe.resolve(context.tokenizer.vocab_size)
    preset = model_recipe.preset
    steps = base_steps(config, model, preset)
    rates = base_rates(config, optim, model, preset)
    rows = base_batch(config, model, preset) // model.context
    batches, held_out = (
        packed_batches(context, shards, rows, model.context) for shards in (train, validation)
    )
    scored = held_out.once(config.validation_tokens)
    train_stage(
        context, "base", model, None, rates, base_schedule(config, steps, preset), batches, scored
    )


def packed_batches(
    context: Context, shards: Path, rows_per_step: int, row_tokens: int
) -> PretrainBatches:
    """Packed rows of a token corpus, in micro-batches that fit this machine."""
    world = context.world
    if rows_per_step % world.size:
        message = f"A step of {rows_per_step} rows does not divide over {world.size} processes."
        raise RecipeError(message, "Change the batch or their number.")
    rows = PackedRows(
        checked_shards(context, shards), row_tokens, context.tokenizer.bos, context.seed
    )
    micro = context.execution.micro_rows(row_tokens, rows_per_step // world.size)
    return PretrainBatches(rows, rows_per_step, micro, world.rank, world.size)
