"""How good a model is: chat evaluations and CORE, as figures and tables."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from chatling.report.collect import RunReport
from chatling.report.elements import Block, Figures, Folded, Table, Text
from chatling.report.figures import Bars, Curve, Figure, bars, curves
from chatling.report.labels import MISSING, interval, number, percent, plain

POCKET_CORE = "pocket CORE"
ChatMean = tuple[str, float, int, int]  # stage, mean accuracy over the tasks, tasks, questions


def chat_mean(run: RunReport) -> ChatMean | None:
    """Of the most advanced stage that was evaluated."""
    for stage in reversed(run.trained):
        rows = [row for row in run.chat(stage.name) if row.get("total")]
        if rows:
            return (
                stage.name,
                sum(row["accuracy"] for row in rows) / len(rows),
                len(rows),
                sum(row["total"] for row in rows),
            )
    return None


def core_score(run: RunReport) -> tuple[str, float, str] | None:
    """(stage, score, what the score is called) of the most advanced stage that has one."""
    for stage in reversed(run.trained):
        found = run.core(stage.name)
        if found:
            return stage.name, found["core"], core_name(found)
    return None


def core_name(result: Mapping[str, Any]) -> str:
    """CORE only where it is the published measure: all tasks of the full bundle, all examples."""
    if result["tasks"].keys() == gpt2_scores().keys() - {"CORE"}:
        return "CORE" if compares(result) else "CORE, on a part of its examples"
    return (
        POCKET_CORE
        if all(name.startswith("pocket_") for name in result["tasks"])
        else "CORE, on some tasks"
    )


def compares(result: Mapping[str, Any]) -> bool:
    """Whether a score may stand beside published ones."""
    whole = not result.get("cut", True) and result.get("limit") is None
    return whole and result["tasks"].keys() == gpt2_scores().keys() - {"CORE"}


def gpt2_scores() -> dict[str, dict[str, float]]:
    """GPT-2's centred accuracies by task, as published with the bundle: {task: {"GPT-2 small": …}},
    and "CORE" for their mean.
    """
    with (files("chatling.report") / "gpt2_core.csv").open(encoding="utf-8") as file:
        return {
            row.pop("task"): {name: float(value) for name, value in row.items()}
            for row in csv.DictReader(file)
        }


@dataclass(frozen=True)
class Scores:
    """One kind of evaluation: what to know of it, its figure, its numbers."""

    title: str
    about: tuple[Text, ...]
    figure: Figure | None
    table: Table


def score_blocks(runs: Sequence[RunReport]) -> list[Block]:
    """Chat and CORE: what was measured, their figures side by side, the numbers folded away."""
    found = [each for each in (_chat(runs), _core(runs)) if each is not None]
    drawn = tuple(
        figure for figure in (*(each.figure for each in found), _by_place(runs)) if figure
    )
    blocks: list[Block] = [text for each in found for text in each.about]
    return [
        *blocks,
        *([Figures(drawn)] if drawn else []),
        *(Folded(f"{each.title}, the numbers", (each.table,)) for each in found),
    ]


def _chat(runs: Sequence[RunReport]) -> Scores | None:
    """One run: its stages side by side. Sequence: the most advanced stage of each."""
    columns: list[tuple[str, dict[str, Mapping[str, Any]]]] = []
    chatcores: list[tuple[str, float]] = []
    for run in runs:
        there = [stage.name for stage in run.trained if run.chat(stage.name)]
        for name in there if len(runs) == 1 else there[-1:]:
            columns.append((_label(runs, run, name), {row["name"]: row for row in run.chat(name)}))
            whole = run.evals[f"{name}-chat"].get("chatcore")
            chatcores += [(columns[-1][0], whole)] if whole is not None else []
    if not columns:
        return None
    tasks = list(dict.fromkeys(task for _, rows in columns for task in rows))
    series = [
        Bars(
            name,
            [rows[task]["accuracy"] if task in rows else None for task in tasks],
            [_ends(rows.get(task)) for task in tasks],
        )
        for name, rows in columns
    ]
    table = tuple(
        (plain(task), *(interval(rows[task]) if task in rows else MISSING for _, rows in columns))
        for task in tasks
    )
    told = "**Chat**: held-out questions, judged by rule; lines are 95 % intervals."
    means = [f"{name} {value:.4f}" for name, value in chatcores]
    about = Text(
        f"{told} ChatCORE, the mean accuracy above guessing: {', '.join(means)}." if means else told
    )
    figure = bars(
        "chat", "Chat questions answered rightly", [plain(task) for task in tasks], series
    )
    return Scores(
        "Chat", (about,), figure, Table(("", *(name for name, _ in columns)), table, numbers=True)
    )


def _ends(row: Mapping[str, Any] | None) -> tuple[float, float] | None:
    return (row["interval"][0], row["interval"][1]) if row and row.get("interval") else None


def _core(runs: Sequence[RunReport]) -> Scores | None:
    """CORE by task; beside GPT-2 where every run used the full bundle, and beside nothing else."""
    columns: list[tuple[str, Mapping[str, Any]]] = []
    for run in runs:
        for stage in run.trained:
            found = run.core(stage.name)
            if found:
                columns.append((_label(runs, run, stage.name), found))
    if not columns:
        return None
    tasks = list(dict.fromkeys(task for _, found in columns for task in found["tasks"]))
    series = [
        Bars(name, [found["tasks"].get(task, {}).get("centered") for task in tasks])
        for name, found in columns
    ]
    totals = [f"{name} {found['core']:.4f}" for name, found in columns]
    notes: list[Text] = []
    if all(compares(found) for _, found in columns):
        published = gpt2_scores()
        series += [
            Bars(name, [published[task][name] for task in tasks]) for name in published["CORE"]
        ]
        totals += [f"{name} {value:.4f}" for name, value in published["CORE"].items()]
    elif any(core_name(found) != POCKET_CORE for _, found in columns):
        notes.append(
            Text(
                "Not all examples of the bundle were used, so published scores do not compare and"
                " are not shown.",
                "note",
            )
        )
    kind = core_name(columns[0][1])
    about = (
        f"**{kind}**, the accuracy above guessing (0 is guessing, 1 all right), mean of"
        f" {len(tasks)} tasks: {', '.join(totals)}."
    )
    figure = bars(
        "core",
        f"{kind}: accuracy above guessing, by task",
        [plain(task) for task in tasks],
        series,
        percent=False,
    )
    rows = tuple(
        (plain(task), *(_core_cell(found["tasks"].get(task)) for _, found in columns))
        for task in tasks
    )
    return Scores(
        kind,
        (Text(about), *notes),
        figure,
        Table(("", *(name for name, _ in columns)), rows, numbers=True),
    )


def _by_place(runs: Sequence[RunReport]) -> Figure | None:
    """How the loss falls with what a model has read, where `chatling eval RUN bpb` measured it."""
    lines = []
    for run in runs:
        for stage in run.trained:
            losses = (
                run.evals.get(f"{stage.name}-bpb", {}).get("results", {}).get("positions") or []
            )
            known = [(place, loss) for place, loss in enumerate(losses) if loss is not None]
            lines.append(
                Curve(
                    _label(runs, run, stage.name),
                    [place for place, _ in known],
                    [loss for _, loss in known],
                )
            )
    return curves(
        "places",
        "Loss by place in the context, nats a token",
        lines,
        x="tokens read before",
        clip=True,
    )


def _label(runs: Sequence[RunReport], run: RunReport, stage: str) -> str:
    return stage if len(runs) == 1 else f"{run.name} ({stage})"


def _core_cell(task: Mapping[str, Any] | None) -> str:
    if task is None:
        return MISSING
    right = f"{percent(task['accuracy'])} right of {number(task['count'])}"
    return f"{task['centered']:.3f} ({right}, guessing {percent(task['baseline'], 0)})"
