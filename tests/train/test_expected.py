"""The loss of earlier runs as the corridor of the next."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from chatling.config.recipe import Recipe, load_recipe, to_toml
from chatling.run_dir import RunFolder
from chatling.train.expected import SPREAD, STEPS, Corridor, expected_loss, smoothed
from chatling.train.status import read_status

RECIPE = load_recipe("pocket")


def lines(offset: float, count: int = 101) -> list[dict[str, float]]:
    """A loss that falls from 5 by 0.02 a step of 1,000 tokens."""
    return [{"step": i, "loss": offset + 5 - i / 50, "tokens": 1000} for i in range(count)]


def run(
    runs: Path, name: str, offset: float, recipe: Recipe = RECIPE, *, status: str = "done"
) -> RunFolder:
    folder = RunFolder(runs / name)
    entry = {"status": status, "fingerprint": "a", "seconds": 1.0, "resumes": 0}
    folder.write_state({"stages": {"base": entry}, "execution": {}})
    (folder.path / "recipe.toml").write_text(to_toml(recipe))
    folder.stage("base").mkdir()
    text = "".join(json.dumps(line) + "\n" for line in lines(offset))
    (folder.stage("base") / "metrics.jsonl").write_text(text)
    return folder


def expected(runs: Path, recipe: Recipe = RECIPE) -> Corridor | None:
    return expected_loss(recipe, runs, "new")


def test_without_a_run_of_the_same_recipe_nothing_is_expected(tmp_path: Path) -> None:
    assert expected(tmp_path) is None
    run(tmp_path, "new", 0)
    run(tmp_path, "other", 0, replace(RECIPE, model=replace(RECIPE.model, depth=5)))
    run(tmp_path, "unfinished", 0, status="running")
    run(tmp_path, "damaged", 0).path.joinpath("recipe.toml").write_text("[[")
    assert expected(tmp_path) is None


def test_the_corridor_is_of_all_runs_and_wider_by_what_seeds_differ(tmp_path: Path) -> None:
    for seed, offset in ((0, -0.1), (1, 0.0), (2, 0.2)):
        run(tmp_path, f"run{seed}", offset, replace(RECIPE, seed=seed))
    found = expected(tmp_path)
    assert found is not None
    assert found.runs == 3
    # the mean of a line is its middle
    middle = 5 - (60 - (STEPS + 1) / 2) / 50
    known = found.standing(60_000, middle)
    assert known is not None
    assert known.low == pytest.approx((1 - SPREAD) * (middle - 0.1))
    assert known.high == pytest.approx((1 + SPREAD) * (middle + 0.2))
    words = [found.standing(60_000, loss).word for loss in (3.0, 4.2, 5.0)]  # type: ignore[union-attr]
    assert words == ["ahead", "inside", "behind"]
    assert found.standing(STEPS * 1000 - 1, 3.0) is None
    assert found.standing(101_001, 3.0) is None
    assert Corridor.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_loss_is_averaged_and_events_do_not_count() -> None:
    points = smoothed([*lines(0, 30), {"step": 30, "event": "not finite, skipped"}])  # type: ignore[list-item]
    assert len(points) == 30 - STEPS + 1
    assert points[0] == (STEPS * 1000, pytest.approx(5 - (STEPS - 1) / 2 / 50))
    assert smoothed(lines(0, STEPS - 1)) == []


@pytest.mark.parametrize(
    "data", [None, 3, {}, {"runs": 1, "points": [[1, 2]]}, {"runs": "x", "points": []}]
)
def test_a_damaged_corridor_is_none(data: object) -> None:
    assert Corridor.from_dict(data) is None


@pytest.mark.parametrize(("offset", "word"), [(-1.0, "ahead"), (0.1, "inside"), (1.0, "behind")])
def test_status_says_where_a_run_is(tmp_path: Path, offset: float, word: str) -> None:
    run(tmp_path, "before", 0)
    folder, found = run(tmp_path, "new", offset), expected(tmp_path)
    assert found is not None
    assert read_status(folder).stages[0].standing is None
    state = folder.read_state()
    state["stages"]["base"]["expected"] = found.to_dict()
    folder.write_state(state)
    known = read_status(folder).stages[0].standing
    assert known is not None
    assert (known.word, known.runs) == (word, 1)
