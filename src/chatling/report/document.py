"""Compose a report as one Markdown document: the answer first, then how good the model is, what it
says, how training went, what it was made of, and what is not known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from chatling.report.collect import RunReport
from chatling.report.figures import Figure
from chatling.report.markdown import (
    MISSING,
    enumerated,
    escape,
    folded,
    large,
    memory,
    missing,
    number,
    percent,
    table,
)
from chatling.report.results import chat_mean, core_score, score_parts
from chatling.report.training import training_parts
from chatling.train.status import duration


@dataclass(frozen=True)
class Report:
    """A Markdown document in its parts; a figure stands for its image."""

    title: str
    parts: tuple[str | Figure, ...]

    @property
    def figures(self) -> dict[str, Figure]:
        """By the path that an image has in the document."""
        return {part.path: part for part in self.parts if isinstance(part, Figure)}

    @property
    def markdown(self) -> str:
        """The document. Neighboring figures are one paragraph."""
        blocks = [f"# {escape(self.title)}"]
        for drawn, group in groupby(self.parts, lambda part: isinstance(part, Figure)):
            texts = [part.markdown if isinstance(part, Figure) else part for part in group]
            blocks += ["\n".join(texts)] if drawn else texts
        return "\n\n".join(blocks) + "\n"


def compose(runs: Sequence[RunReport]) -> Report:
    """The report of one run, or of several side by side."""
    alone = len(runs) == 1
    parts: list[str | Figure] = [
        *map(_headline, runs),
        _key_figures(runs[0]) if alone else _comparison(runs),
        "## How good it is",
        *(score_parts(runs) or [missing("CORE and chat evaluations")]),
        "## What it says",
        *(_samples(runs) or [missing("Samples")]),
        "## How training went",
        *training_parts(runs),
    ]
    for run in runs:
        parts += [
            "## What it was made of" if alone else f"## What {escape(run.name)} was made of",
            "### Machine",
            _machine(run),
            "### Tokenizer",
            *_tokenizer(run),
            "### Data",
            _data(run),
        ]
        if run.recipe_text:
            recipe = f"~~~toml\n{run.recipe_text.rstrip()}\n~~~"
            parts.append(folded("The recipe, every default written out", recipe))
    if not alone:
        parts += ["## Where the recipes differ", _differences(runs)]
    parts += ["## Notes", "\n".join(f"- {escape(note)}" for note in _notes(runs))]
    return Report(enumerated([run.name for run in runs]), tuple(parts))


def _headline(run: RunReport) -> str:
    """One paragraph: what was trained, on what, how long, how good; or where it stands."""
    name, spent = f"**{escape(run.name)}**", duration(run.seconds)
    size = (
        f"{large(run.parameters)} parameters"
        if run.parameters
        else f"a number of parameters that was {MISSING}"
    )
    machine = f" on {escape(run.machine['name'])}" if run.machine else ""
    text = f"{name} is a model of {size}, trained from nothing in {spent}{machine}."
    if not run.finished:
        at = run.trained[-1].status if run.trained else None
        where = (
            f"{at.name} is at step {number(at.step)} of {number(at.steps)} ({at.status})"
            if at
            else "no training stage has begun"
        )
        text = (
            f"{name} is not finished: {where}. It has {size}; {spent} were spent so far{machine}."
        )
    if run.tokens:
        text += f" It was trained on {large(run.tokens)} tokens."
    if chat := chat_mean(run):
        stage, mean, tasks, questions = chat
        asked = f"mean of {tasks} kinds, {questions:,} questions"
        if tasks == 1:
            asked = f"{questions:,} of them"
        text += (
            f" After {stage} it answers **{percent(mean, 0)}** of held-out questions correctly"
            f" ({asked})."
        )
    if score := core_score(run):
        text += f" Its {score[0]} model scores **{score[1]:.3f}** on {score[2]}."
    return text


def _key_figures(run: RunReport) -> str:
    """A list: name, value, remark. The page shows it as tiles."""
    chat, score, base = chat_mean(run), core_score(run), run.pretrained
    bpb = base.last("val_bpb") if base else None
    tiles = (
        ("parameters", large(run.parameters), _shape(run)),
        ("tokens", large(run.tokens), "in all stages"),
        ("time", duration(run.seconds), "in all stages, attempts that broke included"),
        ("bits per byte", number(bpb, "{:.3f}"), "base, validation text; lower is better"),
        (
            score[2] if score else "CORE",
            number(score and score[1], "{:.3f}"),
            "0 is guessing, 1 all right",
        ),
        (
            "chat questions",
            percent(chat and chat[1], 0),
            "right, mean over the kinds" if chat else "",
        ),
    )
    return "\n".join(
        f"- {name} **{value}**{f' *{remark}*' if remark else ''}" for name, value, remark in tiles
    )


def _shape(run: RunReport) -> str:
    return f"{run.model.depth} layers, {run.model.width} wide" if run.model else ""


def _comparison(runs: Sequence[RunReport]) -> str:
    """The key figures and some more, a column a run."""
    rows = []
    for run in runs:
        chat, score, base = chat_mean(run), core_score(run), run.pretrained
        rows.append(
            {
                "parameters": large(run.parameters),
                "shape": _shape(run) or MISSING,
                "tokens": large(run.tokens),
                "time": duration(run.seconds),
                "state": "finished" if run.finished else "not finished",
                "base, validation bits per byte": number(
                    base.last("val_bpb") if base else None, "{:.4f}"
                ),
                "CORE": f"{score[1]:.4f} ({score[0]}, {score[2]})" if score else MISSING,
                "chat questions right": f"{percent(chat[1])} ({chat[0]})" if chat else MISSING,
                "energy": number(run.energy, "{:.2f} kWh"),
                "cost": number(run.cost, "{:,.2f}"),
            }
        )
    return table(
        ("", *(run.name for run in runs)),
        [(name, *(row[name] for row in rows)) for name in rows[0]],
        numbers=True,
    )


def _samples(runs: Sequence[RunReport]) -> list[str]:
    """By topic. One run: each stage's last answers, and how they came about; several: the last ones
    of each run.
    """
    alone = len(runs) == 1
    latest: dict[str, list[tuple[str, str, str]]] = {}
    earlier: dict[str, list[tuple[str, str, str]]] = {}
    for run in runs:
        for stage in run.trained if alone else run.trained[-1:]:
            who = stage.name if alone else run.name
            for line in stage.samples:
                last = line is stage.samples[-1]
                label = who if last else f"{who}, step {line['step']:,}"
                for each in line["samples"]:
                    mark = {True: "✓ ", False: "✗ "}.get(each.get("right"), "")
                    row = (label, each["prompt"], mark + (each["text"].strip() or "(nothing)"))
                    (latest if last else earlier).setdefault(each["topic"], []).append(row)
    parts = []
    columns = ("", "prompt", "text")
    for topic, rows in latest.items():
        parts += [f"### {escape(topic[:1].upper() + topic[1:])}", table(columns, rows)]
        if alone and topic in earlier:
            parts.append(folded("How it came about", table(columns, earlier[topic])))
    return parts


def _machine(run: RunReport) -> str:
    machine, chosen = run.machine or {}, run.execution
    rates = [f"{machine[f'{kind}_tflops']:.2f} TFLOP/s" for kind in ("fp32", "bf16") if machine]
    compiled = "compiled" if chosen.get("compile") else "not compiled"
    computed = f"{chosen['dtype']}, {compiled}, {chosen['kernel']} attention" if chosen else MISSING
    rows = {
        "device": machine.get("name", chosen.get("device", MISSING)),
        "cores": number(machine.get("cores")),
        "memory for a run": memory(machine.get("memory")),
        "matrix products, fp32 and bf16": " and ".join(rates) or MISSING,
        "computed in": computed,
        "processes": str(max((stage.processes for stage in run.stages), default=1)),
        "energy, by the watts in the recipe": number(run.energy, "{:.2f} kWh"),
        "cost, by the price in the recipe": number(run.cost, "{:,.2f}"),
    }
    return table(("", ""), [*rows.items()])


def _tokenizer(run: RunReport) -> list[str]:
    made = run.tokenizer
    if made is None:
        return [missing("Tokenizer")]
    facts = (
        f"{made['vocab_size']:,} tokens, {len(made['specials'])} of them special; digits in runs of"
        f" at most {made['digits']}."
    )
    results = run.evals.get("tokenizer", {}).get("results")
    if not results:
        corpus = run.corpora.get("base-train", {})
        characters, tokens = corpus.get("counts", {}).get("characters"), corpus.get("tokens")
        ratio = number(characters / tokens if characters and tokens else None, "{:.2f}")
        return [f"{facts} Characters of training text a token: {ratio}."]
    names, texts = (
        list(dict.fromkeys(row[key] for row in results)) for key in ("tokenizer", "text")
    )
    ratios = {(row["text"], row["tokenizer"]): row["bytes_per_token"] for row in results}
    rows = [
        (text, *(number(ratios.get((text, name)), "{:.2f}") for name in names)) for text in texts
    ]
    return [f"{facts} Bytes a token, by kind of text:", table(("", *names), rows, numbers=True)]


def _data(run: RunReport) -> str:
    rows = [
        (name.replace("-", ", "), number(each.get("documents")), number(each.get("tokens")))
        for name, each in run.corpora.items()
    ]
    return table(("", "documents", "tokens"), rows, numbers=True) if rows else missing("Data")


def _differences(runs: Sequence[RunReport]) -> str:
    """The recipe's fields that are not the same in all runs."""
    recipes = [_flat(run.recipe) for run in runs]
    rows = [
        (field, *(str(recipe.get(field, "")) for recipe in recipes))
        for field in dict.fromkeys(field for recipe in recipes for field in recipe)
        if field != "name"
    ]
    differing = [row for row in rows if len(set(row[1:])) > 1]
    if not differing:
        return "The recipes are the same."
    return table(("", *(run.name for run in runs)), differing)


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as `table.field`."""
    return {
        f"{name}.{field}".rstrip("."): value
        for name, entry in recipe.items()
        for field, value in (entry if isinstance(entry, Mapping) else {"": entry}).items()
    }


def _notes(runs: Sequence[RunReport]) -> list[str]:
    """What a reader should know before believing the figures: interruptions, steps left out,
    problems, and what is missing.
    """
    notes = []
    if not any(stage.resumes for run in runs for stage in run.stages):
        notes.append("No stage broke off: nothing was resumed.")
    for run in runs:
        own = [resume for stage in run.stages for resume in stage.resumes]
        own += [
            f"{stage.name}: {len(stage.skipped)} steps were not finite and were left out"
            for stage in run.trained
            if stage.skipped
        ]
        own += [
            f"{stage.name} stopped: {stage.status.error}"
            for stage in run.stages
            if stage.status.error
        ]
        own += _problems(run)
        if absent := _missing(run):
            own.append(f"{MISSING}: {enumerated(absent)}")
        notes += [
            f"{run.name}: {note}." if len(runs) > 1 else f"{note[:1].upper()}{note[1:]}."
            for note in own
        ]
    return [
        *notes,
        "MFU is the share of this machine's own measured rate of matrix products, not of a data"
        " sheet's.",
        "Tokens a second leave out each stage's first step, which compiles.",
    ]


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
    attempts = evaluated.attempts[-1:] if evaluated else ()
    return found + [problem for attempt in attempts for problem in attempt.get("problems", ())]


def _missing(run: RunReport) -> list[str]:
    there = {
        "CORE": core_score(run),
        "chat evaluations": chat_mean(run),
        "samples": any(stage.samples for stage in run.trained),
        "the machine": run.machine,
        "peak memory": any(stage.peak_memory for stage in run.trained),
        "energy (no machine.watts in the recipe)": run.energy,
        "cost (no machine.price_per_hour in the recipe)": run.cost,
    }
    return [name for name, value in there.items() if value is None or value is False]
