"""Where the conversations of a fine-tuning mixture come from: tasks by name, jsonl files, the
built-in world.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from chatling.data.config import POCKET
from chatling.data.mixtures import Mixture, MixturePart
from chatling.data.shard_files import file_fingerprint
from chatling.data.token_shards import Indexed
from chatling.fields import CountOrZero, Text, absolute, bounded, config
from chatling.messages import Conversation
from chatling.run_dir import STAGES
from chatling.tasks.identity import IdentityConfig
from chatling.tasks.registry import (
    Split,
    check_task,
    expected_length,
    load_task,
    task_files,
)
from chatling.tasks.task import Task
from chatling.toy import conversations as pocket_conversations

if TYPE_CHECKING:
    from chatling.data.hub import Fetcher

POCKET_CONVERSATIONS = 10_000  # of the built-in world, which has no end, when no count is given


@config
class MixtureEntry:
    """One part of a mixture. `epochs` times `count` conversations are taken."""

    task: Text
    """A task by name, the path of a file of conversations, or "pocket"."""
    epochs: Annotated[int, bounded(ge=0, le=10_000)] = 1
    """How many times it is gone through."""
    count: CountOrZero | None = None
    """Conversations taken each time, empty: all; a random part of data; of what is generated, so
    many are.
    """
    split: Split | None = None
    """Empty: "train" in mixtures and "validation" in validation sets."""
    subset: Text | None = None
    """A named part of the data set, where it has such."""

    def check(self, split: Split) -> None:
        """Raises RecipeError for what can be told to be wrong without looking at data; `split` is
        the one taken when none is named.
        """
        if self.task != POCKET:
            check_task(self.task, self.split or split, self.subset)

    @property
    def is_file(self) -> bool:
        return self.task != POCKET and expected_length(self.task, "test") is None

    @property
    def expected(self) -> int | None:
        """Conversations that it comes to, when its data are complete; None where only the file can
        tell.
        """
        length = (
            POCKET_CONVERSATIONS
            if self.task == POCKET
            else expected_length(self.task, self.split or "train")
        )
        each = length if self.count is None else self.count
        return None if each is None else each * self.epochs

    def anchored(self) -> MixtureEntry:
        """With the path of a file made absolute, so that it means the same from another working
        directory.
        """
        path = absolute(self.task)
        return replace(self, task=path) if self.is_file and os.path.exists(path) else self


@dataclass(frozen=True)
class Sources:
    """What tasks are made and fetched with."""

    fetcher: Callable[[], Fetcher]
    """Called when something is to be fetched."""
    identity: IdentityConfig
    seed: int

    def load(self, entry: MixtureEntry, stage: str, split: Split) -> Indexed[Conversation]:
        """The conversations that an entry draws on. Raises RecipeError and DataError as `load_task`
        does.
        """
        if entry.task == POCKET:
            # each stage and split draws from a seed of its own: the same skills, other
            # conversations
            own = 100 * self.seed + 10 * STAGES.index(stage) + (split != "train")
            return pocket_conversations(
                own, POCKET_CONVERSATIONS if entry.count is None else entry.count
            )
        return load_task(
            entry.task,
            split,
            self.fetcher(),
            subset=entry.subset,
            size=entry.count,
            identity=self.identity,
        )

    def files(self, entries: Sequence[MixtureEntry], split: Split) -> list[Path]:
        """The files behind a mixture, fetched."""
        tasks = (entry for entry in entries if entry.task != POCKET)
        return [
            path
            for e in tasks
            for path in task_files(e.task, e.split or split, self.fetcher(), subset=e.subset)
        ]

    def mixture(
        self, entries: Sequence[MixtureEntry], stage: str, split: Split, most: int | None = None
    ) -> Mixture:
        """The entries' conversations, interleaved in proportion; of each entry at most `most`, if
        given, and none twice then.
        """
        parts = []
        for entry in entries:
            source = self.load(entry, stage, entry.split or split)
            count = None if entry.count is None else entry.count * entry.epochs
            parts.append(
                MixturePart(
                    entry.task,
                    source,
                    entry.epochs,
                    count if most is None else min(most, len(source)),
                )
            )
        return Mixture(parts, self.seed)


def notes(mixture: Mixture) -> Iterator[str]:
    """What the tasks of a mixture have to say of their data."""
    for part in mixture.parts:
        if isinstance(part.source, Task):
            yield from part.source.notes


def own_files(entries: Sequence[MixtureEntry]) -> list[str]:
    """What tells files of your own from others of the same name; a file that is missing has nothing
    to tell.
    """
    paths = (Path(os.path.expanduser(entry.task)) for entry in entries if entry.is_file)
    return [str(file_fingerprint(path)) for path in paths if path.is_file()]
