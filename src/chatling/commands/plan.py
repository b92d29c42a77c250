"""What a recipe needs: parameters, data, memory, time, here or on a machine by its name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from chatling.commands.common import Command, UsageError, recipe_and_run, recipe_parser

if TYPE_CHECKING:
    from chatling.train.expected import Corridor

BUSY = 0.8  # below this share of its cores' time a measurement is not to be trusted


def run(command: Command, words: list[str]) -> None:
    parser = recipe_parser(command)
    parser.add_argument(
        "--machine",
        metavar="NAME",
        help="a machine by its name, such as spark, spark-pair, h100, 8xh100 or rtx4090; this one",
    )
    parser.add_argument("--nodes", type=int, metavar="N", help="so many of that machine")
    parser.add_argument(
        "--price", type=float, metavar="X", help="what an hour of all of them costs"
    )
    recipe, given = recipe_and_run(command, words, parser)
    _check(given.machine, given.nodes, given.price)

    from rich.console import Console

    from chatling.hardware.detect import detect, free_share
    from chatling.hardware.machines import named_machine
    from chatling.importing.origin import settle
    from chatling.pipeline.checks import check
    from chatling.pipeline.plan import plan, rows_of_a_rank
    from chatling.pipeline.plan_tables import show_cost, show_plan
    from chatling.pipeline.timetable import Throughput, seconds
    from chatling.pipeline.verdict import Room
    from chatling.run_dir import RunFolder, find_run, free_bytes, home
    from chatling.train.expected import expected_loss

    recipe = settle(recipe, RunFolder(find_run(given.run or recipe.name)), print)
    named = named_machine(given.machine, given.nodes) if given.machine else None
    # of another machine's device and memory nothing is asked here
    checked = check(recipe, here=named is None)
    machine = named.machine() if named else detect()
    model = checked.plan.model
    rates = Throughput.published(named, model) if named else Throughput.measured(machine)
    warnings = list(checked.warnings)
    rows = rows_of_a_rank(recipe, model, machine, rates.ranks, warnings.append)
    share = 1.0 if named else free_share(machine.cores)
    console, survey = Console(), checked.survey
    outline = plan(recipe, micro_rows=rows, survey=survey, ranks=rates.ranks)
    show_plan(outline, recipe, machine, console, named)
    show_cost(seconds(outline, rates) / 3600, named, given.price, recipe, console)
    if share < BUSY:
        warnings.append(
            f"This machine is busy: {share:.0%} of its processors' time was to be had while it was"
            " measured, so the times are uncertain."
        )
    known = expected_loss(recipe, home() / "runs", given.run or recipe.name)
    console.print(_loss(known), style="dim", highlight=False)
    for warning in warnings:
        console.print(warning, style="yellow", highlight=False, markup=False)
    cache = home() / "cache"
    fetched = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    room = Room(machine, None if named else free_bytes(home()), fetched, rates)
    console.print(room.verdict(outline), style="bold", highlight=False, markup=False)


def _loss(known: Corridor | None) -> str:
    if known is None:
        return "No finished run of this recipe is here to tell which loss to expect of base."
    parts = (
        f"{known.low[i]:.3g} to {known.high[i]:.3g} after {known.tokens[i]:,} tokens"
        for i in (len(known.tokens) // 4, len(known.tokens) // 2, -1)
    )
    return f"Loss of base by {known.runs} earlier runs of this recipe: {', '.join(parts)}."


def _check(machine: str | None, nodes: int | None, price: float | None) -> None:
    if nodes is not None and (machine is None or not 1 <= nodes <= 10_000):
        raise UsageError(
            f"Argument --nodes: {nodes} is no number of named machines.",
            "Give it with --machine, from 1 to 10,000.",
        )
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise UsageError(f"Argument --price: {price} is no price.", "Give what an hour costs.")
