"""Documents out of parquet files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chatling.errors import DataError


@dataclass
class CorpusCounts:
    """What reading a corpus met."""

    documents: int = 0  # read and kept
    characters: int = 0
    empty: int = 0  # dropped: null, empty or only white space
    invalid: int = 0  # kept, with each invalid UTF-8 sequence replaced by U+FFFD


def list_parquet(folder: Path) -> tuple[list[Path], list[Path]]:
    """(train, validation) files of a corpus folder, sorted by name; the last one is validation.

    Raises DataError when there are fewer than two, when one is no plain file, or when the folder
    cannot be looked into.
    """
    files = sorted(folder.glob("*.parquet"))
    if len(files) < 2:
        why = "training needs at least two (the last one is for validation)"
        hint = (
            f"Point [data] source at a folder of parquet files; `chatling data import {folder}`"
            " makes one of other files."
        )
        if not folder.exists():
            why, hint = "there is no such folder", "Correct [data] source."
        elif not folder.is_dir():
            why = "it is a file, not a folder"
        elif not os.access(folder, os.R_OK | os.X_OK):
            why = "it cannot be looked into (permission denied)"
        raise DataError(f"{folder} holds {len(files)} parquet files; {why}.", hint)
    for file in files:
        if not file.is_file():
            raise DataError(
                f"{file} is not a file that can be read.", "Take it away, or write it again."
            )
    return files[:-1], files[-1:]


def iter_texts(
    files: Sequence[Path], column: str = "text", counts: CorpusCounts | None = None
) -> Iterator[str]:
    """The documents of parquet files in order, streamed row group by row group; `counts` is filled
    along the way.

    Invalid UTF-8 is replaced, empty documents are dropped, both counted. Raises DataError naming
    the file when one is not a readable parquet file or lacks the column.
    """
    counts = counts if counts is not None else CorpusCounts()
    for file in files:
        for values in _column_batches(file, column):
            for value in values:
                text, valid = _decoded(value)
                if not text or text.isspace():
                    counts.empty += 1
                    continue
                counts.documents += 1
                counts.characters += len(text)
                counts.invalid += not valid
                yield text


def _decoded(value: str | bytes | None) -> tuple[str, bool]:
    if not isinstance(value, bytes):
        return value or "", True
    try:
        return value.decode("utf-8"), True
    except UnicodeDecodeError:
        return value.decode("utf-8", errors="replace"), False


def _column_batches(file: Path, column: str) -> Iterator[list[Any]]:
    """Lists of str, or of bytes where the column is binary or holds invalid UTF-8."""
    try:
        with pq.ParquetFile(file) as parquet:
            schema = parquet.schema_arrow
            if column not in schema.names:
                raise DataError(
                    f"{file} has no column {column!r}; it has {', '.join(schema.names)}.",
                    "Name one with --data.column.",
                )
            kind = schema.field(column).type
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            if kind not in (
                pa.string(),
                pa.large_string(),
                pa.string_view(),
                pa.binary(),
                pa.large_binary(),
                pa.binary_view(),
            ):
                raise DataError(
                    f"Column {column!r} of {file} holds {kind}, not text.",
                    "Name a text column with --data.column.",
                )
            for batch in parquet.iter_batches(batch_size=1024, columns=[column]):
                values = batch.column(0)
                values = (
                    values.dictionary_decode() if isinstance(values, pa.DictionaryArray) else values
                )
                try:
                    yield values.to_pylist()
                except UnicodeDecodeError:
                    yield values.cast(pa.large_binary()).to_pylist()
    except FileNotFoundError:
        raise DataError(f"{file} does not exist.") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{file} is not a readable parquet file ({str(error).splitlines()[0]}).",
            "Fetch or write it again.",
        ) from error
