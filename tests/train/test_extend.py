"""The extend stage: planned, checked, trained, killed and resumed; what comes after it has the
longer context.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from chatling.config.extend import ExtendConfig
from chatling.config.recipe import Recipe, from_toml, to_toml
from chatling.config.stages import (
    BaseConfig,
    FinetuneConfig,
    LoopConfig,
    MachineConfig,
    MixtureEntry,
    OriginConfig,
)
from chatling.data.config import POCKET
from chatling.errors import Interrupted, RecipeError
from chatling.evals import long_context
from chatling.fields import ConfigError
from chatling.llm import open_engine
from chatling.model.config import ModelRecipe, flops_per_token
from chatling.pipeline.checks import check
from chatling.pipeline.plan import plan
from chatling.pipeline.session import run_recipe
from chatling.pipeline.stages import STAGES
from chatling.report.collect import collect
from chatling.report.long_context import long_parts
from chatling.report.words import ENGLISH
from chatling.run_dir import RunFolder
from chatling.tokenizer.train import TokenizerConfig
from chatling.toy.corpus import write_corpus
from chatling.toy.dataset import BUILT_IN
from chatling.train.checkpoint import model_shape
from chatling.train.extend import EXTEND, Extension
from chatling.train.finetune import SFT
from chatling.train.metrics import read_metrics
from chatling.train.stage_base import Job

RECIPE = Recipe(
    name="long",
    model=ModelRecipe(preset="modern", depth=2, width=32, head_width=16, context=32),
    tokenizer=TokenizerConfig(vocab_size=400),
    base=BaseConfig(steps=6, batch_tokens=256, validation_tokens=1024),
    extend=ExtendConfig(context=96, share=0.9),
    sft=FinetuneConfig(
        mixture=(MixtureEntry("pocket", count=16),),
        batch_conversations=8,
        validation_conversations=4,
    ),
    loop=LoopConfig(save_every=2, evaluate_every=0),
    machine=MachineConfig(device="cpu", compile="off", kernel="plain", threads=1),
)


def test_plans_and_checks_follow_the_longer_context() -> None:
    found = plan(RECIPE)
    stages = {stage.name: stage for stage in found.stages}
    assert list(stages) == ["base", "extend", "sft"]
    # 256 tokens are 3 rows of 96: 5 of 0.9 x 1,536 / 288
    assert (stages["extend"].steps, stages["extend"].tokens) == (5, 5 * 288)
    assert found.longest.context == 96
    assert stages["extend"].flops == 5 * 288 * flops_per_token(found.longest)
    plain = plan(replace(RECIPE, extend=None))
    assert plain.longest == plain.model
    assert plain.memory["activations"] < found.memory["activations"]
    with pytest.raises(RecipeError, match=r"3 rows does not divide over 2 .* extend\.batch_tokens"):
        check(RECIPE, ("extend",), processes=2)
    packed = FinetuneConfig(mixture=(MixtureEntry("pocket"),), packed=True, batch_tokens=64)
    with pytest.raises(RecipeError, match=r"mid\.batch_tokens is 64, less than one row of 96"):
        check(replace(RECIPE, mid=packed), ())


def test_what_makes_no_sense_is_refused() -> None:
    for words, said in (
        ({"context": 32}, "no more than model.context"),
        ({"context": 64, "batch_tokens": 100}, "not a multiple of extend.context, 64"),
        ({"context": 64, "scaling": "yarn", "rope_theta": 1e6}, "YaRN keeps the model's"),
    ):
        with pytest.raises((RecipeError, ConfigError), match=said):
            replace(RECIPE, extend=ExtendConfig(**words))  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"Leave one of the two"):
        replace(RECIPE, origin=OriginConfig("somewhere"))
    assert from_toml(Recipe, to_toml(RECIPE), "recipe.toml") == RECIPE


def test_it_runs_resumes_and_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path))
    monkeypatch.setattr("chatling.hardware.detect.gemm_tflops", lambda device, dtype: 1.0)
    monkeypatch.setattr(long_context, "ASKED", 2)
    monkeypatch.setattr(long_context, "DEPTHS", (0.5,))
    small = partial(write_corpus, characters=40_000)
    monkeypatch.setitem(BUILT_IN, POCKET, replace(BUILT_IN[POCKET], write_corpus=small))
    until = STAGES[: 1 + STAGES.index(EXTEND)]
    whole = run_recipe(RECIPE, "whole", stages=until)

    def stopped(self: Extension, job: Job) -> None:
        progress = job.progress

        class Stopping:
            start, message, machine = progress.start, progress.message, progress.machine
            samples, activity = progress.samples, progress.activity

            def step(self, metrics: dict[str, float]) -> None:
                progress.step(metrics)
                if metrics["step"] == 2:
                    raise Interrupted("Stopped by a test.")

        work(self, replace(job, progress=Stopping()))  # type: ignore[arg-type]

    work = Extension.work
    with monkeypatch.context() as patch:
        patch.setattr(Extension, "work", stopped)
        with pytest.raises(Interrupted):
            run_recipe(RECIPE, "cut", stages=until)
    run_recipe(RECIPE, "cut", stages=STAGES[: 1 + STAGES.index(SFT)])
    cut = RunFolder(tmp_path / "runs/cut")
    assert cut.read_state()["stages"]["extend"]["resumes"] == 1
    weights = [
        (folder.model("extend") / "model.safetensors").read_bytes() for folder in (whole, cut)
    ]
    assert weights[0] == weights[1]
    lines = read_metrics(cut.stage("extend") / "metrics.jsonl")
    assert [line["tokens"] for line in lines][:4] == [288] * 4
    shapes = {name: model_shape(cut.model(name)) for name in ("base", "extend", "sft")}
    assert {name: shape.context for name, shape in shapes.items()} == {
        "base": 32, "extend": 96, "sft": 96
    }  # fmt: skip
    assert shapes["sft"].windows == shapes["base"].windows == (12, 0)
    assert shapes["sft"].window_theta == shapes["base"].rope_theta
    assert shapes["sft"].rope_theta == 6 * shapes["base"].rope_theta
    assert open_engine(cut, "sft").context == 96
    found = json.loads((cut.evals / "extend-long.json").read_text())
    assert {gate["name"] for gate in found["results"]["gates"]} == {
        "needle", "loss by place", "bits per byte"
    }  # fmt: skip
    report = "\n".join(long_parts(collect(cut, STAGES), ENGLISH, alone=True))
    assert "**Longer context** of extend, from 32 to 96 tokens" in report
    assert "| needle | " in report
