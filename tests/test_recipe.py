"""Recipes: strict reading, bounds, typed overrides, writing back, fingerprints, and the page that lists the fields."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib.util
import json
import typing
from collections.abc import Iterator
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.config import Flag, Rate, Text, bare, bounded, config, describe, members
from chatling.errors import ChatlingError, RecipeError
from chatling.overrides import override
from chatling.planner import plan
from chatling.recipe import Recipe, builtin_recipes, find_recipe, fingerprint, from_toml, load_recipe, read_text, to_toml
from chatling.train.dpo import DPOConfig
from chatling.train.finetune import FinetuneConfig
from chatling.train.sources import MixtureEntry
from chatling.workspace import nearest_name, run_name

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
TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60).filter(str.strip)
PARTS = st.builds(Part, TEXTS, FLOATS, st.none() | st.integers(-9, 9))
ROOMS = st.builds(
    Room, st.sampled_from(["one", "two"]), st.integers(0, 2**80), st.none() | FLOATS, st.none() | st.text().filter(lambda s: s != "none"),
    st.booleans(), st.lists(PARTS, max_size=3).map(tuple),
)  # fmt: skip


@given(st.builds(House, st.integers(0, 9), st.text(), ROOMS, st.none() | ROOMS))
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
    ('[room]\nkind = "one"\nsize = "3"', ["'room.size'", "line 3", "must be an integer, not \"3\"."]),
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
    ('[room]\nparts = [\n{task = "a"},\n{task = "a", wieght = 1.0}]', ["'room.parts.1.wieght'", "'weight'", "line 2"]),
    ('[[room.parts]]\ntask = "a"\n[[room.parts]]\ntask = "b"\ncount = 10', ["'room.parts.1.count'", "line 5", "from -9 to 9"]),
    ("room = 3", ["'room'", "a table"]),
    ('room = "none"', ["'room'", "a table"]),
    ("note = 2020-01-01", ["'note'", "a string", "2020-01-01"]),
    ("note = [[1]]", ["'note'", "a list"]),
    ('# \u2028\nseed = 10', ["line 2", "'seed'"]),
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


# ---- every field of the tree ----

ENTRY = '{task = "pocket"}'
NEEDED = {"mid": {"mixture": f"[{ENTRY}]"}, "sft": {"mixture": f"[{ENTRY}]"}, "dpo": {"data": '"pocket"'}}  # by table


def fields_of_the_tree() -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, type) of every field that is no table; those of a mixture's entry go by its first one."""
    for f, hint in typing.get_type_hints(Recipe, include_extras=True).items():
        tables = [bare(option) for option in members(hint) if dataclasses.is_dataclass(bare(option))]
        if not tables:
            yield (f,), hint
        for name, kind in typing.get_type_hints(tables[0], include_extras=True).items() if tables else ():
            yield (f, name), kind
            if typing.get_args(bare(kind))[:1] == (MixtureEntry,):
                yield from (((f, name, part), inner) for part, inner in typing.get_type_hints(MixtureEntry, include_extras=True).items())


def limits(kind: Any) -> tuple[type, dict[str, float]] | None:
    """The numeric member of a type with its bounds, or None where it has none."""
    for option in members(kind):
        if bare(option) in (int, float):
            rules = [rule for note in getattr(option, "__metadata__", ()) for rule in note.metadata]
            return bare(option), {name: getattr(rule, name) for rule in rules for name in ("ge", "gt", "le", "lt") if hasattr(rule, name)}
    return None


FIELDS = list(fields_of_the_tree())
NUMBERS = [(path, *found) for path, kind in FIELDS if (found := limits(kind))]


def recipe_with(path: tuple[str, ...], value: str) -> str:
    """A recipe in which a field has a value, and nothing else is said but what must be."""
    if len(path) == 1:
        return f"{path[0]} = {value}"
    table = dict(NEEDED.get(path[0], {}))
    if len(path) == 3:
        entry = {"task": '"pocket"', path[2]: value}
        value = "[{" + ", ".join(f"{key} = {each}" for key, each in entry.items()) + "}]"
    table[path[1]] = value
    return f"[{path[0]}]\n" + "\n".join(f"{key} = {each}" for key, each in table.items())


def wrong_values(kind: type, bounds: dict[str, float]) -> list[str]:
    low = bounds["ge"] - 1 if "ge" in bounds else bounds["gt"]
    high = bounds["le"] * 2 + 1 if "le" in bounds else bounds["lt"]
    return ["nan", "inf", "-inf", str(kind(low)), str(kind(high)), str(10**30), "-1", "1e999", "true", '"3"']


def test_there_are_many_numbers_and_each_is_bounded_on_both_sides() -> None:
    assert len(NUMBERS) > 75
    for path, _, bounds in NUMBERS:
        assert len(bounds) == 2, path


@pytest.mark.parametrize(("path", "kind", "bounds"), NUMBERS, ids=[".".join(path) for path, *_ in NUMBERS])
def test_no_number_is_out_of_its_bounds(path: tuple[str, ...], kind: type, bounds: dict[str, float]) -> None:
    """Nor nan, nor infinite; and a number at its bounds is planned or refused in one sentence, at once."""
    for value in wrong_values(kind, bounds):
        with pytest.raises(RecipeError, match=path[-1]) as caught:
            from_toml(Recipe, recipe_with(path, value), "x.toml")
        assert caught.value.exit_code == 2
        assert f"'{'.'.join(path[:1])}" in str(caught.value)
    for name in bounds.keys() & {"ge", "le"}:
        with contextlib.suppress(ChatlingError):
            plan(from_toml(Recipe, recipe_with(path, str(kind(bounds[name]))), "x.toml"))


@pytest.mark.parametrize(("path", "kind", "bounds"), NUMBERS, ids=[".".join(path) for path, *_ in NUMBERS])
def test_no_flag_is_out_of_its_bounds(path: tuple[str, ...], kind: type, bounds: dict[str, float]) -> None:
    table = {"mid": FinetuneConfig((MixtureEntry("pocket"),)), "dpo": DPOConfig("pocket")}
    flag, start = f"--{'.'.join(('mixture', '0', path[2]) if len(path) == 3 else path[-1:])}", Recipe()
    hint = typing.get_type_hints(Recipe)[path[0]]
    start = next(table.get(path[0].replace("sft", "mid")) or option() for option in members(hint)) if len(path) > 1 else Recipe()
    value = wrong_values(kind, bounds)[len(".".join(path)) % 8]
    with pytest.raises(RecipeError) as caught:
        override(start, [flag, value], prog="test")
    assert flag in str(caught.value)


OTHERS = [each for each in FIELDS if not limits(each[1])]


@pytest.mark.parametrize(("path", "kind"), OTHERS, ids=[".".join(path) for path, _ in OTHERS])
def test_no_text_choice_or_list_is_senseless(path: tuple[str, ...], kind: Any) -> None:
    for value in ("3", "[3]", "{}", '""', '"\\u0000"', '" "', "1979-05-27T07:32:00Z", f'"{"x" * 300}"', f'"{"x/" * 3000}"'):
        if path[0] == "identity" and value not in ("3", '""', '" "'):
            continue
        with pytest.raises(RecipeError, match=path[-1]):
            from_toml(Recipe, recipe_with(path, value), "x.toml")


def test_mixtures_are_not_empty() -> None:
    for table in ("mid", "sft"):
        with pytest.raises(RecipeError, match="empty"):
            from_toml(Recipe, f"[{table}]\nmixture = []", "x.toml")


SCALARS = st.none().map(lambda _: "none") | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates() | st.datetimes()
WORDS = st.sampled_from(sorted({word for path, _ in FIELDS for word in path} | {"extra", "a.b", "", "\n"}))
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=12)


def read(text: str) -> None:
    try:
        from_toml(Recipe, text, "x.toml")
        said = "a recipe"
    except RecipeError as error:
        said = str(error)
    assert len(said.splitlines()) == 1


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime.date) else json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")


@given(st.dictionaries(WORDS, TREES, max_size=4))
@settings(max_examples=300)
def test_any_tree_is_a_recipe_or_a_sentence(tree: dict[str, Any]) -> None:
    text = "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in tree.items())
    read(text)


@given(st.text(st.sampled_from("[]{}=.,'\"#\n\r\t\ufeff \0abc0_e-") | st.characters(), max_size=60))
def test_any_text_is_a_recipe_or_a_sentence(text: str) -> None:
    read(text)


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


@pytest.mark.parametrize("name", ["a", "7", "_", "d20.v2_x-1", "模型", "हिन्दी", "Ärger", "e\u0301te\u0301", "x" * 100])
def test_names(name: str) -> None:
    assert from_toml(Recipe, f"name = {json.dumps(name)}", "x.toml").name == name


NO_NAMES = ["", ".", "..", "...", ".x", "-x", "a/b", "../evil", "/", "a\\b", "a b", "a\nb", "a\0b", "~", "x" * 101, "模" * 86, "a:b", "🙂"]


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
    table = "[{0}]\nmixture = [{{task = \"pocket\"}}]\n"
    short = from_toml(Recipe, table.format("mid") + table.format("sft"), "x.toml")
    assert short.mid is not None
    assert short.sft is not None
    assert (short.mid.packed, short.sft.packed) == (True, False)
    said = from_toml(Recipe, f"{table.format('mid')}packed = true\n{table.format('sft')}packed = false", "x.toml")
    assert (said, fingerprint(said)) == (short, fingerprint(short))
    other = from_toml(Recipe, f"{table.format('mid')}packed = false\n{table.format('sft')}packed = true", "x.toml")
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


def test_the_page_lists_the_fields_as_they_are() -> None:
    """`python docs/fields.py` writes them."""
    script = Path(__file__).resolve().parents[1] / "docs/fields.py"
    spec = importlib.util.spec_from_file_location("fields", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.PAGE.read_text(encoding="utf-8")
    assert module.filled(page) == page
    for path, _ in FIELDS:
        assert f"| `{path[-1]}` |" in page
    described = [f for name, kind in module.tables().items() if name != "recipe" for f in kind.__pydantic_fields__.values()]
    assert all(f.description for f in described)


def test_integers_pass_for_numbers_and_none_empties_a_field() -> None:
    house = from_toml(House, '[room]\nrate = 1\n[attic]\nrate = "none"', "house.toml")
    assert house.room.rate == 1.0
    assert isinstance(house.room.rate, float)
    assert house.attic == Room(rate=None)


def test_overrides_are_typed() -> None:
    words = "--model.depth 7 --optim.clip=0.5 --seed 9 --base.tokens none --mid.packed false --mid.mixture.0.count 5"
    words += " --rl.updates 2 --rl.clip 0.2 --loop.tracker none --eval.chat GSM8K MMLU"
    plain = load_recipe("pocket")
    recipe = load_recipe("pocket", words.split())
    assert plain.mid is not None
    assert recipe == replace(
        plain,
        seed=9,
        rl=plain.rl and replace(plain.rl, updates=2, clip=0.2),
        eval=plain.eval and replace(plain.eval, chat=("GSM8K", "MMLU")),
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
    (["--eval.chat", ""], "'--eval.chat' must be"),
    (["--name", "a/b"], "'--name' must be 1 to 100 letters"),
    (["--optim.clip", "-inf"], "'--optim.clip' must be a number from 0"),
    (["--seed", "1" * 5000], "'--seed'"),
    (["--rl.updates", "2"], "rl.clip"),
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
    assert fingerprint(Room(), 1) == fingerprint(Room(save=7), 1) == "20cb9e0ed409c8d3"
    changed = [Room(size=4), Room(rate=None), Room(parts=(Part("x"),)), Room(on=False)]
    marks = {fingerprint(r, 1) for r in (Room(), *changed)} | {fingerprint(Room(), 2)}
    assert len(marks) == len(changed) + 2


def test_exponents_survive() -> None:
    for number in (1e-10, 1e300, -0.0):
        assert from_toml(House, to_toml(House(room=Room(rate=number))), "x").room.rate == number
