"""The extend stage: a longer context after base. Layers that see the whole context rotate more
slowly, and the model continues with base's text, of which a share is long documents.
"""

import functools
from dataclasses import replace

from chatling.config.extend import ExtendConfig
from chatling.config.recipe import Recipe
from chatling.data.packing import LongRows, PackedRows
from chatling.evals.long_context import evaluate_long, write_long
from chatling.model.config import ModelConfig, flops_per_token
from chatling.run_dir import RunFolder
from chatling.train.batch_sources import packed_batches
from chatling.train.charts import ACCURACY, BPB, CORE, LOSS, OPTIMIZATION
from chatling.train.checkpoint import load_model
from chatling.train.context import Context, build_from
from chatling.train.corpus import has_text_shards, text_shards, write_text_shards
from chatling.train.scaling import base_batch, base_tokens, whole_rows
from chatling.train.setup import left_out, open_context
from chatling.train.stage_base import (
    Job,
    StagePlan,
    StepShare,
    TrainingStage,
    fractional_schedule,
    token_evaluation,
    train_stage,
)
from chatling.train.survey import Survey


class Extension(TrainingStage):
    """The `[extend]` stage."""

    charts = (LOSS, BPB, ACCURACY, CORE, *OPTIMIZATION)
    chats = False
    imported = True
    even_cost = True
    fewer = "a smaller share (--extend.share)"

    def config(self, recipe: Recipe) -> ExtendConfig:
        config: ExtendConfig = super().config(recipe)
        return config

    def shape(self, recipe: Recipe, model: ModelConfig) -> ModelConfig:
        return extended(model, self.config(recipe))

    def prepare(self, job: Job) -> None:
        write_text_shards(job.recipe, job.folder, job.progress.message)

    def reads_text(self, run: RunFolder | None) -> bool:
        return run is None or not has_text_shards(run)

    def work(self, job: Job) -> None:
        context, config = open_context(job, core=True), self.config(job.recipe)
        before, short = self.start_from(job), job.recipe.model.context
        longer = functools.partial(extended, config=config)
        model, optimizer = build_from(context, before, config, reshape=longer, fp8=True)
        long = model.config.context
        steps, batch = extension_length(job.recipe)
        share = self._long_share(context, steps * batch)
        batches, held_out = (
            packed_batches(context, text_shards(job.folder, split), batch // long, long, pack)
            for split, pack in (
                ("train", functools.partial(LongRows, long_from=short + 1, share=share)),
                ("validation", PackedRows),
            )
        )
        evaluate = token_evaluation(
            context, model, held_out.once(job.recipe.base.validation_tokens)
        )
        schedule = fractional_schedule(config, steps)
        train_stage(context, self, model, optimizer, schedule, batches, evaluate)
        with left_out(job, "what the longer context brought"):
            self._measure(context, before)

    def _long_share(self, context: Context, tokens: int) -> float:
        """How much of so many tokens is long documents: none of them is needed twice."""
        short, asked = context.recipe.model.context, self.config(context.recipe).long_share
        lengths = context.shards(text_shards(context.run, "train")).lengths
        there = int(lengths[lengths > short].sum())
        if there < asked * tokens:
            context.progress.message(
                f"{self.name}: {there / tokens:.1%} of its tokens instead of {asked:.1%} are of"
                f" documents longer than {short:,} tokens: the text has no more of them."
            )
        return min(asked, max(there, 1) / tokens)

    def _measure(self, context: Context, before: str) -> None:
        """Hold the model to the gates, and report."""
        execution, world = context.execution, context.world
        after, earlier = (
            load_model(
                context.run.model(stage),
                device=execution.device,
                dtype=execution.torch_dtype,
                world=world,
            )
            for stage in (self.name, before)
        )
        scores = evaluate_long(
            after,
            earlier,
            context.tokenizer,
            context.shards(text_shards(context.run, "validation")),
            tokens=context.recipe.base.validation_tokens,
            seed=context.seed,
            world=world,
        )
        if world.is_main:
            write_long(context.run, self.name, scores)
        for gate in scores.gates:
            verdict = "passed" if gate.passed else "NOT passed"
            context.progress.message(f"{self.name}: {gate.name} {verdict}: {gate.found}")

    def step_share(self, recipe: Recipe, model: ModelConfig) -> StepShare:
        _, batch = extension_length(recipe)
        return StepShare("batch_tokens", "rows", batch // model.context)

    def plan(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> StagePlan:
        steps, batch = extension_length(recipe)
        tokens = steps * batch
        return StagePlan(self.name, tokens, steps, tokens * flops_per_token(model), True)


EXTEND = Extension("extend", seed_id=5, requires=("base",))


def extended(model: ModelConfig, config: ExtendConfig) -> ModelConfig:
    """A model of the same weights for a longer context. Layers with a window compute what they
    did: they see no further.
    """
    factor = config.context / model.context
    if config.scaling == "yarn":
        return replace(
            model, context=config.context, yarn_factor=factor, yarn_context=model.context
        )
    kept = model.window_theta or model.rope_theta
    return replace(
        model,
        context=config.context,
        # as published extensions do: five to ten times for four times the context
        rope_theta=config.rope_theta or 2 * factor * model.rope_theta,
        window_theta=kept if any(model.windows) else 0.0,
    )


def extension_length(recipe: Recipe) -> tuple[int, int]:
    """(steps, tokens of a step)."""
    config, model = recipe.extend, recipe.model.resolve(recipe.tokenizer.vocab_size)
    assert config is not None
    base = base_batch(recipe.base, model, recipe.model.preset)
    batch = config.batch_tokens or whole_rows(base, config.context)
    return max(1, round(config.share * base_tokens(recipe) / batch)), batch
