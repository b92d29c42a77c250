"""The plan as tables."""

from collections.abc import Sequence

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


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table


def _model_table(plan: Plan) -> Table:
    table = _table(["", "parameters"])
    for group, count in plan.parameters.items():
        if count:
            table.add_row(group.replace("_", " "), f"{count:,}")
    table.add_row("FLOPs a token", f"{plan.flops_per_token:,.3g}")
    return table


def _stage_table(plan: Plan, machine: Machine | None) -> Table:
    table = _table(
        ["", "conversations", "tokens", "steps", "FLOPs", *(["time"] if machine else [])]
    )
    for stage in plan.stages:
        about = "" if stage.exact else "~"
        talks = "" if stage.conversations is None else f"{stage.conversations:,}"
        row = [
            stage.name,
            talks,
            f"{about}{_short(stage.tokens)}",
            f"{about}{stage.steps:,}",
            f"{stage.flops:.2e}",
        ]
        if machine:
            row.append(duration(stage.seconds(machine.tflops, REACHED[machine.device])))
        table.add_row(*row)
    if machine:
        total = sum(stage.seconds(machine.tflops, REACHED[machine.device]) for stage in plan.stages)
        table.add_row("all", "", "", "", f"{sum(plan.work.values()):.2e}", duration(total))
    return table


def _use_table(plan: Plan) -> Table:
    table = _table(["", "holds", "characters", "tokens", "epochs"])
    table.columns[0].overflow = "fold"
    for use in plan.uses:
        about = "" if use.held.exact else "~"
        held = (
            f"{about}{use.held.items:,} {use.unit}",
            f"{about}{_short(use.held.characters)}",
            f"~{_short(use.tokens)}",
        )
        table.add_row(f"{use.stage}: {use.name}", *held, f"~{use.epochs:,.1f}")
    return table


def _memory_table(plan: Plan, machine: Machine | None) -> Table:
    table = _table(["", "GB"])
    for name, size in plan.memory.items():
        table.add_row(name, f"{size / 1e9:.2f}")
    table.add_row(
        "memory in all",
        f"{sum(plan.memory.values()) / 1e9:.2f}"
        + (f" of {machine.memory / 1e9:.1f}" if machine else ""),
    )
    if plan.text is not None:
        has = (
            f"{plan.text.shards:,} shards with {_short(plan.text.characters)} characters, and one"
            " for validation"
        )
        table.add_row(f"text to fetch: {has}", f"{plan.text.download / 1e9:.1f}")
    table.add_row("run folder", f"{sum(plan.disk.values()) / 1e9:.2f}")
    return table


def _machine_table(flops: float) -> Table:
    table = _table(["", "TFLOP/s", "GB/s", "time", "source"])
    table.columns[-1].justify = "left"
    for fact in MACHINES:
        seconds = flops / (fact.tflops * 1e12 * REACHED["cuda"])
        table.add_row(
            fact.name,
            f"{fact.tflops:,.0f}",
            f"{fact.bandwidth:,.0f}",
            duration(seconds),
            fact.source,
        )
    return table


def _short(number: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:.1f} {letter}"
    return f"{number:.0f}"
