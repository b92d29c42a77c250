"""The languages of the built-in world: the tables of each, and random choices made in one."""

import random
from dataclasses import dataclass
from typing import Any

from chatling.data.config import POCKET, POCKET_ZH
from chatling.tasks.tables import load_table


@dataclass(frozen=True)
class Language:
    """`name` is that of its data set, as recipes give it; `folder` has its tables."""

    name: str
    folder: str

    def table(self, name: str) -> dict[str, Any]:
        """A table by the name of its file, its lists as tuples."""
        return load_table(f"{self.folder}/{name}.toml")

    @property
    def gap(self) -> str:
        """What stands between words and between sentences."""
        return str(self.table("grammar")["gap"])

    @property
    def stop(self) -> str:
        """What ends a sentence."""
        return str(self.table("grammar")["stop"])


ENGLISH, CHINESE = Language(POCKET, "toy"), Language(POCKET_ZH, "toy/zh")


class Random(random.Random):
    """The standard library's, which also knows in what language it chooses."""

    def __init__(self, seed: str | int, language: Language = ENGLISH):
        super().__init__(seed)
        self.language = language
