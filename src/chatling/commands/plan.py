"""What a recipe needs: parameters, data, memory, time."""

from chatling.commands.common import Command, recipe_and_run


def run(command: Command, words: list[str]) -> None:
    recipe, _ = recipe_and_run(command, words)

    from rich.console import Console

    from chatling.hardware.detect import detect
    from chatling.pipeline.checks import check
    from chatling.pipeline.plan import micro_rows_for, plan
    from chatling.pipeline.plan_tables import show_plan
    from chatling.train.scaling import base_batch

    checked = check(recipe)
    machine = detect()
    model = checked.plan.model
    rows = micro_rows_for(
        model, machine, base_batch(recipe.base, model, recipe.model.preset) // model.context
    )
    console = Console()
    show_plan(plan(recipe, micro_rows=rows, survey=checked.survey), recipe, machine, console)
    for warning in (
        *checked.warnings,
        *([f"Not on this machine: {checked.too_large}"] if checked.too_large else []),
    ):
        console.print(warning, style="yellow", highlight=False, markup=False)
