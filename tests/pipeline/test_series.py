"""The series of trainings: what is trained and what is left out, its law's record, and one whole
series of tiny models.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatling.bench.scaling_law import Law, Point, Shape
from chatling.config.recipe import load_recipe
from chatling.errors import RecipeError
from chatling.pipeline import series
from chatling.pipeline.series import fitted, measure_series, of_all_depths, trainings, write_series
from chatling.toy.corpus import write_corpus

SHAPES = {
    depth: Shape(depth, size := 12 * depth * (64 * depth) ** 2 + 64 * depth * 8192, 6.0 * size)
    for depth in range(1, 13)
}
LAW = Law(0.6, 40.0, 0.34, 60.0, 0.3)


def points() -> list[Point]:
    return [
        Point(budget, depth, SHAPES[depth].parameters, tokens, loss)
        for budget in series.BUDGETS
        for depth in series.DEPTHS
        for tokens in [int(budget / SHAPES[depth].flops_per_token)]
        for loss in [LAW.loss(SHAPES[depth].parameters, tokens)]
    ]


def test_what_is_trained_spends_its_budget_and_the_rest_is_named() -> None:
    recipes = of_all_depths(load_recipe("folder", ["--base.batch-tokens", "4096"]))
    todo, left_out = trainings(recipes, 10e6)
    assert len(todo) + len(left_out) == len(series.DEPTHS) * len(series.BUDGETS)
    for each in todo:
        spent = each.tokens * each.shape.flops_per_token
        assert abs(spent - each.flops) <= 4096 * each.shape.flops_per_token
        assert each.steps >= series.FEWEST_STEPS
        assert each.tokens <= 40e6
    few, much = left_out, trainings(recipes, 1e6)[1]
    assert any("steps are too few" in line for line in few)
    assert any("it would read the text" in line for line in much)


def test_a_record_has_the_law_the_points_and_a_picture(tmp_path: Path) -> None:
    about = {"machine": {"name": "A & B", "cores": 2}, "date": "2026-01-01", "seconds": 90.0}
    found = fitted(points(), SHAPES)
    write_series(tmp_path, found, {**about, "left_out": ["depth-4-3e12: 9 steps are too few."]})
    kept = json.loads((tmp_path / "record.json").read_text())
    assert len(kept["points"]) == 16
    assert kept["held_out"] == pytest.approx(found.held_out)
    assert found.held_out is not None
    assert found.held_out < 0.002
    page = (tmp_path / series.PAGE).read_text()
    assert "![Loss by budget and depth; best are depth" in page
    assert "- depth-4-3e12: 9 steps are too few." in page
    assert (tmp_path / series.PICTURE).read_text().startswith("<svg")
    advised = {row["measure"]: row["value"] for row in found.rows()}
    best = min(
        SHAPES.values(), key=lambda each: LAW.loss(each.parameters, 3e13 / each.flops_per_token)
    )
    assert advised["depth for 3.0e+13 FLOPs"] == best.depth


def test_too_little_text_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    write_corpus(tmp_path, 1, characters=60_000)
    with pytest.raises(RecipeError, match="trainings of the series are left"):
        measure_series(tmp_path, None)


@pytest.mark.slow
def test_a_whole_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DEPTHS": (1, 2), "BUDGETS": (4e9, 8e9, 16e9), "FEWEST_STEPS": 2}.items():
        monkeypatch.setattr(series, name, value)
    monkeypatch.setattr(series, "WIDTH", 32)
    write_corpus(text := tmp_path / "text", 1, characters=300_000)
    tiny = (
        "--model.head-width 16 --model.context 64 --tokenizer.vocab-size 400"
        " --base.batch-tokens 256 --base.validation-tokens 1024 --machine.compile off"
    )
    found = measure_series(text, tmp_path / "record", tiny.split())
    assert [(each.flops, each.depth) for each in found.points] == [
        (budget, depth) for budget in series.BUDGETS for depth in series.DEPTHS
    ]
    assert all(1 < each.loss < 8 for each in found.points)
    assert (tmp_path / "record" / series.PICTURE).exists()
