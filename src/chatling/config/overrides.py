"""Typed `--table.field value` flags over a tree of config dataclasses, read by tyro, with errors
that name the flag and what it takes.
"""

import contextlib
import dataclasses
import io
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from chatling.config.former_names import present_name
from chatling.errors import RecipeError, nearest
from chatling.fields import NONE, ConfigError, bare, cut, describe, holds_tables, members

T = TypeVar("T")


def override(recipe: T, arguments: Sequence[str], *, prog: str) -> T:
    """Apply typed `--table.field value` flags through tyro. Raises RecipeError with the nearest
    flag, or with what the flag accepts.
    """
    if not arguments:
        return recipe
    if {"-h", "--help"} & set(arguments):
        return typing.cast(T, _tyro(recipe, arguments, prog, quiet=False))
    flags = dict(_flags(recipe, ""))
    groups = [(_present(option), values) for option, values in _options(arguments)]
    for option, values in groups:
        name = _name(option)
        if name not in flags:
            leaf = [flag for flag in flags if flag.split(".")[-1] == name.split(".")[-1]]
            hint = (
                f"Did you mean {'--' + leaf[0]!r}?"
                if leaf
                else nearest(option, [f"--{flag}" for flag in flags])
            )
            raise RecipeError(
                f"Unknown option {cut(repr(option))}.", hint or f"`{prog} --help` lists them."
            )
        if not values:
            raise RecipeError(f"Option {option!r} needs a value: {describe(flags[name])}.")
    fault = RecipeError(
        f"The options {cut(' '.join(arguments))!r} do not go together.",
        f"`{prog} --help` lists them.",
    )
    words = [
        word for option, values in groups for word in _words(option, values, flags[_name(option)])
    ]
    try:
        result = _tyro(recipe, words, prog, quiet=True)
    except RecipeError as error:
        result, fault = None, error
    if result is None:
        for option, values in groups:
            _try_alone(recipe, option, values, flags[_name(option)])
        raise fault
    return typing.cast(T, result)


def _try_alone(recipe: Any, option: str, values: Sequence[str], kind: Any) -> None:
    """Raises RecipeError when it is this option whose value its field does not take."""
    try:
        wanted = (
            None
            if _tyro(recipe, _words(option, values, kind), "", quiet=True) is not None
            else describe(kind, bounds=False)
        )
    except ConfigError as error:
        wanted = error.fault.wanted
    except RecipeError:  # what does not fit the rest may fit together with the other options
        return
    if wanted is not None:
        raise RecipeError(f"Option {option!r} must be {wanted}, not {cut(repr(' '.join(values)))}.")


def _present(option: str) -> str:
    """An option of a former name under its present one."""
    table, _, field = _name(option).partition(".")
    present = present_name(table, field, "--")
    return option if present == field else f"--{table}.{present}"


def _name(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _words(option: str, values: Sequence[str], kind: Any) -> list[str]:
    """An option as tyro reads it: TOML's true, false and none are Python's; one value is joined to
    it, since it may begin with a dash.
    """
    special = {"true": bool, "false": bool, NONE: types.NoneType}
    kinds = {bare(member) for member in members(kind)}
    cased = [value.capitalize() if special.get(value) in kinds else value for value in values]
    return [f"{option}={cased[0]}"] if len(cased) == 1 else [option, *cased]


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Group `--a 1 2 --b=3` into options and their values."""
    groups: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if argument.startswith("--"):
            option, equals, value = argument.partition("=")
            groups.append((option, [value] if equals else []))
        elif groups:
            groups[-1][1].append(argument)
        else:
            raise RecipeError(
                f"Unexpected argument {cut(repr(argument))}; overrides look like `--model.depth"
                " 12`."
            )
    return iter(groups)


def _flags(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every flag that tyro makes of a config, with its type."""
    hints = typing.get_type_hints(type(value), include_extras=True)
    for f in dataclasses.fields(value):
        name, item = prefix + f.name, getattr(value, f.name)
        if dataclasses.is_dataclass(item):
            yield from _flags(item, f"{name}.")
        elif isinstance(item, tuple) and item and dataclasses.is_dataclass(item[0]):
            for i, part in enumerate(item):
                yield from _flags(part, f"{name}.{i}.")
        elif not holds_tables(hints[f.name]):
            yield name, hints[f.name]


def _tyro(recipe: Any, arguments: Sequence[str], prog: str, *, quiet: bool) -> Any | None:
    import tyro  # here: slow to import, and most commands override nothing

    conf = (tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff)
    with contextlib.redirect_stderr(io.StringIO()) if quiet else contextlib.nullcontext():
        try:
            return tyro.cli(
                type(recipe),
                default=recipe,
                args=list(arguments),
                prog=prog,
                config=conf,
                description=None,
            )
        except SystemExit:
            if quiet:
                return None
            raise
