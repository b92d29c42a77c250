"""The rate of a training step, as `grow` measures it."""

from __future__ import annotations

import time

from chatling.bench.train import reached_flops
from chatling.config.recipe import load_recipe
from chatling.model.config import flops_per_token


def test_the_rate_of_a_step_is_its_flops_over_its_time() -> None:
    words = (
        "--model.depth 1 --model.width 64 --model.head-width 32 --model.context 64"
        " --machine.compile off"
    )
    recipe = load_recipe("pocket", words.split())
    begun = time.perf_counter()
    rates = [reached_flops(recipe, tokens) for tokens in (64, 1024)]
    spent = time.perf_counter() - begun
    each = flops_per_token(recipe.model.resolve(recipe.tokenizer.vocab_size))
    assert each * 64 / rates[0] < spent / 9  # of nine steps the median of seven
    assert 0 < rates[0] < rates[1]  # small steps have the same cost beside their products
