"""Recipes: strict reading, typed overrides, writing back, fingerprints."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatling.errors import RecipeError
from chatling.recipe import Recipe, builtin_recipes, fingerprint, from_toml, load_recipe, to_toml


@dataclass(frozen=True)
class Part:
    task: str
    weight: float = 1.0
    count: int | None = None


@dataclass(frozen=True)
class Room:
    kind: Literal["one", "two"] = "one"
    size: int = 3
    rate: float | None = 0.5
    name: str | None = None
    on: bool = True
    parts: tuple[Part, ...] = ()
    betas: tuple[float, float] = (0.9, 0.95)
    weights: dict[str, float] = field(default_factory=dict)
    save: int = field(default=1, metadata={"inert": True})


@dataclass(frozen=True)
class House:
    seed: int = 1
    note: str = ""
    room: Room = field(default_factory=Room)
    attic: Room | None = None


FLOATS = st.floats(allow_nan=False)
PARTS = st.builds(Part, st.text(), FLOATS, st.none() | st.integers())
ROOMS = st.builds(
    Room, st.sampled_from(["one", "two"]), st.integers(), st.none() | FLOATS, st.none() | st.text().filter(lambda s: s != "none"),
    st.booleans(), st.lists(PARTS, max_size=3).map(tuple), st.tuples(FLOATS, FLOATS), st.dictionaries(st.text(), FLOATS, max_size=3),
)  # fmt: skip


@given(st.builds(House, st.integers(), st.text(), ROOMS, st.none() | ROOMS))
def test_what_is_written_reads_back_equal(house: House) -> None:
    assert from_toml(House, to_toml(house), "written") == house


@pytest.mark.parametrize("name", builtin_recipes())
def test_ready_recipes_load_and_round_trip(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert from_toml(Recipe, to_toml(recipe), name) == recipe


BAD = [
    ("[room]\nsizes = 3", ["'room.sizes'", "house.toml line 2", "'size'"]),
    ("seed = 1\n\n[rooom]\nsize = 3", ["'rooom'", "line 3", "'room'"]),
    ('[room]\nkind = "one"\nsize = "3"', ["'room.size'", "line 3", "an integer", '"3"']),
    ("[room]\nsize = 3.5", ["'room.size'", "an integer", "3.5"]),
    ("[room]\nsize = true", ["'room.size'", "an integer", "true"]),
    ("[room]\non = 1", ["'room.on'", "true or false"]),
    ('[room]\nkind = "three"', ["'room.kind'", '"one", "two"']),
    ('[room]\nrate = "fast"', ["'room.rate'", "a number"]),
    ("[room]\nbetas = [0.9]", ["'room.betas'", "a list of 2"]),
    ("[room]\nparts = [{weight = 1.0}]", ["'room.parts.0.task'", "missing"]),
    ('[room]\nparts = [{task = "a", wieght = 1.0}]', ["'room.parts.0.wieght'", "'weight'"]),
    ('[room]\nweights = {a = "b"}', ["'room.weights.a'", "a number"]),
    ("room = 3", ["'room'", "a table"]),
    ("[room\nsize = 3", ["house.toml", "not valid TOML"]),
]


@pytest.mark.parametrize(("text", "named"), BAD)
def test_a_bad_recipe_names_key_file_and_what_is_right(text: str, named: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        from_toml(House, text, "house.toml")
    assert "\n" not in str(caught.value)
    for part in (*named, "house.toml"):
        assert part in str(caught.value)


def test_integers_pass_for_numbers_and_none_empties_a_field() -> None:
    house = from_toml(House, '[room]\nrate = 1\nbetas = [0, 1]\n[attic]\nrate = "none"', "house.toml")
    assert house.room.rate == 1.0
    assert isinstance(house.room.rate, float)
    assert isinstance(house.room.betas[0], float)
    assert house.attic == Room(rate=None)


def test_overrides_are_typed() -> None:
    words = "--model.depth 7 --optim.clip=0.5 --seed 9 --base.tokens none --mid.packed false --mid.mixture.0.count 5"
    plain = load_recipe("pocket")
    recipe = load_recipe("pocket", words.split())
    assert plain.mid is not None
    assert recipe == replace(
        plain,
        seed=9,
        model=replace(plain.model, depth=7),
        optim=replace(plain.optim, clip=0.5),
        mid=replace(plain.mid, packed=False, mixture=(replace(plain.mid.mixture[0], count=5),)),
    )


BAD_OVERRIDES = [
    (["--model.dept", "3"], "'--model.depth'"),
    (["--depth", "3"], "'--model.depth'"),
    (["--model.depth", "x"], "an integer, not 'x'"),
    (["--model.depth"], "needs a value"),
    (["--model.preset", "modrn"], '"classic", "modern"'),
    (["depth=3"], "'depth=3'"),
    (["--mid.packed", "perhaps"], "true or false"),
    (["--tokenizer.vocabulary", "12"], "12"),
    (["--base.steps", "0"], "base.steps"),
    (["--base.warmdown", "1.5"], "warmdown"),
    (["--sft.warmup", "-1"], "warmup"),
    (["--loop.keep", "0"], "loop.keep"),
    (["--loop.save_every", "-1"], "loop.save_every"),
]


@pytest.mark.parametrize(("words", "named"), BAD_OVERRIDES)
def test_a_bad_override_is_one_sentence(words: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("pocket", words)
    assert named in str(caught.value)
    assert caught.value.exit_code == 2
    assert capsys.readouterr() == ("", "")


def test_help_lists_every_field_and_exits_well(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        load_recipe("pocket", ["--help"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    for flag in ("--model.depth", "--optim.matrix-lr", "--sft.mixture.0.count", "--data.source"):
        assert flag in shown


def test_what_is_to_be_shown_again_must_have_been_shown() -> None:
    with pytest.raises(RecipeError, match=r"rl\.replay .* no \[sft\]"):
        from_toml(Recipe, "[rl]\nreplay = 0.5", "alone.toml")


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'pocket'"):
        load_recipe("poket")


def test_a_recipe_file_is_named_after_itself_and_its_paths_become_absolute(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[data]\nsource = "corpus"\n')
    recipe = load_recipe(str(path))
    assert recipe.name == "mine"
    assert recipe.data.source == str(Path("corpus").absolute())


def test_a_fingerprint_sees_every_field_but_inert_ones() -> None:
    room = Room(weights={"a": 1.0, "b": 2.0})
    same = Room(weights={"b": 2.0, "a": 1.0}, save=7)
    assert fingerprint(room, 1) == fingerprint(same, 1)
    changed = [replace(room, size=4), replace(room, rate=None), replace(room, parts=(Part("x"),)), replace(room, betas=(0.9, 0.96))]
    marks = {fingerprint(r, 1) for r in (room, *changed)} | {fingerprint(room, 2)}
    assert len(marks) == len(changed) + 2


def test_infinity_and_exponents_survive() -> None:
    for number in (math.inf, -math.inf, 1e-10, 1e300, -0.0):
        assert from_toml(House, to_toml(House(room=Room(rate=number))), "x").room.rate == number
