"""Mid-training and supervised fine-tuning: one stage file, two recipe tables. Mid packs
conversations and learns from every token; SFT takes whole conversations and learns from the
assistant's own tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chatling.config.recipe import Recipe
from chatling.config.stages import FinetuneConfig, MixtureEntry
from chatling.data.mixtures import Mapped
from chatling.data.shard_files import file_fingerprint
from chatling.data.shard_writer import write_conversation_shards
from chatling.data.token_shards import TokenShards
from chatling.errors import DataError, RecipeError
from chatling.model.config import ModelConfig, flops_per_token
from chatling.run_dir import read_json, write_json
from chatling.tasks.identity import IdentityConfig
from chatling.tasks.registry import Split
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import render
from chatling.toy.dataset import BUILT_IN
from chatling.train.batch_sources import finetune_batches
from chatling.train.context import build_from
from chatling.train.datasets import Sources, notes, open_sources, own_files
from chatling.train.mixture import available, conversation_tokens, mixture_size, taken
from chatling.train.setup import open_context
from chatling.train.stage_base import (
    ORIGIN,
    Job,
    StagePlan,
    StepShare,
    TrainingStage,
    Use,
    fractional_schedule,
    token_bytes,
    token_evaluation,
    train_stage,
)
from chatling.train.survey import Survey, fit_notes, import_hint, survey_conversations


class Finetuning(TrainingStage):
    """The `[mid]` or the `[sft]` stage."""

    def __init__(
        self, name: str, seed_id: int, requires: tuple[str, ...], *, even_cost: bool = False
    ):
        super().__init__(name, seed_id, requires)
        self.even_cost, self.imported = even_cost, name == "mid"

    def config(self, recipe: Recipe) -> FinetuneConfig:
        config: FinetuneConfig = super().config(recipe)
        return config

    def fingerprint_inputs(self, recipe: Recipe) -> object:
        config = self.config(recipe)
        return recipe.seed, recipe.optim, config, source_facts(config, recipe.identity)

    def prepare(self, job: Job) -> None:
        prepare_finetune(
            self.name,
            self.seed_id,
            self.config(job.recipe),
            Tokenizer.load(job.folder.tokenizer),
            open_sources(job.recipe, job.progress.message),
            job.shards(self.name, "train"),
            job.shards(self.name, "validation"),
            note=job.progress.message,
        )

    def work(self, job: Job) -> None:
        """Rates are the base stage's times the fraction."""
        context, config = open_context(job), self.config(job.recipe)
        shard, start = self.is_sharded(job.recipe), self.start_from(job)
        model, optimizer = build_from(context, start, config, shard=shard)
        batches, held_out = (
            finetune_batches(context, config, job.shards(self.name, split), model.config)
            for split in ("train", "validation")
        )
        per_step = (
            config.batch_tokens // model.config.context
            if config.packed
            else config.batch_conversations
        )
        steps = max(1, config.epochs * batches.rows_per_epoch // per_step)
        evaluate = token_evaluation(context, model, held_out.once())
        schedule = fractional_schedule(config, steps)
        train_stage(context, self, model, optimizer, schedule, batches, evaluate)

    def check(self, recipe: Recipe, model: ModelConfig) -> None:
        config, name = self.config(recipe), self.name
        if config.packed and config.batch_tokens < model.context:
            what = (
                f"{name}.batch_tokens is {config.batch_tokens:,}, less than one row of"
                f" {model.context:,} tokens, the context."
            )
            raise RecipeError(what, f"Set {name}.batch_tokens to a multiple of {model.context}.")
        for what, entries in (("mixture", config.mixture), ("validation", config.held_out)):
            if not any(taken(entry, Survey()) for entry in entries):
                raise RecipeError(
                    f"The {what} of [{name}] comes to no conversations.",
                    "Give its entries counts and epochs above 0.",
                )

    def is_sharded(self, recipe: Recipe) -> bool:
        config = self.config(recipe)
        return recipe.machine.shard and config.packed and config.adapter is None

    def step_share(self, recipe: Recipe, model: ModelConfig) -> StepShare:
        config = self.config(recipe)
        if config.packed:
            return StepShare("batch_tokens", "rows", config.batch_tokens // model.context)
        return StepShare("batch_conversations", "conversations", config.batch_conversations)

    def survey(self, recipe: Recipe, seen: Survey) -> Survey:
        config = self.config(recipe)
        files = (e.task for e in (*config.mixture, *config.validation) if e.is_file)
        found = {
            task: survey_conversations(task)
            for task in dict.fromkeys(files)
            if task not in seen.talks
        }
        return replace(seen, talks={**seen.talks, **found})

    def notes(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> Iterator[str]:
        config = self.config(recipe)
        for entry in config.mixture:
            held, there = survey.talks.get(entry.task), available(entry, survey)
            more = there is not None and (entry.count or 0) > there and entry.task not in BUILT_IN
            if more and there and entry.count:
                yield (
                    f"[{self.name}] takes {entry.count:,} conversations of {entry.task}; there are"
                    f" {there:,}: {entry.count / there:.1f} times each."
                )
            if held is not None and not there:
                what = (
                    f"{entry.task} holds one conversation, which is kept for validation: none is"
                    f" left for [{self.name}] to learn from."
                )
                raise DataError(what, f"Add others to it; {import_hint(entry.task)}")
            if not config.packed and held is not None:
                what = (
                    f"No answer in {entry.task} begins within the context of {model.context}"
                    " tokens, so none would be trained on."
                )
                yield from fit_notes(held.shortest, model, what)

    def fetch(self, recipe: Recipe, sources: Sources, note: Callable[[str], None]) -> None:
        config = self.config(recipe)
        sources.files(config.mixture, "train")
        sources.files(config.held_out, "validation")

    def plan(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> StagePlan:
        config = self.config(recipe)
        conversations, tokens = mixture_size(config, survey, model.vocab_size)
        steps = (
            round(tokens) // config.batch_tokens
            if config.packed
            else conversations // config.batch_conversations
        )
        # a conversation is padded by half a multiple on average
        padding = 0 if config.packed else conversations * config.pad_to_multiple_of / 2
        flops = (tokens + padding) * flops_per_token(model, rank=self.rank(recipe))
        data = round(tokens) * (token_bytes(model) + 1)  # with a mask
        return StagePlan(self.name, round(tokens), max(1, steps), flops, False, conversations, data)

    def uses(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> Iterator[Use]:
        config = self.config(recipe)
        conversations, tokens = mixture_size(config, survey, model.vocab_size)
        # a step at least, whatever the mixture holds
        share = (
            config.batch_tokens / max(1.0, tokens)
            if config.packed
            else config.batch_conversations / max(1, conversations)
        )
        for entry in config.mixture:
            if (held := survey.talks.get(entry.task)) is not None:
                times = taken(entry, survey) * config.epochs / max(1, available(entry, survey) or 0)
                size = conversation_tokens(held, model.vocab_size)
                epochs = times * max(1.0, share)
                yield Use(self.name, entry.task, "conversations", held, size, epochs)


MID = Finetuning("mid", seed_id=1, requires=("base", "extend"), even_cost=True)
SFT = Finetuning("sft", seed_id=2, requires=(ORIGIN, "base", "extend", "mid"))


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
    seed_id: int,
    config: FinetuneConfig,
    tokenizer: Tokenizer,
    sources: Sources,
    train: Path,
    validation: Path,
    note: Callable[[str], None],
) -> None:
    """Render a stage's mixture into token shards with loss masks, once; `note` hears what is worth
    knowing of the data.

    What was finished is not looked at again, so a run resumes without its data sets, and as it
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
        mixture = sources.mixture(entries, seed_id, split, most)
        for line in notes(mixture):
            note(line)
        rendered = Mapped(mixture, lambda conversation: render(tokenizer, conversation))
        marks = [file_fingerprint(path) for path in sources.files(entries, split)]
        mark = repr((facts, split, marks))
        write_conversation_shards(
            folder, rendered, tokenizer.vocab_size, fingerprint=mark, note=note
        )
    write_json(finished, {"of": facts})


def _is_finished(file: Path, facts: str, folders: Sequence[Path]) -> bool:
    try:
        for folder in folders:
            TokenShards.open(folder)
        return bool(read_json(file) == {"of": facts})
    except DataError:
        return False
