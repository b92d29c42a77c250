"""What each training stage measured as it went, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from chatling.report.collect import RunReport, StageReport
from chatling.report.elements import Block, Figures, Section, Text
from chatling.report.figures import Curve, Figure, curves
from chatling.report.labels import MISSING
from chatling.run_dir import STAGES


@dataclass(frozen=True)
class Chart:
    """A figure of a stage: (metric, label, dots) of each line in it."""

    name: str
    title: str
    lines: tuple[tuple[str, str, bool], ...]
    clip: bool = False


CHARTS = (
    Chart("reward", "Reward of sampled answers", (("reward", "reward", False),)),
    Chart(
        "right",
        "Answered rightly",
        (
            ("val_accuracy", "greedy", True),
            ("pass@1", "one sample", True),
            ("pass@8", "of eight", True),
        ),
    ),
    Chart(
        "loss",
        "Loss, nats a token",
        (("loss", "training", False), ("val_loss", "validation", True)),
        clip=True,
    ),
    Chart("bpb", "Bits per byte, validation", (("val_bpb", "bits per byte", True),)),
    Chart("core", "CORE", (("core", "CORE", True),)),
    Chart(
        "margin",
        "Margin of the preferred answer",
        (("rewards/margin", "training", False), ("val_rewards/margin", "validation", True)),
    ),
    Chart("rate", "Learning rate, share of its peak", (("rate", "rate", False),)),
    Chart("gradient", "Gradient norm", (("gradient_norm", "norm", False),), clip=True),
    Chart("speed", "Tokens a second", (("tokens_per_second", "tokens a second", False),)),
)
ONLY = {"reward": ("rl",), "right": ("rl",)}  # charts that say something of some stages alone


def curve_sections(runs: Sequence[RunReport]) -> list[Block]:
    """A section a stage. Several runs share the figures, over tokens, since their steps may differ
    in size.
    """
    sections: list[Block] = []
    for name in STAGES:
        stages = [(run.name, stage) for run in runs if (stage := run.stage(name)) is not None]
        if not stages:
            continue
        drawn = [
            figure
            for chart in CHARTS
            if name in ONLY.get(chart.name, STAGES) and (figure := _draw(name, chart, stages))
        ]
        block: Block = Figures(tuple(drawn)) if drawn else Text(f"Curves: {MISSING}.", "note")
        sections.append(Section(name, (block,), 3))
    return sections


def _draw(name: str, chart: Chart, stages: Sequence[tuple[str, StageReport]]) -> Figure | None:
    alone = len(stages) == 1
    lines = []
    for run, stage in stages:
        for metric, label, dots in chart.lines if alone else chart.lines[-1:]:
            steps, values = (
                _speeds(stage) if metric == "tokens_per_second" else stage.series(metric)
            )
            x = steps if alone else _tokens(stage, steps)
            lines.append(Curve(label if alone else run, x, values, dots))
    breaks = (
        [attempt["begun_at"] for attempt in stages[0][1].attempts[1:] if attempt.get("begun_at")]
        if alone
        else []
    )
    axis = "step" if alone else "million tokens"
    return curves(
        f"{name}-{chart.name}",
        f"{name}: {chart.title}",
        lines,
        x=axis,
        clip=chart.clip,
        marks=breaks,
    )


def _speeds(stage: StageReport) -> tuple[list[int], list[float]]:
    """Tokens a second of each step but the first, which compiles."""
    found = [
        (line["step"], line["tokens"] / line["seconds"])
        for line in stage.lines
        if line.get("seconds")
    ][1:]
    return [step for step, _ in found], [speed for _, speed in found]


def _tokens(stage: StageReport, steps: Sequence[int]) -> list[float]:
    """Millions of tokens that had been trained on at each step."""
    there = [line for line in stage.lines if "tokens" in line]
    totals = dict(
        zip(
            (line["step"] for line in there),
            accumulate(line["tokens"] for line in there),
            strict=True,
        )
    )
    return [totals.get(step, 0) / 1e6 for step in steps]
