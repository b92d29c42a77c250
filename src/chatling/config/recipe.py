"""The one config tree: the packages' frozen dataclasses, read from TOML, overridden by flags
(config/overrides.py), and written back.

A recipe is one TOML file: `name` and `seed`, then one table a package and one table a
stage. A stage whose table is absent does not run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, TypeAdapter, ValidationError

from chatling.config.distill import DistillConfig
from chatling.config.extend import ExtendConfig
from chatling.config.former_names import rename_former
from chatling.config.overrides import override
from chatling.config.stages import (
    BaseConfig,
    DPOConfig,
    FinetuneConfig,
    LoopConfig,
    MachineConfig,
    OriginConfig,
    RLConfig,
)
from chatling.data.config import DataConfig
from chatling.errors import RecipeError, nearest
from chatling.evals.config import EvalConfig
from chatling.fields import (
    Fault,
    bounded,
    config,
    cut,
    find_fault,
    shown,
    toml_value,
)
from chatling.model.config import ModelRecipe
from chatling.optim.param_groups import OptimConfig
from chatling.run_dir import NAME_RULE, nearest_name, run_name
from chatling.tasks.identity import IdentityConfig
from chatling.tokenizer.train import TokenizerConfig

T = TypeVar("T")
LARGEST_FILE = 1 << 20  # bytes of a recipe


def _packed(table: Any) -> Any:
    """Mid-training packs its conversations unless its table says otherwise."""
    return {"packed": True, **table} if isinstance(table, dict) else table


@config
class Recipe:
    """Everything a run is made of."""

    name: Annotated[str, AfterValidator(run_name), bounded(title=NAME_RULE)] = "custom"
    """Names the run folder unless --run does; by default the file's name."""
    seed: Annotated[int, bounded(ge=0, le=2**63 - 1)] = 1
    """Decides the data's order, the first weights and the pocket world."""
    model: ModelRecipe = field(default_factory=ModelRecipe)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
    identity: IdentityConfig = field(default_factory=IdentityConfig)
    origin: OriginConfig | None = field(default=None, metadata={"later": True})
    base: BaseConfig = field(default_factory=BaseConfig)
    extend: ExtendConfig | None = field(default=None, metadata={"later": True})
    mid: Annotated[FinetuneConfig | None, BeforeValidator(_packed)] = None
    sft: FinetuneConfig | None = None
    distill: DistillConfig | None = field(default=None, metadata={"later": True})
    dpo: DPOConfig | None = None
    rl: RLConfig | None = None
    eval: EvalConfig | None = None

    def __post_init__(self) -> None:
        if self.rl is not None and self.rl.replay and self.sft is None:
            raise RecipeError(
                "rl.replay shows SFT's conversations again, and the recipe has no [sft].",
                "Set rl.replay to 0.",
            )
        if self.distill is not None and self.sft is None:
            raise RecipeError(
                "[distill] asks the questions of SFT's mixture, and the recipe has no [sft].",
                "Write one, or leave [distill] out.",
            )
        if self.extend is not None and self.extend.context <= self.model.context:
            raise RecipeError(
                f"extend.context is {self.extend.context}, no more than model.context,"
                f" {self.model.context}.",
                "Make it larger, or leave [extend] out.",
            )
        if self.extend is not None and self.origin is not None:
            raise RecipeError(
                "[extend] continues base, and a model from [origin] does without it.",
                "Leave one of the two tables out.",
            )

    def anchored(self) -> Recipe:
        """With absolute paths: a frozen recipe must mean the same from another working
        directory.
        """
        tables = {
            name: getattr(self, name)
            for name in ("data", "origin", "mid", "sft", "distill", "dpo", "eval")
        }
        return dataclasses.replace(
            self, **{name: table and table.anchored() for name, table in tables.items()}
        )


def builtin_recipes() -> dict[str, Path]:
    """The ready recipes by name."""
    return dict(
        sorted((path.stem, path) for path in (Path(__file__).parent / "recipes").glob("*.toml"))
    )


def find_recipe(name_or_path: str) -> Path:
    """A ready recipe by name, or a file by path. Raises RecipeError naming the nearest ready
    one.
    """
    ready = builtin_recipes()
    if name_or_path in ready:
        return ready[name_or_path]
    path = os.path.expanduser(name_or_path)
    if os.path.isfile(path):
        return Path(path)
    if name_or_path and os.path.isdir(path):
        raise RecipeError(f"{name_or_path!r} is a folder; a recipe is one TOML file.")
    hint = nearest(name_or_path, ready) or f"Ready ones: {', '.join(ready)}."
    raise RecipeError(f"There is no recipe {cut(repr(name_or_path))}, by name or as a file.", hint)


def load_recipe(
    name_or_path: str, overrides: Sequence[str] = (), *, prog: str | None = None
) -> Recipe:
    """Read a recipe and apply `--table.field value` overrides. With `--help` among them, prints
    every field and exits.

    Raises RecipeError for an unknown or ill-typed key, naming it, where it stands and what was
    expected.
    """
    path = find_recipe(name_or_path)
    table, texts = _read_tables(path)
    if not table:
        raise RecipeError(
            f"Recipe {path} is empty.", 'Write at least one line, for example name = "mine".'
        )
    recipe = _build(Recipe, {"name": nearest_name(path.stem), **table}, texts)
    return override(recipe, overrides, prog=prog or f"chatling run {name_or_path}").anchored()


def _read_tables(path: Path, below: tuple[Path, ...] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """The tables of a recipe over those of the one that it extends; and the text of each file by
    its name, the recipe's own first. `below` are the recipes that lead here.
    """
    text = read_text(path)
    table, texts = _parse(text, str(path)), {str(path): text}
    if (name := table.pop("extends", None)) is None:
        return table, texts
    if not isinstance(name, str):
        raise RecipeError(f"'extends' in {path} must be a recipe's name or path.")
    ready = builtin_recipes()
    parent = ready.get(name, path.parent / os.path.expanduser(name))
    if not parent.is_file():
        hint = nearest(name, ready) or f"Ready ones: {', '.join(ready)}."
        raise RecipeError(f"{path} extends {cut(repr(name))}, which is no recipe.", hint)
    if any(parent.samefile(known) for known in (*below, path)):
        raise RecipeError(f"{path} extends {cut(repr(name))}, which extends it.")
    inherited, more = _read_tables(parent, (*below, path))
    # each recipe has a name of its own
    inherited.pop("name", None)
    return _merged(inherited, table), texts | more


def _merged(inherited: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Tables key by key; what is no table, lists too, replaces what was inherited."""
    both = dict(inherited)
    for key, value in own.items():
        tables = isinstance(value, dict) and isinstance(both.get(key), dict)
        both[key] = _merged(both[key], value) if tables else value
    return both


def read_text(path: Path) -> str:
    """The text of a recipe, whichever editor wrote it. Raises RecipeError for what is no UTF-8
    text, or far too much of it.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise RecipeError(f"Cannot read recipe {path}: {error.strerror}.") from None
    if len(data) > LARGEST_FILE:
        raise RecipeError(
            f"{path} is larger than {LARGEST_FILE >> 20} MiB; a recipe is a short TOML file."
        )
    try:
        if b"\0" in data:
            raise ValueError
        return data.decode("utf-8")
    except ValueError:
        sort = (
            "UTF-16 text"
            if data[:2] in (b"\xff\xfe", b"\xfe\xff") or data.count(0) * 3 > len(data)
            else "no UTF-8 text"
        )
        raise RecipeError(
            f"{path} is {sort}; a recipe is a TOML file in UTF-8.", "Save it as UTF-8."
        ) from None


def fingerprint(*values: Any) -> str:
    """A short hash of configs and plain values. A field with metadata `{"inert": True}` (it changes
    no weight) does not count; one with `{"later": True}` (runs are older than it) counts when it
    differs from its default; one that was renamed counts under its `hashed_as`.
    """
    return hashlib.sha256(
        json.dumps([_plain(value) for value in values], sort_keys=True).encode()
    ).hexdigest()[:16]


# ---- TOML to dataclasses ----


def from_toml(kind: type[T], text: str, file: str) -> T:
    """Read TOML into the config dataclass `kind`, strictly. `file` is named in errors."""
    return _build(kind, _parse(text, file), {file: text})


def _parse(text: str, file: str) -> dict[str, Any]:
    try:
        lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        return rename_former(tomllib.loads(lines), file)
    except RecursionError:
        raise RecipeError(f"{file} is nested too deeply for a recipe.") from None
    # TOMLDecodeError is one, and so are numbers with thousands of digits
    except ValueError as error:
        raise RecipeError(
            f"{file} is not valid TOML: {cut(str(error)).removesuffix('.')}."
        ) from None


def _build(kind: type[T], table: Mapping[str, Any], texts: Mapping[str, str]) -> T:
    """`texts` are those that the table was read from, by their files' names."""
    try:
        return TypeAdapter(kind).validate_python(table)
    except ValidationError as error:
        raise _wrong(find_fault(error, kind), texts) from None
    except RecipeError as error:
        raise RecipeError(f"{next(iter(texts))}: {error.what}", error.hint) from None


def _wrong(fault: Fault, texts: Mapping[str, str]) -> RecipeError:
    key, where = cut(repr(".".join(fault.path))), _place_of(fault.path, texts)
    if fault.sort == "unknown":
        names = [f.name for f in dataclasses.fields(fault.kind)]
        return RecipeError(
            f"Unknown key {key} in {where}.",
            nearest(fault.path[-1], names) or f"Known here: {', '.join(names)}.",
        )
    if fault.sort == "missing":
        return RecipeError(f"{key} is missing in {where}.")
    return RecipeError(f"{key} in {where} must be {fault.wanted}, not {shown(fault.value)}.")


def _place_of(path: tuple[str, ...], texts: Mapping[str, str]) -> str:
    """The file and line where a key stands, or else the innermost table or list around it that has
    a line of its own.
    """
    lines = {file: _lines(text) for file, text in texts.items()}
    for size in range(len(path), 0, -1):
        for file, known in lines.items():
            if path[:size] in known:
                return f"{file} line {known[path[:size]]}"
    return next(iter(texts))


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """The line of every key and table."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff")), 1):
        if header := re.match(r"\s*(\[\[?)([^\]]+)\]", line):
            table = tuple(part.strip(" \t\"'") for part in header[2].split("."))
            if header[1] == "[[":  # the next one of a list of tables
                table = (
                    *table,
                    str(sum(known[:-1] == table and known[-1].isdigit() for known in lines)),
                )
            lines.setdefault(table, number)
        elif key := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            lines.setdefault((*table, *(part.strip("\"'") for part in key[1].split("."))), number)
    return lines


def _default(f: dataclasses.Field[Any]) -> Any:
    return f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default


# ---- dataclasses to TOML ----


def to_toml(config: Any) -> str:
    """Write a config so that `from_toml` gives an equal one: every field, defaults included, since
    defaults may change later.
    """
    top, tables = [], []
    for key, value in _items(config).items():
        if dataclasses.is_dataclass(value):
            tables.append(
                "\n".join(
                    [
                        f"[{key}]",
                        *(f"{name} = {_toml(item)}" for name, item in _items(value).items()),
                    ]
                )
            )
        else:
            top.append(f"{key} = {_toml(value)}")
    return "\n\n".join(["\n".join(top), *tables]).strip() + "\n"


def _items(config: Any) -> dict[str, Any]:
    """Fields to write: all but an empty one that is empty by default."""
    return {
        f.name: value
        for f in dataclasses.fields(config)
        if (value := getattr(config, f.name)) is not None or _default(f) is not None
    }


def _toml(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return (
            "{" + ", ".join(f"{name} = {_toml(item)}" for name, item in _items(value).items()) + "}"
        )
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return toml_value(value)


def _plain(value: Any) -> Any:
    """As JSON-able values, without the fields that do not count in a fingerprint."""
    if dataclasses.is_dataclass(value):
        return {
            f.metadata.get("hashed_as", f.name): _plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if not f.metadata.get("inert")
            and not (f.metadata.get("later") and getattr(value, f.name) == _default(f))
        }
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, int | float | str | None) else str(value)
