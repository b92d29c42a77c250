"""How good a model is: chat evaluations and CORE, as figures and tables."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from chatling.report.collect import RunReport
from chatling.report.figures import Bars, Curve, Figure, bars, curves
from chatling.report.long_context import long_parts
from chatling.report.markdown import escape, folded, table
from chatling.report.words import MISSING, Words

POCKET_CORE = "pocket CORE"
ChatMean = tuple[str, float, int, int]  # stage, mean accuracy over the tasks, tasks, questions


def chat_mean(run: RunReport) -> ChatMean | None:
    """Of the most advanced stage that was evaluated."""
    for stage in reversed(run.trained):
        rows = [row for row in run.chat(stage.name) if row.get("total") and not row.get("part")]
        if rows:
            mean = sum(row["accuracy"] for row in rows) / len(rows)
            return stage.name, mean, len(rows), sum(row["total"] for row in rows)
    return None


def core_score(run: RunReport) -> tuple[str, float, str] | None:
    """(stage, score, what the score is called) of the most advanced stage that has one."""
    for stage in reversed(run.trained):
        if found := run.core(stage.name):
            return stage.name, found["core"], core_name(found)
    return None


def core_name(result: Mapping[str, Any]) -> str:
    """CORE only where it is the published measure: all tasks of the full bundle, all examples."""
    if _all_tasks(result):
        return "CORE" if comparable(result) else "CORE, on a part of its examples"
    in_pocket = all(name.startswith("pocket_") for name in result["tasks"])
    return POCKET_CORE if in_pocket else "CORE, on some tasks"


def comparable(result: Mapping[str, Any]) -> bool:
    """Whether a score may stand beside published ones."""
    whole = not result.get("cut", True) and result.get("limit") is None
    return whole and _all_tasks(result)


def _all_tasks(result: Mapping[str, Any]) -> bool:
    return bool(result["tasks"].keys() == gpt2_scores().keys() - {"CORE"})


def gpt2_scores() -> dict[str, dict[str, float]]:
    """GPT-2's centered accuracies by task, as published with the bundle, and "CORE" for their mean.

    {task: {"GPT-2 small": …}}
    """
    with (files("chatling.report") / "gpt2_core.csv").open(encoding="utf-8") as file:
        return {
            row.pop("task"): {name: float(value) for name, value in row.items()}
            for row in csv.DictReader(file)
        }


@dataclass(frozen=True)
class Scores:
    """One kind of evaluation: what to know of it, its figure, its numbers as a folded table."""

    about: tuple[str, ...]
    figure: Figure | None
    numbers: str


def score_parts(runs: Sequence[RunReport], words: Words) -> list[str | Figure]:
    """Chat and CORE: what was measured, their figures, the numbers folded away."""
    found = [each for each in (_chat(runs, words), _core(runs, words)) if each is not None]
    drawn = [*(each.figure for each in found), _loss_by_position(runs, words)]
    return [
        *(text for each in found for text in each.about),
        *(text for run in runs for text in long_parts(run, words, alone=len(runs) == 1)),
        *filter(None, drawn),
        *(each.numbers for each in found),
    ]


def _chat(runs: Sequence[RunReport], words: Words) -> Scores | None:
    """One run: its stages side by side. Several: the most advanced stage of each."""
    columns: dict[str, dict[str, Mapping[str, Any]]] = {}
    chatcores = []
    for run in runs:
        there = [stage.name for stage in run.trained if run.chat(stage.name)]
        for stage in there if len(runs) == 1 else there[-1:]:
            label = _label(runs, run, stage)
            columns[label] = {row["name"]: row for row in run.chat(stage)}
            chatcore = run.evals[f"{stage}-chat"].get("chatcore")
            if chatcore is not None:
                chatcores.append(f"{escape(label)} {chatcore:.4f}")
    if not columns:
        return None
    tasks = list(dict.fromkeys(task for rows in columns.values() for task in rows))
    series = [
        Bars(
            label,
            [rows.get(task, {}).get("accuracy") for task in tasks],
            [rows.get(task, {}).get("interval") for task in tasks],
        )
        for label, rows in columns.items()
    ]
    about = words("**Chat**: held-out questions, judged by rule; lines are 95 % intervals.")
    if chatcores:
        about += words(
            " ChatCORE, the mean accuracy above guessing: {scores}.",
            scores=words(", ").join(chatcores),
        )
    names = [words.name(task) for task in tasks]
    figure = bars("chat", words("Chat questions answered correctly"), names, series, words=words)
    cells = [
        (
            name,
            *(
                words.interval(rows[task]) if task in rows else words(MISSING)
                for rows in columns.values()
            ),
        )
        for name, task in zip(names, tasks, strict=True)
    ]
    numbers = folded(words("Chat, the numbers"), table(("", *columns), cells, numbers=True))
    return Scores((about,), figure, numbers)


def _core(runs: Sequence[RunReport], words: Words) -> Scores | None:
    """CORE by task; beside GPT-2 where every run used the full bundle, and beside nothing else."""
    columns = {
        _label(runs, run, stage.name): found
        for run in runs
        for stage in run.trained
        if (found := run.core(stage.name))
    }
    if not columns:
        return None
    results = list(columns.values())
    tasks = list(dict.fromkeys(task for found in results for task in found["tasks"]))
    series = [
        Bars(label, [found["tasks"].get(task, {}).get("centered") for task in tasks])
        for label, found in columns.items()
    ]
    totals = {label: found["core"] for label, found in columns.items()}
    notes = []
    if all(map(comparable, results)):
        published = gpt2_scores()
        series += [
            Bars(name, [published[task][name] for task in tasks]) for name in published["CORE"]
        ]
        totals |= published["CORE"]
    elif any(core_name(found) != POCKET_CORE for found in results):
        notes.append(
            words(
                "*Not all examples of the bundle were used, so published scores do not compare and"
                " are not shown.*"
            )
        )
    kind = words(core_name(results[0]))
    about = words(
        "**{kind}**, the accuracy above guessing (0 is guessing, 1 all right), mean of {tasks}"
        " tasks: {scores}.",
        kind=kind,
        tasks=len(tasks),
        scores=words(", ").join(f"{escape(name)} {core:.4f}" for name, core in totals.items()),
    )
    title = words("{kind}: accuracy above guessing, by task", kind=kind)
    figure = bars("core", title, [*map(words.name, tasks)], series, percent=False, words=words)
    cells = [
        (words.name(task), *(_core_cell(found["tasks"].get(task), words) for found in results))
        for task in tasks
    ]
    summary = words("{kind}, the numbers", kind=kind)
    numbers = folded(summary, table(("", *columns), cells, numbers=True))
    return Scores((about, *notes), figure, numbers)


def _core_cell(task: Mapping[str, Any] | None, words: Words) -> str:
    if task is None:
        return words(MISSING)
    return words(
        "{centered:.3f} ({right} right of {count}, guessing {guessed})",
        centered=task["centered"],
        right=words.percent(task["accuracy"]),
        count=words.number(task["count"]),
        guessed=words.percent(task["baseline"], 0),
    )


def _loss_by_position(runs: Sequence[RunReport], words: Words) -> Figure | None:
    """How the loss falls with what a model has read, where `chatling eval RUN bpb` measured it, or
    the context became longer.
    """
    lines = []
    for run in runs:
        for stage in run.trained:
            label, long = _label(runs, run, stage.name), run.long(stage.name) or {}
            results = run.evals.get(f"{stage.name}-bpb", long and {"results": long})
            curves_by_label = {
                label: (results or {}).get("results", {}).get("positions"),
                words("before {stage}", stage=label): long.get("before"),
            }
            for name, losses in curves_by_label.items():
                known = {i: loss for i, loss in enumerate(losses or []) if loss is not None}
                lines.append(Curve(name, [*known], [*known.values()]))
    title = words("Loss by place in the context, nats a token")
    return curves("places", title, lines, x=words("tokens read before"), clip=True, words=words)


def _label(runs: Sequence[RunReport], run: RunReport, stage: str) -> str:
    return stage if len(runs) == 1 else f"{run.name} ({stage})"
