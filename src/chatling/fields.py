"""What the tables of a recipe share: frozen dataclasses that check their values (pydantic), bounded
numbers, sentences about faults.
"""

import dataclasses
import functools
import json
import os
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.fields import FieldInfo

from chatling.errors import RecipeError

T = TypeVar("T")
NONE = "none"  # TOML has no null; this string stands for it where a field may be empty
RULES = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
SHOWN = 80  # characters of a wrong value that an error repeats
# a field whose type is taken exactly: "3" and true are no integers
bounded = functools.partial(Field, strict=True)
# of a folder's or a file's name, and of a path, on all usual file systems
NAME_BYTES, PATH_LENGTH = (255, 4096)


def one_line(text: str) -> str:
    """`text`, which names a file, a column or a task. Raises ValueError for what can name none."""
    control = any(ord(letter) < 32 or letter == "\x7f" for letter in text)
    parts = os.fsencode(text).split(b"/")
    if not text.strip() or control or len(text) >= PATH_LENGTH or max(map(len, parts)) > NAME_BYTES:
        raise ValueError("no name")
    return text


# Upper bounds are far above what anybody trains, and low enough that products of two of them stay
# below 2^63.
Count = Annotated[int, bounded(ge=1, le=10**9)]
CountOrZero = Annotated[int, bounded(ge=0, le=10**9)]
Tokens = Annotated[int, bounded(ge=1, le=10**15)]  # or characters, of a whole corpus
BatchTokens = Annotated[int, bounded(ge=1, le=2**30)]
Width = Annotated[int, bounded(ge=1, le=2**17)]
Epochs = Annotated[int, bounded(ge=1, le=10_000)]
Rate = Annotated[float, bounded(ge=0, le=100)]  # a learning rate, its factor or a decay
Weight = Annotated[float, bounded(ge=0, le=1_000)]  # of a term of the loss
Fraction = Annotated[float, bounded(ge=0, le=1)]
GradientNorm = Annotated[float, bounded(ge=0, le=10**6)]  # 0: no limit
Flag = Annotated[bool, bounded()]
Text = Annotated[str, AfterValidator(one_line), bounded(title="one line of text that is not empty")]


@typing.dataclass_transform(frozen_default=True, field_specifiers=(field,))
def config(kind: type[T]) -> type[T]:
    """Make `kind` a frozen dataclass that checks its values, however it is made: by a call, by
    `replace` or out of TOML's tables.

    A call with a wrong value raises ConfigError. In a table, "none" empties a field that may be
    empty.
    """

    validator: Any = classmethod(_emptied)
    kind._emptied = model_validator(mode="before")(validator)  # type: ignore[attr-defined]
    checked: Any = pydantic_dataclass(frozen=True, config=RULES)(kind)
    # pydantic does not hand on the docstrings of a base
    inherited = {
        name: info.description
        for base in reversed(kind.__mro__[1:])
        for name, info in getattr(base, "__pydantic_fields__", {}).items()
    }
    for name, info in checked.__pydantic_fields__.items():
        info.description = info.description or inherited.get(name)
    construct = checked.__init__

    @functools.wraps(construct)
    def __init__(self: Any, *values: Any, **named: Any) -> None:
        try:
            construct(self, *values, **named)
        except ValidationError as error:
            raise ConfigError(find_fault(error, checked), kind.__name__) from None

    checked.__init__ = __init__
    return typing.cast(type[T], checked)


def _emptied(kind: type, table: Any) -> Any:
    """TOML's table for a config, with None for "none" where a field may be empty."""
    if not isinstance(table, dict):
        return table
    may = {
        name
        for name, hint in typing.get_type_hints(kind).items()
        if types.NoneType in typing.get_args(hint)
    }
    return {key: None if key in may and value == NONE else value for key, value in table.items()}


@dataclass(frozen=True)
class Fault:
    """What is wrong with a tree of values."""

    path: tuple[str, ...]
    kind: Any  # the type wanted there
    value: Any
    sort: Literal["unknown", "missing", "type", "bounds"]

    @property
    def wanted(self) -> str:
        return describe(self.kind, bounds=self.sort == "bounds")


class ConfigError(RecipeError):
    """A value that its field does not take."""

    def __init__(self, fault: Fault, owner: str):
        self.fault = fault
        key = ".".join(
            (owner.removesuffix("Config").removesuffix("Recipe").lower() or "recipe", *fault.path)
        )
        if fault.sort in ("unknown", "missing"):
            super().__init__(f"{key!r} is {fault.sort}.")
        else:
            super().__init__(f"{key} is {shown(fault.value)}; it must be {fault.wanted}.")


def find_fault(error: ValidationError, kind: type) -> Fault:
    """The first fault that pydantic found in a `kind`. Unknown keys go first: a misspelt one may be
    the cause of the others.
    """
    sorts: dict[str, Literal["unknown", "missing"]] = {
        "unexpected_keyword_argument": "unknown",
        "missing": "missing",
    }
    faults = sorted(
        error.errors(include_url=False), key=lambda each: (*sorts, each["type"]).index(each["type"])
    )
    where, value, sort = faults[0]["loc"], faults[0]["input"], sorts.get(faults[0]["type"])
    if sort == "unknown":
        path, found = _follow(kind, where[:-1])
        table = next(
            option for option in map(bare, members(found)) if dataclasses.is_dataclass(option)
        )
        return Fault((*path, str(where[-1])), table, value, sort)
    path, found = _follow(kind, where)
    if sort == "missing":
        return Fault(path, found, value, sort)
    # of a union, that of each member
    here = [each["type"] for each in faults if _follow(kind, each["loc"])[0] == path]
    ill_typed = all(each.endswith("_type") or each == "literal_error" for each in here)
    return Fault(path, found, value, "type" if ill_typed else "bounds")


def _follow(kind: Any, where: tuple[int | str, ...]) -> tuple[tuple[str, ...], Any]:
    """The keys on the way to a fault, and the type wanted at its end. pydantic also names the
    members of unions, which are no keys.
    """
    path: tuple[str, ...] = ()
    for step in where:
        for option in map(bare, members(kind)):
            if isinstance(step, int) and typing.get_origin(option) is tuple:
                path, kind = (*path, str(step)), typing.get_args(option)[0]
            elif dataclasses.is_dataclass(option) and step in (
                hints := typing.get_type_hints(option, include_extras=True)
            ):
                path, kind = (*path, str(step)), hints[str(step)]
    return path, kind


def members(kind: Any) -> tuple[Any, ...]:
    """The options of a union, or the type alone."""
    return (
        typing.get_args(bare(kind))
        if typing.get_origin(bare(kind)) in (Union, types.UnionType)
        else (kind,)
    )


def holds_tables(kind: Any) -> bool:
    """Whether a type is a table, or a list of some."""
    options = [bare(option) for option in members(kind)]
    items = [typing.get_args(option)[0] for option in options if typing.get_origin(option) is tuple]
    return any(map(dataclasses.is_dataclass, (*options, *items)))


def bare(kind: Any) -> Any:
    """A type without its bounds."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def describe(kind: Any, *, bounds: bool = True) -> str:
    """A type in the words of an error message, with the bounds of its numbers and the rules of its
    strings unless told otherwise.
    """
    options = members(kind)
    if len(options) > 1:
        return " or ".join(describe(option, bounds=bounds) for option in options)
    notes = (
        [note for note in getattr(kind, "__metadata__", ()) if isinstance(note, FieldInfo)]
        if bounds
        else []
    )
    if titles := [note.title for note in notes if note.title]:
        return titles[0]
    kind = bare(kind)
    rules = [rule for note in notes for rule in note.metadata]
    limits = {
        name: getattr(rule, name)
        for rule in rules
        for name in ("ge", "gt", "le", "lt")
        if hasattr(rule, name)
    }
    plain = {
        int: "an integer",
        float: "a number",
        bool: "true or false",
        str: "a string",
        types.NoneType: f'"{NONE}"',
    }
    if kind in plain:
        return plain[kind] + _range(limits)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return (
            f"one of {', '.join(toml_value(choice) for choice in inner)}"
            if len(inner) > 1
            else toml_value(inner[0])
        )
    return (
        f"a list, each item {describe(inner[0], bounds=bounds)}" if origin is tuple else "a table"
    )


def _range(limits: dict[str, float]) -> str:
    """Bounds in words."""
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "to below"}
    return "".join(f" {words[name]} {limits[name]:,}" for name in words if name in limits)


def shown(value: Any) -> str:
    """A wrong value as TOML writes it, in short."""
    if isinstance(value, dict) or dataclasses.is_dataclass(value):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, int) and abs(value) >= 10**SHOWN:  # Python refuses to write very long ones
        return f"an integer of {value.bit_length():,} bits"
    return cut(toml_value(value))


def cut(text: str) -> str:
    """The beginning of a text that is long."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def toml_value(value: Any) -> str:
    """A plain value as TOML."""
    if value is None:
        return f'"{NONE}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def absolute(path: str) -> str:
    """A path that means the same from another working directory; `~` is the home folder, and stays
    where there is none.
    """
    return str(Path(os.path.expanduser(path)).absolute())
