"""The loss that a run may be expected to have: what earlier runs of the same recipe had after as
many tokens.
"""

import bisect
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from chatling.config.recipe import Recipe, from_toml, read_text
from chatling.errors import ChatlingError
from chatling.run_dir import latest_runs
from chatling.train.metrics import read_metrics

STEPS = 20  # that a loss is averaged over, as one step's is noise
POINTS = 20  # of a corridor
# On each side, since runs that differ in nothing but the seed do: by 3.9 % in the loss of their
# last 20 steps, by 2.7 % on held-out text (docs/LOG.md)
SPREAD = 0.04
RUNS = 8  # of the earlier ones, the newest

Points = list[tuple[int, float]]  # tokens, loss


@dataclass(frozen=True)
class Standing:
    """Where a loss is: ahead of what is expected, inside or behind, and from where to where that
    is.
    """

    word: str
    low: float
    high: float
    runs: int


@dataclass(frozen=True)
class Corridor:
    """From which to which loss the base stages of so many runs came, after so many tokens."""

    runs: int
    tokens: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "points": list(zip(self.tokens, self.low, self.high, strict=True)),
        }

    @staticmethod
    def from_dict(data: Any) -> "Corridor | None":
        """None for what `to_dict` did not write: a run folder is untrusted input."""
        with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
            tokens, low, high = zip(*data["points"], strict=True)
            return Corridor(
                int(data["runs"]),
                tuple(map(int, tokens)),
                tuple(map(float, low)),
                tuple(map(float, high)),
            )
        return None

    def standing(self, tokens: int, loss: float) -> Standing | None:
        """Of a loss after so many tokens; None where nothing is known of that place."""
        at = [
            _at(list(zip(self.tokens, side, strict=True)), tokens) for side in (self.low, self.high)
        ]
        low, high = at
        if low is None or high is None:
            return None
        word = "ahead" if loss < low else "behind" if loss > high else "inside"
        return Standing(word, low, high, self.runs)


def smoothed(lines: Iterable[Mapping[str, Any]]) -> Points:
    """(tokens so far, mean loss of the last STEPS steps) from the first step with so many on."""
    steps = [line for line in lines if "loss" in line]
    tokens = accumulate(int(line.get("tokens", 0)) for line in steps)
    sums = [0.0, *accumulate(float(line["loss"]) for line in steps)]
    return [
        (count, (sums[i] - sums[i - STEPS]) / STEPS)
        for i, count in enumerate(tokens, 1)
        if i >= STEPS
    ]


def expected_loss(recipe: Recipe, runs: Path, but: str) -> Corridor | None:
    """What finished runs in a folder of runs had whose base stage was given the same but for the
    seed; None where there is none. The run named `but` does not count.
    """
    curves: list[Points] = []
    for folder in latest_runs(runs):
        with contextlib.suppress(ChatlingError, OSError):  # whatever is wrong with another run
            entry = folder.read_state()["stages"].get("base", {})
            file = folder.path / "recipe.toml"
            if folder.name == but or entry.get("status") != "done" or len(curves) == RUNS:
                continue
            if _key(from_toml(Recipe, read_text(file), file.name)) == _key(recipe):
                curves.append(smoothed(read_metrics(folder.stage("base") / "metrics.jsonl")))
    curves = [curve for curve in curves if curve]
    if not curves:
        return None
    begin, end = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    tokens = tuple(begin + (end - begin) * i // (POINTS - 1) for i in range(POINTS))
    losses = [[loss for curve in curves if (loss := _at(curve, at))] for at in tokens]
    return Corridor(
        len(curves),
        tokens,
        tuple((1 - SPREAD) * min(each) for each in losses),
        tuple((1 + SPREAD) * max(each) for each in losses),
    )


def _key(recipe: Recipe) -> tuple[Any, ...]:
    """What the loss of base depends on, besides the seed."""
    return recipe.model, recipe.tokenizer, recipe.data.source, recipe.optim, recipe.base


def _at(points: Sequence[tuple[int, float]], tokens: int) -> float | None:
    """The value between two points; None outside of them."""
    i = bisect.bisect_left(points, tokens, key=lambda point: point[0])
    if i == len(points) or (i == 0 and points[0][0] != tokens):
        return None
    (right, after), (left, before) = points[i], points[max(0, i - 1)]
    return after if right == left else before + (after - before) * (tokens - left) / (right - left)
