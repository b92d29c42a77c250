"""A recipe that extends another one: what is inherited, what is not, and what is wrong, by file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chatling.config.recipe import builtin_recipes, fingerprint, load_recipe
from chatling.errors import RecipeError
from chatling.pipeline.plan import plan

# so that a ready recipe does not change by another one's change
FINGERPRINTS = {
    "7b": "f562c2953901050e",
    "d32": "f3d2c7f608870597",
    "folder": "e7dfea7df313e48f",
    "laptop": "60aa86e734d4bdf4",
    "pocket": "e708be1b3e739cd5",
    "pocket-zh": "ed1f5e2511dce110",
    "spark": "dcf075b9ef7d963e",
    "spark-modern": "b7b569e2ff65ac25",
    "spark-pair": "ba4956e1c36f139e",
    "speedrun": "cfef26cee589269e",
}


def test_the_ready_recipes_are_what_they_were() -> None:
    recipes = {name: load_recipe(name) for name in builtin_recipes()}
    # without the text's source, which may be a folder of this machine
    plain = {name: replace(r, data=replace(r.data, source="x")) for name, r in recipes.items()}
    assert {name: fingerprint(recipe) for name, recipe in plain.items()} == FINGERPRINTS


def test_sft_on_the_base_model_is_planned_without_mid_training() -> None:
    recipe = load_recipe(str(Path(__file__).parents[2] / "examples/sft_on_base.toml"))
    base, sft = plan(recipe).stages
    assert (base.name, sft.name) == ("base", "sft")
    assert base == plan(load_recipe("speedrun")).stages[0]
    assert sft.conversations == 460_341 + 3 * 99_842 + 4 * 7_473 + 200_000 + 80_000 + 2_000
    assert recipe.sft is not None
    assert (recipe.sft.learning_rate_fraction, recipe.sft.momentum) == (0.8, 0.95)


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_keys_are_inherited_one_by_one_lists_and_names_are_not(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub/parent.toml", 'name = "old"\nextends = "pocket"\n[base]\nsteps = 7\n')
    child = load_recipe(
        write(
            tmp_path / "child.toml",
            'extends = "sub/parent.toml"\nrl = "none"\n[base]\nwarmup = 3\n'
            '[mid]\nmixture = [{task = "GSM8K"}]\n',
        )
    )
    pocket = load_recipe("pocket")
    assert child.name == "child"
    assert child.base == replace(pocket.base, steps=7, warmup=3)
    assert child.mid is not None
    assert pocket.mid is not None
    assert [entry.task for entry in child.mid.mixture] == ["GSM8K"]
    assert child.mid.batch_tokens == pocket.mid.batch_tokens
    assert child.rl is None
    assert child.dpo == pocket.dpo


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('extends = "spork"', "extends 'spork', which is no recipe. Did you mean 'spark'?"),
        ("extends = 3", "'extends' in .*child.toml must be a recipe's name or path"),
        ('extends = "child.toml"', "child.toml extends 'child.toml', which extends it"),
        ('extends = "loop.toml"', "loop.toml extends 'child.toml', which extends it"),
        ('extends = "wrong.toml"\n[base]\nwarmup = 3', r"'base.steps' in .*wrong.toml line 3 must"),
        (
            'extends = "wrong.toml"\n[base]\nsteps = "x"',
            r"'base.steps' in .*child.toml line 3 must",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_file(tmp_path: Path, text: str, sentence: str) -> None:
    write(tmp_path / "loop.toml", 'extends = "child.toml"')
    write(tmp_path / "wrong.toml", '[base]\n# how long\nsteps = "many"\n')
    with pytest.raises(RecipeError) as told:
        load_recipe(write(tmp_path / "child.toml", text))
    told.match(sentence)
