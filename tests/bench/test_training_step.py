"""The rate of a training step, as `grow` measures it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from chatling.bench import train
from chatling.config.recipe import load_recipe
from chatling.model.config import flops_per_token


def test_the_rate_of_a_step_is_its_flops_over_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def half_a_second(work: Callable[[], object], device: torch.device, repeats: int) -> float:
        work()
        return 0.5

    monkeypatch.setattr(train, "median_seconds", half_a_second)
    words = (
        "--model.depth 1 --model.width 64 --model.head-width 32 --model.context 64"
        " --machine.compile off"
    )
    recipe = load_recipe("pocket", words.split())
    each = flops_per_token(recipe.model.resolve(recipe.tokenizer.vocab_size))
    assert train.reached_flops(recipe, 1024) == pytest.approx(each * 1024 / 0.5)
    assert train.reached_flops(recipe, 1) == pytest.approx(each * 64 / 0.5)  # a row at least
