"""What a recipe comes to."""

from __future__ import annotations

from chatling.commands.common import Command, recipe_and_run


def run(command: Command, words: list[str]) -> None:
    recipe, _ = recipe_and_run(command, words)

    from rich.console import Console

    from chatling.hardware.detect import detect
    from chatling.planner import micro_rows_for, plan, show_plan

    machine = detect()
    outline = plan(recipe)
    rows = micro_rows_for(outline.model, machine, recipe.base.batch_tokens // outline.model.context)
    show_plan(plan(recipe, micro_rows=rows), recipe, machine, Console())
