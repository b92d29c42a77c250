"""Which of a stage's metrics are drawn: the charts of a report, described."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Chart:
    """One chart: `metrics` gives each metric's label; `clip` lets a high beginning leave the
    picture, so that the rest can be seen.

    Several runs in one chart are compared by the last of its metrics.
    """

    name: str
    title: str
    metrics: Mapping[str, str]
    clip: bool = False


COMMON_CHARTS = (
    Chart(
        "loss",
        "Loss, nats a token",
        {"loss": "training", "val_loss": "validation"},
        clip=True,
    ),
    Chart("bpb", "Bits per byte, validation", {"val_bpb": "bits per byte"}),
    Chart("core", "CORE", {"core": "CORE"}),
    Chart("rate", "Learning rate, share of its peak", {"rate": "rate"}),
    Chart("gradient", "Gradient norm", {"gradient_norm": "norm"}, clip=True),
    Chart("speed", "Tokens a second", {"tokens_per_second": "tokens a second"}),
)
DPO_CHARTS = (
    Chart(
        "margin",
        "Margin of the preferred answer",
        {"rewards/margin": "training", "val_rewards/margin": "validation"},
    ),
)
RL_CHARTS = (
    Chart("reward", "Reward of sampled answers", {"reward": "reward"}),
    Chart(
        "right",
        "Answered rightly",
        {"val_accuracy": "greedy", "pass@1": "one sample", "pass@8": "of eight"},
    ),
)
# What a stage draws besides the common ones, before them; a chart without data is left out.
STAGE_CHARTS = {"dpo": DPO_CHARTS, "rl": RL_CHARTS}


def stage_charts(stage: str) -> tuple[Chart, ...]:
    """The charts of a stage, in the report's order."""
    return (*STAGE_CHARTS.get(stage, ()), *COMMON_CHARTS)
