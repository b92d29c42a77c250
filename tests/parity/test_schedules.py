"""Rates, momentum and weight decay at every step are the reference's."""

from __future__ import annotations

import numpy as np
import pytest

from chatling.config.stages import BaseConfig
from chatling.optim.schedule import Schedule
from chatling.train.pretrain import base_schedule

from .reference import arrays

FOUND = arrays("schedules/schedules.npz")
LATE = "the reference of July 2026 raises it to 0.97 over 400 steps, and lets it fall to 0.90"
HALF_COSINE = "the reference of July 2026 lets it fall by half a cosine"
FRESH = "every stage begins with a fresh momentum (docs/deviations.md)"


def check(schedule: Schedule, what: str, name: str) -> None:
    wanted = FOUND[f"{name}_{what}"]
    found = [getattr(schedule, what)(step) for step in range(len(wanted))]
    assert np.abs(np.array(found) - wanted).max() < 1e-12


@pytest.mark.parametrize("steps", [1000, 37])
@pytest.mark.parametrize("what", ["rate", "momentum"])
def test_classic_base(steps: int, what: str) -> None:
    check(base_schedule(BaseConfig(), steps, "classic"), what, f"classic_base_{steps}")


@pytest.mark.parametrize("steps", [1000, 3000])
@pytest.mark.parametrize(
    "what",
    [
        "rate",
        pytest.param(
            "momentum", marks=pytest.mark.xfail(strict=True, raises=AssertionError, reason=LATE)
        ),
        pytest.param(
            "weight_decay",
            marks=pytest.mark.xfail(strict=True, raises=AssertionError, reason=HALF_COSINE),
        ),
    ],
)
def test_modern_base(steps: int, what: str) -> None:
    check(base_schedule(BaseConfig(), steps, "modern"), what, f"modern_base_{steps}")


def test_classic_mid_training_by_progress() -> None:
    """The reference counts conversations and is two batches ahead; the curve is the same."""
    steps = len(FOUND["classic_mid_progress"]) - 1
    schedule = Schedule(steps, warmdown=0.2)
    found = [schedule.rate(step) for step in range(steps + 1)]
    assert np.abs(np.array(found) - FOUND["classic_mid_rate"]).max() < 1e-12


@pytest.mark.parametrize(("stage", "steps", "fraction"), [("sft", 700, 0.02), ("rl", 467, 0.05)])
@pytest.mark.parametrize(
    "what",
    [
        "rate",
        pytest.param(
            "momentum", marks=pytest.mark.xfail(strict=True, raises=AssertionError, reason=FRESH)
        ),
    ],
)
def test_classic_sft_and_rl(stage: str, steps: int, fraction: float, what: str) -> None:
    check(Schedule(steps, warmdown=1.0, peak=fraction), what, f"classic_{stage}_{steps}")
