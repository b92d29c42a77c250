"""A model goes back towards where training began until it can nearly all that it could."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from chatling.config.recipe import load_recipe
from chatling.config.stages import DPOConfig
from chatling.errors import RecipeError
from chatling.evals.chat import Result
from chatling.hardware.distributed import DistContext
from chatling.model.config import ModelConfig
from chatling.model.gpt import GPT
from chatling.run_dir import RunFolder
from chatling.tokenizer.bpe import Tokenizer
from chatling.train import retention
from chatling.train.checkpoint import save_model
from chatling.train.context import Context
from chatling.train.datasets import open_sources
from chatling.train.dpo import DPO
from chatling.train.retention import hold, watched_questions
from chatling.train.runtime import RuntimeConfig

from .conftest import Silent

CONFIG = ModelConfig(1, 32, 2, 2, 265, 64, 64)


def model(value: float) -> GPT:
    made = GPT(CONFIG)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(value)
    return made


@pytest.mark.parametrize(
    ("worth", "loss", "share"), [(0.0, 0.01, 0.75), (0.06, 0.035, 0.5), (0.5, 0.01, 0.0)]
)
def test_as_far_as_old_skills_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worth: float, loss: float, share: float
) -> None:
    """Weights of 1 after training, 0 before it; a skill falls by `worth` along the way."""

    def evaluate(engine: Any, tokenizer: Any, tasks: Any, *_: Any, **__: Any) -> list[Result]:
        at = float(engine.model.embed_tokens.weight.mean())
        return [Result(task.name, 1000 * (0.9 - worth * at), 1000) for task in tasks]

    monkeypatch.setattr(retention, "evaluate_chat", evaluate)
    save_model(model(0.0), tmp_path / "start", {})
    recipe, trained = load_recipe("pocket"), model(1.0)
    context = Context(
        RunFolder(tmp_path),
        recipe,
        Tokenizer([bytes([byte]) for byte in range(256)], digits=2),
        RuntimeConfig("cpu", "float32", "plain", False, 1, 64),
        DistContext(),
        Silent(),
    )
    config = DPOConfig(data="pocket", watch=("pocket",), watch_questions=20, watch_loss=loss)
    found = hold(context, trained, tmp_path / "start", config, open_sources(recipe, print))
    assert found["share"] == share
    assert found["watched_before"] == pytest.approx(0.9)
    assert found["watched"] == pytest.approx(0.9 - worth * share)
    for parameter in trained.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, share))


def test_what_decides_is_not_what_is_shown() -> None:
    sources = open_sources(load_recipe("pocket"), print)
    deciding, shown = watched_questions(("pocket",), 40, sources)
    assert [len(task) for task in (*deciding, *shown)] == [4] * 20
    for one, other in zip(deciding, shown, strict=True):
        assert not {talk.prompt for talk in one} & {talk.prompt for talk in other}
    assert watched_questions((), 40, sources) == ([], [])


def test_what_cannot_be_judged_is_refused_before_training() -> None:
    recipe = load_recipe("pocket", ["--dpo.watch", "SmolTalk"])
    with pytest.raises(RecipeError, match="not questions that can be judged"):
        DPO.check(recipe, CONFIG)
