"""Rows of downloaded data sets, by index: parquet as the Hub serves them, or the jsonl that many
were first published as.
"""

import gzip
import json
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chatling.errors import DataError
from chatling.messages import kind_of


class Rows:
    """All rows of some files, in order, as dicts of the asked columns; kept in Arrow's memory and
    turned into Python one at a time.
    """

    def __init__(self, files: Sequence[Path], columns: Sequence[str]):
        """Raises DataError naming the file that is
        unreadable, lacks a column, or the lack of any row.
        """
        self.files = tuple(files)
        self._batches = [
            batch for file in files for batch in _batches(file, list(columns)) if batch.num_rows
        ]
        self._ends = list(accumulate(batch.num_rows for batch in self._batches))
        if not self._ends:
            raise DataError(f"There are no rows in {', '.join(map(str, files)) or 'no files'}.")

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(
                f"{self.files[0]} and the like have {len(self)} rows, asked for number {index}"
            )
        part = bisect_right(self._ends, index)
        first = self._ends[part - 1] if part else 0
        row: dict[str, Any] = self._batches[part].slice(index - first, 1).to_pylist()[0]
        return row


def _batches(file: Path, columns: list[str]) -> list[pa.RecordBatch]:
    try:
        table = (
            _jsonl_table(file)
            if file.name.endswith((".jsonl", ".jsonl.gz"))
            else pq.read_table(file, partitioning=None)
        )
    except (
        pa.ArrowException,
        OSError,
        EOFError,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"Cannot read {file}: {reason}.", "Delete it, so that it is fetched again, or mend it."
        ) from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise DataError(
            f"{file} has no column {missing[0]!r}; it has {', '.join(table.column_names)}."
        )
    return list(table.select(columns).to_batches())


def _jsonl_table(file: Path) -> pa.Table:
    rows = []
    with (
        gzip.open(file, "rt", encoding="utf-8-sig")
        if file.suffix == ".gz"
        else open(file, encoding="utf-8-sig")
    ) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                rows.append(json.loads(line))
                if not isinstance(rows[-1], dict):
                    raise ValueError(
                        f"line {number} is {kind_of(rows[-1])}, not an object with named values"
                    )
    return pa.Table.from_pylist(rows)
