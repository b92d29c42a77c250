"""The law of losses: known laws are found again, and what it advises is the best of all depths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.bench.scaling_law import Law, Point, Shape, fit_law, usable_range

SHAPES = {
    depth: Shape(depth, size := 12 * depth * (64 * depth) ** 2 + 64 * depth * 8192, 6.0 * size)
    for depth in range(1, 13)
}
BUDGETS = (3e12, 1e13, 3e13, 1e14)
CHINCHILLA = Law(1.69, 406.4, 0.34, 410.7, 0.28)


def measured(law: Law, noise: float = 0.0) -> list[Point]:
    draw = np.random.default_rng(0)
    return [
        Point(budget, shape.depth, shape.parameters, tokens, loss * (1 + noise * draw.normal()))
        for budget in BUDGETS
        for shape in list(SHAPES.values())[:4]
        for tokens in [int(budget / shape.flops_per_token)]
        for loss in [law.loss(shape.parameters, tokens)]
    ]


@settings(max_examples=5, deadline=None)
@given(
    st.floats(0.3, 2),
    st.floats(0.2, 0.8),
    st.floats(0.2, 0.8),
    st.floats(0.2, 3),
    st.floats(0.2, 3),
)
def test_a_law_is_found_again(
    floor: float, alpha: float, beta: float, by_size: float, by_tokens: float
) -> None:
    """The terms are what they are at a million parameters and at a million tokens."""
    true = Law(floor, by_size * 1e6**alpha, alpha, by_tokens * 1e6**beta, beta)
    found = fit_law(measured(true))
    assert found.error(measured(true)) < 2e-3  # exponents are found to 0.01
    for budget in (3e12, 3e13, 3e14):
        ours, best = (law.advise(budget, list(SHAPES.values())) for law in (found, true))
        tokens = budget / ours.flops_per_token
        wanted = true.loss(best.parameters, budget / best.flops_per_token)
        assert true.loss(ours.parameters, tokens) <= 1.002 * wanted


def test_noise_moves_the_fit_little() -> None:
    found = fit_law(measured(CHINCHILLA, 0.003))
    assert found.error(measured(CHINCHILLA)) < 0.005
    assert min(found.floor, found.a, found.b) >= 0


def test_the_range_ends_where_a_deeper_model_than_any_measured_is_better() -> None:
    points = measured(CHINCHILLA)
    low, high = usable_range(CHINCHILLA, points, SHAPES, 100)
    assert low == 3e12
    assert 1e14 <= high < 1e16
    assert CHINCHILLA.advise(high, list(SHAPES.values())).depth == 4
    assert CHINCHILLA.advise(1.1 * high, list(SHAPES.values())).depth > 4


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        fit_law(measured(CHINCHILLA)[:4])
