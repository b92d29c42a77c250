"""Every field of the whole recipe: no number out of its bounds, no senseless text, any tree a
recipe or a sentence, the page of fields.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib.util
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.config.distill import DistillConfig
from chatling.config.extend import ExtendConfig
from chatling.config.overrides import override
from chatling.config.recipe import Recipe, from_toml
from chatling.config.stages import (
    DPOConfig,
    FinetuneConfig,
    MixtureEntry,
    RLConfig,
)
from chatling.errors import ChatlingError, RecipeError
from chatling.fields import bare, members
from chatling.model.adapter import AdapterConfig
from chatling.pipeline.plan import plan

ENTRY = '{task = "pocket"}'
NEEDED = {
    "origin": {"source": "'here'"},
    "mid": {"mixture": f"[{ENTRY}]"},
    "sft": {"mixture": f"[{ENTRY}]"},
    "extend": {"context": "4096"},
    "distill": {"teacher": '"another"'},
    "dpo": {"data": '"pocket"'},
}  # by table


def fields_of_the_tree(
    kind: Any = Recipe, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, type) of every field that is no table; those of a mixture's entry go by its first
    one.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    for f, hint in ((each.name, hints[each.name]) for each in dataclasses.fields(kind)):
        options = [bare(option) for option in members(hint)]
        tables = [option for option in options if dataclasses.is_dataclass(option)]
        if not tables:
            yield (*path, f), hint
        if typing.get_args(options[0])[:1] == (MixtureEntry,):
            tables = [MixtureEntry]
        for table in tables:
            yield from fields_of_the_tree(table, (*path, f))


def limits(kind: Any) -> tuple[type, dict[str, float]] | None:
    """The numeric member of a type with its bounds, or None where it has none."""
    for option in members(kind):
        if bare(option) in (int, float):
            rules = [rule for note in getattr(option, "__metadata__", ()) for rule in note.metadata]
            return bare(option), {
                name: getattr(rule, name)
                for rule in rules
                for name in ("ge", "gt", "le", "lt")
                if hasattr(rule, name)
            }
    return None


FIELDS = list(fields_of_the_tree())
NUMBERS = [(path, *found) for path, kind in FIELDS if (found := limits(kind))]


def recipe_with(path: tuple[str, ...], value: str) -> str:
    """A recipe in which a field has a value, and nothing else is said but what must be."""
    if len(path) == 1:
        return f"{path[0]} = {value}"
    table = dict(NEEDED.get(path[0], {}))
    if len(path) == 3:
        entry = {path[2]: value} if path[1] == "adapter" else {"task": '"pocket"', path[2]: value}
        value = "{" + ", ".join(f"{key} = {each}" for key, each in entry.items()) + "}"
        value = value if path[1] == "adapter" else f"[{value}]"
    table[path[1]] = value
    return f"[{path[0]}]\n" + "\n".join(f"{key} = {each}" for key, each in table.items())


def wrong_values(kind: type, bounds: dict[str, float]) -> list[str]:
    low = bounds["ge"] - 1 if "ge" in bounds else bounds["gt"]
    high = bounds["le"] * 2 + 1 if "le" in bounds else bounds["lt"]
    return [
        "nan",
        "inf",
        "-inf",
        str(kind(low)),
        str(kind(high)),
        str(10**30),
        "-1",
        "1e999",
        "true",
        '"3"',
    ]


def test_there_are_many_numbers_and_each_is_bounded_on_both_sides() -> None:
    assert len(NUMBERS) > 75
    for path, _, bounds in NUMBERS:
        assert len(bounds) == 2, path


@pytest.mark.parametrize(
    ("path", "kind", "bounds"), NUMBERS, ids=[".".join(path) for path, *_ in NUMBERS]
)
def test_no_number_is_out_of_its_bounds(
    path: tuple[str, ...], kind: type, bounds: dict[str, float]
) -> None:
    """Nor nan, nor infinite; and a number at its bounds is planned or refused in one sentence, at
    once.
    """
    for value in wrong_values(kind, bounds):
        with pytest.raises(RecipeError, match=path[-1]) as caught:
            from_toml(Recipe, recipe_with(path, value), "x.toml")
        assert caught.value.exit_code == 2
        assert f"'{'.'.join(path[:1])}" in str(caught.value)
    for name in bounds.keys() & {"ge", "le"}:
        with contextlib.suppress(ChatlingError):
            plan(from_toml(Recipe, recipe_with(path, str(kind(bounds[name]))), "x.toml"))


@pytest.mark.parametrize(
    ("path", "kind", "bounds"), NUMBERS, ids=[".".join(path) for path, *_ in NUMBERS]
)
def test_no_flag_is_out_of_its_bounds(
    path: tuple[str, ...], kind: type, bounds: dict[str, float]
) -> None:
    adapter = AdapterConfig()
    table = {
        "mid": FinetuneConfig((MixtureEntry("pocket"),), adapter=adapter),
        "dpo": DPOConfig("pocket", adapter=adapter),
        "rl": RLConfig(adapter=adapter),
        "extend": ExtendConfig(4096),
        "distill": DistillConfig("another", adapter=adapter),
    }
    inside = ("mixture", "0") if path[1:2] in [("mixture",), ("validation",)] else path[1:2]
    flag = f"--{'.'.join((*inside, path[2]) if len(path) == 3 else path[-1:])}"
    hint = typing.get_type_hints(Recipe)[path[0]]
    start = (
        next(table.get(path[0].replace("sft", "mid")) or option() for option in members(hint))
        if len(path) > 1
        else Recipe()
    )
    value = wrong_values(kind, bounds)[len(".".join(path)) % 8]
    with pytest.raises(RecipeError) as caught:
        override(start, [flag, value], prog="test")
    assert flag in str(caught.value)


OTHERS = [each for each in FIELDS if not limits(each[1])]


@pytest.mark.parametrize(("path", "kind"), OTHERS, ids=[".".join(path) for path, _ in OTHERS])
def test_no_text_choice_or_list_is_senseless(path: tuple[str, ...], kind: Any) -> None:
    for value in (
        "3",
        "[3]",
        "{}",
        '""',
        '"\\u0000"',
        '" "',
        "1979-05-27T07:32:00Z",
        f'"{"x" * 300}"',
        f'"{"x/" * 3000}"',
    ):
        if path[0] == "identity" and value not in ("3", '""', '" "'):
            continue
        with pytest.raises(RecipeError, match=path[-1]):
            from_toml(Recipe, recipe_with(path, value), "x.toml")


def test_mixtures_are_not_empty() -> None:
    for table in ("mid", "sft"):
        with pytest.raises(RecipeError, match="empty"):
            from_toml(Recipe, f"[{table}]\nmixture = []", "x.toml")


SCALARS = (
    st.none().map(lambda _: "none")
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.dates()
    | st.datetimes()
)
WORDS = st.sampled_from(
    sorted({word for path, _ in FIELDS for word in path} | {"extra", "a.b", "", "\n"})
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


def read(text: str) -> None:
    try:
        from_toml(Recipe, text, "x.toml")
        said = "a recipe"
    except RecipeError as error:
        said = str(error)
    assert len(said.splitlines()) == 1


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return (
        value.isoformat()
        if isinstance(value, datetime.date)
        else json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")
    )


@given(st.dictionaries(WORDS, TREES, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_tree_is_a_recipe_or_a_sentence(tree: dict[str, Any]) -> None:
    text = "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in tree.items())
    read(text)


@given(st.text(st.sampled_from("[]{}=.,'\"#\n\r\t\ufeff \0abc0_e-") | st.characters(), max_size=60))
@settings(deadline=None)
def test_any_text_is_a_recipe_or_a_sentence(text: str) -> None:
    read(text)


def test_the_page_lists_the_fields_as_they_are() -> None:
    """`python docs/fields.py` writes them."""
    script = Path(__file__).resolve().parents[2] / "docs/fields.py"
    spec = importlib.util.spec_from_file_location("fields", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.PAGE.read_text(encoding="utf-8")
    assert module.filled(page) == page
    for path, _ in FIELDS:
        assert f"| `{path[-1]}` |" in page
    described = [
        f
        for name, kind in module.tables().items()
        if name != "recipe"
        for f in kind.__pydantic_fields__.values()
    ]
    assert all(f.description for f in described)
