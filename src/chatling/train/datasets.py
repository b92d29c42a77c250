"""Where the conversations of a fine-tuning mixture come from: tasks by name, jsonl files, the
built-in world.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chatling.config.recipe import Recipe
from chatling.config.stages import MixtureEntry
from chatling.data.mixtures import Mixture, MixturePart
from chatling.data.shard_files import file_fingerprint
from chatling.data.token_shards import Indexed
from chatling.messages import Conversation
from chatling.tasks.custom import JsonlConversations
from chatling.tasks.identity import IdentityConfig
from chatling.tasks.judged import is_own, judged_tasks
from chatling.tasks.registry import Split, load_task, own_file, task_files
from chatling.tasks.task import Task
from chatling.toy.dataset import BUILT_IN

if TYPE_CHECKING:
    from chatling.data.hub import Fetcher


@dataclass(frozen=True)
class Sources:
    """What tasks are made and fetched with."""

    fetcher: Callable[[], Fetcher]
    """Called when something is to be fetched."""
    identity: IdentityConfig
    seed: int

    def load(
        self, entry: MixtureEntry, seed_id: int, split: Split, most: int | None = None
    ) -> Indexed[Conversation]:
        """The conversations that an entry draws on; of those that are made here, no more than
        `most`, if given. Raises RecipeError and DataError as `load_task` does. `seed_id` is the
        stage's.
        """
        if made := BUILT_IN.get(entry.task):
            # each stage and split draws from a seed of its own: the same skills, other
            # conversations
            own = 100 * self.seed + 10 * seed_id + (split != "train")
            count = made.conversation_count if entry.count is None else entry.count
            return made.conversations(own, count if most is None else min(count, most))
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
        tasks = (entry for entry in entries if entry.task not in BUILT_IN)
        return [
            path
            for e in tasks
            for path in task_files(e.task, e.split or split, self.fetcher(), subset=e.subset)
        ]

    def mixture(
        self, entries: Sequence[MixtureEntry], seed_id: int, split: Split, most: int | None = None
    ) -> Mixture:
        """The entries' conversations, interleaved in proportion; of each entry at most `most`, if
        given, and none twice then.
        """
        parts = []
        for entry in entries:
            source = self.load(entry, seed_id, entry.split or split, most)
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


def own_questions(recipe: Recipe) -> dict[str, Task]:
    """Held-out questions of what the conversations of a recipe are made of, by topic: those of
    your own that it is evaluated on or that watch its preferences, else of the built-in world each
    skill, of files each file.
    """
    watched = recipe.dpo.watch if recipe.dpo else ()
    asked = recipe.eval.chat if recipe.eval else watched
    found = {t.name: t for name in asked if is_own(name) for t in judged_tasks(own_file(name))}
    if found:
        return found
    table = recipe.sft or recipe.mid
    for entry in table.mixture if table else ():
        if made := BUILT_IN.get(entry.task):
            found |= {name: open_skill(recipe.seed, 1) for name, open_skill in made.skills.items()}
        elif entry.is_file:
            found[Path(entry.task).stem] = JsonlConversations(own_file(entry.task), "validation")
    return found


def open_fetcher(recipe: Recipe, note: Callable[[str], None]) -> Fetcher:
    """What downloads, or finds what a folder of one's own holds."""
    # here: a run without downloads needs none of what it imports
    from chatling.data.hub import Fetcher

    return Fetcher(local=recipe.data.local_folder, note=note)


def open_sources(recipe: Recipe, note: Callable[[str], None]) -> Sources:
    """What tasks are made and fetched with."""
    return Sources(functools.partial(open_fetcher, recipe, note), recipe.identity, recipe.seed)


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
