"""Rates, momentum and weight decay at every step are the reference's."""

from __future__ import annotations

import numpy as np
import pytest

from chatling.config.stages import BaseConfig, LaterStageConfig
from chatling.optim.param_groups import OptimConfig
from chatling.optim.schedule import Schedule
from chatling.train.pretrain import base_schedule
from chatling.train.stage_base import fractional_schedule

from .reference import arrays

FOUND = arrays("schedules/schedules.npz")


def check(schedule: Schedule, what: str, name: str) -> None:
    wanted = FOUND[f"{name}_{what}"]
    found = [getattr(schedule, what)(step) for step in range(len(wanted))]
    assert np.abs(np.array(found) - wanted).max() < 1e-12


@pytest.mark.parametrize("steps", [1000, 37])
@pytest.mark.parametrize("what", ["rate", "momentum"])
def test_classic_base(steps: int, what: str) -> None:
    check(
        base_schedule(BaseConfig(), OptimConfig(), steps, "classic"), what, f"classic_base_{steps}"
    )


@pytest.mark.parametrize("steps", [1000, 3000])
@pytest.mark.parametrize("what", ["rate", "momentum", "weight_decay"])
def test_modern_base(steps: int, what: str) -> None:
    schedule = base_schedule(BaseConfig(), OptimConfig(preset="reference"), steps, "modern")
    check(schedule, what, f"modern_base_{steps}")


def test_classic_mid_training_by_progress() -> None:
    """The reference counts conversations and is two batches ahead; the curve is the same."""
    steps = len(FOUND["classic_mid_progress"]) - 1
    schedule = Schedule(steps, warmdown=0.2)
    found = [schedule.rate(step) for step in range(steps + 1)]
    assert np.abs(np.array(found) - FOUND["classic_mid_rate"]).max() < 1e-12


@pytest.mark.parametrize(("stage", "steps", "fraction"), [("sft", 700, 0.02), ("rl", 467, 0.05)])
@pytest.mark.parametrize("what", ["rate", "momentum"])
def test_classic_sft_and_rl(stage: str, steps: int, fraction: float, what: str) -> None:
    config = LaterStageConfig(learning_rate_fraction=fraction, momentum=0.95)
    check(fractional_schedule(config, steps), what, f"classic_{stage}_{steps}")
