"""A CORE bundle of the pocket world: the same files as the real one, small enough to score in
seconds.

Its questions are in words that the base corpus uses, so the score says how much of the world a base
model has learned, not how well it copes with new phrasings; for that there are the held-out
questions (`heldout.py`).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from chatling.run_dir import building_folder
from chatling.toy.relations import Fact, relations
from chatling.toy.words import spelled, words

QUESTIONS = 60  # of each task, or as many as there are
CHOICES = 4
QUESTION_AND_ANSWER = "\nAnswer: "
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
    kind: str  # multiple_choice, schema or language_modeling, as core.yaml calls them
    shots: int
    rows: Callable[[Random], list[Row]]
    description: str
    delimiter: str | None = None  # between question and answer, where it is not a space

    @property
    def baseline(self) -> float:
        """Percent right by guessing."""
        return {"multiple_choice": 100 / CHOICES, "schema": 50.0, "language_modeling": 0.0}[
            self.kind
        ]


def _value(relation: str, fact: Fact) -> tuple[str, str]:
    """A fact's sentence in two: its beginning, and the value that ends it, without the full
    stop.
    """
    reply = relations()[relation].reply(fact).removesuffix(".")
    end = next(
        value
        for value in sorted(fact.slots.values(), key=len, reverse=True)
        if value and reply.endswith(f" {value}")
    )
    return reply.removesuffix(f" {end}"), end


def _choice(query: str, right: str, others: list[str], rng: Random) -> Row:
    """A question with the right value among others of its kind."""
    choices = [right, *rng.sample(sorted(set(others) - {right}), CHOICES - 1)]
    rng.shuffle(choices)
    return {"query": query, "choices": choices, "gold": choices.index(right)}


def _capitals(rng: Random) -> list[Row]:
    cities = [fact.key for fact in relations()["capital"].facts]
    facts = relations()["capital"].facts
    return [
        _choice(f"Question: What is the capital of {fact.slots['c']}?", fact.key, cities, rng)
        for fact in facts
    ]


def _statements(*names: str) -> Callable[[Random], list[Row]]:
    def make(rng: Random) -> list[Row]:
        rows = []
        for name in names:
            told = [_value(name, fact) for fact in relations()[name].facts]
            values = [value for _, value in told]
            rows += [_choice(query, value, values, rng) for query, value in told]
        return rows

    return make


def _countries(rng: Random) -> list[Row]:
    """Which of two countries a city is the capital of: the contexts differ, the end is the same."""
    facts = relations()["capital"].facts
    rows = []
    for fact in facts:
        other = rng.choice([each for each in facts if each.key != fact.key])
        pair = [fact, other]
        rng.shuffle(pair)
        contexts = [f"The capital of {each.slots['c']} is" for each in pair]
        rows.append(
            {"context_options": contexts, "continuation": f"{fact.key}.", "gold": pair.index(fact)}
        )
    return rows


def _order(rng: Random) -> list[Row]:
    told = [_value(name, fact) for name in ("after", "before") for fact in relations()[name].facts]
    return [{"context": context, "continuation": value} for context, value in told]


def _spelling(rng: Random) -> list[Row]:
    return [{"context": f"{word} is spelled", "continuation": spelled(word)} for word in words()]


TASKS = (
    BundleTask(
        "pocket_capitals",
        "multiple_choice",
        2,
        _capitals,
        "Capitals, as question and answer.",
        QUESTION_AND_ANSWER,
    ),
    BundleTask(
        "pocket_animals",
        "multiple_choice",
        0,
        _statements("eats", "lives", "young", "kind"),
        "What is so of an animal.",
    ),
    BundleTask(
        "pocket_things",
        "multiple_choice",
        0,
        _statements("colour", "made_of"),
        "A thing's colour, and what it is made from.",
    ),
    BundleTask(
        "pocket_opposites", "multiple_choice", 0, _statements("opposite"), "The opposite of a word."
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
        data = building / "eval_data" / "pocket"
        data.mkdir(parents=True)
        entries, table = [], []
        for task in TASKS:
            rng = Random(f"pocket core {task.label} {seed}")
            rows = task.rows(rng)
            rows = rng.sample(rows, min(QUESTIONS, len(rows)))
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (data / f"{task.label}.jsonl").write_text(text, encoding="utf-8")
            uri = f"pocket/{task.label}.jsonl"
            entry = {
                "label": task.label,
                "dataset_uri": uri,
                "num_fewshot": [task.shots],
                "icl_task_type": task.kind,
            }
            entries.append(
                entry | ({"continuation_delimiter": task.delimiter} if task.delimiter else {})
            )
            kind = task.kind.replace("_", " ")
            table.append(
                [
                    task.label,
                    "pocket world",
                    kind,
                    task.shots,
                    len(rows),
                    task.baseline,
                    "",
                    task.description,
                ]
            )
        (building / "core.yaml").write_text(
            yaml.safe_dump({"icl_tasks": entries}, sort_keys=False), encoding="utf-8"
        )
        with open(building / "eval_meta_data.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *table])
