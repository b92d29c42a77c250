"""How the loss falls with the size of a model and with its tokens: a law fitted to finished
trainings, and the depth that it advises for a budget (Hoffmann et al. 2022, arXiv 2203.15556,
approach 3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np

EXPONENTS = np.arange(0.05, 1.505, 0.01)
FEWEST_POINTS = 5  # the law has five numbers


@dataclass(frozen=True)
class Point:
    """A finished training: its budget in FLOPs, the depth, parameters in matrices and head, the
    tokens and the loss on held-out text.
    """

    flops: float
    depth: int
    parameters: int
    tokens: int
    loss: float


@dataclass(frozen=True)
class Shape:
    """A depth that may be advised: its parameters in matrices and head, and FLOPs a token."""

    depth: int
    parameters: int
    flops_per_token: float


@dataclass(frozen=True)
class Law:
    """loss = floor + a / parameters^alpha + b / tokens^beta."""

    floor: float
    a: float
    alpha: float
    b: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        fall = self.a * parameters**-self.alpha + self.b * tokens**-self.beta
        return float(self.floor + fall)

    def error(self, points: Sequence[Point]) -> float:
        """Mean distance of the points from the law, as a share of their losses."""
        return float(np.mean([abs(self.loss(p.parameters, p.tokens) / p.loss - 1) for p in points]))

    def advise(self, budget: float, shapes: Sequence[Shape]) -> Shape:
        """The shape with the least loss when the whole budget is spent on it."""
        return min(
            shapes, key=lambda each: self.loss(each.parameters, budget / each.flops_per_token)
        )


def fit_law(points: Sequence[Point]) -> Law:
    """The law with the least squares of relative errors, none of its terms negative. Raises
    ValueError for fewer points than the law has numbers.
    """
    if len(points) < FEWEST_POINTS:
        raise ValueError(f"{len(points)} points are too few for a law of five numbers")
    losses = np.array([each.loss for each in points])
    # the logarithms' means are taken out, so that all columns are near 1
    sizes, tokens = (
        np.array([getattr(each, name) for each in points], dtype=float)
        for name in ("parameters", "tokens")
    )
    size, count = (float(np.exp(np.log(each).mean())) for each in (sizes, tokens))
    alphas, betas = (each.ravel() for each in np.meshgrid(EXPONENTS, EXPONENTS, indexing="ij"))
    columns = np.stack(
        (
            np.ones((len(alphas), len(points))),
            (sizes / size) ** -alphas[:, None],
            (tokens / count) ** -betas[:, None],
        ),
        -1,
    )
    factors, errors = _nonnegative(columns / losses[:, None])
    best = int(np.argmin(errors))
    floor, a, b = map(float, factors[best])
    alpha, beta = float(alphas[best]), float(betas[best])
    return Law(floor, a * size**alpha, alpha, b * count**beta, beta)


def _nonnegative(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of many sets of a few columns (sets, rows, columns): factors of the columns, none below 0,
    that bring their sum nearest to 1, and the squared errors. Every choice of columns is tried.
    """
    sets, _, count = columns.shape
    found, best = np.zeros((sets, count)), np.full(sets, np.inf)
    for used in chain.from_iterable(combinations(range(count), n) for n in range(1, count + 1)):
        chosen = columns[:, :, used]
        factors = np.linalg.pinv(chosen).sum(-1)
        errors = (((chosen @ factors[:, :, None])[..., 0] - 1) ** 2).sum(-1)
        better = (factors >= 0).all(-1) & (errors < best)
        best[better] = errors[better]
        found[better] = 0
        found[np.ix_(better, used)] = factors[better]
    return found, best


def usable_range(
    law: Law, points: Sequence[Point], shapes: Mapping[int, Shape], beyond: float
) -> tuple[float, float]:
    """From the smallest budget that was measured to the largest one at which the advised depth was
    measured, at most `beyond` times the largest budget. `shapes` has deeper ones as well.
    """
    budgets, deepest = [p.flops for p in points], max(p.depth for p in points)
    tried = np.geomspace(max(budgets), beyond * max(budgets), 101)
    inside = [
        float(each)
        for each in tried
        if law.advise(float(each), list(shapes.values())).depth <= deepest
    ]
    return min(budgets), max(inside, default=max(budgets))
