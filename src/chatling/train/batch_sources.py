"""The batches of next-token training: packed rows, or padded conversations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from chatling.config.stages import FinetuneConfig
from chatling.data.loaders import ConversationBatches, MicroBatches, PretrainBatches
from chatling.data.packing import PackedRows
from chatling.errors import RecipeError
from chatling.model.config import ModelConfig
from chatling.train.context import Context


def packed_batches(
    context: Context,
    shards: Path,
    rows_per_step: int,
    row_tokens: int,
    pack: Callable[..., PackedRows] = PackedRows,
    answers_only: bool = False,
) -> PretrainBatches:
    """Packed rows of a token corpus, in micro-batches that fit this machine."""
    world = context.world
    if rows_per_step % world.size:
        message = f"A step of {rows_per_step} rows does not divide over {world.size} processes."
        raise RecipeError(message, "Change the batch or their number.")
    rows = pack(context.shards(shards), row_tokens, context.tokenizer.bos, context.seed)
    micro = context.execution.micro_rows(row_tokens, rows_per_step // world.size)
    return PretrainBatches(
        rows, rows_per_step, micro, world.rank, world.size, answers_only=answers_only
    )


def finetune_batches(
    context: Context, config: FinetuneConfig, shards: Path, model: ModelConfig
) -> MicroBatches[Any]:
    """Packed rows or padded conversations, as the config says."""
    world, per_step = context.world, config.batch_conversations
    if config.packed:
        rows = config.batch_tokens // model.context
        return packed_batches(
            context, shards, rows, model.context, answers_only=config.answers_only
        )
    return ConversationBatches(
        context.shards(shards),
        per_step,
        context.execution.micro_rows(model.context, per_step // world.size),
        world.rank,
        world.size,
        bos=context.tokenizer.bos,
        seed=context.seed,
        max_tokens=model.context,
        pad_to_multiple_of=config.pad_to_multiple_of,
        few_lengths=context.execution.compile,
    )
