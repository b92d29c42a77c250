"""Mid-training and supervised fine-tuning: one stage file, two recipe tables. Mid packs conversations and learns from every token;
SFT takes whole conversations and learns from the assistant's own tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chatling.conversation import Conversation
from chatling.data.batches import BatchSource, ConversationBatches
from chatling.data.config import POCKET
from chatling.data.mixtures import Mapped, Mixture, MixturePart
from chatling.data.token_shards import Indexed, TokenShards, file_fingerprint, write_conversation_shards
from chatling.errors import ChatlingError, DataError, RecipeError
from chatling.model.config import ModelConfig, ModelRecipe
from chatling.optim.groups import OptimConfig, resolve_rates
from chatling.optim.schedule import Schedule, check_trapezoid
from chatling.pocket import conversations as pocket_conversations
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_format import render
from chatling.train.base import packed_batches
from chatling.train.stage import Context, train_stage
from chatling.workspace import STAGES, read_json

Split = Literal["train", "validation"]


@dataclass(frozen=True)
class MixtureEntry:
    """One part of a mixture: the built-in world ("pocket", which needs a count) or a jsonl file of conversations."""

    task: str
    epochs: int = 1
    count: int | None = None


@dataclass(frozen=True)
class FinetuneConfig:
    """The `[mid]` or `[sft]` table."""

    mixture: tuple[MixtureEntry, ...]
    packed: bool  # rows packed end to end (mid), or whole conversations, padded (SFT)
    learning_rate_fraction: float = 1.0  # of the base stage's rates
    epochs: int = 1
    batch_tokens: int = 524_288  # of a step, when packed
    batch_conversations: int = 32  # of a step, when not
    bucket: int = 64  # conversations are padded to multiples of this many tokens
    warmup: int = 0  # steps
    warmdown: float = 1.0  # fraction of the steps
    validation_conversations: int = 500

    def __post_init__(self) -> None:
        """Raises RecipeError for an empty mixture and for numbers below 1."""
        if not self.mixture:
            raise RecipeError("The mixture of [mid] or [sft] is empty.", 'Write for example mixture = [{task = "pocket", count = 1000}].')
        if min(self.batch_tokens, self.batch_conversations, self.bucket, self.epochs) < 1:
            raise RecipeError("batch_tokens, batch_conversations, bucket and epochs of [mid] and [sft] must be at least 1.")
        if self.validation_conversations < len(self.mixture):
            raise RecipeError("validation_conversations must be at least 1 for each entry of the mixture.", "Raise it.")
        check_trapezoid("mid or sft", self.warmup, self.warmdown)


def load_source(entry: MixtureEntry, stage: str, split: Split, seed: int) -> Indexed[Conversation]:
    """The conversations that an entry names. Raises DataError when a file is missing or a line of it is not a conversation."""
    if entry.task == POCKET:
        # each stage and split draws from a seed of its own: the same skills, other conversations
        own = 100 * seed + 10 * STAGES.index(stage) + (split == "validation")
        return pocket_conversations(own, entry.count or 10_000)
    path = Path(entry.task).expanduser()
    if not path.is_file():
        raise DataError(f"There is no task or file {entry.task!r}.", 'Write "pocket" or the path of a jsonl file of conversations.')
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
        if line.strip():
            try:
                found.append(Conversation.from_dict(json.loads(line)))
            except (ValueError, AttributeError, ChatlingError) as error:
                raise DataError(f"{path} line {number} is not a conversation: {error}", "Mend or delete the line.") from None
    held_out = max(1, len(found) // 50)
    return found[held_out:] if split == "train" else found[:held_out]


def mixture_files(config: FinetuneConfig) -> list[str]:
    """What tells the mixture's files from others of the same name; a file that is missing has nothing to tell."""
    paths = (Path(entry.task).expanduser() for entry in config.mixture if entry.task != POCKET)
    return [str(file_fingerprint(path)) for path in paths if path.is_file()]


def prepare_finetune(
    name: str,
    config: FinetuneConfig,
    tokenizer: Tokenizer,
    seed: int,
    train: Path,
    validation: Path,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Render a stage's mixture into token shards with loss masks, once."""
    splits: tuple[tuple[Split, Path], ...] = (("train", train), ("validation", validation))
    for split, folder in splits:
        parts = []
        for entry in config.mixture:
            count = entry.count if split == "train" else config.validation_conversations // len(config.mixture)
            parts.append(MixturePart(entry.task, load_source(entry, name, split, seed), entry.epochs, count))
        rendered = Mapped(Mixture(parts, seed), lambda conversation: render(tokenizer, conversation))
        facts = (tokenizer.fingerprint, config.mixture, mixture_files(config), config.validation_conversations, seed, name, split)
        write_conversation_shards(folder, rendered, tokenizer.vocab_size, fingerprint=repr(facts), progress=progress)


def train_finetune(
    context: Context,
    name: str,
    start_from: str,
    config: FinetuneConfig,
    model_recipe: ModelRecipe,
    optim: OptimConfig,
    base_batch_tokens: int,
    train: Path,
    validation: Path,
) -> None:
    """Fine-tune the model of stage `start_from` on conversation shards; rates are the base stage's times the fraction.

    Writes `<name>/model`.
    """
    model = ModelConfig.from_dict(read_json(context.run.model(start_from) / "config.json")["model"])
    batches = finetune_batches(context, config, train, model)
    per_step = config.batch_tokens // model.context if config.packed else config.batch_conversations
    steps = max(1, config.epochs * batches.rows_per_epoch // per_step)
    schedule = Schedule(steps, min(config.warmup, steps // 4), config.warmdown, peak=config.learning_rate_fraction)
    rates = resolve_rates(optim, model_recipe.preset, model.width, base_batch_tokens, 1, 0)
    held_out = finetune_batches(context, config, validation, model).once()
    train_stage(context, name, model, start_from, rates, schedule, batches, held_out)


def finetune_batches(context: Context, config: FinetuneConfig, shards: Path, model: ModelConfig) -> BatchSource:
    """Packed rows or padded conversations, as the config says."""
    world, per_step = context.world, config.batch_conversations
    if config.packed:
        return packed_batches(context, shards, config.batch_tokens // model.context, model.context)
    micro = context.execution.micro_rows(model.context, per_step // world.size)
    corpus, bos = TokenShards.open(shards), context.tokenizer.bos
    return ConversationBatches(
        corpus, per_step, micro, world.rank, world.size, bos=bos, seed=context.seed, max_tokens=model.context, bucket=config.bucket
    )
