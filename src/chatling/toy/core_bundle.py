"""A CORE bundle of the pocket world: the same files
as the real one, small enough to score in seconds.

Its questions are in words that the base corpus uses, so the score says
how much of the world a base model has learned, not how well it copes with
new phrasings; for that there are the held-out questions (`heldout.py`).
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from chatling.run_dir import building_folder
from chatling.toy.characters import apart, terms
from chatling.toy.facts import capitalized
from chatling.toy.language import CHINESE, ENGLISH, Language, Random
from chatling.toy.relations import relations
from chatling.toy.words import spelled, words

QUESTIONS = 60  # of each task, or as many as there are
CHOICES = 4
# percent right by guessing, by kind
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
Sentence = tuple[str, str]  # a beginning, and the value that ends it


WORDS: Mapping[Language, Callable[[], list[Sentence]]] = {
    ENGLISH: lambda: [(f"{word} is spelled", spelled(word)) for word in words()],
    CHINESE: lambda: [(f"{apart(word)}，倒过来是", apart(word[::-1])) for word in terms()],
}


def _sentences(names: Sequence[str], sentence: str, language: Language) -> Iterator[list[Sentence]]:
    """The sentences of each relation; of the words' letters where there is none."""
    if not names:
        yield WORDS[language]()
    stop, gap = language.stop, language.gap
    for relation in (relations(language)[name] for name in names):
        cut = []
        for fact in relation.facts:
            told = capitalized((sentence or relation.answer).format(**fact.slots))
            told = told.removesuffix(stop)
            longest_first = sorted(fact.slots.values(), key=len, reverse=True)
            end = next(value for value in longest_first if value and told.endswith(gap + value))
            cut.append((told.removesuffix(gap + end), end))
        yield cut


def _rows(kind: str, sentences: list[Sentence], rng: Random) -> Iterator[Row]:
    """Which value ends a sentence, which of two sentences a value ends, or what ends one."""
    ends = {end for _, end in sentences}
    for begun, end in sentences:
        if kind == "multiple_choice":
            choices = [end, *rng.sample(sorted(ends - {end}), CHOICES - 1)]
            rng.shuffle(choices)
            yield {"query": begun, "choices": choices, "gold": choices.index(end)}
        elif kind == "schema":
            pair = [begun, rng.choice([other for other, _ in sentences if other != begun])]
            rng.shuffle(pair)
            gold = pair.index(begun)
            yield {
                "context_options": pair,
                "continuation": f"{end}{rng.language.stop}",
                "gold": gold,
            }
        else:
            yield {"context": begun, "continuation": end}


def write_core_bundle(folder: Path, seed: int, language: Language = ENGLISH) -> None:
    """Write `core.yaml`, `eval_meta_data.csv` and `eval_data/pocket/*.jsonl`, as the real bundle
    has them, and a manifest.
    """
    with building_folder(folder) as building:
        (building / "eval_data" / "pocket").mkdir(parents=True)
        entries, table = [], list[Sequence[Any]]([COLUMNS])
        for task in language.table("core_bundle")["tasks"]:
            label, kind = task["label"], task["kind"]
            rng = Random(f"{language.name} core {label} {seed}", language)
            told = _sentences(task["relations"], task.get("sentence", ""), language)
            rows = [row for sentences in told for row in _rows(kind, sentences, rng)]
            rows = rng.sample(rows, min(QUESTIONS, len(rows)))
            uri = f"pocket/{label}.jsonl"
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (building / "eval_data" / uri).write_text(text, encoding="utf-8")
            entry = {"label": label, "dataset_uri": uri, "num_fewshot": [task["shots"]]}
            entry["icl_task_type"] = kind
            if "delimiter" in task:
                entry["continuation_delimiter"] = task["delimiter"]
            entries.append(entry)
            shown, guessed = kind.replace("_", " "), BASELINES[kind]
            described = (shown, task["shots"], len(rows), guessed, "", task["description"])
            table.append((label, "pocket world", *described))
        (building / "core.yaml").write_text(
            yaml.safe_dump({"icl_tasks": entries}, sort_keys=False), encoding="utf-8"
        )
        with open(building / "eval_meta_data.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(table)
