"""The CORE bundle on disk: `core.yaml` names the tasks, `eval_meta_data.csv` their baselines,
`eval_data/` holds a jsonl file for each.
"""

from __future__ import annotations

import codecs
import csv
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import yaml

from chatling.errors import DataError
from chatling.evals.config import FULL
from chatling.run_dir import RunFolder, building_folder, manifest_fault, waiting_lock
from chatling.toy.dataset import BUILT_IN

if TYPE_CHECKING:
    from chatling.data.hub import Fetcher

Kind = Literal["multiple_choice", "schema", "language_modeling"]
BUNDLE_URL = (  # nanochat's; 91,037 examples in all
    "https://karpathy-public.s3.us-west-2.amazonaws.com/eval_bundle.zip"
)
BUNDLE_SHA256 = "90a7c19e28ee7a52b4f6e1f87658deb9fde7f63deba2379045bdb1fe9ea5d200"
SHOWN = 3  # faults of a file that are named one by one
# Rows of the full files where the bundle's own table is wrong: it gives ARC-Challenge the number of
# ARC-Easy. Label -> (what the table says, what it is).
FULL_ROWS: Mapping[str, tuple[int, int]] = {"arc_challenge": (2376, 1172)}


@dataclass(frozen=True)
class Item:
    """One example. `options` are the choices, or in a schema task the contexts; one of language
    modelling has none, and no `gold`.
    """

    line: int  # in its file, from 1
    text: str  # the query, the continuation (schema) or the context (language modelling)
    options: tuple[str, ...] = ()
    gold: int = 0
    continuation: str = ""  # language modelling only


@dataclass(frozen=True)
class CoreTask:
    """A task of the bundle with its items in file order. `baseline` is the accuracy of guessing."""

    label: str
    kind: Kind
    shots: int
    delimiter: str
    baseline: float
    file: Path
    items: tuple[Item, ...]
    full: int  # rows of the full file, as far as known

    @property
    def cut(self) -> bool:
        return len(self.items) < self.full


def read_bundle(folder: Path) -> tuple[list[CoreTask], list[str]]:
    """Every task of a bundle, in its order, and what is wrong with rows of its files, each with
    file and line.

    Rows that cannot be used are left out; repeated ones stay, as in the reference. Raises DataError
    when a file is missing or unreadable, a table lacks a task, or a file has no usable row.
    """
    hint = "Fetch the bundle again, or name another folder."
    try:
        entries = yaml.safe_load((folder / "core.yaml").read_text(encoding="utf-8-sig"))[
            "icl_tasks"
        ]
        with open(folder / "eval_meta_data.csv", encoding="utf-8-sig", newline="") as file:
            table = {
                row["Eval Task"]: (float(row["Random baseline"]), int(row["#datapoints"]))
                for row in csv.DictReader(file)
            }
    except OSError as error:
        raise DataError(
            f"There is no CORE bundle in {folder}: {error.strerror} ({error.filename}).", hint
        ) from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"The CORE bundle in {folder} is damaged: {error!r}.", hint) from None
    tasks, problems = [], []
    files: dict[tuple[Path, Kind], tuple[Item, ...]] = {}  # HellaSwag's is used twice
    for entry in entries:
        try:
            label, kind = str(entry["label"]), entry["icl_task_type"]
            shots = int(entry["num_fewshot"][0])
            path = folder / "eval_data" / entry["dataset_uri"]
            percent, rows = table[label]
        except (LookupError, TypeError, ValueError) as error:
            raise DataError(
                f"core.yaml in {folder} has an entry that cannot be used ({error!r}):"
                f" {str(entry)[:80]}.",
                hint,
            ) from None
        if kind not in get_args(Kind):
            raise DataError(
                f"core.yaml in {folder} gives {label} the unknown type {kind!r}.",
                f"Known are {', '.join(get_args(Kind))}.",
            )
        if (path, kind) not in files:
            files[path, kind], faults = read_items(path, kind)
            problems += faults
        known = FULL_ROWS.get(label, (rows, rows))
        full = known[1] if rows == known[0] else rows
        tasks.append(
            CoreTask(
                label,
                kind,
                shots,
                entry.get("continuation_delimiter", " "),
                percent / 100,
                path,
                files[path, kind],
                full,
            )
        )
    return tasks, problems


def read_items(path: Path, kind: Kind) -> tuple[tuple[Item, ...], list[str]]:
    """The usable rows of a task's file, and sentences about the others and about repeated ones,
    naming file and line.
    """
    try:
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    except OSError as error:
        raise DataError(
            f"The CORE bundle lacks a file: cannot read {path} ({error.strerror}).",
            "Fetch the bundle again.",
        ) from None
    items: list[Item] = []
    bad: list[str] = []
    repeated: list[str] = []
    first: dict[Item, int] = {}
    for number, line in enumerate(lines if lines[-1].strip() else lines[:-1], 1):
        try:
            item = _item(json.loads(line), kind)
        # ValueError: what is not JSON or not UTF-8, too
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            fault = f"lacks {error}" if isinstance(error, KeyError) else f"is malformed: {error}"
            bad.append(f"line {number} {fault if line.strip() else 'is empty'}")
            continue
        earlier = first.setdefault(item, number)
        if earlier != number:
            repeated.append(f"line {number} repeats line {earlier}")
        items.append(Item(number, item.text, item.options, item.gold, item.continuation))
    if not items:
        raise DataError(
            f"{path} has no usable row ({'; '.join(bad[:SHOWN]) or 'it is empty'}).",
            "Fetch the bundle again.",
        )
    faults = {"left out ": bad, "": repeated}
    return tuple(items), [
        f"{path}: {what}{_listed(each)}." for what, each in faults.items() if each
    ]


def _listed(faults: list[str]) -> str:
    more = len(faults) - SHOWN
    return "; ".join(faults[:SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _item(row: Any, kind: Kind) -> Item:
    """A row without its line number. An unusable one raises ValueError, TypeError or KeyError."""
    if not isinstance(row, dict):
        raise ValueError("not an object")
    if kind == "language_modeling":
        return Item(0, _text(row, "context"), continuation=_text(row, "continuation"))
    options = row["choices" if kind == "multiple_choice" else "context_options"]
    if (
        not isinstance(options, list)
        or len(options) < 2
        or not all(isinstance(each, str) and each.strip() for each in options)
    ):
        raise ValueError("it needs at least two choices, none of them empty")
    gold = row["gold"]
    if type(gold) is not int or not 0 <= gold < len(options):
        raise ValueError(f"gold is {gold!r}, with {len(options)} choices")
    return Item(
        0,
        _text(row, "query" if kind == "multiple_choice" else "continuation"),
        tuple(options),
        gold,
    )


def _text(row: dict[str, Any], key: str) -> str:
    text = row[key]
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{key} is {'empty' if isinstance(text, str) else 'no text'}")
    return text


def open_bundle(name: str, folder: RunFolder, seed: int, fetcher: Callable[[], Fetcher]) -> Path:
    """The folder of a bundle: "full" is fetched, "pocket" written beside the run's data, anything
    else a folder's path.

    Raises DataError when the full one cannot be had.
    """
    if name == FULL:
        return fetch_bundle(fetcher())
    if name not in BUILT_IN:
        return Path(os.path.expanduser(name))
    place = folder.data / f"core-{name}"
    if manifest_fault(place):
        BUILT_IN[name].write_core_bundle(place, seed)
    return place


def fetch_bundle(fetcher: Fetcher) -> Path:
    """The full bundle, fetched and unpacked once. Raises DataError when it cannot be had."""
    archive = fetcher.url(BUNDLE_URL, BUNDLE_SHA256)
    place = fetcher.cache / "core" / BUNDLE_SHA256[:16]
    with waiting_lock(place.with_suffix(".lock")):
        if manifest_fault(place, checksums=False):
            with building_folder(place) as building, zipfile.ZipFile(archive) as packed:
                for entry in packed.infolist():
                    inside = entry.filename.removeprefix("eval_bundle/")
                    if (
                        inside.startswith(("core.yaml", "eval_meta_data.csv", "eval_data/"))
                        and not entry.is_dir()
                    ):
                        entry.filename = inside  # zipfile keeps what it extracts inside the folder
                        packed.extract(entry, building)
    return place
