"""Train: the whole pipeline, or what is left of it."""

from chatling.commands.common import Command, recipe_and_run


def run(command: Command, words: list[str]) -> None:
    recipe, given = recipe_and_run(command, words)

    from chatling.pipeline.session import run_recipe

    run_recipe(recipe, given.run)
