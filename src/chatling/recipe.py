"""The one config tree: the rooms' frozen dataclasses, read from TOML, overridden by typed flags, and written back.

A recipe is one TOML file: `name` and `seed`, then one table a room and one table a stage. A stage whose table is absent does not run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from chatling.data.config import DataConfig
from chatling.errors import RecipeError, nearest
from chatling.evals.config import EvalConfig
from chatling.model.config import ModelRecipe
from chatling.model.precision import MachineConfig
from chatling.optim.groups import OptimConfig
from chatling.tasks.identity import IdentityConfig
from chatling.tokenizer.train import TokenizerConfig
from chatling.train.base import BaseConfig
from chatling.train.dpo import DPOConfig
from chatling.train.finetune import FinetuneConfig
from chatling.train.loop import LoopConfig
from chatling.train.rollouts import RLConfig

T = TypeVar("T")
NONE = "none"  # TOML has no null; this string stands for it where a field may be empty


@dataclass(frozen=True)
class Recipe:
    """Everything a run is made of."""

    name: str = "custom"
    """Names the run folder unless --run does."""
    seed: int = 1
    """Decides the data's order, the first weights and the pocket world."""
    model: ModelRecipe = field(default_factory=ModelRecipe)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
    identity: IdentityConfig = field(default_factory=IdentityConfig)
    base: BaseConfig = field(default_factory=BaseConfig)
    mid: FinetuneConfig | None = None
    sft: FinetuneConfig | None = None
    dpo: DPOConfig | None = None
    rl: RLConfig | None = None
    eval: EvalConfig | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise RecipeError(f"seed is {self.seed}; it must be at least 0.")
        if self.rl is not None and self.rl.replay and self.sft is None:
            raise RecipeError("rl.replay shows SFT's conversations again, and the recipe has no [sft].", "Set rl.replay to 0.")


def builtin_recipes() -> dict[str, Path]:
    """The ready recipes by name."""
    return dict(sorted((path.stem, path) for path in (Path(__file__).parent / "recipes").glob("*.toml")))


def find_recipe(name_or_path: str) -> Path:
    """A ready recipe by name, or a file by path. Raises RecipeError naming the nearest ready one."""
    ready = builtin_recipes()
    if name_or_path in ready:
        return ready[name_or_path]
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    mend = nearest(name_or_path, ready) or f"Ready ones: {', '.join(ready)}."
    raise RecipeError(f"There is no recipe {name_or_path!r}, by name or as a file.", mend)


def load_recipe(name_or_path: str, overrides: Sequence[str] = (), *, prog: str | None = None) -> Recipe:
    """Read a recipe and apply `--table.field value` overrides. With `--help` among them, prints every field and exits.

    Raises RecipeError for an unknown or ill-typed key, naming it, where it stands and what was expected.
    """
    path = find_recipe(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"Cannot read recipe {path}: {error}.") from None
    recipe = from_toml(Recipe, text, str(path))
    if not re.search(r"^name\s*=", text, re.MULTILINE):
        recipe = dataclasses.replace(recipe, name=path.stem)
    recipe = override(recipe, overrides, prog=prog or f"chatling run {name_or_path}")
    # The frozen recipe must mean the same from another working directory.
    recipe = dataclasses.replace(recipe, mid=recipe.mid and recipe.mid.anchored(), sft=recipe.sft and recipe.sft.anchored())
    recipe = dataclasses.replace(recipe, eval=recipe.eval and recipe.eval.anchored())
    return dataclasses.replace(recipe, data=recipe.data.anchored())


def fingerprint(*values: Any) -> str:
    """A short hash of configs and plain values. A field with metadata `{"inert": True}` (it changes no weight) does not count."""
    return hashlib.sha256(json.dumps([_plain(value) for value in values], sort_keys=True).encode()).hexdigest()[:16]


# ---- TOML to dataclasses ----


def from_toml(kind: type[T], text: str, file: str) -> T:
    """Read TOML into the dataclass `kind`, strictly. `file` is named in errors."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{file} is not valid TOML: {error}.") from None
    return typing.cast(T, _read(kind, table, (), _Source(file, text)))


@dataclass(frozen=True)
class _Source:
    file: str
    text: str

    def where(self, path: tuple[str, ...]) -> str:
        """`FILE line N` of a key; without the line for what stands inside an inline table or array."""
        table: tuple[str, ...] = ()
        for number, line in enumerate(self.text.splitlines(), 1):
            if header := re.match(r"\s*\[\[?([^\]]+)\]", line):
                table = tuple(part.strip(" \"'") for part in header[1].split("."))
                if table == path:
                    return f"{self.file} line {number}"
            elif (key := re.match(r"\s*([\w.\"'-]+)\s*=", line)) and (*table, *(part.strip("\"'") for part in key[1].split("."))) == path:
                return f"{self.file} line {number}"
        return self.file

    def wrong(self, path: tuple[str, ...], kind: Any, value: Any) -> RecipeError:
        return RecipeError(f"{'.'.join(path)!r} in {self.where(path)} must be {describe(kind)}, not {_toml(value)}.")


def _read(kind: Any, value: Any, path: tuple[str, ...], source: _Source) -> Any:
    """`value` as parsed by tomllib, checked against and turned into the type `kind`."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise source.wrong(path, kind, value)
        hints = typing.get_type_hints(kind)
        names = [f.name for f in dataclasses.fields(kind)]
        for key in value:
            if key not in names:
                mend = nearest(key, names) or f"Known here: {', '.join(names)}."
                raise RecipeError(f"Unknown key {'.'.join((*path, key))!r} in {source.where((*path, key))}.", mend)
        arguments = {name: _read(hints[name], value[name], (*path, name), source) for name in names if name in value}
        if missing := [f.name for f in dataclasses.fields(kind) if f.name not in value and _default(f) is dataclasses.MISSING]:
            raise RecipeError(f"{'.'.join((*path, missing[0]))!r} is missing in {source.where(path)}.")
        try:
            return typing.cast(Any, kind)(**arguments)
        except RecipeError as error:
            raise RecipeError(f"{source.file}: {error.what}", error.mend) from None
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        if value == NONE and types.NoneType in inner:
            return None
        options = [option for option in inner if option is not types.NoneType]
        for option in options:
            if dataclasses.is_dataclass(option) or len(options) == 1:  # its own error says more than the union's
                return _read(option, value, path, source)
            with contextlib.suppress(RecipeError):
                return _read(option, value, path, source)
        raise source.wrong(path, kind, value)
    if origin is Literal:
        if value not in inner or type(value) not in {type(choice) for choice in inner}:
            raise source.wrong(path, kind, value)
        return value
    if origin is tuple and isinstance(value, list):
        kinds = [inner[0]] * len(value) if inner[-1] is ... else list(inner)
        if len(kinds) != len(value):
            raise source.wrong(path, kind, value)
        return tuple(_read(k, v, (*path, str(i)), source) for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is dict and isinstance(value, dict):
        return {key: _read(inner[1], v, (*path, key), source) for key, v in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if type(value) is not kind:  # exact: bool must not pass for int
        raise source.wrong(path, kind, value)
    return value


def describe(kind: Any) -> str:
    """A type in the words of an error message."""
    plain = {int: "an integer", float: "a number", bool: "true or false", str: "a string", Path: "a path", types.NoneType: f'"{NONE}"'}
    if kind in plain:
        return plain[kind]
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(option) for option in inner)
    if origin is Literal:
        return f"one of {', '.join(_toml(choice) for choice in inner)}"
    if origin is tuple:
        items = ", ".join(map(describe, inner))
        return f"a list, each item {describe(inner[0])}" if inner[-1] is ... else f"a list of {len(inner)}: {items}"
    if origin is dict:
        return f"a table, each value {describe(inner[1])}"
    return "a table"


def _default(f: dataclasses.Field[Any]) -> Any:
    return f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default


# ---- dataclasses to TOML ----


def to_toml(config: Any) -> str:
    """Write a config so that `from_toml` gives an equal one: every field, defaults included, since defaults may change later."""
    top, tables = [], []
    for key, value in _items(config).items():
        if dataclasses.is_dataclass(value):
            tables.append("\n".join([f"[{key}]", *(f"{name} = {_toml(item)}" for name, item in _items(value).items())]))
        else:
            top.append(f"{key} = {_toml(value)}")
    return "\n\n".join(["\n".join(top), *tables]).strip() + "\n"


def _items(config: Any) -> dict[str, Any]:
    """Fields to write: all but an empty one that is empty by default."""
    return {f.name: value for f in dataclasses.fields(config) if (value := getattr(config, f.name)) is not None or _default(f) is not None}


def _toml(value: Any) -> str:
    if value is None:
        return f'"{NONE}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if dataclasses.is_dataclass(value):
        value = _items(value)
    if isinstance(value, dict):
        items = (f"{key if re.fullmatch(r'[A-Za-z0-9_-]+', key) else _toml(key)} = {_toml(v)}" for key, v in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(str(value))


def _plain(value: Any) -> Any:
    """As JSON-able values, without the inert fields."""
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value) if not f.metadata.get("inert")}
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, int | float | str | None) else str(value)


# ---- overrides ----


def override(recipe: T, arguments: Sequence[str], *, prog: str) -> T:
    """Apply typed `--table.field value` flags through tyro. Raises RecipeError with the nearest flag, or with what the flag accepts."""
    if not arguments:
        return recipe
    flags = dict(_flags(recipe, ""))
    if {"-h", "--help"} & set(arguments):
        return typing.cast(T, _tyro(recipe, arguments, prog, quiet=False))
    groups = [(option, [_cased(value) for value in values]) for option, values in _options(arguments)]
    for option, values in groups:
        name = option.removeprefix("--").replace("-", "_")
        if name not in flags:
            leaf = [flag for flag in flags if flag.split(".")[-1] == name.split(".")[-1]]
            mend = f"Did you mean {'--' + leaf[0]!r}?" if leaf else nearest(option, [f"--{flag}" for flag in flags])
            raise RecipeError(f"Unknown option {option!r}.", mend or f"`{prog} --help` lists them.")
        if not values:
            raise RecipeError(f"Option {option!r} needs a value: {describe(flags[name])}.")
    result = _tyro(recipe, [word for option, values in groups for word in (option, *values)], prog, quiet=True)
    for option, values in groups if result is None else ():
        if _tyro(recipe, [option, *values], prog, quiet=True) is None:
            name = option.removeprefix("--").replace("-", "_")
            raise RecipeError(f"Option {option!r} must be {describe(flags[name])}, not {' '.join(values)!r}.")
    if result is None:
        raise RecipeError(f"The options {' '.join(arguments)!r} do not go together.", f"`{prog} --help` lists them.")
    return typing.cast(T, result)


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
            raise RecipeError(f"Unexpected argument {argument!r}; overrides look like `--model.depth 12`.")
    return iter(groups)


def _cased(word: str) -> str:
    """TOML's true, false and none as tyro spells them."""
    return word.capitalize() if word in ("true", "false", NONE) else word


def _flags(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every flag that tyro makes of a config, with its type."""
    hints = typing.get_type_hints(type(value))
    for f in dataclasses.fields(value):
        name, item = prefix + f.name, getattr(value, f.name)
        if dataclasses.is_dataclass(item):
            yield from _flags(item, f"{name}.")
        elif isinstance(item, tuple) and item and dataclasses.is_dataclass(item[0]):
            for i, part in enumerate(item):
                yield from _flags(part, f"{name}.{i}.")
        elif isinstance(item, dict) and item:
            yield from ((f"{name}.{key}", typing.get_args(hints[f.name])[1]) for key in item)
        elif not any(map(dataclasses.is_dataclass, typing.get_args(hints[f.name]))):
            yield name, hints[f.name]


def _tyro(recipe: Any, arguments: Sequence[str], prog: str, *, quiet: bool) -> Any | None:
    import tyro  # here: slow to import, and most commands override nothing

    conf = (tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff)
    with contextlib.redirect_stderr(io.StringIO()) if quiet else contextlib.nullcontext():
        try:
            return tyro.cli(type(recipe), default=recipe, args=list(arguments), prog=prog, config=conf, description=None)
        except SystemExit:
            if quiet:
                return None
            raise
