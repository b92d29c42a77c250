"""How training went: a table of the stages, and the curves of what each one measured."""

from collections.abc import Sequence
from itertools import accumulate

from chatling.report.collect import RunReport, StageReport
from chatling.report.figures import Curve, Figure, curves
from chatling.report.markdown import table
from chatling.report.words import Words
from chatling.train.charts import Chart
from chatling.train.status import duration


def training_parts(runs: Sequence[RunReport], words: Words) -> list[str | Figure]:
    """The table of stages, then each training stage's charts under its name."""
    parts: list[str | Figure] = [_stages(runs, words)]
    for definition in runs[0].registry:
        stages = [(run.name, stage) for run in runs if (stage := run.stage(definition.name))]
        if stages and definition.charts:
            drawn = [_draw(chart, stages, words) for chart in definition.charts]
            parts += [f"### {definition.name}", *filter(None, drawn)]
            if not any(drawn):
                parts.append(words.missing("Curves"))
    return parts


def _draw(chart: Chart, stages: Sequence[tuple[str, StageReport]], words: Words) -> Figure | None:
    """A chart of one stage of one run, over steps; or of several runs in one picture, over tokens,
    since their steps may differ in size.
    """
    alone, first = len(stages) == 1, stages[0][1]
    lines = []
    for run, stage in stages:
        for metric, label in [*chart.metrics.items()][0 if alone else -1 :]:
            steps, values = stage.series(metric)
            lines.append(
                Curve(
                    words(label) if alone else run,
                    steps if alone else _million_tokens(stage, steps),
                    values,
                    # Points that were measured only now and then are marked.
                    dots=2 * len(values) < len(stage.lines),
                )
            )
    resumes = [attempt["begun_at"] for attempt in first.attempts[1:] if attempt.get("begun_at")]
    return curves(
        f"{first.name}-{chart.name}",
        f"{first.name}: {words(chart.title)}",
        lines,
        x=words("step") if alone else words("million tokens"),
        clip=chart.clip,
        marks=resumes if alone else (),
        words=words,
    )


def _million_tokens(stage: StageReport, steps: Sequence[int]) -> list[float]:
    """Millions of tokens that had been trained on at each step."""
    there = {line["step"]: line["tokens"] for line in stage.lines if "tokens" in line}
    totals = dict(zip(there, accumulate(there.values()), strict=True))
    return [totals.get(step, 0) / 1e6 for step in steps]


def _stages(runs: Sequence[RunReport], words: Words) -> str:
    columns = (
        *(words("stage"), words("state"), words("steps"), words("tokens"), words("time")),
        *(words("planned"), words("tokens/s"), "MFU", words("memory"), words("loss")),
        *(words("validation"), words("bits per byte"), words("resumed")),
    )
    several = len(runs) > 1
    rows = [
        _stage_row(run.name if several else "", stage, words)
        for run in runs
        for stage in run.stages
        if stage.name != "report"
    ]
    for run in runs:
        total = (words.number(run.tokens), duration(run.seconds), *[""] * 8)
        rows.append((run.name if several else words("all"), "", "", *total))
    return table(columns, rows, numbers=True)


def _stage_row(run: str, stage: StageReport, words: Words) -> tuple[str, ...]:
    status, number = stage.status, words.number
    name, resumes = f"{run} {stage.name}".strip(), str(status.resumes or "")
    if not stage.trains:
        state = words(status.status)
        return (name, state, "", "", duration(status.seconds), *[""] * 7, resumes)
    steps = number(status.step)
    if status.step != status.steps:
        steps = words("{step} of {steps}", step=steps, steps=number(status.steps))
    return (
        name,
        words(status.status),
        steps,
        number(stage.tokens),
        duration(status.seconds),
        "" if status.planned is None else duration(status.planned),
        number(stage.speed),
        words.percent(stage.mfu, 0),
        words.memory(stage.peak_memory),
        number(stage.last("loss"), "{:.3f}"),
        number(stage.last("val_loss"), "{:.3f}"),
        number(stage.last("val_bpb"), "{:.4f}"),
        resumes,
    )
