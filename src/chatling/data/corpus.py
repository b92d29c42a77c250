"""The files of a pretraining corpus: on this disk, or on the Hub, from where each comes when it is
first wanted.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, overload

from chatling.data.config import DataConfig
from chatling.data.parquet import list_parquet, parquet_characters
from chatling.data.shard_files import file_fingerprint
from chatling.data.splits import split_files
from chatling.errors import DataError

if TYPE_CHECKING:
    from chatling.data.hub import Fetcher


class HubFiles(Sequence[Path]):
    """Files of a data set by their paths in it; taking one fetches it, or waits for who is fetching
    it.
    """

    def __init__(self, fetcher: Fetcher, repo: str, names: Sequence[str]):
        self.fetcher, self.repo, self.names = fetcher, repo, tuple(names)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> HubFiles: ...
    def __getitem__(self, index: int | slice) -> Path | HubFiles:
        if isinstance(index, slice):
            return HubFiles(self.fetcher, self.repo, self.names[index])
        return self.fetcher.paths(self.repo, [self.names[index]])[0]

    def fetch(self) -> None:
        """Have all of them, several at a time, the first ones first."""
        self.fetcher.paths(self.repo, self.names)

    @property
    def fingerprints(self) -> list[str]:
        """What tells each file from others, without having it."""
        return [
            f"{self.repo}/{name} {self.fetcher.checksum(self.repo, name)}" for name in self.names
        ]


@dataclass(frozen=True)
class Corpus:
    """Files of text in their fixed order, and those held out."""

    train: Sequence[Path]
    validation: Sequence[Path]


def hub_corpus(data: DataConfig, fetcher: Fetcher, characters: float) -> Corpus:
    """A data set of the Hub: its first files, as many as `characters` of text need where
    `data.shards` is "auto", and its last one.

    Asks for the listing, and of a corpus that nothing is known of also for the first file. Raises
    DataError as `Fetcher` does, and when there are too few files.
    """
    names = _parquet_names(data, fetcher)
    if len(names) < 2:
        raise DataError(
            f"The data set {data.source} has {len(names)} parquet"
            f" files{f' like {data.files}' if data.files else ''}; training needs two.",
            f"`chatling data import {data.source}` makes a corpus of any data set; --data.files"
            " names other files.",
        )
    count: int | str = data.shards
    if count == "auto":
        facts = data.facts()
        each = (
            facts.characters
            if facts
            else parquet_characters(HubFiles(fetcher, data.source, names)[0], data.column)
        )
        count = max(1, math.ceil(characters / max(each, 1.0)))
    train, validation = split_files(names)
    return Corpus(
        HubFiles(fetcher, data.source, train[: int(count)]),
        HubFiles(fetcher, data.source, validation),
    )


def _parquet_names(data: DataConfig, fetcher: Fetcher) -> list[str]:
    names = fetcher.names(data.source)
    if data.files:
        return [name for name in names if fnmatch.fnmatch(name, data.files)]
    parquet = [name for name in names if name.endswith(".parquet")]
    return [name for name in parquet if "train" in name] or parquet


def corpus_mark(data: DataConfig) -> tuple[str, ...]:
    """What tells one corpus from another: of a folder its files; a data set of the Hub is what it
    was when it was first listed.
    """
    if data.on_hub:
        return (data.source, data.column, str(data.files), str(data.shards))
    train, validation = list_parquet(Path(data.source))
    return (data.column, *(file_fingerprint(path) for path in (*train, *validation)))
