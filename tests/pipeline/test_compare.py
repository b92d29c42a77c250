"""Two recipes held against each other: numbers, page, a whole comparison of tiny models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from chatling.bench.paired import paired_p
from chatling.errors import RecipeError, RunError
from chatling.pipeline import compare
from chatling.pipeline.compare import Comparison, Trial, measure_comparison, write_comparison
from chatling.run_dir import RunFolder
from chatling.toy.corpus import write_corpus

TRIALS = [
    Trial(seed, (1.0 + low, 1.1 + low), (10, 10), (5.0, 6.0))
    for seed, low in ((1, 0.01), (2, 0.02), (3, 0.04))
]


def test_means_difference_and_chance() -> None:
    found = Comparison(("a", "b"), "tokens", TRIALS)
    rows = {row["measure"]: row["value"] for row in found.rows()}
    assert rows["a: loss"] == pytest.approx(1 + 0.07 / 3)
    assert rows["difference"] == pytest.approx(-10 / (1.1 + 0.07 / 3))
    assert rows["p, paired, both sides"] == found.p == paired_p(found.differences)
    assert Comparison(("a", "b"), "tokens", TRIALS[:1]).p is None


def test_the_record(tmp_path: Path) -> None:
    about = {"machine": {"name": "A", "cores": 2}, "date": "2026-01-01", "took": 60, "text": ""}
    write_comparison(tmp_path, Comparison(("a", "b"), "tokens", TRIALS), ["x = 1\n", ""], about)
    kept = json.loads((tmp_path / "record.json").read_text())
    assert [each["seed"] for each in kept["trials"]] == [1, 2, 3]
    assert (tmp_path / "first.toml").read_text() == "x = 1\n"
    page = (tmp_path / compare.PAGE).read_text()
    assert "| 3 | 1.0400 | 1.1400 | -8.77% | 10 and 10 | 5 and 6 |" in page


def test_a_recipe_that_is_none_is_told_before_anything_is_trained() -> None:
    with pytest.raises(RecipeError, match="no recipe 'pokcet'"):
        measure_comparison(("pocket", "pokcet"), 1, None)


@pytest.mark.slow
def test_a_recipe_against_a_wider_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATLING_HOME", str(home := tmp_path / "home"))
    write_corpus(text := tmp_path / "text", 1, characters=300_000)
    tiny = """
        extends = "folder"
        [model]
        depth = 1
        width = {}
        head_width = 16
        context = 64
        [tokenizer]
        vocab_size = 400
        [base]
        steps = 20
        batch_tokens = {}
        validation_tokens = 2048
        [machine]
        compile = "off"
    """
    for name, width, batch in (("narrow", 16, 256), ("wide", 64, 512)):
        (tmp_path / f"{name}.toml").write_text(tiny.format(width, batch))
    recipes = str(tmp_path / "wide.toml"), str(tmp_path / "narrow.toml")
    real, begun = compare.train_run, dict[str, list[int]]()

    def counted(recipe: str, run: RunFolder, options: Sequence[str]) -> str:
        if len(begun) == 3:
            begun["cut off"] = []
            raise RunError("cut off")
        printed = real(recipe, run, options)
        times = begun.setdefault(run.name, [])
        times.append((run.stage("base") / "metrics.jsonl").stat().st_mtime_ns)
        return printed

    monkeypatch.setattr(compare, "train_run", counted)
    with pytest.raises(RunError, match="cut off"):
        measure_comparison(recipes, 2, tmp_path / "record", equal="seconds", data=text)
    found = measure_comparison(recipes, 2, tmp_path / "record", equal="seconds", data=text)
    twice = [times for times in begun.values() if len(times) == 2]
    assert len(twice) == 3
    assert all(first == again for first, again in twice)  # trained once
    assert not list((home / "bench").iterdir())
    assert found.recipes == ("wide", "narrow")
    assert found.change < 0
    assert all(each.steps[0] == 20 < each.steps[1] for each in found.trials)
    assert "width = 64" in (tmp_path / "record" / "first.toml").read_text()
    for name in (compare.PAGE, "record.json"):
        assert str(tmp_path) not in (tmp_path / "record" / name).read_text()
    (trial,) = measure_comparison(recipes, 1, None, data=text).trials
    assert trial.steps == (20, 40)
