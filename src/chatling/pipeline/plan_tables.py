"""The plan as tables."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from chatling.config.recipe import Recipe
from chatling.errors import MachineError
from chatling.hardware.detect import Machine
from chatling.hardware.machines import NETWORK_SHARE, NamedMachine, chips, has_runs
from chatling.pipeline.plan import Plan
from chatling.pipeline.timetable import Throughput, efficiency, seconds, timetable
from chatling.terminal.progress import duration
from chatling.train.runtime import check_memory

LINE = 100e6 / 8  # bytes/s that a download is told for
# GB/s between nodes
NETWORKS = {"10 Gb/s": 1.25, "100 Gb/s": 12.5, "200 Gb/s": 25.0, "8 x 400 Gb/s": 400.0}
LARGE = 2e8  # parameters; of smaller models no published run tells


def show_plan(
    plan: Plan,
    recipe: Recipe,
    machine: Machine | None,
    console: Console,
    named: NamedMachine | None = None,
) -> None:
    """Print the plan as tables: the model, the stages with times on a machine (which was measured,
    or is `named`), memory and disk, other machines.
    """
    rates = None
    if machine:
        rates = Throughput.published(named, plan.model) if named else Throughput.measured(machine)
    c, flops = plan.model, sum(plan.work.values())
    shape = f"depth {c.depth}, width {c.width}, {c.heads} heads, context {c.context:,}"
    if plan.longest.context > c.context:
        shape += f", later {plan.longest.context:,}"
    console.print(f"Model: {recipe.model.preset}, {shape}", style="bold", highlight=False)
    console.print(_model_table(plan))
    console.print("\nStages", style="bold")
    console.print(_stage_table(plan, rates))
    if plan.uses:
        console.print("\nYour data", style="bold")
        console.print(_use_table(plan))
    if plan.characters:
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
    if machine and rates:
        for line in _beside(plan, rates):
            console.print(line, style="dim", highlight=False)
        console.print(_basis(plan, machine, rates, named), style="dim", highlight=False)
    if named and named.ranks > 1:
        console.print("\nEfficiency of base on more of them, by network", style="bold")
        console.print(_efficiency_table(plan, named))
    console.print("\nMemory and disk", style="bold")
    console.print(_memory_table(plan, machine, rates))
    if flops > 1e15:  # below that, any machine is done at once
        console.print("\nThe whole run elsewhere", style="bold", highlight=False)
        console.print(_machine_table(plan))


def show_cost(
    hours: float, named: NamedMachine | None, price: float | None, recipe: Recipe, console: Console
) -> None:
    """Print energy and money, where watts and a price are known: the options', else the recipe's,
    else the data sheet's watts.
    """
    watts, of = recipe.machine.watts, "by the recipe's watts"
    if named and named.chip.watts:
        watts, of = named.chip.watts * named.ranks, "at the rated power of its GPUs"
    price = recipe.machine.price_per_hour if price is None else price
    if watts is not None:
        console.print(f"Energy: {watts * hours / 1000:,.1f} kWh {of}.", highlight=False)
    if price is not None:
        console.print(f"Cost: {price * hours:,.2f} at {price:,.2f} an hour.", highlight=False)


def _basis(plan: Plan, machine: Machine, rates: Throughput, named: NamedMachine | None) -> str:
    """What the times rest on."""
    if named is None or rates.error is None:
        return (
            f"Times are for {machine.training_tflops / machine.tflops:.0%} of the"
            f" {machine.tflops:.3g} TFLOP/s"
            f" measured here ({machine.name})."
        )
    ranks = f" on each of {rates.ranks}" if rates.ranks > 1 else ""
    told = f"± {rates.error:.0%} (each run told by the others)"
    if not has_runs(named.key):
        told += "; no run on this chip was published, so it may miss by more"
    if named.nodes > 1 and named.chip.network is None:
        told += "; the network between nodes is taken for 10 Gb/s Ethernet"
    small = "" if plan.parameters["total"] > LARGE else " They are of far larger models."
    return (
        f"Times are for {machine.name}: {rates.flops / 1e12:.3g} TFLOP/s{ranks}, by published runs,"
        f" {told}.{small}"
    )


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


def _stage_table(plan: Plan, rates: Throughput | None) -> Table:
    """Without rates, without times."""
    planned = {stage.name: stage for stage in plan.stages}
    times = timetable(plan, rates or Throughput(1.0))
    rows = []
    for time in times:
        stage = planned.get(time.name)
        facts = ("", "", "", "")
        if stage is not None:
            facts = (
                "" if stage.conversations is None else f"{stage.conversations:,}",
                f"{_about(stage.exact)}{_short(stage.tokens)}",
                f"{_about(stage.exact)}{stage.steps:,}",
                f"{stage.flops:.2e}",
            )
        rows.append((time.name, *facts, duration(time.total)))
    columns = ("", "conversations", "tokens", "steps", "FLOPs", "time")
    if rates is None:
        return _table(columns[:-1], [row[:-1] for row in rows if row[0] in planned])
    whole = duration(sum(time.total for time in times))
    flops = f"{sum(plan.work.values()):.2e}"
    return _table(columns, [*rows, ("all", "", "", "", flops, whole)])


def _beside(plan: Plan, rates: Throughput) -> Iterator[str]:
    """What takes a hundredth of a stage's time or more, besides computing its steps."""
    for time in timetable(plan, rates):
        parts = [
            f"{name} {duration(spent)}"
            for name, spent in time.beside.items()
            if spent >= max(1.0, time.total / 100)
        ]
        if parts:
            yield f"{time.name}: {', '.join(parts)} of it."


def _efficiency_table(plan: Plan, named: NamedMachine) -> Table:
    """Times of steps as the plan reckons them, and nothing hidden behind computing."""
    rows = []
    for ranks in (2**power for power in range(11)):
        inside = min(ranks, named.gpus)
        machine = NamedMachine(named.key, inside, max(1, ranks // inside))
        rates = Throughput.published(machine, plan.model)
        row = [f"{ranks:,}"]
        for network in NETWORKS.values():
            slower = replace(rates, network=network * NETWORK_SHARE * 1e9)
            row.append(f"{efficiency(plan, slower):.0%}")
        rows.append(row)
    return _table(["GPUs", *NETWORKS], rows)


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


def _memory_table(plan: Plan, machine: Machine | None, rates: Throughput | None) -> Table:
    rows = [(name, f"{size / 1e9:.2f}") for name, size in plan.memory.items()]
    of = f" of {machine.memory / 1e9:.1f}" if machine else ""
    rank = "of a rank" if rates and rates.ranks > 1 else "in all"
    rows.append(
        (
            f"memory {rank}, {plan.micro_rows} rows at a time",
            f"{sum(plan.memory.values()) / 1e9:.2f}{of}",
        )
    )
    if plan.text is not None:
        has = (
            f"{plan.text.shards:,} shards with {_short(plan.text.characters)} characters, and one"
            " for validation"
        )
        fetching = f"; {duration(plan.text.download / LINE)} at 100 Mb/s"
        rows.append((f"text to fetch: {has}{fetching}", f"{plan.text.download / 1e9:.1f}"))
    return _table(["", "GB"], [*rows, ("run folder", f"{sum(plan.disk.values()) / 1e9:.2f}")])


def _machine_table(plan: Plan) -> Table:
    rows = []
    for key in [*chips(), "8xh100"]:
        named = NamedMachine("h100", 8) if key == "8xh100" else NamedMachine(key)
        rates = Throughput.published(named, plan.model)
        rows.append(
            (
                named.title,
                f"{named.chip.peak * named.ranks:,.0f}",
                f"{named.chip.bandwidth:,.0f}",
                duration(seconds(plan, rates)) if _fits(plan, named) else "too little memory",
                f"{rates.error:.0%}" if has_runs(named.key) else "no run",
            )
        )
    return _table(["", "TFLOP/s", "GB/s", "time", "±"], rows)


def _fits(plan: Plan, named: NamedMachine) -> bool:
    """Whether one row at a time does."""
    try:
        shards = named.ranks if plan.shard else 1
        check_memory(named.machine(), plan.longest, plan.rank, shards)
    except MachineError:
        return False
    return True


def _about(exact: bool) -> str:
    return "" if exact else "~"


def _short(number: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:.1f} {letter}"
    return f"{number:.0f}"
