"""Command lines, flags and recipe fields in a text, and which of them the commands' own parsers and
the recipe do not know.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import re
import shlex
import types
import typing
from collections.abc import Iterator
from unittest import mock

from chatling.bench.suite import BENCHES
from chatling.cli import COMMANDS
from chatling.commands import common
from chatling.commands.bench import ALONE
from chatling.commands.data import _ACTIONS
from chatling.commands.eval import EVALUATIONS, TOKENIZER
from chatling.config.recipe import Recipe, builtin_recipes, load_recipe
from chatling.errors import ChatlingError, RecipeError
from chatling.tasks.registry import TASKS

# Stand for something of the reader's own; the value is what the parsers are tried with.
PLACEHOLDERS = {
    "RECIPE": "pocket",
    "RUN": "pocket",
    "NAME": "name",
    "STAGE": "sft",
    "TYPE": "f32",
    "CODE": "en",
    "DIR": ".",
    "FOLDER": ".",
    "PATH": ".",
    "FILE": "file",
    "SOURCE": ".",
    "TEXT": "text",
    "KEY": "key",
    "PORT": "1",
    "HOST": "host",
    "HOST:PORT": "host:1",
    "N": "1",
    "X": "1",
    "OWNER/NAME": "owner/name",
    "PATTERN": "*",
    "COMMAND": "true",
    "TASK": "GSM8K",
    "MODEL": "m",
    "ORIGIN": "o",
    "COL": "text",
    "SHARE": "0.1",
    "MACHINE": "auto",
    "D": "cpu",
    "R": "pocket",
    "PRESET": "modern",
    "S": "1",
    "{}": "1",
    "…": "1",
}
FLAG_PLACEHOLDERS = {"--table.field"}
# Flags of other programs that stand alone in prose or code, by program.
FOREIGN_FLAGS = {
    "torchrun": {"--standalone", "--nproc-per-node"},
    "Slurm": {
        "--job-name",
        "--ntasks-per-node",
        "--gpus-per-node",
        "--exclusive",
        "--time",
        "--signal",
        "--requeue",
        "--open-mode",
        "--output",
        "--kill-on-bad-exit",
    },
    "bubblewrap": {
        "--unshare-all",
        "--die-with-parent",
        "--cap-drop",
        "--dev-bind",
        "--bind",
        "--chdir",
        "--ro-bind",
        "--symlink",
    },
    "hf": {"--local-dir"},
    "vllm": {"--model-impl"},
    "llama-server": {"--jinja", "--temp"},
    "styles": {"--ink", "--muted", "--grid", "--series-"},
    "docker": {
        "--add-host",
        "--memory",
        "--cpus",
        "--pids-limit",
        "--ipc",
        "--gpus",
        "--shm-size",
        "--ulimit",
    },
    "nvidia-smi": {"--query-gpu", "--query-compute-apps", "--format"},
    "pip": {
        *("--quiet", "--disable-pip-version-check", "--constraint", "--editable", "--no-deps"),
        *("--index-url", "--timeout", "--retries", "--force-reinstall"),
    },
    "ruff": {"--check", "--quiet"},
    "pytest": {
        "--data-pack",
        "--soak-seconds",
        "--fuzz-requests",
        "--strict-markers",
        "--import-mode",
        "--dist",
    },
}


@dataclasses.dataclass(frozen=True)
class Passage:
    """A piece of text and where it stands. `code` is quoted as such: a fence's line or a span
    between backticks; else it is prose.
    """

    where: str
    text: str
    code: bool = True


@functools.cache
def parser_of(name: str) -> common.Parser:
    """The parser that a command builds, caught when the command is about to use it."""

    class Caught(Exception):
        pass

    def catch(parser: common.Parser, *_: object) -> None:
        raise Caught(parser)

    command, *action = name.split()
    module = importlib.import_module(f"chatling.commands.{command}")
    with (
        mock.patch.object(common.Parser, "parse", catch),
        mock.patch.object(common.Parser, "parse_known_args", catch),
    ):
        try:
            module.run(COMMANDS[command], action)
        except Caught as caught:
            return typing.cast(common.Parser, caught.args[0])
    raise AssertionError(f"{name} parsed nothing")


PARSERS = tuple(name for name in COMMANDS if name != "data") + tuple(
    f"data {action}" for action in _ACTIONS
)
TABLES = tuple(field.name for field in dataclasses.fields(Recipe))
WITH_FIELDS = ("run", "launch", "plan", "data fetch")  # take any field of a recipe as an option


@functools.cache
def options_of(name: str) -> frozenset[str]:
    return frozenset(
        option for action in parser_of(name)._actions for option in action.option_strings
    ) | {"-h", "--help"}


@functools.cache
def fields() -> frozenset[str]:
    """`table.field` and top-level fields of a recipe, nested tables of a list's entries
    included.
    """
    return frozenset(_fields(Recipe, ""))


def _fields(kind: type, prefix: str) -> Iterator[str]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        yield prefix + field.name
        for inner in _dataclasses_in(hints[field.name]):
            yield from _fields(inner, f"{prefix}{field.name}.")


def _dataclasses_in(kind: object) -> Iterator[type]:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        yield kind
    elif typing.get_origin(kind) in (typing.Union, types.UnionType, typing.Annotated, tuple, list):
        for inner in typing.get_args(kind):
            yield from _dataclasses_in(inner)


def field_exists(name: str) -> bool:
    """Of a dotted name, with dashes or underscores, and numbers for entries of a list
    (`mid.mixture.0.count`).
    """
    return re.sub(r"\.\d+(?=\.|$)", "", name.replace("-", "_")) in fields()


def flag_fault(flag: str, commands: tuple[str, ...] = PARSERS) -> str | None:
    """Why none of these commands knows a flag."""
    name = flag.partition("=")[0].rstrip(".")
    known = {option for command in commands for option in options_of(command)}
    if (
        name in FLAG_PLACEHOLDERS
        or name in known
        or any(name in foreign for foreign in FOREIGN_FLAGS.values())
    ):
        return None
    if name == "--version" or (
        name.endswith(("-", "-NAME", "-…"))
        and any(option.startswith(name.rstrip("NAME…")) for option in known)
    ):
        return None
    if set(commands) & set(WITH_FIELDS) and field_exists(name.removeprefix("--")):
        return None
    return f"there is no option {name}"


def command_lines(passage: Passage) -> Iterator[str]:
    """What follows `chatling` where it is called: in code, or in prose where a command's name or
    backticks show that it is meant.
    """
    names = "|".join(COMMANDS)
    if passage.code:
        pattern = r"(?:^|[ /(`])chatling(?: +|$)(?![=,.:])(?P<rest>[^#;&\n`]*)"
    else:
        pattern = (
            rf"`chatling (?P<quoted>[^`]*)`|(?<![\w./-])chatling (?P<rest>(?:{names})\b[^`;#<\n]*)"
        )
    for found in re.finditer(pattern, passage.text):
        rest = found.groupdict().get("quoted") or found["rest"] or ""
        line = re.split(r"\s{2,}|\s[|>]\s", rest.strip())[0].rstrip(".,:")
        yield re.sub(r"\{([^,{}]*),[^{}]*\}", r"\1", line)  # the shell's {0,1,2}


def line_fault(line: str) -> str | None:
    """Why `chatling LINE` could not be run, or None."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        return f"cannot be split into words: {error}"
    words = [word.replace("{}", "…") if word != "{}" else word for word in words]
    if not words or words[0] in ("--help", "--version", "…", "{}", "NAME"):
        return None
    name, rest = words[0], words[1:]
    if name not in COMMANDS:
        return f"there is no command {name!r}"
    if name == "data":
        actions = rest[0].split("|") if rest else []
        if not rest or actions == ["…"]:
            return None
        if unknown := [action for action in actions if action not in _ACTIONS]:
            return f"there is no command data {unknown[0]!r}"
        return next(
            (
                fault
                for action in actions
                if (fault := _words_fault(f"data {action}", rest[1:], usage=len(actions) > 1))
            ),
            None,
        )
    return _words_fault(name, rest, usage=False)


def _words_fault(name: str, words: list[str], *, usage: bool) -> str | None:
    usage = usage or any(re.search(r"[\[\]]|…|^\$|\|", word) for word in words) or "{}" in words
    for word in words:
        if (flag := re.match(r"\[?(--?[a-zA-Z][^\]\s]*)", word)) and (
            fault := flag_fault(flag[1], (name,))
        ):
            return fault
    if usage or "--help" in words:
        return next(
            (f"{word} is no known placeholder" for word in words if _unknown_placeholder(word)),
            None,
        )
    if not words:  # the command's name alone, in a sentence
        return None
    filled = [PLACEHOLDERS.get(word, word) for word in words]
    if name in WITH_FIELDS:
        return _recipe_fault(
            name,
            [
                (
                    PLACEHOLDERS["RECIPE"]
                    if words[0] in PLACEHOLDERS and "/" not in words[0]
                    else filled[0]
                ),
                *filled[1:],
            ],
        )
    try:
        parser = parser_of(name)
        given = parser.parse(filled) if name != "eval" else _parse_eval(parser, filled)
    except ChatlingError as error:
        return str(error)
    except (SystemExit, argparse.ArgumentError) as error:
        return str(error)
    return _values_fault(name, given)


def _unknown_placeholder(word: str) -> bool:
    return any(
        part not in PLACEHOLDERS
        for part in re.findall(r"(?<![a-zA-Z])[A-Z]{2,}(?:/[A-Z]+)?(?![a-zA-Z\d])", word)
    )


def _parse_eval(parser: common.Parser, words: list[str]) -> argparse.Namespace:
    given = parser.parse(words)
    if len(given.runs) < 2 or given.runs[-1] not in (*EVALUATIONS, TOKENIZER):
        raise common.UsageError(
            f"{given.runs[-1]!r} is no evaluation, or there is no run before it."
        )
    return given


def _values_fault(name: str, given: argparse.Namespace) -> str | None:
    if name == "bench" and (
        unknown := set(given.names) - {*BENCHES, *ALONE} - set(PLACEHOLDERS.values())
    ):
        return f"there is no benchmark {unknown.pop()!r}"
    if (
        name == "eval"
        and given.runs[-1] == "chat"
        and (unknown := set(given.tasks or ()) - {*TASKS, "pocket", "free", "all"})
    ):
        return f"there is no task {unknown.pop()!r}"
    return None


def _recipe_fault(name: str, words: list[str]) -> str | None:
    """A recipe, and overrides that it takes."""
    given, rest = parser_of(name).parse_known_args(words)
    if name == "data fetch":
        rest = [given.what, *rest]
    if not rest:
        return "it names no recipe"
    recipe, *overrides = rest
    if "/" in recipe and not recipe.endswith(".toml"):
        return None if not overrides else f"a data set takes no {overrides[0]}"
    if recipe not in builtin_recipes() and not recipe.endswith(".toml"):
        return f"there is no recipe {recipe!r}"
    try:
        load_recipe(recipe if recipe in builtin_recipes() else "pocket", overrides)
    except RecipeError as error:
        return str(error)
    return None
