"""Recipes: strict reading, bounds, typed overrides, writing back, fingerprints, and the page that
lists the fields.
"""

from __future__ import annotations

import json
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.config.former_names import FORMER_NAMES
from chatling.config.recipe import (
    Recipe,
    builtin_recipes,
    find_recipe,
    fingerprint,
    from_toml,
    load_recipe,
    read_text,
    to_toml,
)
from chatling.errors import RecipeError
from chatling.fields import Flag, Rate, Text, bounded, config, describe
from chatling.run_dir import nearest_name, run_name

Number = Annotated[float, bounded(ge=-1e300, le=1e300)]


@config
class Part:
    task: Text
    weight: Number = 1.0
    count: Annotated[int, bounded(ge=-9, le=9)] | None = None


@config
class Room:
    kind: Literal["one", "two"] = "one"
    size: Annotated[int, bounded(ge=0, le=2**80)] = 3
    rate: Number | None = 0.5
    name: str | None = None
    on: Flag = True
    parts: tuple[Part, ...] = ()
    save: Annotated[int, bounded(ge=0, le=9)] = field(default=1, metadata={"inert": True})


@config
class House:
    seed: Annotated[int, bounded(ge=0, le=9)] = 1
    note: str = ""
    room: Room = field(default_factory=Room)
    attic: Room | None = None


FLOATS = st.floats(-1e300, 1e300)
TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60).filter(
    str.strip
)
PARTS = st.builds(Part, TEXTS, FLOATS, st.none() | st.integers(-9, 9))
ROOMS = st.builds(
    Room,
    st.sampled_from(["one", "two"]),
    st.integers(0, 2**80),
    st.none() | FLOATS,
    st.none() | st.text().filter(lambda s: s != "none"),
    st.booleans(),
    st.lists(PARTS, max_size=3).map(tuple),
)


@given(st.builds(House, st.integers(0, 9), st.text(), ROOMS, st.none() | ROOMS))
@settings(deadline=None)
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
    ('[room]\nkind = "one"\nsize = "3"', ["'room.size'", "line 3", 'must be an integer, not "3".']),
    ("[room]\nsize = 3.5", ["'room.size'", "an integer", "3.5"]),
    ("[room]\nsize = true", ["'room.size'", "an integer", "true"]),
    ("[room]\nsize = -1", ["'room.size'", "an integer from 0 to 1,2", "-1"]),
    ("[room]\non = 1", ["'room.on'", "true or false"]),
    ('[room]\nkind = "three"', ["'room.kind'", '"one", "two"']),
    ('[room]\nrate = "fast"', ["'room.rate'", "a number"]),
    ("[room]\nrate = inf", ["'room.rate'", "a number from -1e+300 to 1e+300", "inf"]),
    ("[room]\nparts = 3", ["'room.parts'", "a list, each item a table"]),
    ("[room]\nparts = [3]", ["'room.parts.0'", "line 2", "a table"]),
    ("[room]\nparts = [{weight = 1.0}]", ["'room.parts.0.task'", "missing", "line 2"]),
    (
        '[room]\nparts = [\n{task = "a"},\n{task = "a", wieght = 1.0}]',
        ["'room.parts.1.wieght'", "'weight'", "line 2"],
    ),
    (
        '[[room.parts]]\ntask = "a"\n[[room.parts]]\ntask = "b"\ncount = 10',
        ["'room.parts.1.count'", "line 5", "from -9 to 9"],
    ),
    ("room = 3", ["'room'", "a table"]),
    ('room = "none"', ["'room'", "a table"]),
    ("note = 2020-01-01", ["'note'", "a string", "2020-01-01"]),
    ("note = [[1]]", ["'note'", "a list"]),
    ("# \u2028\nseed = 10", ["line 2", "'seed'"]),
    ('"a\\nb" = 1', ["Known here"]),
    ("[attic]\nattic = 1", ["'attic.attic'", "line 2", "Known here: kind"]),
    ("[room\nsize = 3", ["house.toml", "not valid TOML"]),
    ("seed = 1\nseed = 2", ["house.toml", "not valid TOML"]),
    ("seed = 0x" + "f" * 9000, ["'seed'", "an integer from 0 to 9, not an integer of 36,000 bits"]),
    ("seed = " + "1" * 9000, ["house.toml", "not valid TOML"]),
    ("room.rate = 1e999", ["'room.rate'", "inf"]),
    ("note = " + "[" * 9000 + "]" * 9000, ["house.toml", "nested too deeply"]),
    ("seed" + ".a" * 2000 + " = 1", ["'seed'", "not a table"]),
    ("note = " + '"' + "x" * 9000 + '"\nseed = "' + "y" * 9000 + '"', ["'seed'", "yyy…"]),
]


@pytest.mark.parametrize(("text", "named"), BAD, ids=range(len(BAD)))
def test_a_bad_recipe_names_key_file_and_what_is_right(text: str, named: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        from_toml(House, text, "house.toml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    for part in (*named, "house.toml"):
        assert part in str(caught.value)


# ---- files ----


@pytest.mark.parametrize("name", ["crlf", "cr", "mark", "tabs"])
def test_a_recipe_may_come_from_any_editor(name: str, tmp_path: Path) -> None:
    text = builtin_recipes()["pocket"].read_text()
    ends = {"crlf": text.replace("\n", "\r\n"), "cr": text.replace("\n", "\r")}
    odd = {**ends, "mark": "\ufeff" + text, "tabs": text.replace(" = ", "\t=\t")}
    (tmp_path / "odd.toml").write_bytes(odd[name].encode())
    assert load_recipe(str(tmp_path / "odd.toml")) == load_recipe("pocket")


WORTHLESS = [
    ("[model]\ndepth = 1".encode("utf-16"), "UTF-16"),
    ("[model]\ndepth = 1".encode("utf-16-be"), "UTF-16"),
    (b"\x7fELF\xff\xfe" + bytes(range(256)) * 9, "no UTF-8 text"),
    ("name = 'é'".encode("latin-1"), "no UTF-8 text"),
    (b"", "empty"),
    (b"# nothing yet\n", "empty"),
    (b"\xef\xbb\xbf", "empty"),
    (b"#" * (1 << 20) + b"\n", "larger than 1 MiB"),
]


@pytest.mark.parametrize(("data", "said"), WORTHLESS, ids=range(len(WORTHLESS)))
def test_what_is_no_recipe_is_called_what_it_is(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_bytes(data)
    with pytest.raises(RecipeError, match=said) as caught:
        load_recipe(str(tmp_path / "odd.toml"))
    assert "odd.toml" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is a folder"):
        load_recipe(str(tmp_path))
    with pytest.raises(RecipeError, match="Cannot read"):
        read_text(tmp_path)


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 5000, "a\nb", "~nobody-at-all/x.toml"])
def test_a_recipe_that_is_nowhere_is_one_short_sentence(name: str) -> None:
    with pytest.raises(RecipeError) as caught:
        find_recipe(name)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


# ---- names ----


@pytest.mark.parametrize(
    "name", ["a", "7", "_", "d20.v2_x-1", "模型", "हिन्दी", "Ärger", "e\u0301te\u0301", "x" * 100]
)
def test_names(name: str) -> None:
    assert from_toml(Recipe, f"name = {json.dumps(name)}", "x.toml").name == name


NO_NAMES = [
    "",
    ".",
    "..",
    "...",
    ".x",
    "-x",
    "a/b",
    "../evil",
    "/",
    "a\\b",
    "a b",
    "a\nb",
    "a\0b",
    "~",
    "x" * 101,
    "模" * 86,
    "a:b",
    "🙂",
]


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(RecipeError, match=r"'name' in x\.toml line 1 must be 1 to 100 letters"):
        from_toml(Recipe, f"name = {json.dumps(name, ensure_ascii=False)}", "x.toml")


@given(st.text())
def test_a_file_of_any_name_gives_a_name(stem: str) -> None:
    name = nearest_name(stem)
    assert run_name(name) == name
    assert nearest_name(name) == name


def test_the_name_of_another_table_is_not_the_recipes(tmp_path: Path) -> None:
    (tmp_path / "my own (1).toml").write_text('[identity]\nname = "Bob"\n')
    assert load_recipe(str(tmp_path / "my own (1).toml")).name == "my-own--1-"


# ---- defaults by stage ----


def test_mid_is_packed_and_sft_is_not_unless_the_recipe_says_otherwise() -> None:
    table = '[{0}]\nmixture = [{{task = "pocket"}}]\n'
    short = from_toml(Recipe, table.format("mid") + table.format("sft"), "x.toml")
    assert short.mid is not None
    assert short.sft is not None
    assert (short.mid.packed, short.sft.packed) == (True, False)
    said = from_toml(
        Recipe, f"{table.format('mid')}packed = true\n{table.format('sft')}packed = false", "x.toml"
    )
    assert (said, fingerprint(said)) == (short, fingerprint(short))
    other = from_toml(
        Recipe, f"{table.format('mid')}packed = false\n{table.format('sft')}packed = true", "x.toml"
    )
    assert other.mid == short.sft
    assert other.sft == short.mid


def test_configs_check_themselves_however_they_are_made() -> None:
    with pytest.raises(RecipeError, match="rate is nan; it must be a number"):
        Room(rate=float("nan"))
    with pytest.raises(RecipeError, match=r"'room\.sizes' is unknown"):
        Room(sizes=1)
    with pytest.raises(RecipeError, match="size is true"):
        replace(Room(), size=True)
    assert Room(rate=1).rate == 1.0
    assert describe(Rate) == "a number from 0 to 100"


def test_integers_pass_for_numbers_and_none_empties_a_field() -> None:
    house = from_toml(House, '[room]\nrate = 1\n[attic]\nrate = "none"', "house.toml")
    assert house.room.rate == 1.0
    assert isinstance(house.room.rate, float)
    assert house.attic == Room(rate=None)


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


def test_a_renamed_field_does_not_change_a_fingerprint() -> None:
    @config
    class Before:
        colour: int = 1

    @config
    class After:
        color: int = field(default=1, metadata={"hashed_as": "colour"})

    assert fingerprint(Before()) == fingerprint(After())


def test_a_fingerprint_sees_every_field_but_inert_ones() -> None:
    assert fingerprint(Room(), 1) == fingerprint(Room(save=7), 1) == "20cb9e0ed409c8d3"
    changed = [Room(size=4), Room(rate=None), Room(parts=(Part("x"),)), Room(on=False)]
    marks = {fingerprint(r, 1) for r in (Room(), *changed)} | {fingerprint(Room(), 2)}
    assert len(marks) == len(changed) + 2


def test_exponents_survive() -> None:
    for number in (1e-10, 1e300, -0.0):
        assert from_toml(House, to_toml(House(room=Room(rate=number))), "x").room.rate == number


def test_a_recipe_of_an_earlier_version_is_read_with_a_word_on_each_former_name(
    tmp_path: Path,
) -> None:
    older, newer = tmp_path / "older.toml", tmp_path / "newer.toml"
    text = """
[tokenizer]
vocab_size = 400
[sft]
mixture = [{ task = "pocket" }]
pad_to_multiple_of = 8
[rl]
max_batch_size = 3
normalize_advantage = true
"""
    newer.write_text(f'name = "a"\n{text}')
    for now, before in (
        ("vocab_size", "vocabulary"),
        ("pad_to_multiple_of", "bucket"),
        ("max_batch_size", "rows"),
        ("normalize_advantage", "normalise_advantage"),
    ):
        text = text.replace(now, before)
    older.write_text(f'name = "a"\n{text}')
    with pytest.warns(UserWarning, match="is called") as caught:
        recipe = load_recipe(str(older))
    assert recipe == load_recipe(str(newer))
    assert [str(warning.message) for warning in caught] == [
        f"{older}: tokenizer.vocabulary is called tokenizer.vocab_size now.",
        f"{older}: sft.bucket is called sft.pad_to_multiple_of now.",
        f"{older}: rl.rows is called rl.max_batch_size now.",
        f"{older}: rl.normalise_advantage is called rl.normalize_advantage now.",
    ]
    with pytest.warns(UserWarning, match=r"--tokenizer\.vocabulary is called"):
        overridden = load_recipe("pocket", ["--tokenizer.vocabulary", "500"])
    assert overridden.tokenizer.vocab_size == 500


def test_a_field_under_its_former_and_its_present_name_is_refused(tmp_path: Path) -> None:
    both = tmp_path / "both.toml"
    both.write_text("[tokenizer]\nvocabulary = 300\nvocab_size = 400\n")
    with pytest.raises(RecipeError, match=r"Unknown key 'tokenizer\.vocabulary'"):
        load_recipe(str(both))


def test_every_former_name_leads_to_a_field() -> None:
    recipe = asdict(load_recipe("pocket"))
    for table, names in FORMER_NAMES.items():
        assert set(names.values()) <= set(recipe[table])
        assert not set(names) & set(recipe[table])
