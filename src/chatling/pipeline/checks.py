"""What can be known before the first step: `plan` and `run` both call `check`, so what a later
stage would refuse is refused at once.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from chatling.config.recipe import Recipe
from chatling.data.config import POCKET
from chatling.errors import DataError, MachineError, RecipeError
from chatling.evals.chat import ALL
from chatling.evals.config import FULL
from chatling.evals.core_bundle import read_bundle
from chatling.hardware.detect import detect
from chatling.model.config import ModelConfig
from chatling.optim.param_groups import resolve_optim
from chatling.pipeline.downloads import open_fetcher, open_sources
from chatling.pipeline.epochs import available, epoch_warnings, own_tokens, taken
from chatling.pipeline.plan import Plan, plan
from chatling.pipeline.survey import (
    Survey,
    import_hint,
    survey_conversations,
    survey_pairs,
    survey_text,
)
from chatling.run_dir import STAGES
from chatling.tasks.registry import CHAT_TASKS, check_judged
from chatling.tools.sandbox import Sandbox
from chatling.toy import practice
from chatling.train.datasets import MixtureEntry
from chatling.train.dpo import on_hub, preference_pairs
from chatling.train.finetune import FinetuneConfig
from chatling.train.pretrain import base_batch, base_rates
from chatling.train.runtime import check_machine, micro_tokens

EVERY_STAGE = ("tokenizer", *STAGES, "eval")
LONGEST_TOKEN = 16  # bytes: tokens of text are shorter on average, whatever the text


@dataclass(frozen=True)
class Checked:
    """A recipe that `run` can carry out."""

    plan: Plan
    survey: Survey  # of the data that were looked into
    warnings: tuple[str, ...]
    too_large: MachineError | None  # what keeps it from this machine, but not from a larger one


def check(recipe: Recipe, stages: Collection[str] = EVERY_STAGE, *, processes: int = 1) -> Checked:
    """Call all that the later stages will call and that needs neither training nor the network;
    open the data that `stages` read.

    Raises RecipeError, DataError or MachineError for what would stop the run later on.
    """
    outline = plan(recipe)
    model, preset = outline.model, recipe.model.preset
    base_rates(recipe.base, recipe.optim, model, preset)
    resolve_optim(
        recipe.optim, preset, model.width, base_batch(recipe.base, model, preset), 1, 0
    )  # of the stages after it
    _check_division(recipe, model, stages, processes)
    _check_mixtures(recipe)
    _check_questions(recipe, model)
    too_large = _check_machine(recipe, outline) if set(stages) & set(STAGES) else None
    survey = _read_data(recipe, stages)
    warnings = [
        *_text_notes(recipe, survey),
        *_mixture_notes(recipe, model, survey),
        *_pair_notes(recipe, model, survey),
    ]
    if "eval" in stages:
        warnings += _check_evaluations(recipe)
    outline = plan(recipe, survey=survey)
    warnings += _warmup_notes(recipe, outline)
    return Checked(
        outline,
        survey,
        (*warnings, *epoch_warnings(outline.uses, outline.stages[0].steps)),
        too_large,
    )


def _mixtures(recipe: Recipe) -> Iterator[tuple[str, FinetuneConfig]]:
    yield from (
        (name, config)
        for name, config in (("mid", recipe.mid), ("sft", recipe.sft))
        if config is not None
    )


# ---- without looking at data ----


def _check_division(
    recipe: Recipe, model: ModelConfig, stages: Collection[str], processes: int
) -> None:
    """Raises RecipeError when a step of one of the stages does not divide over the processes, or
    holds not one row.
    """
    shares = [
        (
            "base",
            "batch_tokens",
            "rows",
            base_batch(recipe.base, model, recipe.model.preset) // model.context,
        )
    ]
    for name, config in _mixtures(recipe):
        if config.packed and config.batch_tokens < model.context:
            what = (
                f"{name}.batch_tokens is {config.batch_tokens:,}, less than one row of"
                f" {model.context:,} tokens, the context."
            )
            raise RecipeError(what, f"Set {name}.batch_tokens to a multiple of {model.context}.")
        packed = name, "batch_tokens", "rows", config.batch_tokens // model.context
        shares.append(
            packed
            if config.packed
            else (name, "batch_conversations", "conversations", config.batch_conversations)
        )
    if recipe.dpo is not None:
        shares.append(("dpo", "batch_pairs", "pairs", recipe.dpo.batch_pairs))
    if recipe.rl is not None:
        shares.append(("rl", "questions_per_step", "questions", recipe.rl.questions_per_step))
    for stage, key, unit, count in shares:
        if stage in stages and count % processes:
            what = f"A step of {count} {unit} does not divide over {processes} processes."
            raise RecipeError(what, f"Change {stage}.{key} or their number.")


def _check_mixtures(recipe: Recipe) -> None:
    for name, config in _mixtures(recipe):
        for what, entries in (("mixture", config.mixture), ("validation", config.held_out)):
            if not any(taken(entry, Survey()) for entry in entries):
                raise RecipeError(
                    f"The {what} of [{name}] comes to no conversations.",
                    "Give its entries counts and epochs above 0.",
                )


def _check_questions(recipe: Recipe, model: ModelConfig) -> None:
    config = recipe.rl
    if config is None:
        return
    if config.max_tokens > model.context:  # up to it, answers are cut where the context ends
        what = (
            f"rl.max_tokens is {config.max_tokens}, and the context {model.context}: no room is"
            " left for a question."
        )
        raise RecipeError(what, "Set rl.max_tokens lower, or model.context higher.")
    if config.task == POCKET:
        shortest = min(len(talk.prompt.messages[-1].text) for talk in practice(recipe.seed, 100))
        if shortest / LONGEST_TOKEN > model.context:
            raise DataError(
                f"No question of {config.task} fits the model's context of {model.context} tokens.",
                "Choose a longer context.",
            )
        return
    check_judged(config.task, "train")
    check_judged(config.task, "test")


def _check_machine(recipe: Recipe, outline: Plan) -> MachineError | None:
    """Raises MachineError for a device, compiler or kernel that is not here; returns the one that
    speaks of too little memory.
    """
    # nothing is timed: bf16 counts as fast, which asks for the least memory
    machine = detect(
        lambda device, dtype: float(dtype.itemsize == 2) + 1,
        device="cpu" if recipe.machine.device == "cpu" else None,
    )
    check_machine(recipe.machine, machine, outline.steps)
    try:
        if not recipe.machine.rows:
            micro_tokens(machine, outline.model)
    except MachineError as error:
        return error
    return None


def _warmup_notes(recipe: Recipe, outline: Plan) -> Iterator[str]:
    for stage in outline.stages:
        asked = getattr(recipe, stage.name).warmup
        kept = stage.steps // 4  # as in every stage's schedule
        if asked is not None and asked > kept:
            about = "" if stage.exact else "about "
            yield (
                f"{stage.name}.warmup asks for {asked} steps; of {about}{stage.steps:,} steps a"
                f" quarter at most is warmup: {about}{kept}."
            )


# ---- the data ----


def _read_data(recipe: Recipe, stages: Collection[str]) -> Survey:
    """Look into all data of one's own that some stages read. Raises DataError and RecipeError for
    what they could not use.
    """
    data, text, pairs = recipe.data, None, None
    if data.local is not None:
        open_fetcher(recipe, print)  # only looks whether the folder is there
    if {"tokenizer", "base"} & set(stages):
        if data.source == POCKET and data.column != "text":
            raise RecipeError(
                f"data.column is {data.column!r}, and the built-in world's column is 'text'.",
                "Leave data.column out.",
            )
        if data.source != POCKET and not data.on_hub:
            text = survey_text(Path(data.source), data.column)
    entries = [
        entry
        for name, config in _mixtures(recipe)
        if name in stages
        for entry in (*config.mixture, *config.validation)
    ]
    talks = {
        task: survey_conversations(task)
        for task in dict.fromkeys(entry.task for entry in entries if entry.is_file)
    }
    if (
        recipe.dpo is not None
        and "dpo" in stages
        and recipe.dpo.data != POCKET
        and not on_hub(recipe.dpo.data)
    ):
        pairs = survey_pairs(preference_pairs(recipe.dpo.data, open_sources(recipe, print)))
    return Survey(text, talks, pairs)


def _text_notes(recipe: Recipe, survey: Survey) -> Iterator[str]:
    if survey.text is not None and (recipe.data.files is not None or recipe.data.shards != "auto"):
        yield (
            "data.files and data.shards are for data sets of the Hub: all parquet files of"
            f" {recipe.data.source} are read."
        )
    if (
        survey.text is not None and survey.text.bytes < recipe.tokenizer.vocab_size
    ):  # each merge needs a place of its own
        yield (
            f"The text in {recipe.data.source} is too little for a vocabulary of"
            f" {recipe.tokenizer.vocab_size:,}: it will be smaller."
        )


def _mixture_notes(recipe: Recipe, model: ModelConfig, survey: Survey) -> Iterator[str]:
    """Raises DataError where surely nothing is left to learn; yields what looks wrong."""
    for name, config in _mixtures(recipe):
        for entry in config.mixture:
            yield from _repeat_notes(name, entry, survey)
            held = survey.talks.get(entry.task)
            if held is not None and not available(entry, survey):
                what = (
                    f"{entry.task} holds one conversation, which is kept for validation: none is"
                    f" left for [{name}] to learn from."
                )
                raise DataError(what, f"Add others to it; {import_hint(entry.task)}")
            if config.packed or held is None:
                continue
            what = (
                f"No answer in {entry.task} begins within the context of {model.context} tokens, so"
                " none would be trained on."
            )
            yield from _fit_notes(held.shortest, model, recipe, what)


def _repeat_notes(name: str, entry: MixtureEntry, survey: Survey) -> Iterator[str]:
    there = available(entry, survey)
    if (
        entry.count is not None
        and there is not None
        and entry.count > there
        and entry.task != POCKET
    ):
        yield (
            f"[{name}] takes {entry.count:,} conversations of {entry.task}; there are {there:,}:"
            f" {entry.count / there:.1f} times each."
        )


def _pair_notes(recipe: Recipe, model: ModelConfig, survey: Survey) -> Iterator[str]:
    if survey.pairs is not None and recipe.dpo is not None:
        what = (
            f"None of the preference pairs in {recipe.dpo.data} fits the model's context of"
            f" {model.context} tokens."
        )
        yield from _fit_notes(survey.pairs.shortest, model, recipe, what)


def _fit_notes(size: int, model: ModelConfig, recipe: Recipe, what: str) -> Iterator[str]:
    """Raises DataError when `size` bytes surely are more tokens than the context; yields a warning
    when they seem to be.
    """
    hint = "Choose a longer model.context, or shorter texts."
    if size / LONGEST_TOKEN > model.context:
        raise DataError(what, hint)
    if own_tokens(size, recipe.tokenizer.vocab_size) > model.context:
        yield f"It seems that: {what} {hint}"


def _check_evaluations(recipe: Recipe) -> Iterator[str]:
    """Raises RecipeError and DataError for evaluations that there are not; yields which will be
    left out.
    """
    config = recipe.eval
    if config is None:
        return
    tasks = [task for name in config.chat for task in (CHAT_TASKS if name == ALL else (name,))]
    for task in tasks:
        if task != POCKET:
            check_judged(task, "test")
    if config.core not in (None, POCKET, FULL):
        read_bundle(Path(os.path.expanduser(config.core or "")))
    if "HumanEval" in tasks:
        try:
            Sandbox()
        except MachineError as error:
            yield f"HumanEval will be left out: {error}"
