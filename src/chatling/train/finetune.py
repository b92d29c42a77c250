"""Mid-training and supervised fine-tuning: one stage file, two recipe tables. Mid packs
conversations and learns from every token; SFT takes whole conversations and learns from the
assistant's own tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chatling.data.loaders import BatchSource, ConversationBatches
from chatling.data.mixtures import Mapped
from chatling.data.shard_files import file_fingerprint
from chatling.data.shard_writer import write_conversation_shards
from chatling.data.token_shards import TokenShards
from chatling.errors import DataError, RecipeError
from chatling.fields import (
    BatchTokens,
    Count,
    CountOrZero,
    Epochs,
    Flag,
    Fraction,
    Rate,
    Width,
    config,
)
from chatling.model.config import ModelConfig, ModelRecipe
from chatling.optim.param_groups import OptimConfig, resolve_optim
from chatling.optim.schedule import Schedule
from chatling.run_dir import read_json, write_json
from chatling.tasks.identity import IdentityConfig
from chatling.tasks.registry import Split
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import render
from chatling.train.checkpoint import open_model
from chatling.train.context import Context, checked_shards, train_stage
from chatling.train.datasets import MixtureEntry, Sources, notes, own_files
from chatling.train.pretrain import packed_batches


@config
class FinetuneConfig:
    """The `[mid]` or `[sft]` table."""

    mixture: tuple[MixtureEntry, ...]
    """What is trained on: a list of `{task = …, epochs = …, count = …, split = …, subset = …}`."""
    packed: Flag = False
    """true (the default of `[mid]`): rows packed end to end, all tokens trained on. false (that of
    `[sft]`): whole conversations, padded, only the assistant's tokens trained on.
    """
    learning_rate_fraction: Rate = 1.0
    """Of the base stage's rates; usual for sft: 0.02."""
    epochs: Epochs = 1
    """Times through the mixture."""
    batch_tokens: BatchTokens = 524_288
    """Of a step, when packed."""
    batch_conversations: Count = 32
    """Of a step, when not packed."""
    pad_to_multiple_of: Width = 64
    """Conversations are padded to multiples of this many tokens, when not packed."""
    warmup: CountOrZero = 0
    """Steps, at most a quarter of all."""
    warmdown: Fraction = 1.0
    """Fraction of the steps."""
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


def source_facts(config: FinetuneConfig, identity: IdentityConfig) -> tuple[Any, ...]:
    """What a stage's conversations depend on, besides the seed: the mixtures, files of its own, and
    who it is where that is taught.
    """
    entries = (*config.mixture, *config.validation)
    taught = identity if any(entry.task == "identity" for entry in entries) else None
    return (
        config.mixture,
        config.validation,
        config.validation_conversations,
        own_files(entries),
        taught,
    )


def prepare_finetune(
    name: str,
    config: FinetuneConfig,
    tokenizer: Tokenizer,
    sources: Sources,
    train: Path,
    validation: Path,
    note: Callable[[str], None],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Render a stage's mixture into token shards with loss masks, once; `note` hears what is worth
    knowing of the data.

    What was finished is not looked at again, so a run goes on without its data sets, and as it
    began when they change on the Hub.
    """
    facts = repr(
        (name, tokenizer.fingerprint, sources.seed, source_facts(config, sources.identity))
    )
    finished = train.with_name(f"{name}.json")
    if _is_finished(finished, facts, (train, validation)):
        return
    some = None if config.validation else config.validation_conversations // len(config.mixture)
    splits: tuple[tuple[Path, tuple[MixtureEntry, ...], Split, int | None], ...] = (
        (train, config.mixture, "train", None),
        (validation, config.held_out, "validation", some),
    )
    for folder, entries, split, most in splits:
        mixture = sources.mixture(entries, name, split, most)
        for line in notes(mixture):
            note(line)
        rendered = Mapped(mixture, lambda conversation: render(tokenizer, conversation))
        marks = [file_fingerprint(path) for path in sources.files(entries, split)]
        mark = repr((facts, split, marks))
        write_conversation_shards(
            folder, rendered, tokenizer.vocab_size, fingerprint=mark, progress=progress, note=note
        )
    write_json(finished, {"of": facts})


def _is_finished(file: Path, facts: str, folders: Sequence[Path]) -> bool:
    try:
        for folder in folders:
            TokenShards.open(folder)
        return bool(read_json(file) == {"of": facts})
    except DataError:
        return False


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
    """Fine-tune the model of stage `start_from` on conversation shards; rates are the base stage's
    times the fraction.

    Writes `<name>/model`.
    """
    model = open_model(context.run.model(start_from), context.world)
    batches = finetune_batches(context, config, train, model)
    per_step = config.batch_tokens // model.context if config.packed else config.batch_conversations
    steps = max(1, config.epochs * batches.rows_per_epoch // per_step)
    schedule = Schedule(
        steps, min(config.warmup, steps // 4), config.warmdown, peak=config.learning_rate_fraction
    )
    rates = resolve_optim(optim, model_recipe.preset, model.width, base_batch_tokens, 1, 0)
    held_out = finetune_batches(context, config, validation, model).once()
    train_stage(context, name, model, start_from, rates, schedule, batches, held_out)


def finetune_batches(
    context: Context, config: FinetuneConfig, shards: Path, model: ModelConfig
) -> BatchSource:
    """Packed rows or padded conversations, as the config says."""
    world, per_step = context.world, config.batch_conversations
    if config.packed:
        return packed_batches(context, shards, config.batch_tokens // model.context, model.context)
    micro = context.execution.micro_rows(model.context, per_step // world.size)
    corpus, bos = checked_shards(context, shards), context.tokenizer.bos
    return ConversationBatches(
        corpus,
        per_step,
        micro,
        world.rank,
        world.size,
        bos=bos,
        seed=context.seed,
        max_tokens=model.context,
        pad_to_multiple_of=config.pad_to_multiple_of,
    )
