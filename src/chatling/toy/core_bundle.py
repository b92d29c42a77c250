"""A CORE bundle of the pocket world: the same files as the real one, small enough to score in
seconds.

Its questions are in words that the base corpus uses, so the score says how much of the world a base
model has learned, not how well it copes with new phrasings; for that there are the held-out
questions (`heldout.py`).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import yaml

from chatling.run_dir import building_folder
from chatling.toy.relations import Fact, relations
from chatling.toy.words import spelled, words

QUESTIONS = 60  # of each task, or as many as there are
CHOICES = 4
# percent right by guessing, by the kinds that core.yaml knows
BASELINES = {"multiple_choice": 100 / CHOICES, "schema": 50.0, "language_modeling": 0.0}
COLUMNS = (
    "Eval Task",
    "Task Category",
    "Task Type",
    "#shots",
    "#datapoints",
    "Random baseline",
    "Centered Metric?",
    "Description",
)
Row = dict[str, Any]


@dataclass(frozen=True)
class BundleTask:
    """One task: how it is asked, and a maker of all its rows."""

    label: str
    kind: str  # a key of BASELINES
    shots: int
    rows: Callable[[Random], list[Row]]
    description: str
    delimiter: str | None = None  # between question and answer, where it is not a space


def _told(*names: str) -> list[tuple[str, str]]:
    """The facts of some relations, each sentence in two: its beginning, and the value that ends it,
    without the full stop.
    """
    return [
        _cut(relations()[name].reply(fact), fact)
        for name in names
        for fact in relations()[name].facts
    ]


def _cut(reply: str, fact: Fact) -> tuple[str, str]:
    reply = reply.removesuffix(".")
    longest_first = sorted(fact.slots.values(), key=len, reverse=True)
    end = next(value for value in longest_first if value and reply.endswith(f" {value}"))
    return reply.removesuffix(f" {end}"), end


def _choices(told: Sequence[tuple[str, str]], rng: Random) -> list[Row]:
    """Questions, each with the right value among others of its kind."""
    values, rows = {value for _, value in told}, []
    for query, right in told:
        choices = [right, *rng.sample(sorted(values - {right}), CHOICES - 1)]
        rng.shuffle(choices)
        rows.append({"query": query, "choices": choices, "gold": choices.index(right)})
    return rows


def _capitals(rng: Random) -> list[Row]:
    return _choices(
        [
            (f"Question: What is the capital of {fact.slots['c']}?", fact.slots["city"])
            for fact in relations()["capital"].facts
        ],
        rng,
    )


def _statements(names: Sequence[str], rng: Random) -> list[Row]:
    return [row for name in names for row in _choices(_told(name), rng)]


def _countries(rng: Random) -> list[Row]:
    """Which of two countries a city is the capital of: the contexts differ, the end is the same."""
    facts, rows = relations()["capital"].facts, []
    for fact in facts:
        pair = [fact, rng.choice([each for each in facts if each is not fact])]
        rng.shuffle(pair)
        contexts = [f"The capital of {each.slots['c']} is" for each in pair]
        rows.append(
            {
                "context_options": contexts,
                "continuation": f"{fact.slots['city']}.",
                "gold": pair.index(fact),
            }
        )
    return rows


def _order(rng: Random) -> list[Row]:
    return [{"context": told, "continuation": end} for told, end in _told("after", "before")]


def _spelling(rng: Random) -> list[Row]:
    return [{"context": f"{word} is spelled", "continuation": spelled(word)} for word in words()]


TASKS = (
    BundleTask(
        "pocket_capitals",
        "multiple_choice",
        2,
        _capitals,
        "Capitals, as question and answer.",
        "\nAnswer: ",
    ),
    BundleTask(
        "pocket_animals",
        "multiple_choice",
        0,
        partial(_statements, ("eats", "lives", "young", "kind")),
        "What is so of an animal.",
    ),
    BundleTask(
        "pocket_things",
        "multiple_choice",
        0,
        partial(_statements, ("colour", "made_of")),
        "A thing's colour, and what it is made from.",
    ),
    BundleTask(
        "pocket_opposites",
        "multiple_choice",
        0,
        partial(_statements, ("opposite",)),
        "The opposite of a word.",
    ),
    BundleTask(
        "pocket_countries",
        "schema",
        0,
        _countries,
        "Which of two countries a city is the capital of.",
    ),
    BundleTask(
        "pocket_order",
        "language_modeling",
        2,
        _order,
        "The day or month before or after another, word for word.",
    ),
    BundleTask(
        "pocket_spelling",
        "language_modeling",
        2,
        _spelling,
        "A word letter by letter, every letter right.",
    ),
)


def write_core_bundle(folder: Path, seed: int) -> None:
    """Write `core.yaml`, `eval_meta_data.csv` and `eval_data/pocket/*.jsonl`, as the real bundle
    has them, and a manifest.
    """
    with building_folder(folder) as building:
        (building / "eval_data" / "pocket").mkdir(parents=True)
        entries, table = [], list[tuple[Any, ...]]([COLUMNS])
        for task in TASKS:
            rng = Random(f"pocket core {task.label} {seed}")
            rows = task.rows(rng)
            rows = rng.sample(rows, min(QUESTIONS, len(rows)))
            uri = f"pocket/{task.label}.jsonl"
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (building / "eval_data" / uri).write_text(text, encoding="utf-8")
            entry = {
                "label": task.label,
                "dataset_uri": uri,
                "num_fewshot": [task.shots],
                "icl_task_type": task.kind,
                "continuation_delimiter": task.delimiter,
            }
            entries.append({key: value for key, value in entry.items() if value is not None})
            kind, guessed = task.kind.replace("_", " "), BASELINES[task.kind]
            described = (kind, task.shots, len(rows), guessed, "", task.description)
            table.append((task.label, "pocket world", *described))
        (building / "core.yaml").write_text(
            yaml.safe_dump({"icl_tasks": entries}, sort_keys=False), encoding="utf-8"
        )
        with open(building / "eval_meta_data.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(table)
