"""Preference alignment by DPO (arXiv 2305.18290): the better answer of each pair becomes likelier
than the worse one, measured from where the model stood. The reference model's log-probabilities are
computed once and kept, so no second model is held in memory.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from chatling.config.recipe import Recipe
from chatling.config.stages import DPOConfig
from chatling.data.preference_batches import PreferenceBatches
from chatling.errors import DataError
from chatling.evals.chat import chat_task_names, open_chat_tasks
from chatling.hardware.distributed import main_process_first
from chatling.model.config import ModelConfig, flops_per_token
from chatling.model.gpt import GPT
from chatling.model.losses import implicit_rewards, preference_loss
from chatling.run_dir import open_plain, read_manifest, write_atomic
from chatling.tokenizer.bpe import Tokenizer
from chatling.toy.dataset import BUILT_IN
from chatling.train.charts import LOSS, OPTIMIZATION, Chart
from chatling.train.checkpoint import MODEL, open_model
from chatling.train.context import Context, build_from, tensors
from chatling.train.datasets import Sources, open_sources
from chatling.train.mixture import OWN_CONVERSATIONS, expected_tokens
from chatling.train.pairs import dpo_facts, on_hub, preference_pairs, prepare_dpo
from chatling.train.retention import hold
from chatling.train.scaling import own_tokens
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
    train_stage,
)
from chatling.train.survey import Survey, fit_notes, survey_pairs
from chatling.train.trainer import Trainer


class PreferenceOptimization(TrainingStage):
    """The `[dpo]` stage."""

    charts = (
        Chart(
            "margin",
            "Margin of the preferred answer",
            {"rewards/margin": "training", "val_rewards/margin": "validation"},
        ),
        Chart("accuracy", "Pair accuracy, validation", {"val_accuracy": "pair accuracy"}),
        replace(LOSS, title="Loss a pair"),
        *OPTIMIZATION,
    )
    fewer = "fewer dpo.epochs"

    def config(self, recipe: Recipe) -> DPOConfig:
        config: DPOConfig = super().config(recipe)
        return config

    def fingerprint_inputs(self, recipe: Recipe) -> object:
        return recipe.seed, recipe.optim, *dpo_facts(self.config(recipe))

    def prepare(self, job: Job) -> None:
        prepare_dpo(
            self.config(job.recipe),
            Tokenizer.load(job.folder.tokenizer),
            open_sources(job.recipe, job.progress.message),
            job.shards(self.name, "train"),
            job.shards(self.name, "validation"),
            note=job.progress.message,
        )

    def work(self, job: Job) -> None:
        shards = (job.shards(self.name, split) for split in ("train", "validation"))
        self.train(open_context(job), self.start_from(job), *shards)

    def train(self, context: Context, start_from: str, train: Path, validation: Path) -> None:
        """Align the model of stage `start_from` with the pairs in the shards."""
        config, folder = self.config(context.recipe), context.run.model(start_from)
        model, optimizer = build_from(
            context, start_from, config, matrices_only=config.matrices_only
        )
        batches, held_out = (
            preference_batches(context, config, shards, model.config)
            for shards in (train, validation)
        )
        if batches.left_out:
            context.progress.message(
                f"dpo: {batches.left_out} of {len(batches.lengths)} pairs are too long for the"
                " context, and left out"
            )
        start = read_manifest(folder)[MODEL].sha256
        for each, shards, limit in (
            (batches, train, None),
            (held_out, validation, config.validation_pairs),
        ):
            cache = shards.with_name(f"{shards.name}-reference.safetensors")
            each.reference = reference_logprobs(context, model, each, cache, start, limit)
        steps = max(1, config.epochs * len(batches.usable) // config.batch_pairs)

        def loss(
            inputs: Tensor, targets: Tensor, reference: Tensor, places: Tensor
        ) -> tuple[Tensor, Tensor]:
            return _loss(config, model.logprobs(inputs, targets, places), targets, reference)

        evaluate = functools.partial(preference_scores, model, held_out, config, context)

        def finish(trainer: Trainer) -> None:
            if not config.watch:
                return
            open_model(folder, context.world)  # days may have passed
            sources = open_sources(context.recipe, context.progress.message)
            facts = hold(context, model, folder, config, sources) | evaluate()
            if context.world.is_main:
                step = trainer.position.step
                trainer.metrics.append({"step": step, "event": "held", **facts})

        train_stage(
            context,
            self,
            model,
            optimizer,
            fractional_schedule(config, steps),
            batches,
            evaluate,
            loss=loss,
            loop=replace(context.recipe.loop, evaluate_every=config.evaluate_every),
            evaluate_first=True,
            finish=finish,
        )

    def check(self, recipe: Recipe, model: ModelConfig) -> None:
        chat_task_names(self.config(recipe).watch)

    def step_share(self, recipe: Recipe, model: ModelConfig) -> StepShare:
        return StepShare("batch_pairs", "pairs", self.config(recipe).batch_pairs)

    def survey(self, recipe: Recipe, seen: Survey) -> Survey:
        data = self.config(recipe).data
        if data in BUILT_IN or on_hub(data):
            return seen
        pairs = preference_pairs(data, open_sources(recipe, print))
        return replace(seen, pairs=survey_pairs(pairs))

    def notes(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> Iterator[str]:
        if survey.pairs is not None:
            what = (
                f"None of the preference pairs in {self.config(recipe).data} fits the model's"
                f" context of {model.context} tokens."
            )
            yield from fit_notes(survey.pairs.shortest, model, what)

    def fetch(self, recipe: Recipe, sources: Sources, note: Callable[[str], None]) -> None:
        data = self.config(recipe).data
        open_chat_tasks(self.config(recipe).watch, recipe.seed, 1, sources.fetcher)
        if data not in BUILT_IN:
            pairs = preference_pairs(data, sources)
            if on_hub(data):
                survey_pairs(pairs)  # files of one's own were looked into before

    def plan(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> StagePlan:
        """Both answers of each pair, and once more forward alone for the reference: a third of a
        step's work.
        """
        config = self.config(recipe)
        if made := BUILT_IN.get(config.data):
            pairs = config.pairs or made.preference_count
        else:
            pairs = survey.pairs.items if survey.pairs else OWN_CONVERSATIONS
        tokens = 2.0 * pairs * config.epochs * expected_tokens(config.data)
        if survey.pairs:
            tokens = own_tokens(survey.pairs.bytes, model.vocab_size) * config.epochs
        return StagePlan(
            self.name,
            int(tokens),
            max(1, config.epochs * pairs // config.batch_pairs),
            tokens
            * (
                flops_per_token(model, rank=self.rank(recipe))
                + flops_per_token(model) / (3 * config.epochs)
            ),
            False,
            2 * pairs,
            int(tokens) * (token_bytes(model) + 1),  # with a mask
        )

    def uses(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> Iterator[Use]:
        if survey.pairs is not None:
            config = self.config(recipe)
            tokens = own_tokens(survey.pairs.bytes, model.vocab_size)
            yield Use(self.name, config.data, "pairs", survey.pairs, tokens, config.epochs)


DPO = PreferenceOptimization(
    "dpo", seed_id=3, requires=(ORIGIN, "base", "extend", "mid", "sft", "distill")
)


def preference_batches(
    context: Context, config: DPOConfig, shards: Path, shape: ModelConfig
) -> PreferenceBatches:
    """The pairs of some shards as steps and micro-batches for this rank."""
    execution, world = context.execution, context.world
    return PreferenceBatches(
        context.shards(shards),
        config.batch_pairs,
        execution.micro_tokens,
        world.rank,
        world.size,
        bos=context.tokenizer.bos,
        seed=context.seed,
        max_tokens=shape.context,
        pad_to_multiple_of=config.pad_to_multiple_of,
        one_shape=execution.compile,
    )


@torch.no_grad()
def reference_logprobs(
    context: Context,
    model: GPT,
    batches: PreferenceBatches,
    cache: Path,
    start: str,
    most: int | None,
) -> np.ndarray:
    """(documents,) log-probability of each answer under the model that DPO begins with; 0 for pairs
    that are not used.

    Kept in `cache` for as long as weights (`start`), pairs and settings are the same. The ranks
    share the work.
    """
    key = hashlib.sha256(
        repr((start, batches.shards.fingerprint, most, context.execution.dtype)).encode()
    ).hexdigest()
    known = context.world.broadcast_object(
        _cached(cache, key, context.progress.message) if context.world.is_main else None
    )
    if known is not None and known.shape == (batches.shards.documents,):
        return known
    found = torch.zeros(batches.shards.documents, dtype=torch.float32)
    done, total = 0, -(-min(len(batches.usable), most or len(batches.usable)) // context.world.size)
    for pairs, batch in batches.once(most):
        context.progress.activity("dpo, log-probabilities of the reference model", done, total)
        done += len(pairs)
        inputs, targets, _, places = tensors(batch, context.device)
        sums = model.logprobs(inputs, targets, places).sum(dim=1).float().cpu()
        rows = len(sums) // 2
        for side in (0, 1):
            found[2 * pairs + side] = sums[side * rows : side * rows + len(pairs)]
    values: np.ndarray = context.world.all_reduce(found.to(context.device)).cpu().numpy()
    with main_process_first(context.world):
        if context.world.is_main:
            write_atomic(
                cache, save({"logprobs": values}, metadata={"of": key, "sha256": _digest(values)})
            )
    return values


def _cached(cache: Path, key: str, say: Callable[[str], None]) -> np.ndarray | None:
    """What was computed before, if it was of the same. What is damaged is reported, and computed
    again.
    """
    try:
        with open_plain(cache), safe_open(cache, framework="numpy") as file:
            facts = file.metadata() or {}
            if facts.get("of") != key:
                return None
            values: np.ndarray = file.get_tensor("logprobs")
            if _digest(values) == facts.get("sha256"):
                return values
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, DataError):
        pass
    say(f"dpo: {cache} is damaged; the reference model's log-probabilities are computed again.")
    return None


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(
        repr((values.dtype.str, values.shape)).encode() + values.tobytes()
    ).hexdigest()


@torch.no_grad()
def preference_scores(
    model: GPT, batches: PreferenceBatches, config: DPOConfig, context: Context
) -> dict[str, float]:
    """On held-out pairs: the loss; how often the better answer is the likelier one
    (`val_preferred`), and how often it gained more on the reference than the worse one
    (`val_accuracy`); the margin of the gains; and how far each answer's log-probability drifted.
    """
    totals = [0.0] * 7
    for _, batch in batches.once(config.validation_pairs):
        inputs, targets, reference, places = tensors(batch, context.device)
        logprobs = model.logprobs(inputs, targets, places)
        loss, count = _loss(config, logprobs, targets, reference)
        chosen, rejected, real = implicit_rewards(
            logprobs, targets, reference, config.length_normalize
        )
        better, worse, _ = implicit_rewards(
            logprobs, targets, torch.zeros_like(reference), config.length_normalize
        )
        each = (better > worse, chosen > rejected, chosen - rejected, chosen, rejected)
        sums = [loss, count, *((value * real).sum() for value in each)]
        totals = [total + float(value) for total, value in zip(totals, sums, strict=True)]
    loss_sum, pairs, *rest = context.world.all_reduce_scalars(totals, context.device)
    names = (
        "val_preferred",
        "val_accuracy",
        "val_rewards/margin",
        "val_rewards/chosen",
        "val_rewards/rejected",
    )
    return {"val_loss": loss_sum / pairs} | {
        name: value / pairs for name, value in zip(names, rest, strict=True)
    }


def _loss(
    config: DPOConfig, logprobs: Tensor, targets: Tensor, reference: Tensor
) -> tuple[Tensor, Tensor]:
    return preference_loss(
        logprobs,
        targets,
        reference,
        beta=config.beta,
        label_smoothing=config.label_smoothing,
        length_normalize=config.length_normalize,
        sft_loss_weight=config.sft_loss_weight,
    )
