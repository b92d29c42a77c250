"""The plan as tables."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from chatling.config.recipe import Recipe
from chatling.hardware.detect import REACHED, Machine
from chatling.pipeline.plan import MACHINES, Plan
from chatling.terminal.progress import duration


def show_plan(plan: Plan, recipe: Recipe, machine: Machine | None, console: Console) -> None:
    """Print the plan as tables: the model, the stages with times on this machine, memory and disk,
    other machines.
    """
    c, flops = plan.model, sum(plan.work.values())
    shape = f"depth {c.depth}, width {c.width}, {c.heads} heads, context {c.context:,}"
    console.print(f"Model: {recipe.model.preset}, {shape}", style="bold", highlight=False)
    console.print(_model_table(plan))
    console.print("\nStages", style="bold")
    console.print(_stage_table(plan, machine))
    if plan.uses:
        console.print("\nYour data", style="bold")
        console.print(_use_table(plan))
    console.print(
        f"base reads about {_short(plan.characters)} characters of text.",
        style="dim",
        highlight=False,
    )
    if plan.text is not None and plan.text.characters < plan.characters:
        console.print(
            f"That is {plan.characters / plan.text.characters:.1f} times what is fetched:"
            " --data.shards.",
            style="yellow",
        )
    if machine:
        rate = (
            f"{REACHED[machine.device]:.0%} of the {machine.tflops:.3g} TFLOP/s measured here"
            f" ({machine.name})"
        )
        console.print(f"Times are for {rate}.", style="dim", highlight=False)
    console.print("\nMemory and disk", style="bold")
    console.print(_memory_table(plan, machine))
    if flops > 1e15:  # below that, any machine is done at once
        console.print(
            f"\nThe whole run elsewhere, at {REACHED['cuda']:.0%} of the nominal rate",
            style="bold",
            highlight=False,
        )
        console.print(_machine_table(flops))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _model_table(plan: Plan) -> Table:
    counts = [
        (group.replace("_", " "), f"{count:,}") for group, count in plan.parameters.items() if count
    ]
    return _table(["", "parameters"], [*counts, ("FLOPs a token", f"{plan.flops_per_token:,.3g}")])


def _stage_table(plan: Plan, machine: Machine | None) -> Table:
    """Without a machine, without times."""
    rate = machine.tflops * 1e12 * REACHED[machine.device] if machine else 1.0
    flops = sum(plan.work.values())
    rows = [
        (
            stage.name,
            "" if stage.conversations is None else f"{stage.conversations:,}",
            f"{_about(stage.exact)}{_short(stage.tokens)}",
            f"{_about(stage.exact)}{stage.steps:,}",
            f"{stage.flops:.2e}",
            duration(stage.flops / rate),
        )
        for stage in plan.stages
    ]
    columns = ("", "conversations", "tokens", "steps", "FLOPs", "time")
    if machine:
        return _table(columns, [*rows, ("all", "", "", "", f"{flops:.2e}", duration(flops / rate))])
    return _table(columns[:-1], [row[:-1] for row in rows])


def _use_table(plan: Plan) -> Table:
    rows = [
        (
            f"{use.stage}: {use.name}",
            f"{_about(use.held.exact)}{use.held.items:,} {use.unit}",
            f"{_about(use.held.exact)}{_short(use.held.characters)}",
            f"~{_short(use.tokens)}",
            f"~{use.epochs:,.1f}",
        )
        for use in plan.uses
    ]
    table = _table(["", "holds", "characters", "tokens", "epochs"], rows)
    table.columns[0].overflow = "fold"
    return table


def _memory_table(plan: Plan, machine: Machine | None) -> Table:
    rows = [(name, f"{size / 1e9:.2f}") for name, size in plan.memory.items()]
    of = f" of {machine.memory / 1e9:.1f}" if machine else ""
    rows.append(("memory in all", f"{sum(plan.memory.values()) / 1e9:.2f}{of}"))
    if plan.text is not None:
        has = (
            f"{plan.text.shards:,} shards with {_short(plan.text.characters)} characters, and one"
            " for validation"
        )
        rows.append((f"text to fetch: {has}", f"{plan.text.download / 1e9:.1f}"))
    return _table(["", "GB"], [*rows, ("run folder", f"{sum(plan.disk.values()) / 1e9:.2f}")])


def _machine_table(flops: float) -> Table:
    rows = [
        (
            fact.name,
            f"{fact.tflops:,.0f}",
            f"{fact.bandwidth:,.0f}",
            duration(flops / (fact.tflops * 1e12 * REACHED["cuda"])),
            fact.source,
        )
        for fact in MACHINES
    ]
    table = _table(["", "TFLOP/s", "GB/s", "time", "source"], rows)
    table.columns[-1].justify = "left"
    return table


def _about(exact: bool) -> str:
    return "" if exact else "~"


def _short(number: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:.1f} {letter}"
    return f"{number:.0f}"
