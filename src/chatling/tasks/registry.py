"""Tasks by name: where their data come from, and how to open them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from chatling.errors import DataError, RecipeError, nearest
from chatling.tasks.arc import arc
from chatling.tasks.custom import JsonlConversations
from chatling.tasks.gsm8k import GSM8K
from chatling.tasks.humaneval import HumanEval
from chatling.tasks.identity import Identity, IdentityConfig
from chatling.tasks.mmlu import mmlu
from chatling.tasks.smoltalk import smoltalk
from chatling.tasks.spelling import WORDS_SHA256, WORDS_URL, SimpleSpelling, SpellingBee
from chatling.tasks.task import Task

if TYPE_CHECKING:
    from chatling.data.hub import Fetcher

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class HubTask:
    """A data set on the Hub. A split is a pattern of paths in its repository, "{subset}" filled in;
    `rows` counts the full data.
    """

    repo: str
    splits: Mapping[str, str]
    rows: Mapping[str, int]
    open: Callable[[Sequence[Path]], Task]
    subset: str | None = None  # what "{subset}" is by default


# `[-.]` matches both the Hub's "train-00000-of-00001.parquet" and a plain "train.jsonl"
HUB: Mapping[str, HubTask] = {
    "SmolTalk": HubTask(
        "HuggingFaceTB/smol-smoltalk",
        {"train": "data/train[-.]*", "test": "data/test[-.]*"},
        {"train": 460_341, "test": 24_229},
        smoltalk,
    ),
    "MMLU": HubTask(
        "cais/mmlu",
        {
            "train": "all/auxiliary_train[-.]*",
            "validation": "{subset}/validation[-.]*",
            "test": "{subset}/test[-.]*",
        },
        {"train": 99_842, "validation": 1_531, "test": 14_042},
        mmlu,
        subset="all",
    ),
    "ARC-Easy": HubTask(
        "allenai/ai2_arc",
        {split: f"ARC-Easy/{split}[-.]*" for split in ("train", "validation", "test")},
        {"train": 2_251, "validation": 570, "test": 2_376},
        lambda files: arc("ARC-Easy", files),
    ),
    "ARC-Challenge": HubTask(
        "allenai/ai2_arc",
        {split: f"ARC-Challenge/{split}[-.]*" for split in ("train", "validation", "test")},
        {"train": 1_119, "validation": 299, "test": 1_172},
        lambda files: arc("ARC-Challenge", files),
    ),
    "GSM8K": HubTask(
        "openai/gsm8k",
        {"train": "{subset}/train[-.]*", "test": "{subset}/test[-.]*"},
        {"train": 7_473, "test": 1_319},
        GSM8K,
        subset="main",
    ),
    "HumanEval": HubTask(
        "openai/openai_humaneval", {"test": "openai_humaneval/test[-.]*"}, {"test": 164}, HumanEval
    ),
}
SYNTHETIC_TASKS: Mapping[str, int] = {
    "SimpleSpelling": 200_000,
    "SpellingBee": 80_000,
    "identity": 1_000,
}  # made here; name -> size for training
MADE_HELD_OUT = 256  # size of a made task for validation and tests
TALK = ("SmolTalk", "identity")  # to learn from: no answer is right or wrong
CHAT_TASKS = (
    "ARC-Easy",
    "ARC-Challenge",
    "MMLU",
    "GSM8K",
    "HumanEval",
    "SpellingBee",
)  # of the reference's chat evaluation


def load_task(
    name: str,
    split: Split,
    fetcher: Fetcher,
    *,
    subset: str | None = None,
    size: int | None = None,
    identity: IdentityConfig | None = None,
    allow_weak: bool = False,
) -> Task:
    """A task by name, or a jsonl file of conversations by path; its files are fetched when they are
    not there yet.

    `subset` names a part of the data set (of MMLU a subject, of GSM8K "main" or "socratic"), `size`
    the number of examples of a task that
    is made here, `identity` who the task "identity" speaks of; `allow_weak` lets HumanEval run
    programs where no sandbox holds. A data set without a validation split gives its test split for
    it. Raises RecipeError for an unknown name, subset or split, DataError for data that cannot be
    had or read.
    """
    files = task_files(name, split, fetcher, subset=subset)
    if name == "HumanEval":
        return HumanEval(files, allow_weak=allow_weak)
    if name in HUB:
        return HUB[name].open(files)
    if name not in SYNTHETIC_TASKS:
        return JsonlConversations(files[0], split)
    count = expected_length(name, split) if size is None else size
    assert count is not None
    if name == "identity":
        return Identity(identity or IdentityConfig(), split, count)
    return {"SimpleSpelling": SimpleSpelling, "SpellingBee": SpellingBee}[name](
        files[0], split, count
    )


def task_files(
    name: str, split: Split, fetcher: Fetcher, *, subset: str | None = None
) -> list[Path]:
    """The files behind a task, fetched; none for what is made from nothing. Raises as `load_task`
    does.
    """
    check_task(name, split, subset)
    if name in HUB:
        task = HUB[name]
        pattern = task.splits[_split_of(name, split)].format(subset=subset or task.subset)
        files = fetcher.dataset(task.repo, pattern)
        if not files:
            raise DataError(
                f"There is no {pattern} in the data set {task.repo}.",
                "Check the subset, or the folder that it is read from.",
            )
        return files
    if name == "identity":
        return []
    if name in SYNTHETIC_TASKS:
        return [fetcher.url(WORDS_URL, WORDS_SHA256)]
    return [own_file(name)]


def own_file(name: str) -> Path:
    """A file of conversations by its path. Raises DataError when there is none that can be read."""
    path = Path(os.path.expanduser(name))
    if not path.is_file():
        raise DataError(f"There is no task or file {name!r}.", _known(name))
    return path


def check_judged(name: str, split: Split) -> None:
    """Raises RecipeError for a task whose answers cannot be told to be right or wrong, or that
    there is not.
    """
    check_task(name, split)
    if name in TALK or (name not in HUB and name not in SYNTHETIC_TASKS):
        judged = ", ".join(task for task in (*HUB, *SYNTHETIC_TASKS) if task not in TALK)
        raise RecipeError(
            f"{name!r} holds conversations to learn from, not questions that can be judged.",
            f"Choose one of {judged}.",
        )


def check_task(name: str, split: Split, subset: str | None = None) -> None:
    """Raises RecipeError for what can be told to be wrong without looking at any data: a name,
    split or subset that there is not.
    """
    if (
        name not in HUB
        and name not in SYNTHETIC_TASKS
        and not Path(name).suffix
        and len(Path(name).parts) == 1
        and not Path(name).is_file()
    ):
        raise RecipeError(f"There is no task {name!r}.", _known(name))
    if subset is not None and (name not in HUB or HUB[name].subset is None):
        raise RecipeError(
            f"The task {name!r} has no subsets, so not {subset!r} either.", "Leave subset out."
        )
    expected_length(name, split)


def _known(name: str) -> str:
    known = [*HUB, *SYNTHETIC_TASKS]
    return (
        nearest(name, known)
        or f"Tasks are {', '.join(known)}, and the path of a file of conversations."
    )


def expected_length(name: str, split: Split) -> int | None:
    """How many examples a task has when its data are complete; None for a file of your own. Raises
    RecipeError for an unknown split.
    """
    if name in SYNTHETIC_TASKS:
        return SYNTHETIC_TASKS[name] if split == "train" else MADE_HELD_OUT
    return HUB[name].rows[_split_of(name, split)] if name in HUB else None


def _split_of(name: str, split: Split) -> str:
    known = HUB[name].splits
    found = "test" if split == "validation" and split not in known else split
    if found not in known:
        raise RecipeError(f"{name} has no split {split!r}.", f"It has {', '.join(known)}.")
    return found
