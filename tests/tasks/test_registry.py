"""One entry in the registry is all that a new task needs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from chatling.data.hub import Fetcher
from chatling.errors import RecipeError
from chatling.evals.chat import open_chat_tasks
from chatling.messages import Conversation, Part
from chatling.tasks import registry
from chatling.tasks.identity import IdentityConfig
from chatling.tasks.registry import check_judged, expected_length, load_task
from chatling.tasks.rows import Rows
from chatling.tasks.task import IndexedTask, TaskEntry, visible_text
from chatling.train.datasets import MixtureEntry, Sources


class Plurals(IndexedTask):
    def __init__(self, files: Sequence[Path], **options: Any):
        super().__init__("Plurals", Rows(files, ("one", "many")))

    def example(self, index: int) -> Conversation:
        row = self.items[index]
        return Conversation.of(f"The plural of {row['one']}?", row["many"])

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        return visible_text(completion) == conversation.messages[-1].text


ENTRY = TaskEntry(
    "Plurals",
    Plurals,
    rows={"train": 2, "test": 1},
    repo="somebody/plurals",
    files={"train": "train[-.]*", "test": "test[-.]*"},
)


@pytest.fixture
def fetcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetcher:
    monkeypatch.setitem(registry.TASKS, "Plurals", ENTRY)  # type: ignore[arg-type]
    folder = tmp_path / "somebody" / "plurals"
    folder.mkdir(parents=True)
    rows = [{"one": "cat", "many": "cats"}, {"one": "box", "many": "boxes"}]
    for split in ("train", "test"):
        lines = (json.dumps(row) + "\n" for row in rows[: ENTRY.rows[split]])
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return Fetcher(local=tmp_path)


def test_an_entry_makes_a_task_to_train_on_to_evaluate_and_to_name(fetcher: Fetcher) -> None:
    task = load_task("Plurals", "validation", fetcher)
    assert list(task) == [Conversation.of("The plural of cat?", "cats")]
    assert task.score(task[0], (Part("text", "cats"),))
    assert expected_length("Plurals", "train") == 2
    check_judged("Plurals", "train")
    (asked,) = open_chat_tasks(["Plurals"], 0, None, lambda: fetcher)
    assert list(asked) == list(task)
    sources = Sources(lambda: fetcher, IdentityConfig(), 0)
    mixture = sources.mixture([MixtureEntry("Plurals", epochs=3)], "mid", "train")
    assert len(mixture) == 6
    with pytest.raises(RecipeError, match="Did you mean 'Plurals'"):
        load_task("Plural", "train", fetcher)
    with pytest.raises(RecipeError, match="'Plurals' has no subsets"):
        load_task("Plurals", "train", fetcher, subset="irregular")
