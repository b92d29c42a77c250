"""Tasks by name. A new one is a file of its own beside these, and its entry in TASKS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from chatling.errors import DataError, RecipeError, nearest
from chatling.tasks import arc, gsm8k, humaneval, identity, mmlu, smoltalk, spelling
from chatling.tasks.custom import JsonlConversations
from chatling.tasks.identity import IdentityConfig
from chatling.tasks.task import Split, Task, TaskEntry

if TYPE_CHECKING:
    from chatling.data.hub import Fetcher

TASKS: Mapping[str, TaskEntry] = {
    entry.name: entry
    for entry in (
        smoltalk.SMOLTALK,
        mmlu.MMLU,
        arc.EASY,
        arc.CHALLENGE,
        gsm8k.ENTRY,
        humaneval.ENTRY,
        spelling.SIMPLE,
        spelling.BEE,
        identity.ENTRY,
    )
}
# of the reference's chat evaluation
CHAT_TASKS = ("ARC-Easy", "ARC-Challenge", "MMLU", "GSM8K", "HumanEval", "SpellingBee")


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
    """A task by name, or a jsonl file of conversations by
    path; its files are fetched when they are not there yet.

    `subset` names a part of the data set (of MMLU a subject, of GSM8K "main" or "socratic"), `size`
    the number of examples of a task that is synthetic (of others it changes nothing), `identity`
    who the task "identity" speaks of; `allow_weak` lets HumanEval run programs where no sandbox
    holds. A data set without a validation split gives its test split for it. Raises RecipeError for
    an unknown name, subset or split, DataError for data that cannot be had or read.
    """
    files = task_files(name, split, fetcher, subset=subset)
    if name not in TASKS:
        return JsonlConversations(files[0], split)
    entry = TASKS[name]
    count = entry.rows[entry.split(split)] if size is None else size
    who = identity or IdentityConfig()
    return entry.open(files, split=split, size=count, identity=who, allow_weak=allow_weak)


def task_files(
    name: str, split: Split, fetcher: Fetcher, *, subset: str | None = None
) -> list[Path]:
    """The files behind a task, fetched; none for what
    is made from nothing. Raises as `load_task` does.
    """
    check_task(name, split, subset)
    return TASKS[name].fetch(fetcher, split, subset) if name in TASKS else [own_file(name)]


def own_file(name: str) -> Path:
    """A file of conversations by its path. Raises DataError when there is none that can be read."""
    path = Path(name).expanduser()
    if not path.is_file():
        raise DataError(f"There is no task or file {name!r}.", _known(name))
    return path


def check_judged(name: str, split: Split) -> None:
    """Raises RecipeError for a task whose answers cannot
    be told to be right or wrong, or that there is not.
    """
    check_task(name, split)
    if name not in TASKS or not TASKS[name].judged:
        judged = ", ".join(entry.name for entry in TASKS.values() if entry.judged)
        raise RecipeError(
            f"{name!r} holds conversations to learn from, not questions that can be judged.",
            f"Choose one of {judged}.",
        )


def check_task(name: str, split: Split, subset: str | None = None) -> None:
    """Raises RecipeError for what can be told to be wrong without looking at any data: a name,
    split or subset that there is not.
    """
    path = Path(name)
    if name not in TASKS and not path.suffix and len(path.parts) == 1 and not path.is_file():
        raise RecipeError(f"There is no task {name!r}.", _known(name))
    if subset is not None and (name not in TASKS or TASKS[name].subset is None):
        raise RecipeError(
            f"The task {name!r} has no subsets, so not {subset!r} either.", "Leave subset out."
        )
    expected_length(name, split)


def _known(name: str) -> str:
    listed = f"Tasks are {', '.join(TASKS)}, and the path of a file of conversations."
    return nearest(name, list(TASKS)) or listed


def expected_length(name: str, split: Split) -> int | None:
    """How many examples a task has when its data are complete; None for a file of your own. Raises
    RecipeError for an unknown split.
    """
    return TASKS[name].rows[TASKS[name].split(split)] if name in TASKS else None
