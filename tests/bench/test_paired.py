"""The paired test: against tables of Student's t, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chatling.bench.paired import paired_p


@pytest.mark.parametrize(
    ("t", "freedom", "p"),
    # critical values, two-sided, of any table
    [(12.706, 1, 0.05), (4.303, 2, 0.05), (2.571, 5, 0.05), (4.032, 5, 0.01), (2.262, 9, 0.05)],
)
def test_critical_values(t: float, freedom: int, p: float) -> None:
    pattern = np.linspace(-1, 1, freedom + 1)
    pattern /= pattern.std(ddof=1)
    differences = pattern + t / math.sqrt(freedom + 1)
    assert paired_p([*differences]) == pytest.approx(p, rel=2e-3)
    assert paired_p([*-differences]) == pytest.approx(p, rel=2e-3)


def test_chance_alone_gives_every_p_as_often() -> None:
    draws = np.random.default_rng(0).normal(size=(400, 6))
    found = sorted(paired_p([*row]) for row in draws)
    assert max(abs(p - i / 400) for i, p in enumerate(found)) < 0.08  # Kolmogorov, p > .01


def test_edges() -> None:
    assert paired_p([0.0, 0.0]) == 1.0
    assert paired_p([0.5, 0.5, 0.5]) == 0.0
    with pytest.raises(ValueError, match="one difference"):
        paired_p([1.0])
