"""What a recipe needs: parameters, data, memory, time."""

from chatling.commands.common import Command, recipe_and_run

BUSY = 0.8  # below this share of its cores' time a measurement is not to be trusted


def run(command: Command, words: list[str]) -> None:
    recipe, _ = recipe_and_run(command, words)

    from rich.console import Console

    from chatling.hardware.detect import detect, free_share
    from chatling.pipeline.checks import check
    from chatling.pipeline.plan import micro_rows_for, plan
    from chatling.pipeline.plan_tables import show_plan
    from chatling.pipeline.verdict import Room
    from chatling.run_dir import free_bytes, home
    from chatling.train.scaling import base_batch

    checked = check(recipe)
    machine = detect()
    model = checked.plan.model
    rows = micro_rows_for(
        model, machine, base_batch(recipe.base, model, recipe.model.preset) // model.context
    )
    share = free_share(machine.cores)
    console, outline = Console(), plan(recipe, micro_rows=rows, survey=checked.survey)
    show_plan(outline, recipe, machine, console)
    warnings = list(checked.warnings)
    if share < BUSY:
        warnings.append(
            f"This machine is busy: {share:.0%} of its processors' time was to be had while it was"
            " measured, so the times are uncertain."
        )
    for warning in warnings:
        console.print(warning, style="yellow", highlight=False, markup=False)
    cache = home() / "cache"
    fetched = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    room = Room(machine, free_bytes(home()), fetched)
    console.print(room.verdict(outline), style="bold", highlight=False, markup=False)
