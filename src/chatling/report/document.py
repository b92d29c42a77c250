"""From collected runs to the blocks of a report: the answer first, then how good, what it says, how
it went, and what is not known.
"""

from __future__ import annotations

from collections.abc import Sequence

from chatling.report.charts import curve_sections
from chatling.report.collect import RunReport, StageReport
from chatling.report.elements import Block, List, Report, SampleTable, Section, Table, Text, Tiles
from chatling.report.labels import MISSING, large, memory, number, percent, series
from chatling.report.provenance import differences, made_of
from chatling.report.tables import chat_mean, core_score, score_blocks
from chatling.train.status import duration


def compose(runs: Sequence[RunReport]) -> Report:
    """The report of one run, or of several side by side."""
    title = runs[0].name if len(runs) == 1 else " and ".join(run.name for run in runs)
    blocks: list[Block] = [_headline(run, alone=len(runs) == 1) for run in runs]
    blocks.append(_tiles(runs[0]) if len(runs) == 1 else _comparison(runs))
    blocks.append(
        Section(
            "How good it is",
            tuple(score_blocks(runs) or [Text(f"CORE and chat evaluations: {MISSING}.", "note")]),
        )
    )
    blocks.append(
        Section("What it says", _answers(runs) or (Text(f"Samples: {MISSING}.", "note"),))
    )
    blocks.append(Section("How training went", (_stages(runs), *curve_sections(runs))))
    blocks += [made_of(run, alone=len(runs) == 1) for run in runs]
    if len(runs) > 1:
        blocks.append(differences(runs))
    blocks.append(_notes(runs))
    return Report(title, tuple(blocks))


def _headline(run: RunReport, *, alone: bool) -> Text:
    """One paragraph: what was trained, on what, how long, how good; or where it stands."""
    size = (
        f"{large(run.parameters)} parameters"
        if run.parameters
        else f"a number of parameters that was {MISSING}"
    )
    machine = f" on {run.machine['name']}" if run.machine else ""
    read = f" It learnt from {large(run.tokens)} tokens." if run.tokens else ""
    told = (
        f"**{run.name}** is a model of {size}, trained from nothing in"
        f" {duration(run.seconds)}{machine}.{read}"
    )
    if not run.finished:
        at = run.trained[-1].status if run.trained else None
        where = (
            f"{at.name} is at step {number(at.step)} of {number(at.steps)} ({at.status})"
            if at
            else "no training stage has begun"
        )
        told = (
            f"**{run.name}** is not finished: {where}. It has {size}; {duration(run.seconds)} were"
            f" spent so far{machine}.{read}"
        )
    chat = chat_mean(run)
    if chat:
        stage, mean, tasks, questions = chat
        asked = (
            f"mean of {tasks} kinds, {questions:,} questions"
            if tasks > 1
            else f"{questions:,} of them"
        )
        told += (
            f" After {stage} it answers **{percent(mean, 0)}** of held-out questions rightly"
            f" ({asked})."
        )
    score = core_score(run)
    if score:
        told += f" Its {score[0]} model scores **{score[1]:.3f}** on {score[2]}."
    return Text(told, "lead" if alone else "plain")


def _tiles(run: RunReport) -> Tiles:
    chat, score, base = chat_mean(run), core_score(run), run.stage("base")
    bpb = base.last("val_bpb") if base else None
    return Tiles(
        (
            ("parameters", large(run.parameters), _shape(run)),
            ("tokens", large(run.tokens), "in all stages"),
            ("time", duration(run.seconds), "in all stages, attempts that broke included"),
            ("bits per byte", number(bpb, "{:.3f}"), "base, validation text; lower is better"),
            (
                "CORE" if score is None else score[2],
                MISSING if score is None else f"{score[1]:.3f}",
                "0 is guessing, 1 all right",
            ),
            (
                "chat questions",
                MISSING if chat is None else percent(chat[1], 0),
                "right, mean over the kinds" if chat else "",
            ),
        )
    )


def _shape(run: RunReport) -> str:
    return f"{run.model.depth} layers, {run.model.width} wide" if run.model else ""


def _comparison(runs: Sequence[RunReport]) -> Table:
    """The figures of the tiles and some more, a column a run."""
    chats, scores = [chat_mean(run) for run in runs], [core_score(run) for run in runs]
    bases = [run.stage("base") for run in runs]
    rows = [
        ("parameters", *(large(run.parameters) for run in runs)),
        ("shape", *(_shape(run) or MISSING for run in runs)),
        ("tokens", *(large(run.tokens) for run in runs)),
        ("time", *(duration(run.seconds) for run in runs)),
        ("state", *("finished" if run.finished else "not finished" for run in runs)),
        (
            "base, validation bits per byte",
            *(number(base.last("val_bpb") if base else None, "{:.4f}") for base in bases),
        ),
        (
            "CORE",
            *(
                MISSING if score is None else f"{score[1]:.4f} ({score[0]}, {score[2]})"
                for score in scores
            ),
        ),
        (
            "chat questions right",
            *(MISSING if chat is None else f"{percent(chat[1])} ({chat[0]})" for chat in chats),
        ),
        ("energy", *(number(run.energy, "{:.2f} kWh") for run in runs)),
        ("cost", *(number(run.cost, "{:,.2f}") for run in runs)),
    ]
    return Table(("", *(run.name for run in runs)), tuple(rows), numbers=True)


def _answers(runs: Sequence[RunReport]) -> tuple[Block, ...]:
    """One run: each stage's answers side by side, and how they came about. Sequence: each run's
    last ones.
    """
    alone = len(runs) == 1
    sources = [
        (stage.name if alone else run.name, stage)
        for run in runs
        for stage in (run.trained if alone else run.trained[-1:])
    ]
    found: dict[str, tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]] = {}
    for who, stage in sources:
        for line in stage.samples:
            last = line is stage.samples[-1]
            for each in line["samples"]:
                latest, earlier = found.setdefault(each["topic"], ([], []))
                if last:
                    latest.append((who, each["prompt"], each["text"]))
                elif alone:
                    earlier.append((f"{who}, step {line['step']:,}", each["prompt"], each["text"]))
    return tuple(
        SampleTable(topic, tuple(latest), tuple(earlier))
        for topic, (latest, earlier) in found.items()
    )


def _stages(runs: Sequence[RunReport]) -> Table:
    columns = (
        "stage",
        "state",
        "steps",
        "tokens",
        "time",
        "tokens/s",
        "MFU",
        "memory",
        "loss",
        "validation",
        "bits per byte",
        "resumed",
    )
    rows = [
        _stage_row(run.name if len(runs) > 1 else "", stage)
        for run in runs
        for stage in run.stages
        if stage.name != "report"
    ]
    totals = [
        (
            run.name if len(runs) > 1 else "all",
            "",
            "",
            number(run.tokens),
            duration(run.seconds),
            *[""] * 7,
        )
        for run in runs
    ]
    return Table(columns, (*rows, *totals), numbers=True)


def _stage_row(run: str, stage: StageReport) -> tuple[str, ...]:
    status = stage.status
    name = f"{run} {stage.name}".strip()
    if not stage.trains:
        return (
            name,
            status.status,
            "",
            "",
            duration(status.seconds),
            *[""] * 6,
            str(status.resumes or ""),
        )
    steps = (
        number(status.step)
        if status.step == status.steps
        else f"{number(status.step)} of {number(status.steps)}"
    )
    return (
        name,
        status.status,
        steps,
        number(stage.tokens),
        duration(status.seconds),
        number(stage.speed),
        percent(stage.mfu, 0),
        memory(stage.peak_memory),
        number(stage.last("loss"), "{:.3f}"),
        number(stage.last("val_loss"), "{:.3f}"),
        number(stage.last("val_bpb"), "{:.4f}"),
        str(status.resumes or ""),
    )


def _notes(runs: Sequence[RunReport]) -> Section:
    """What a reader should know before believing the figures: breaks, steps left out, problems, and
    what is missing.
    """
    items: list[str] = []
    for run in runs:
        mine: list[str] = []
        mine += [note for stage in run.stages for note in stage.resumes]
        mine += [
            f"{stage.name}: {len(stage.skipped)} steps were not finite and were left out"
            for stage in run.trained
            if stage.skipped
        ]
        mine += [
            f"{stage.name} stopped: {stage.status.error}"
            for stage in run.stages
            if stage.status.error
        ]
        mine += _problems(run)
        missing = _missing(run)
        if missing:
            mine.append(f"{MISSING}: {series(missing)}")
        items += [
            f"{run.name}: {note}." if len(runs) > 1 else f"{note[:1].upper()}{note[1:]}."
            for note in mine
        ]
    if not any(stage.resumes for run in runs for stage in run.stages):
        items.insert(0, "No stage broke off: nothing was resumed.")
    items.append(
        "MFU is the share of this machine's own measured rate of matrix products, not of a data"
        " sheet's."
    )
    items.append("Tokens a second leave out each stage's first step, which compiles.")
    return Section("Notes", (List(tuple(items)),))


def _problems(run: RunReport) -> list[str]:
    found = []
    for stage in run.trained:
        core = run.core(stage.name) or {}
        found += [problem.removesuffix(".") for problem in core.get("problems", ())][:5]
        cropped = sum(task.get("cropped", 0) for task in core.get("tasks", {}).values())
        if cropped:
            found.append(
                f"CORE of {stage.name}: {cropped:,} examples did not fit the context and lost their"
                " beginning"
            )
    evaluated = run.stage("eval")
    return found + [
        problem
        for attempt in (evaluated.attempts[-1:] if evaluated else ())
        for problem in attempt.get("problems", ())
    ]


def _missing(run: RunReport) -> list[str]:
    there = {
        "CORE": core_score(run),
        "chat evaluations": chat_mean(run),
        "samples": any(stage.samples for stage in run.trained) or None,
        "the machine": run.machine,
        "peak memory": next(
            (stage.peak_memory for stage in run.trained if stage.peak_memory), None
        ),
        "energy (no `machine.watts` in the recipe)": run.energy,
        "cost (no `machine.price_per_hour` in the recipe)": run.cost,
    }
    return [name for name, value in there.items() if value is None]
