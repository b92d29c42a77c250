"""Documents out of parquet files."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chatling.data.splits import split_files
from chatling.errors import DataError

TEXT_TYPES = (
    *(pa.string(), pa.large_string(), pa.string_view()),
    *(pa.binary(), pa.large_binary(), pa.binary_view()),
)


@dataclass
class CorpusCounts:
    """What reading a corpus met."""

    documents: int = 0  # read and kept
    characters: int = 0
    empty: int = 0  # dropped: null, empty or only white space
    invalid: int = 0  # kept, with each invalid UTF-8 sequence replaced by U+FFFD


def list_parquet(folder: Path) -> tuple[Sequence[Path], Sequence[Path]]:
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
    return split_files(files)


def iter_texts(
    files: Sequence[Path], column: str = "text", counts: CorpusCounts | None = None
) -> Iterator[str]:
    """The documents of parquet files in order, streamed row group by row group; `counts` is filled
    along the way.

    Invalid UTF-8 is replaced, empty documents are dropped, both counted. Raises DataError naming
    the file when one is not a readable parquet file or lacks the column.
    """
    counts = counts if counts is not None else CorpusCounts()
    batches = (batch for file in files for batch in _column_batches(file, column))
    for value in chain.from_iterable(batches):
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if not text or text.isspace():
            counts.empty += 1
            continue
        counts.documents += 1
        counts.characters += len(text)
        # in bytes a U+FFFD may also be what was written
        counts.invalid += isinstance(value, bytes) and text.encode() != value
        yield text


@contextmanager
def open_parquet(file: Path, column: str, hint: str) -> Iterator[pq.ParquetFile]:
    """A parquet file that has a column. Raises DataError naming the file that is none, with the
    `hint`, or that lacks the column.
    """
    try:
        with pq.ParquetFile(file) as parquet:
            if column not in (names := parquet.schema_arrow.names):
                raise DataError(
                    f"{file} has no column {column!r}; it has {', '.join(names)}.",
                    "Name one with --data.column.",
                )
            yield parquet
    except FileNotFoundError:
        raise DataError(f"{file} does not exist.") from None
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{file} is not a readable parquet file ({reason}).", hint) from error


def column_values(values: pa.Array) -> list[Any]:
    """Python's values of a column; bytes where texts are not valid UTF-8."""
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    try:
        found: list[Any] = values.to_pylist()
    except UnicodeDecodeError:
        found = values.cast(pa.large_binary()).to_pylist()
    return found


def parquet_characters(file: Path, column: str) -> float:
    """About how many characters a column holds: its bytes before compression, as the file's own
    index tells them.

    Raises DataError for a file that is not parquet or lacks the column.
    """
    with open_parquet(file, column, "Choose others with --data.files.") as parquet:
        groups = map(parquet.metadata.row_group, range(parquet.metadata.num_row_groups))
        chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
    return float(
        sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == column)
    )


def _column_batches(file: Path, column: str) -> Iterator[list[Any]]:
    """Lists of str, or of bytes where the column is binary or holds invalid UTF-8."""
    with open_parquet(file, column, "Fetch or write it again.") as parquet:
        kind = parquet.schema_arrow.field(column).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if kind not in TEXT_TYPES:
            raise DataError(
                f"Column {column!r} of {file} holds {kind}, not text.",
                "Name a text column with --data.column.",
            )
        for batch in parquet.iter_batches(batch_size=1024, columns=[column]):
            yield column_values(batch.column(0))
