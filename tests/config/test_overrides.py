"""Typed flags over a recipe, and what is said of those that are wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chatling.config.recipe import load_recipe
from chatling.errors import RecipeError


def test_overrides_are_typed() -> None:
    words = (
        "--model.depth 7 --optim.clip=0.5 --seed 9 --base.tokens none --mid.packed false"
        " --mid.mixture.0.count 5"
    )
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
    (["--tokenizer.vocab_size", "12"], "12"),
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
def test_a_bad_override_is_one_sentence(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
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
