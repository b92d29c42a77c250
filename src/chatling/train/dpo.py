"""Preference alignment by DPO (arXiv 2305.18290): the better answer of each pair becomes likelier
than the worse one, measured from where the model stood. The reference model's log-probabilities are
computed once and kept, so no second model is held in memory.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from chatling.data.config import POCKET
from chatling.data.preference_batches import PairBatch, PreferenceBatches, RenderedPairs
from chatling.data.preferences import split_preferences
from chatling.data.readers import file_format, find_files
from chatling.data.shard_files import file_fingerprint
from chatling.data.shard_writer import write_conversation_shards
from chatling.errors import DataError
from chatling.fields import (
    Count,
    CountOrZero,
    Epochs,
    Flag,
    Fraction,
    Rate,
    Text,
    Weight,
    Width,
    absolute,
    bounded,
    config,
)
from chatling.hardware.distributed import main_process_first
from chatling.model.config import ModelConfig, ModelRecipe
from chatling.model.gpt import GPT
from chatling.model.losses import implicit_rewards, preference_loss
from chatling.optim.param_groups import OptimConfig, resolve_optim
from chatling.optim.schedule import Schedule
from chatling.run_dir import open_plain, read_manifest, write_atomic
from chatling.tokenizer.bpe import Tokenizer
from chatling.toy.preferences import preferences as pocket_preferences
from chatling.train.callbacks import LiveEvals
from chatling.train.checkpoint import MODEL, load_weights, open_model
from chatling.train.context import Context, build, checked_shards, save_finished
from chatling.train.datasets import Sources
from chatling.train.trainer import Trainer

POCKET_PAIRS = 1_200  # of the built-in world, where the recipe gives no number


@config
class DPOConfig:
    """The `[dpo]` table."""

    data: Text
    """"pocket", a file or folder of preference pairs, or a data set of the Hub as OWNER/NAME."""
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
    learning_rate_fraction: Rate = 0.01
    """Of the base stage's rates."""
    matrices_only: Flag = False
    """Embeddings, head and scales stay as they are, which keeps other skills."""
    epochs: Epochs = 1
    """Times through the pairs."""
    batch_pairs: Count = 32
    """Of a step, on all processes."""
    pad_to_multiple_of: Width = 64
    """Answers are padded to multiples of this many tokens."""
    warmup: CountOrZero = 0
    """Steps, at most a quarter of all."""
    warmdown: Fraction = 1.0
    """Fraction of the steps."""
    validation_pairs: Count = 500
    """At most, of those held out."""
    evaluate_every: CountOrZero = field(default=50, metadata={"inert": True})
    """Steps between validations; 0: only in the end."""

    def anchored(self) -> DPOConfig:
        """With the path of a file or folder made absolute, so that it means the same from another
        working directory.
        """
        path = absolute(self.data)
        return replace(self, data=path) if self.data != POCKET and os.path.exists(path) else self


def dpo_facts(config: DPOConfig) -> tuple[Any, ...]:
    """What the stage depends on, besides the seed: its table, and the files of its own."""
    path = Path(os.path.expanduser(config.data))
    own = find_files(path).files if config.data != POCKET and path.exists() else ()
    return config, [file_fingerprint(file) for file in own]


def prepare_dpo(
    config: DPOConfig,
    tokenizer: Tokenizer,
    sources: Sources,
    train: Path,
    validation: Path,
    note: Callable[[str], None],
) -> None:
    """Write the pairs as token shards, once; documents 2 i and 2 i + 1 are the answers of pair
    i.
    """
    if config.data == POCKET:
        count = config.pairs or POCKET_PAIRS
        splits = (
            pocket_preferences("train", sources.seed, count),
            pocket_preferences("validation", sources.seed, config.validation_pairs),
        )
        marks = [hashlib.sha256(repr(splits).encode()).hexdigest()]
    else:
        files = preference_pairs(config.data, sources)
        marks = [file_fingerprint(file) for file in files]
        splits = split_preferences(files, note)
    for folder, pairs in zip((train, validation), splits, strict=True):
        facts = repr(("dpo", tokenizer.fingerprint, sources.seed, config.data, marks, len(pairs)))
        write_conversation_shards(
            folder,
            RenderedPairs(tokenizer, pairs),
            tokenizer.vocab_size,
            fingerprint=facts,
            note=note,
        )


def on_hub(data: str) -> bool:
    """Whether pairs come from a data set of the Hub. What is there on this disk goes before one,
    and a file's name is none.
    """
    path = Path(os.path.expanduser(data))
    return data.count("/") == 1 and not path.exists() and file_format(path) is None


def preference_pairs(data: str, sources: Sources) -> list[Path]:
    """The files of pairs of a path or of a data set of the Hub, fetched. Raises DataError."""
    path = Path(os.path.expanduser(data))
    if path.exists():
        return list(find_files(path).files)
    if not on_hub(data):
        raise DataError(
            f"There are no preference pairs at {data!r}.",
            'dpo.data is "pocket", a path, or a Hub data set as OWNER/NAME.',
        )
    return [file for file in sources.fetcher().dataset(data, "*") if file_format(file) is not None]


def train_dpo(
    context: Context,
    start_from: str,
    config: DPOConfig,
    model_recipe: ModelRecipe,
    optim: OptimConfig,
    base_batch_tokens: int,
    train: Path,
    validation: Path,
) -> None:
    """Align the model of stage `start_from` with the pairs. Writes `dpo/model`."""
    folder = context.run.model(start_from)
    shape = open_model(folder, context.world)
    rates = resolve_optim(optim, model_recipe.preset, shape.width, base_batch_tokens, 1, 0)
    model, optimizer = build(context, shape, rates, matrices_only=config.matrices_only)
    load_weights(model, folder)
    batches, held_out = (
        preference_batches(context, config, shards, shape) for shards in (train, validation)
    )
    if batches.left_out:
        context.progress.message(
            f"dpo: {batches.left_out} of {len(batches.lengths)} pairs are too long for the context,"
            " and left out"
        )
    start = read_manifest(folder)[MODEL].sha256
    for each, shards, most in (
        (batches, train, None),
        (held_out, validation, config.validation_pairs),
    ):
        each.reference = reference_logprobs(
            context,
            model,
            each,
            shards.with_name(f"{shards.name}-reference.safetensors"),
            start,
            most,
        )
    steps = max(1, config.epochs * len(batches.usable) // config.batch_pairs)
    schedule = Schedule(
        steps, min(config.warmup, steps // 4), config.warmdown, peak=config.learning_rate_fraction
    )

    def loss(inputs: Tensor, targets: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        return _loss(config, model.logprobs(inputs, targets), targets, reference)

    evaluate = functools.partial(preference_scores, model, held_out, config, context)
    loop = replace(context.loop, evaluate_every=config.evaluate_every)
    run, world = context.run.stage("dpo"), context.world
    trainer = Trainer(
        "dpo",
        run,
        model,
        optimizer,
        schedule,
        batches,
        loss,
        evaluate,
        loop,
        world,
        context.progress,
        evaluate_first=True,
        callback=LiveEvals(context, "dpo", model),
    )
    save_finished(context, "dpo", model, trainer.fit())


def preference_batches(
    context: Context, config: DPOConfig, shards: Path, shape: ModelConfig
) -> PreferenceBatches:
    """The pairs of some shards as steps and micro-batches for this rank."""
    execution, world = context.execution, context.world
    return PreferenceBatches(
        checked_shards(context, shards),
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
    for pairs, batch in batches.once(most):
        sums = model.logprobs(*_tensors(batch, context.device)[:2]).sum(dim=1).float().cpu()
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
        inputs, targets, reference = _tensors(batch, context.device)
        logprobs = model.logprobs(inputs, targets)
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


def _tensors(batch: PairBatch, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    inputs, targets, reference = (
        torch.from_numpy(array).to(device)
        for array in (batch.inputs, batch.targets, batch.reference)
    )
    return inputs, targets, reference
