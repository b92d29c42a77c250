"""Questions of a user's own that can be judged: a jsonl file whose rows say what a right answer
holds.
"""

from collections import defaultdict
from pathlib import Path

from chatling.data.readers import placed_rows
from chatling.data.row_errors import RowErrors
from chatling.errors import DataError
from chatling.messages import Conversation, Part
from chatling.tasks.task import IndexedTask, Task, visible_text


class Judged(IndexedTask):
    """Questions of one skill; an answer is right when it holds the key, whatever its case."""

    def __init__(self, name: str, rows: list[tuple[Conversation, str]]):
        super().__init__(name, [conversation for conversation, _ in rows])
        self._keys = {conversation.prompt: _plain(key) for conversation, key in rows}

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        return self._keys[conversation.prompt] in _plain(visible_text(completion))


def _plain(text: str) -> str:
    return " ".join(text.replace("’", "'").lower().split())


def is_own(name: str) -> bool:
    """Whether the name of a chat task is the path of such a file."""
    return name.endswith(".jsonl")


def judged_tasks(path: Path) -> list[Task]:
    """The questions of a file by skill: rows with `skill`, `key` and `messages`. Raises DataError
    when one lacks them.
    """
    skills, errors = defaultdict[str, list[tuple[Conversation, str]]](list), RowErrors()
    for place, row in placed_rows(path, errors):
        if not isinstance(row, dict) or not all(
            isinstance(row.get(k), str) for k in ("skill", "key")
        ):
            raise DataError(
                f"{path} {place} has no skill and key, by which an answer could be judged.",
                'A row is {"skill": "…", "key": "…", "messages": […]}.',
            )
        skills[row["skill"]].append((Conversation.from_dict(row), row["key"]))
    return [Judged(name, rows) for name, rows in skills.items()]
