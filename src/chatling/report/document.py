"""Compose a report as one Markdown document: the answer first, then how good the model is, what it
says, how training went, what it was made of, and what is not known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from chatling.report.collect import RunReport
from chatling.report.figures import Figure
from chatling.report.markdown import escape, folded, table
from chatling.report.results import chat_mean, core_score, score_parts
from chatling.report.training import training_parts
from chatling.report.words import ENGLISH, MISSING, Words
from chatling.train.status import duration


@dataclass(frozen=True)
class Report:
    """A Markdown document in its parts; a figure stands for its image."""

    title: str
    parts: tuple[str | Figure, ...]
    words: Words = ENGLISH

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
    """The report of one run, or of several side by side, in their language where they have one in
    common.
    """
    alone, words = len(runs) == 1, runs[0].words
    if any(run.words.code != words.code for run in runs):
        words = ENGLISH
    parts: list[str | Figure] = [
        *(_headline(run, words) for run in runs),
        _key_figures(runs[0], words) if alone else _comparison(runs, words),
        words("## How good it is"),
        *(score_parts(runs, words) or [words.missing("CORE and chat evaluations")]),
        words("## What it says"),
        *(_samples(runs, words) or [words.missing("Samples")]),
        words("## How training went"),
        *training_parts(runs, words),
    ]
    for run in runs:
        parts += [
            words("## What it was made of")
            if alone
            else words("## What {run} was made of", run=escape(run.name)),
            words("### Machine"),
            _machine(run, words),
            words("### Tokenizer"),
            *_tokenizer(run, words),
            words("### Data"),
            _data(run, words),
        ]
        if run.recipe_text:
            recipe = f"~~~toml\n{run.recipe_text.rstrip()}\n~~~"
            parts.append(folded(words("The recipe, every default written out"), recipe))
    if not alone:
        parts += [words("## Where the recipes differ"), _differences(runs, words)]
    notes = "\n".join(f"- {escape(note)}" for note in _notes(runs, words))
    parts += [words("## Notes"), notes]
    return Report(words.enumerated([run.name for run in runs]), tuple(parts), words)


def _headline(run: RunReport, words: Words) -> str:
    """One paragraph: what was trained, on what, how long, how good; or where it stands."""
    filled: dict[str, object] = {
        "name": f"**{escape(run.name)}**",
        "size": words("{number} parameters", number=words.large(run.parameters))
        if run.parameters
        else words("a number of parameters that was not measured"),
        "time": duration(run.seconds),
        "machine": words(" on {name}", name=escape(run.machine["name"])) if run.machine else "",
    }
    if run.finished:
        text = words(
            "{name} is a model of {size}, trained from nothing in {time}{machine}.", **filled
        )
    else:
        where = words("no training stage has begun")
        if run.trained:
            at = run.trained[-1].status
            where = words(
                "{stage} is at step {step} of {steps} ({state})",
                stage=at.name,
                step=words.number(at.step),
                steps=words.number(at.steps),
                state=words(at.status),
            )
        text = words(
            "{name} is not finished: {where}. It has {size}; {time} were spent so far{machine}.",
            where=where,
            **filled,
        )
    if run.tokens:
        text += words(" It was trained on {tokens} tokens.", tokens=words.large(run.tokens))
    if chat := chat_mean(run):
        stage, mean, tasks, questions = chat
        asked = words("mean of {tasks} kinds, {count:,} questions", tasks=tasks, count=questions)
        if tasks == 1:
            asked = words("{count:,} of them", count=questions)
        text += words(
            " After {stage} it answers **{share}** of held-out questions correctly ({asked}).",
            stage=stage,
            share=words.percent(mean, 0),
            asked=asked,
        )
    if score := core_score(run):
        text += words(
            " Its {stage} model scores **{score:.3f}** on {measure}.",
            stage=score[0],
            score=score[1],
            measure=words(score[2]),
        )
    return text


def _key_figures(run: RunReport, words: Words) -> str:
    """A list: name, value, remark. The page shows it as tiles."""
    chat, score, base = chat_mean(run), core_score(run), run.pretrained
    bpb = base.last("val_bpb") if base else None
    tiles = (
        (words("parameters"), words.large(run.parameters), _shape(run, words)),
        (words("tokens"), words.large(run.tokens), words("in all stages")),
        (
            words("time"),
            duration(run.seconds),
            words("in all stages, attempts that broke included"),
        ),
        (
            words("bits per byte"),
            words.number(bpb, "{:.3f}"),
            words("base, validation text; lower is better"),
        ),
        (
            words(score[2]) if score else "CORE",
            words.number(score and score[1], "{:.3f}"),
            words("0 is guessing, 1 all right"),
        ),
        (
            words("chat questions"),
            words.percent(chat and chat[1], 0),
            words("right, mean over the kinds") if chat else "",
        ),
    )
    return "\n".join(
        f"- {name} **{value}**{f' *{remark}*' if remark else ''}" for name, value, remark in tiles
    )


def _shape(run: RunReport, words: Words) -> str:
    if run.model is None:
        return ""
    return words("{depth} layers, {width} wide", depth=run.model.depth, width=run.model.width)


def _comparison(runs: Sequence[RunReport], words: Words) -> str:
    """The key figures and some more, a column a run."""
    rows, absent = [], words(MISSING)
    for run in runs:
        chat, score, base = chat_mean(run), core_score(run), run.pretrained
        rows.append(
            {
                words("parameters"): words.large(run.parameters),
                words("shape"): _shape(run, words) or absent,
                words("tokens"): words.large(run.tokens),
                words("time"): duration(run.seconds),
                words("state"): words("finished") if run.finished else words("not finished"),
                words("base, validation bits per byte"): words.number(
                    base.last("val_bpb") if base else None, "{:.4f}"
                ),
                "CORE": f"{score[1]:.4f} ({score[0]}, {words(score[2])})" if score else absent,
                words("chat questions right"): f"{words.percent(chat[1])} ({chat[0]})"
                if chat
                else absent,
                words("energy"): words.number(run.energy, "{:.2f} kWh"),
                words("cost"): words.number(run.cost, "{:,.2f}"),
            }
        )
    return table(
        ("", *(run.name for run in runs)),
        [(name, *(row[name] for row in rows)) for name in rows[0]],
        numbers=True,
    )


def _samples(runs: Sequence[RunReport], words: Words) -> list[str]:
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
                label = who if last else words("{who}, step {step:,}", who=who, step=line["step"])
                for each in line["samples"]:
                    mark = {True: "✓ ", False: "✗ "}.get(each.get("right"), "")
                    said = mark + (each["text"].strip() or words("(nothing)"))
                    row = (label, each["prompt"], said)
                    (latest if last else earlier).setdefault(each["topic"], []).append(row)
    parts = []
    columns = ("", words("prompt"), words("text"))
    for topic, rows in latest.items():
        title = words.name(topic)
        parts += [f"### {escape(title[:1].upper() + title[1:])}", table(columns, rows)]
        if alone and topic in earlier:
            parts.append(folded(words("How it came about"), table(columns, earlier[topic])))
    return parts


def _machine(run: RunReport, words: Words) -> str:
    machine, chosen, absent = run.machine or {}, run.execution, words(MISSING)
    rates = [f"{machine[f'{kind}_tflops']:.2f} TFLOP/s" for kind in ("fp32", "bf16") if machine]
    compiled = words("compiled") if chosen.get("compile") else words("not compiled")
    computed = absent
    if chosen:
        kernel = words("{kernel} attention", kernel=chosen["kernel"])
        computed = words(", ").join((chosen["dtype"], compiled, kernel))
    rows = {
        words("device"): machine.get("name", chosen.get("device", absent)),
        words("cores"): words.number(machine.get("cores")),
        words("memory for a run"): words.memory(machine.get("memory")),
        words("matrix products, fp32 and bf16"): words.enumerated(rates) if rates else absent,
        words("computed in"): computed,
        words("processes"): str(max((stage.processes for stage in run.stages), default=1)),
        words("energy, by the watts in the recipe"): words.number(run.energy, "{:.2f} kWh"),
        words("cost, by the price in the recipe"): words.number(run.cost, "{:,.2f}"),
    }
    return table(("", ""), [*rows.items()])


def _tokenizer(run: RunReport, words: Words) -> list[str]:
    made = run.tokenizer
    if made is None:
        return [words.missing("Tokenizer")]
    facts = words(
        "{size:,} tokens, {specials} of them special; digits in runs of at most {digits}.",
        size=made["vocab_size"],
        specials=len(made["specials"]),
        digits=made["digits"],
    )
    results = run.evals.get("tokenizer", {}).get("results")
    if not results:
        corpus = run.corpora.get("base-train", {})
        characters, tokens = corpus.get("counts", {}).get("characters"), corpus.get("tokens")
        ratio = words.number(characters / tokens if characters and tokens else None, "{:.2f}")
        return [facts + words(" Characters of training text a token: {ratio}.", ratio=ratio)]
    names, texts = (
        list(dict.fromkeys(row[key] for row in results)) for key in ("tokenizer", "text")
    )
    ratios = {(row["text"], row["tokenizer"]): row["bytes_per_token"] for row in results}
    rows = [
        (words(text), *(words.number(ratios.get((text, name)), "{:.2f}") for name in names))
        for text in texts
    ]
    return [
        facts + words(" Bytes a token, by kind of text:"),
        table(("", *names), rows, numbers=True),
    ]


def _data(run: RunReport, words: Words) -> str:
    rows = [
        (
            words(", ").join(map(words, name.split("-"))),
            words.number(each.get("documents")),
            words.number(each.get("tokens")),
        )
        for name, each in run.corpora.items()
    ]
    if not rows:
        return words.missing("Data")
    return table(("", words("documents"), words("tokens")), rows, numbers=True)


def _differences(runs: Sequence[RunReport], words: Words) -> str:
    """The recipe's fields that are not the same in all runs."""
    recipes = [_flat(run.recipe) for run in runs]
    rows = [
        (field, *(str(recipe.get(field, "")) for recipe in recipes))
        for field in dict.fromkeys(field for recipe in recipes for field in recipe)
        if field != "name"
    ]
    differing = [row for row in rows if len(set(row[1:])) > 1]
    if not differing:
        return words("The recipes are the same.")
    return table(("", *(run.name for run in runs)), differing)


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as `table.field`."""
    return {
        f"{name}.{field}".rstrip("."): value
        for name, entry in recipe.items()
        for field, value in (entry if isinstance(entry, Mapping) else {"": entry}).items()
    }


def _notes(runs: Sequence[RunReport], words: Words) -> list[str]:
    """What a reader should know before believing the figures: interruptions, steps left out,
    problems, and what is missing.
    """
    notes = []
    if not any(stage.resumes(words) for run in runs for stage in run.stages):
        notes.append(words("No stage broke off: nothing was resumed."))
    for run in runs:
        own = [resume for stage in run.stages for resume in stage.resumes(words)]
        own += [
            words(
                "{stage}: {count} steps were not finite and were left out",
                stage=stage.name,
                count=len(stage.skipped),
            )
            for stage in run.trained
            if stage.skipped
        ]
        own += [
            words("{stage} stopped: {error}", stage=stage.name, error=stage.status.error)
            for stage in run.stages
            if stage.status.error
        ]
        own += _problems(run, words)
        if absent := _missing(run, words):
            own.append(f"{words(MISSING)}: {words.enumerated(absent)}")
        notes += [
            words("{run}: {note}.", run=run.name, note=note)
            if len(runs) > 1
            else words("{note}.", note=note[:1].upper() + note[1:])
            for note in own
        ]
    return [
        *notes,
        words(
            "MFU is the share of this machine's own measured rate of matrix products, not of a data"
            " sheet's."
        ),
        words("Tokens a second leave out each stage's first step, which compiles."),
    ]


def _problems(run: RunReport, words: Words) -> list[str]:
    found = []
    for stage in run.trained:
        core = run.core(stage.name) or {}
        found += [problem.removesuffix(".") for problem in core.get("problems", ())][:5]
        cropped = sum(task.get("cropped", 0) for task in core.get("tasks", {}).values())
        if cropped:
            found.append(
                words(
                    "CORE of {stage}: {count:,} examples did not fit the context and lost their"
                    " beginning",
                    stage=stage.name,
                    count=cropped,
                )
            )
    evaluated = run.stage("eval")
    attempts = evaluated.attempts[-1:] if evaluated else ()
    return found + [problem for attempt in attempts for problem in attempt.get("problems", ())]


def _missing(run: RunReport, words: Words) -> list[str]:
    there = {
        "CORE": core_score(run),
        words("chat evaluations"): chat_mean(run),
        words("samples"): any(stage.samples for stage in run.trained),
        words("the machine"): run.machine,
        words("peak memory"): any(stage.peak_memory for stage in run.trained),
        words("energy (no machine.watts in the recipe)"): run.energy,
        words("cost (no machine.price_per_hour in the recipe)"): run.cost,
    }
    return [name for name, value in there.items() if value is None or value is False]
