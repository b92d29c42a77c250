"""Distillation: the divergence in float64, a stage that is killed and resumed, teachers that do not
fit.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from chatling.config.distill import DistillConfig
from chatling.config.recipe import Recipe
from chatling.config.stages import (
    BaseConfig,
    FinetuneConfig,
    LoopConfig,
    MachineConfig,
    MixtureEntry,
)
from chatling.data.config import POCKET
from chatling.errors import DataError, Interrupted, RecipeError, RunError
from chatling.model import losses
from chatling.model.config import ModelRecipe
from chatling.model.losses import reverse_kl_loss
from chatling.pipeline.checks import check
from chatling.pipeline.plan import plan
from chatling.pipeline.session import run_recipe
from chatling.pipeline.stages import STAGES
from chatling.run_dir import RunFolder
from chatling.tokenizer.train import TokenizerConfig
from chatling.toy.corpus import write_corpus
from chatling.toy.dataset import BUILT_IN
from chatling.train.distill import DISTILL, Distillation
from chatling.train.metrics import read_metrics
from chatling.train.stage_base import Job


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_divergence_is_that_of_the_formula_in_float64(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(losses, "CPU_CHUNK", 3 * 41 * 2)  # three places at once, of ten
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hidden, weight = draw(10, 6), draw(41, 6)
    theirs, their_weight = draw(10, 8), draw(41, 8)
    ours = [each.to(dtype, copy=True).requires_grad_() for each in (hidden, weight)]
    loss, count = reverse_kl_loss(*ours, theirs.to(dtype), their_weight.to(dtype), (15.0, 9.0))
    (3 * loss).backward()
    assert int(count) == 10
    exact = [each.clone().requires_grad_() for each in (hidden, weight)]
    student = (15 * torch.tanh(exact[0] @ exact[1].T / 15)).log_softmax(-1)
    teacher = (9 * torch.tanh(theirs @ their_weight.T / 9)).log_softmax(-1)
    expected = F.kl_div(
        teacher, student, reduction="sum", log_target=True
    )  # KL(student || teacher)
    (3 * expected).backward()
    rough = (
        {"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 1e-10, "rtol": 1e-10}
    )
    torch.testing.assert_close(loss.double(), expected, **rough)
    for found, wanted in zip(ours, exact, strict=True):
        assert found.grad is not None
        assert wanted.grad is not None
        torch.testing.assert_close(found.grad.double(), wanted.grad, **rough)


def test_a_model_does_not_diverge_from_itself() -> None:
    hidden, weight = torch.randn(7, 5), torch.randn(11, 5, requires_grad=True)
    loss, _ = reverse_kl_loss(hidden, weight, hidden, weight.detach(), (15.0, 15.0))
    loss.backward()
    assert loss.abs() < 1e-5
    assert weight.grad is not None
    assert weight.grad.abs().max() < 1e-5


def recipe(depth: int, steps: int = 2) -> Recipe:
    return Recipe(
        name="tiny",
        model=ModelRecipe(depth=depth, width=32, head_width=16, context=64),
        tokenizer=TokenizerConfig(vocab_size=400),
        base=BaseConfig(steps=steps, batch_tokens=256, validation_tokens=256),
        sft=FinetuneConfig(
            mixture=(MixtureEntry("pocket", count=40),),
            batch_conversations=8,
            validation_conversations=4,
        ),
        loop=LoopConfig(save_every=2, evaluate_every=0),
        machine=MachineConfig(device="cpu", compile="off", kernel="plain", threads=1),
    )


TABLE = DistillConfig(
    teacher="teacher",
    questions=24,
    questions_per_step=4,
    samples=2,
    max_tokens=8,
    steps=6,
    learning_rate_fraction=0.5,
    pad_to_multiple_of=16,
    evaluate_questions=6,
    save_every=2,
    evaluate_every=3,
)
UNTIL = STAGES[: 1 + STAGES.index(DISTILL)]


def test_it_comes_nearer_to_the_teacher_and_resumes_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path))
    monkeypatch.setattr("chatling.hardware.detect.gemm_tflops", lambda device, dtype: 1.0)
    small = partial(write_corpus, characters=30_000)
    monkeypatch.setitem(BUILT_IN, POCKET, replace(BUILT_IN[POCKET], write_corpus=small))
    student = replace(recipe(1), distill=TABLE)
    with pytest.raises(RunError, match="no run at"):
        check(student, ())
    run_recipe(recipe(2, steps=40), "teacher", stages=UNTIL)
    whole = run_recipe(student, "whole", stages=UNTIL)
    lines = read_metrics(whole.stage("distill") / "metrics.jsonl")
    held_out = [line["val_loss"] for line in lines if "val_loss" in line]
    assert len(held_out) == 3
    assert held_out[-1] < held_out[0]
    assert all(
        line["loss"] > 0 and 0 < line["answer_tokens"] <= 8 for line in lines if "loss" in line
    )

    def stopped(self: Distillation, job: Job) -> None:
        progress = job.progress

        class Stopping:
            start, message, machine = progress.start, progress.message, progress.machine
            samples, activity = progress.samples, progress.activity

            def step(self, metrics: dict[str, float]) -> None:
                progress.step(metrics)
                if metrics["step"] == 4:
                    raise Interrupted("Stopped by a test.")

        work(self, replace(job, progress=Stopping()))  # type: ignore[arg-type]

    work = Distillation.work
    with monkeypatch.context() as patch:
        patch.setattr(Distillation, "work", stopped)
        with pytest.raises(Interrupted):
            run_recipe(student, "cut", stages=UNTIL)
    capsys.readouterr()
    fewer = replace(student, distill=replace(TABLE, questions=41))
    run_recipe(fewer, "fewer", stages=UNTIL)
    assert "40 questions instead of 41" in capsys.readouterr().out
    run_recipe(student, "cut", stages=UNTIL)
    cut = RunFolder(tmp_path / "runs/cut")
    weights = [
        (folder.model("distill") / "model.safetensors").read_bytes() for folder in (whole, cut)
    ]
    assert weights[0] == weights[1]

    planned = {stage.name: stage for stage in plan(student).stages}["distill"]
    assert planned.steps == 6
    assert planned.flops > 0
    # sft's mixture has 40 conversations, whatever is asked for
    more = replace(student, distill=replace(TABLE, questions=400, steps=None))
    assert {stage.name: stage.steps for stage in plan(more).stages}["distill"] == 40 // 4
    other = replace(student, tokenizer=TokenizerConfig(vocab_size=401))
    with pytest.raises(DataError, match=r"has 400 tokens, and tokenizer\.vocab_size is 401"):
        check(other, ())
    # as many tokens, but others
    elsewhere = replace(student, seed=2, distill=replace(TABLE, teacher="teacher/sft"))
    with pytest.raises(DataError, match="another tokenizer"):
        run_recipe(elsewhere, "elsewhere", stages=UNTIL)


def test_a_table_without_questions_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"the recipe has no \[sft\]"):
        replace(recipe(1), sft=None, distill=TABLE)


@pytest.mark.parametrize(
    ("teacher", "parts"),
    [
        ("big", ("big", "", "")),
        ("big/sft", ("big", "/", "sft")),
        ("/home/me/runs/big", ("/home/me/runs/big", "", "")),
        ("/home/me/runs/big/rl", ("/home/me/runs/big", "/", "rl")),
    ],
)
def test_a_teacher_is_a_run_and_perhaps_a_stage(teacher: str, parts: tuple[str, str, str]) -> None:
    assert DistillConfig(teacher=teacher).run_and_stage == parts
