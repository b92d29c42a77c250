"""A stage of one's own is one object and one line in the registry: it is planned, checked, trained,
killed and resumed, charted and reported, and leaves the other stages' fingerprints alone.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from chatling.config.recipe import Recipe
from chatling.config.stages import BaseConfig, LoopConfig, MachineConfig
from chatling.data.config import POCKET
from chatling.errors import Interrupted, RecipeError
from chatling.model.config import ModelConfig, ModelRecipe, flops_per_token
from chatling.optim.schedule import Schedule
from chatling.pipeline import runner
from chatling.pipeline.checks import check
from chatling.pipeline.plan import plan
from chatling.pipeline.session import run_recipe
from chatling.pipeline.stages import STAGES
from chatling.report.collect import collect
from chatling.report.words import ENGLISH
from chatling.run_dir import MANIFEST, RunFolder
from chatling.run_dir import STAGES as ORDER
from chatling.tokenizer.train import TokenizerConfig
from chatling.toy.corpus import write_corpus
from chatling.toy.dataset import BUILT_IN
from chatling.train.batch_sources import packed_batches
from chatling.train.charts import LOSS, Chart
from chatling.train.context import build_from
from chatling.train.metrics import read_metrics
from chatling.train.setup import open_context
from chatling.train.stage_base import (
    Job,
    StagePlan,
    StepShare,
    TrainingStage,
    token_evaluation,
    train_stage,
)
from chatling.train.survey import Survey

STEPS, ROWS = 6, 2


class Again(TrainingStage):
    """Base's text once more, at constant rates."""

    charts = (LOSS, Chart("bits", "Bits of a byte", {"val_bpb": "bits"}))
    chats = False

    def enabled(self, recipe: Recipe) -> bool:
        return True

    def config(self, recipe: Recipe) -> BaseConfig:
        return recipe.base

    def check(self, recipe: Recipe, model: ModelConfig) -> None:
        if model.context > 1_000:
            raise RecipeError("Texts are not read again in so long a context.")

    def step_share(self, recipe: Recipe, model: ModelConfig) -> StepShare:
        return StepShare("rows", "rows", ROWS)

    def plan(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> StagePlan:
        tokens = STEPS * ROWS * model.context
        return StagePlan(self.name, tokens, STEPS, tokens * flops_per_token(model), True)

    def work(self, job: Job) -> None:
        context = open_context(job)
        model, optimizer = build_from(context, self.start_from(job))
        batches, held_out = (
            packed_batches(context, job.shards("base", split), ROWS, model.config.context)
            for split in ("train", "validation")
        )
        evaluate = token_evaluation(context, model, held_out.once(256))
        train_stage(context, self, model, optimizer, Schedule(STEPS), batches, evaluate)


PLACE = [stage.name for stage in STAGES].index("base") + 1
WITH_AGAIN = (*STAGES[:PLACE], Again("again", seed_id=90, requires=("base",)), *STAGES[PLACE:])
RECIPE = Recipe(
    name="again",
    model=ModelRecipe(depth=1, width=32, head_width=16, context=64),
    tokenizer=TokenizerConfig(vocab_size=400),
    base=BaseConfig(steps=2, batch_tokens=128, validation_tokens=256),
    loop=LoopConfig(save_every=2, evaluate_every=3),
    machine=MachineConfig(device="cpu", compile="off", kernel="plain", threads=1),
)


def test_the_registry_and_the_order_on_disk_agree() -> None:
    training = [stage for stage in STAGES if isinstance(stage, TrainingStage)]
    assert tuple(stage.name for stage in training) == ORDER
    assert [stage.seed_id for stage in training] == [0, 5, 1, 2, 6, 3, 4]  # for ever


def test_it_is_planned_and_checked() -> None:
    found = plan(RECIPE, stages=WITH_AGAIN)
    assert [(stage.name, stage.steps) for stage in found.stages] == [("base", 2), ("again", STEPS)]
    assert found.disk["again"] > 0
    assert found.work["again"] > 0
    assert check(RECIPE, ("report",), stages=WITH_AGAIN).plan == found
    base = BaseConfig(steps=2, batch_tokens=2048)
    longer = replace(RECIPE, model=replace(RECIPE.model, context=2048), base=base)
    with pytest.raises(RecipeError, match="so long a context"):
        check(longer, (), stages=WITH_AGAIN)
    with pytest.raises(RecipeError, match=r"2 rows does not divide over 3 .* again\.rows"):
        check(RECIPE, ("again",), processes=3, stages=WITH_AGAIN)


def test_it_runs_resumes_and_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path))
    monkeypatch.setattr("chatling.hardware.detect.gemm_tflops", lambda device, dtype: 1.0)
    small = partial(write_corpus, characters=60_000)
    monkeypatch.setitem(BUILT_IN, POCKET, replace(BUILT_IN[POCKET], write_corpus=small))
    whole = run_recipe(RECIPE, "whole", stages=WITH_AGAIN)

    def stopped(self: Again, job: Job) -> None:
        progress = job.progress

        class Stopping:
            start, message, machine = progress.start, progress.message, progress.machine

            def step(self, metrics: dict[str, float]) -> None:
                progress.step(metrics)
                if metrics["step"] == 3:
                    raise Interrupted("Stopped by a test.")

        work(self, replace(job, progress=Stopping()))  # type: ignore[arg-type]

    work = Again.work
    with monkeypatch.context() as patch:
        patch.setattr(Again, "work", stopped)
        with pytest.raises(Interrupted):
            run_recipe(RECIPE, "cut", stages=WITH_AGAIN)
    cut = RunFolder(tmp_path / "runs/cut")
    assert runner.unfinished(RECIPE, cut, WITH_AGAIN) == ["again", "report"]
    run_recipe(RECIPE, "cut", stages=WITH_AGAIN)
    assert cut.read_state()["stages"]["again"]["resumes"] == 1
    for folder in (whole, cut):
        losses = [line["loss"] for line in read_metrics(folder.stage("again") / "metrics.jsonl")]
        assert len(losses) == STEPS
        assert (folder.model("again") / MANIFEST).exists()
    weights = [
        (folder.model("again") / "model.safetensors").read_bytes() for folder in (whole, cut)
    ]
    assert weights[0] == weights[1]
    report = (cut.report / "report.html").read_text()
    assert "again: Bits of a byte" in report
    told = collect(cut, WITH_AGAIN).stage("again")
    assert told is not None
    assert [each.partition(" at ")[0] for each in told.resumes(ENGLISH)] == [
        "again was stopped; it resumed from step 2"
    ]
    assert runner.unfinished(RECIPE, cut, STAGES) == ["report"]  # base is what it was
