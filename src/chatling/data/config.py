"""The `[data]` table: which text a run reads."""

from __future__ import annotations

from dataclasses import dataclass

POCKET = "pocket"


@dataclass(frozen=True)
class DataConfig:
    """Where the pretraining text comes from."""

    source: str = POCKET
    """"pocket" for the built-in world, or a folder of parquet files, the last of which (by name) is for validation."""
    column: str = "text"
    """The parquet column that holds the text."""
