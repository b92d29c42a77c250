"""What a run was made of: machine, tokenizer, data and recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chatling.report.collect import RunReport
from chatling.report.elements import Block, Code, Folded, Section, Table, Text
from chatling.report.labels import MISSING, memory, number


def made_of(run: RunReport, *, alone: bool) -> Section:
    """One section; `alone` when it is the report's only run."""
    blocks: list[Block] = [
        Section("Machine", (_machine(run),), 3),
        Section("Tokenizer", _tokenizer(run), 3),
        Section("Data", (_data(run),), 3),
    ]
    if run.recipe_text:
        blocks.append(Folded("The recipe, every default written out", (Code(run.recipe_text),)))
    return Section(
        "What it was made of" if alone else f"What {run.name} was made of", tuple(blocks)
    )


def _machine(run: RunReport) -> Table:
    machine, chosen = run.machine or {}, run.execution
    rates = (
        " and ".join(f"{machine[f'{kind}_tflops']:.2f} TFLOP/s" for kind in ("fp32", "bf16"))
        if machine
        else MISSING
    )
    compiled = "compiled" if chosen.get("compile") else "not compiled"
    rows = (
        ("device", machine.get("name", chosen.get("device", MISSING))),
        ("cores", number(machine.get("cores"))),
        ("memory for a run", memory(machine.get("memory"))),
        ("matrix products, fp32 and bf16", rates),
        (
            "computed in",
            f"{chosen['dtype']}, {compiled}, {chosen['kernel']} attention" if chosen else MISSING,
        ),
        ("processes", str(max((stage.processes for stage in run.stages), default=1))),
        ("energy, by the watts in the recipe", number(run.energy, "{:.2f} kWh")),
        ("cost, by the price in the recipe", number(run.cost, "{:,.2f}")),
    )
    return Table(("", ""), rows)


def _tokenizer(run: RunReport) -> tuple[Block, ...]:
    made = run.tokenizer
    if made is None:
        return (Text(f"Tokenizer: {MISSING}.", "note"),)
    facts = (
        f"{made['vocab_size']:,} tokens, {len(made['specials'])} of them special; digits in runs of"
        f" at most {made['digits']}."
    )
    results = run.evals.get("tokenizer", {}).get("results")
    if not results:
        corpus = run.corpora.get("base-train", {})
        characters, tokens = corpus.get("counts", {}).get("characters"), corpus.get("tokens")
        ratio = number(characters / tokens if characters and tokens else None, "{:.2f}")
        return (Text(f"{facts} Characters of training text a token: {ratio}."),)
    names = list(dict.fromkeys(row["tokenizer"] for row in results))
    texts = list(dict.fromkeys(row["text"] for row in results))
    cells = {(row["text"], row["tokenizer"]): row["bytes_per_token"] for row in results}
    rows = tuple(
        (text, *(number(cells.get((text, name)), "{:.2f}") for name in names)) for text in texts
    )
    return Text(f"{facts} Bytes a token, by kind of text:"), Table(("", *names), rows, numbers=True)


def _data(run: RunReport) -> Block:
    found = run.corpora.items()
    rows = tuple(
        (name.replace("-", ", "), number(each.get("documents")), number(each.get("tokens")))
        for name, each in found
    )
    return (
        Table(("", "documents", "tokens"), rows, numbers=True)
        if rows
        else Text(f"Data: {MISSING}.", "note")
    )


def differences(runs: Sequence[RunReport]) -> Section:
    """The recipe's fields that are not the same in all runs."""
    recipes = [_flat(run.recipe) for run in runs]
    fields = [
        field
        for field in dict.fromkeys(field for recipe in recipes for field in recipe)
        if field != "name"
    ]
    rows = tuple((field, *(str(recipe.get(field, "")) for recipe in recipes)) for field in fields)
    differing = tuple(row for row in rows if len(set(row[1:])) > 1)
    block: Block = (
        Table(("", *(run.name for run in runs)), differing)
        if differing
        else Text("The recipes are the same.")
    )
    return Section("Where the recipes differ", (block,))


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as `table.field`."""
    tables = {
        name: value if isinstance(value, Mapping) else {"": value} for name, value in recipe.items()
    }
    return {
        f"{name}.{field}".rstrip("."): value
        for name, table in tables.items()
        for field, value in table.items()
    }
