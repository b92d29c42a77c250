"""What the commands share: their table's row, their parser, how they find runs and recipes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

from chatling.errors import ChatlingError, RunError, nearest
from chatling.run_dir import RunFolder, find_run, home, latest_runs

if TYPE_CHECKING:
    from chatling.config.recipe import Recipe


@dataclass(frozen=True)
class Command:
    """A subcommand: its name, how it is written after `chatling`, and what it does. `run` in the
    module of its name does it.
    """

    name: str
    usage: str
    about: str


class UsageError(ChatlingError):
    """A command line that makes no sense."""

    exit_code = 2


class Parser(argparse.ArgumentParser):
    """argparse, with errors as sentences and the nearest option for an unknown one."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(
            f"{message[:1].upper()}{message[1:]}.", f"`{self.prog} --help` tells more."
        )

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        given, unknown = self.parse_known_args(words)
        if unknown:
            option = unknown[0].partition("=")[0]
            options = [
                name
                for action in self._actions
                for name in action.option_strings
                if name.startswith("--")
            ]
            raise UsageError(
                f"`{self.prog}` does not know {option!r}.",
                nearest(option, options) or f"See `{self.prog} --help`.",
            )
        return given


def command_parser(command: Command, *, help_option: bool = True) -> Parser:
    program, usage = f"chatling {command.name}", f"chatling {command.usage}"
    return Parser(
        prog=program,
        usage=usage,
        description=command.about,
        allow_abbrev=False,
        add_help=help_option,
    )


def recipe_parser(command: Command) -> Parser:
    """For commands that take a recipe with any of its fields."""
    parser = command_parser(command, help_option=False)
    parser.add_argument("--run", metavar="NAME", help="what the run is called; as the recipe")
    parser.add_argument(
        "--origin",
        metavar="SOURCE",
        help="continue from a model of elsewhere: a folder, a run, or OWNER/NAME on the Hub",
    )
    return parser


def recipe_and_run(
    command: Command, words: list[str], parser: Parser | None = None
) -> tuple[Recipe, argparse.Namespace]:
    """The recipe that `[RECIPE] [--run NAME] [--table.field value …]` asks for; and what the
    parser's own options were given, `run` among them.

    RECIPE may also be the name of a run, which then resumes with its own recipe.
    """
    from chatling.config.recipe import builtin_recipes, load_recipe
    from chatling.config.stages import OriginConfig

    given, rest = (parser or recipe_parser(command)).parse_known_args(words)
    ready = ", ".join(builtin_recipes())
    if not rest or rest[0].startswith("-"):
        if {"-h", "--help"} & set(rest):
            print((parser or recipe_parser(command)).format_help())
            print(
                f"Ready recipes: {ready}; the path of a TOML file works too.\n`chatling"
                f" {command.name} RECIPE --help` lists every field."
            )
            raise SystemExit(0)
        raise UsageError(
            "Which recipe?", f"Ready ones: {ready}; for example `chatling {command.name} pocket`."
        )
    recipe_name, overrides, run = rest[0], rest[1:], given.run
    if run is not None:
        _check_run(run)
    if (
        recipe_name not in builtin_recipes()
        and not os.path.isfile(recipe_name)
        and (frozen := _frozen(recipe_name))
    ):
        given.run, recipe_name = run or recipe_name, frozen
    recipe = load_recipe(recipe_name, overrides, prog=f"chatling {command.name} {recipe_name}")
    if given.origin is not None:
        recipe = replace(recipe, origin=OriginConfig(given.origin)).anchored()
    return recipe, given


def _check_run(name: str) -> None:
    """Raises UsageError for what names no run."""
    try:
        find_run(name)
    except RunError as error:
        raise UsageError(f"Argument --run: {error.what}", error.hint) from None


def _frozen(run: str) -> str | None:
    """The path of a run's own recipe, where there is such a run."""
    try:
        path = os.path.join(find_run(run), "recipe.toml")
    except RunError:
        return None
    return path if os.path.isfile(path) else None


def open_run(name: str | None) -> RunFolder:
    """A run by name, or the one last worked on."""
    if name is not None:
        return RunFolder.open(name)
    runs = latest_runs(home() / "runs")
    if not runs:
        raise RunError(
            f"There are no runs in {home() / 'runs'} yet.", "`chatling run pocket` makes one."
        )
    return runs[0]
