"""The `[data]` table: which text a run reads."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from chatling.fields import Text, absolute, bounded, config

POCKET, POCKET_ZH = "pocket", "pocket-zh"
GENERATED = (POCKET, POCKET_ZH)  # data sets that are made here; see toy/dataset.py
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class CorpusFacts:
    """What is known beforehand of a corpus on the Hub; its last shard is for validation."""

    shards: int
    characters: float  # of a shard
    bytes: float  # of a shard
    license: str


# Both were cut into shards of 250 M characters by the same program of karpathy/nanochat, whose run
# script gives "at ~100MB/shard"; the counts are those of their listings.
KNOWN_CORPORA: Mapping[str, CorpusFacts] = {
    "karpathy/fineweb-edu-100b-shuffle": CorpusFacts(1_823, 250e6, 100e6, "ODC-By-1.0"),
    "karpathy/climbmix-400b-shuffle": CorpusFacts(6_543, 250e6, 100e6, "CC-BY-NC-4.0"),
}


@config
class DataConfig:
    """The `[data]` table: where the pretraining text comes from."""

    source: Text = POCKET
    """A built-in world ("pocket", in Chinese "pocket-zh"), a folder of at least two parquet files,
    or a data set of the Hub, "owner/name". The last file (by name) is for validation.
    """
    column: Text = "text"
    """The parquet column that holds the text."""
    files: Text | None = None
    """Of a data set of the Hub: which files, by a pattern; empty: its training files where their
    names tell, else all of its parquet files.
    """
    shards: Annotated[int, bounded(ge=1, le=10**6)] | Literal["auto"] = "auto"
    """Of a data set of the Hub: files to train on, in the order of their names; "auto" takes as
    many as tokenizer and base need.
    """
    local: Text | None = field(default=None, metadata={"inert": True})
    """A folder to look into before anything is fetched, laid out as OWNER/NAME/path in the data
    set.
    """

    @property
    def built_in(self) -> bool:
        """Whether the text is made here."""
        return self.source in GENERATED

    @property
    def on_hub(self) -> bool:
        """Whether the source is a data set of the Hub. A folder that is there goes before one."""
        return (
            not self.built_in
            and bool(HUB_NAME.fullmatch(self.source))
            and not os.path.isdir(self.source)
        )

    @property
    def local_folder(self) -> Path | None:
        return None if self.local is None else Path(self.local)

    def anchored(self) -> DataConfig:
        """With the paths of folders made absolute, so that they mean the same from another working
        directory.
        """
        kept = self.built_in or self.on_hub
        source = self.source if kept else absolute(self.source)
        return replace(self, source=source, local=self.local and absolute(self.local))

    def facts(self) -> CorpusFacts | None:
        """What is known of the corpus beforehand."""
        return KNOWN_CORPORA.get(self.source) if self.on_hub and self.files is None else None
