"""The base stage: next-token prediction over packed documents."""

from collections.abc import Iterator

from chatling.config.recipe import Recipe
from chatling.config.stages import BaseConfig
from chatling.model.config import (
    ModelConfig,
    counted_at_depth_12,
    counted_parameters,
    flops_per_token,
)
from chatling.optim.param_groups import OptimConfig, OptimSettings, resolve_optim
from chatling.optim.schedule import Schedule
from chatling.run_dir import RunFolder
from chatling.toy.dataset import BUILT_IN
from chatling.train.batch_sources import packed_batches
from chatling.train.charts import ACCURACY, BPB, CORE, LOSS, OPTIMIZATION
from chatling.train.context import build
from chatling.train.corpus import (
    has_text_shards,
    plan_corpus,
    survey_corpus,
    text_shards,
    write_text_shards,
)
from chatling.train.expected import expected_loss
from chatling.train.scaling import CHARACTERS_PER_TOKEN, base_batch, base_steps, own_tokens
from chatling.train.setup import open_context
from chatling.train.stage_base import (
    Job,
    StagePlan,
    StepShare,
    TrainingStage,
    Use,
    token_bytes,
    token_evaluation,
    train_stage,
)
from chatling.train.survey import Survey


class Pretraining(TrainingStage):
    """The `[base]` stage."""

    charts = (LOSS, BPB, ACCURACY, CORE, *OPTIMIZATION)
    chats = False
    imported = True
    even_cost = True
    fewer = "fewer steps (--base.steps {})"

    def fingerprint_inputs(self, recipe: Recipe) -> object:
        return recipe.seed, recipe.model, recipe.optim, recipe.base

    def prepare(self, job: Job) -> None:
        write_text_shards(job.recipe, job.folder, job.progress.message)

    def work(self, job: Job) -> None:
        context, recipe = open_context(job, core=True), job.recipe
        config, preset = recipe.base, recipe.model.preset
        known = expected_loss(recipe, job.folder.path.parent, job.folder.name)
        job.record({"expected": known.to_dict() if known else None})
        shape = recipe.model.resolve(context.tokenizer.vocab_size)
        steps = base_steps(config, shape, preset)
        rows = base_batch(config, shape, preset) // shape.context
        batches, held_out = (
            packed_batches(context, text_shards(job.folder, split), rows, shape.context)
            for split in ("train", "validation")
        )
        rates = base_rates(config, recipe.optim, shape, preset)
        model, optimizer = build(context, shape, rates, shard=self.is_sharded(recipe), fp8=True)
        evaluate = token_evaluation(context, model, held_out.once(config.validation_tokens))
        schedule = base_schedule(config, recipe.optim, steps, preset)
        train_stage(context, self, model, optimizer, schedule, batches, evaluate)

    def check(self, recipe: Recipe, model: ModelConfig) -> None:
        base_rates(recipe.base, recipe.optim, model, recipe.model.preset)

    def is_sharded(self, recipe: Recipe) -> bool:
        return recipe.machine.shard

    def step_share(self, recipe: Recipe, model: ModelConfig) -> StepShare:
        batch = base_batch(recipe.base, model, recipe.model.preset)
        return StepShare("batch_tokens", "rows", batch // model.context)

    def survey(self, recipe: Recipe, seen: Survey) -> Survey:
        return survey_corpus(recipe, seen)

    def notes(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> Iterator[str]:
        data = recipe.data
        if survey.text is not None and (data.files is not None or data.shards != "auto"):
            yield (
                "data.files and data.shards are for data sets of the Hub: all parquet files of"
                f" {data.source} are read."
            )

    def reads_text(self, run: RunFolder | None) -> bool:
        """Of text that is tokenized already, nothing is fetched."""
        return run is None or not has_text_shards(run)

    def plan(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> StagePlan:
        steps = base_steps(recipe.base, model, recipe.model.preset)
        tokens = steps * base_batch(recipe.base, model, recipe.model.preset)
        text, made = plan_corpus(recipe), BUILT_IN.get(recipe.data.source)
        written = min(int(text.characters / CHARACTERS_PER_TOKEN) if text else tokens, 10**13)
        data = made.corpus_bytes if made else written * token_bytes(model)
        return StagePlan(self.name, tokens, steps, tokens * flops_per_token(model), True, data=data)

    def uses(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> Iterator[Use]:
        if (text := survey.text) is not None:
            tokens = own_tokens(text.bytes, model.vocab_size)
            epochs = self.plan(recipe, model, survey).tokens / max(1.0, tokens)
            yield Use(self.name, recipe.data.source, "documents", text, tokens, epochs)


BASE = Pretraining("base", seed_id=0, requires=("tokenizer",))


def base_rates(
    config: BaseConfig, optim: OptimConfig, model: ModelConfig, preset: str
) -> OptimSettings:
    """The rates of the base stage. Modern's weight decay goes by the size of the model, whatever
    the number of steps asked for.
    """
    batch = base_batch(config, model, preset)
    sizes = counted_parameters(model, preset), counted_at_depth_12(model, preset)
    return resolve_optim(optim, preset, model.width, batch, *sizes)


def base_schedule(config: BaseConfig, optim: OptimConfig, steps: int, preset: str) -> Schedule:
    """classic: no warmup, last 20 % linear to 0. modern: 40 steps, last 65 % linear to 5 %. Muon's
    momentum and the weight decay move as the optimizer's preset says.
    """
    warmup, warmdown, final = (40, 0.65, 0.05) if preset == "modern" else (0, 0.2, 0.0)
    return Schedule(
        steps,
        warmup=min(warmup if config.warmup is None else config.warmup, steps // 4),
        warmdown=warmdown if config.warmdown is None else config.warmdown,
        final=final if config.final is None else config.final,
        muon=optim.momentum(preset),
        decay=optim.filled(preset).decay_schedule or "constant",
    )
