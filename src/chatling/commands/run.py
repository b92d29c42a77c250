"""Train: the whole pipeline, or what is left of it."""

from chatling.commands.common import Command, Parser, recipe_and_run, recipe_parser


def add_notify(parser: Parser) -> None:
    parser.add_argument(
        "--notify",
        metavar="COMMAND",
        help="is run when a stage is done, is rolled back or fails, with CHATLING_RUN,"
        " CHATLING_EVENT and CHATLING_MESSAGE in its environment",
    )


def run(command: Command, words: list[str]) -> None:
    parser = recipe_parser(command)
    add_notify(parser)
    recipe, given = recipe_and_run(command, words, parser)

    from chatling.pipeline.session import run_recipe

    run_recipe(recipe, given.run, notify=given.notify)
