"""The pocket world's CORE bundle: true, whole, the same for the same seed, and in the files of the
real one.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatling.run_dir import manifest_fault
from chatling.toy.core_bundle import CHOICES, write_core_bundle
from chatling.toy.facts import tables


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("core") / "bundle"
    write_core_bundle(folder, 1)
    return folder


def tasks(bundle: Path) -> list[dict[str, Any]]:
    return yaml.safe_load((bundle / "core.yaml").read_text())["icl_tasks"]


def rows(bundle: Path, label: str) -> list[dict[str, Any]]:
    (entry,) = [task for task in tasks(bundle) if task["label"] == label]
    return [
        json.loads(line)
        for line in (bundle / "eval_data" / entry["dataset_uri"]).read_text().splitlines()
    ]


def table(bundle: Path) -> list[dict[str, str]]:
    with open(bundle / "eval_meta_data.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_it_is_whole_and_the_same_for_the_same_seed(bundle: Path, tmp_path: Path) -> None:
    assert manifest_fault(bundle) is None
    write_core_bundle(tmp_path / "again", 1)
    write_core_bundle(tmp_path / "other", 2)
    names = sorted(path.relative_to(bundle) for path in bundle.rglob("*.*"))
    assert all(
        (bundle / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names
    )
    differing = [
        name
        for name in names
        if (bundle / name).read_bytes() != (tmp_path / "other" / name).read_bytes()
    ]
    assert len([name for name in differing if name.suffix == ".jsonl"]) == len(tasks(bundle))


def test_every_kind_of_task_is_there_and_described(bundle: Path) -> None:
    assert {task["icl_task_type"] for task in tasks(bundle)} == {
        "multiple_choice",
        "schema",
        "language_modeling",
    }
    described = {row["Eval Task"]: row for row in table(bundle)}
    for task in tasks(bundle):
        found = rows(bundle, task["label"])
        assert int(described[task["label"]]["#datapoints"]) == len(found) > 30
        assert len({json.dumps(row) for row in found}) == len(found)
        guess = 1 / len(found[0].get("choices") or found[0].get("context_options") or [0] * 1000)
        assert float(described[task["label"]]["Random baseline"]) / 100 == pytest.approx(
            guess, abs=0.01
        )


def test_the_right_answers_are_right(bundle: Path) -> None:
    capital = {country["c"]: country["city"] for country in tables()["countries"]}
    for row in rows(bundle, "pocket_capitals"):
        country = row["query"].removeprefix("Question: What is the capital of ").removesuffix("?")
        assert row["choices"][row["gold"]] == capital[country]
        assert len(set(row["choices"])) == CHOICES
    for row in rows(bundle, "pocket_countries"):
        named = [
            context.removeprefix("The capital of ").removesuffix(" is")
            for context in row["context_options"]
        ]
        right = [capital[name] == row["continuation"].removesuffix(".") for name in named]
        assert right.index(True) == row["gold"]
        assert sum(right) == 1
    both = {frozenset(pair.values()) for pair in tables()["opposites"]}
    for row in rows(bundle, "pocket_opposites"):
        word = row["query"].split()[3]
        assert [frozenset((word, choice)) in both for choice in row["choices"]].index(True) == row[
            "gold"
        ]
    for row in rows(bundle, "pocket_spelling"):
        assert row["continuation"].replace("-", "") == row["context"].split()[0]
    beasts = {animal["s"]: animal for animal in tables()["animals"]}
    for row in rows(bundle, "pocket_animals"):
        subject = (
            row["query"].split(" is called")[0].split()[-1]
            if "young" in row["query"]
            else row["query"].split()[1]
        )
        known = beasts[subject]
        told = row["choices"][row["gold"]].removeprefix("a ").removeprefix("an ")
        assert told in (known["eats"], known["lives"], known["young"], known["kind"])


def test_the_right_choice_stands_anywhere(bundle: Path) -> None:
    places = [row["gold"] for row in rows(bundle, "pocket_capitals")]
    assert all(places.count(place) > 5 for place in range(CHOICES))


def test_the_files_are_those_of_the_real_bundle(bundle: Path, data_pack: Path) -> None:
    real = data_pack / "eval_bundle"
    assert list(table(bundle)[0]) == list(table(real)[0])
    keys = {key for task in tasks(real) for key in task}
    assert all(task.keys() <= keys for task in tasks(bundle))
    shapes = {
        task["icl_task_type"]: set(rows(real, task["label"])[0]) - {"category"}
        for task in tasks(real)
    }
    for task in tasks(bundle):
        assert set(rows(bundle, task["label"])[0]) == shapes[task["icl_task_type"]]
