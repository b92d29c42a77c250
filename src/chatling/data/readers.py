"""Files of a user's own as rows: text, markdown, jsonl, json, csv and parquet, plain or packed,
streamed so that size does not matter.
"""

import io
import json
import re
import shutil
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chatling.data.csv_rows import csv_rows
from chatling.data.decoding import (
    CHUNK_CHARACTERS,
    PACKED,
    Tick,
    check_encoding,
    open_text,
    unpacked,
)
from chatling.data.json_rows import json_lines, json_values
from chatling.data.parquet import column_values
from chatling.data.row_errors import Row, RowErrors
from chatling.errors import DataError

FORMATS = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".markdown": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
# longer text files are cut at the end of a paragraph; the tokenizer's training reads no more of a
# document
DOCUMENT_CHARACTERS = 10_000
PARQUET_ROWS = 256  # held at a time
NOT_DATA = re.compile(r"(readme|licen[cs]e|contributing|changelog|dataset_infos?)\b", re.IGNORECASE)
RECORD = "import.json"  # in every folder that an import wrote
JOINERS = "\u200d\ufe0e\ufe0f"  # belong to the character before, and the first to the one after


@dataclass(frozen=True)
class Found:
    """The data files below a path, in order, and what was passed over, by name or ending."""

    files: tuple[Path, ...]
    passed: Counter[str]


def file_format(path: Path) -> str | None:
    """ "text", "jsonl", "json", "csv" or "parquet" by the ending, before `.gz` or `.zst`; None for
    any other.
    """
    plain = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return FORMATS.get(plain.suffix.lower())


def find_files(path: Path) -> Found:
    """The file, or all data files below the folder sorted by path; hidden ones, readmes and
    licences are passed over.

    Links are followed; a folder met twice, what an earlier import wrote below `path`, and what is
    no file (a pipe, a link to nothing) are passed over, too. Raises DataError when there is no such
    path, it cannot be read, or nothing in it is data.
    """
    known = "Files end in .txt, .md, .jsonl, .json, .csv, .tsv or .parquet, also with .gz or .zst."
    try:
        if not path.exists():
            raise DataError(
                f"There is no file or folder {path}.",
                "Name a path, or a data set of the Hub as OWNER/NAME.",
            )
        if path.is_dir():
            found = _walk(path)
        elif not path.is_file():
            raise DataError(
                f"{path} is a pipe, socket or device, not a file.", "Write what it gives to a file."
            )
        elif file_format(path) is None:
            raise DataError(f"{path} is of a kind that is not known.", known)
        else:
            found = Found((path,), Counter())
    except OSError as error:
        raise DataError(
            f"{error.filename or path} cannot be read: {error.strerror or error}."
        ) from error
    if not found.files:
        passed = ", ".join(f"{count:,} {name}" for name, count in found.passed.most_common(8))
        raise DataError(
            f"{path} holds no text or data files{passed and f'; passed over: {passed}'}.", known
        )
    return found


def _walk(folder: Path) -> Found:
    files, passed, met = list[Path](), Counter[str](), set[tuple[int, int]]()
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        if path != folder and path.name.startswith("."):
            passed["hidden"] += 1
        elif path.is_dir():
            status = path.stat()
            if (status.st_dev, status.st_ino) in met:
                passed[f"folder read already ({path.name})"] += 1
            elif path != folder and _is_import(path):
                passed[f"folder of an earlier import ({path.name})"] += 1
            else:
                waiting += sorted(path.iterdir(), reverse=True)
            met.add((status.st_dev, status.st_ino))
        elif not path.is_file():
            passed[
                f"{'link to nothing' if path.is_symlink() else 'pipe, socket or device'}"
                f" ({path.name})"
            ] += 1
        elif NOT_DATA.match(path.name) or path.name in ("manifest.json", RECORD):
            passed[path.name] += 1
        elif file_format(path) is None:
            passed[path.suffix or path.name] += 1
        else:
            files.append(path)
    return Found(tuple(files), passed)


def _is_import(folder: Path) -> bool:
    try:
        record = json.loads((folder / RECORD).read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and {"source", "kind", "documents"} <= record.keys()


def iter_rows(
    file: Path,
    errors: RowErrors,
    *,
    columns: Sequence[str] | None = None,
    encoding: str | None = None,
    tick: Tick | None = None,
) -> Iterator[Row]:
    """The rows of a file: documents (str) of text files, dicts of the others. `columns` are those
    read of csv and parquet.

    Invalid bytes become U+FFFD. A byte order mark tells the encoding, else `encoding`, else it is
    UTF-8. `tick(n)` is told of every n bytes of the file that are done. Raises DataError naming the
    file when it is damaged, or so full of U+FFFD and NUL that its encoding must be another; rows
    that cannot be used go to the errors.
    """
    kind = file_format(file)
    tick = tick or (lambda done: None)
    if encoding:
        check_encoding(encoding)
    try:
        if kind == "parquet":
            yield from _parquet_rows(file, errors, columns, tick)
            return
        # a text file's lines may end as on any system; in jsonl only \n ends one, and csv keeps
        # those inside of quotes
        newline = {"text": None, "csv": ""}.get(kind or "text", "\n")
        with open_text(file, tick, encoding, newline) as text:
            if kind == "csv":
                yield from csv_rows(file, text, errors, columns)
            else:
                yield from {"text": _documents, "jsonl": json_lines, "json": json_values}[
                    kind or "text"
                ](file, text, errors)
    except FileNotFoundError:
        raise DataError(f"{file} does not exist.") from None
    except (pa.ArrowException, OSError, UnicodeError) as error:
        # the system's own, not pyarrow's
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{file} cannot be read: {error.strerror or error}.") from error
        raise DataError(
            f"{file} is not a readable {kind} file ({str(error).splitlines()[0]}).",
            "Fetch or write it again.",
        ) from error


def placed_rows(file: Path, errors: RowErrors, **options: Any) -> Iterator[tuple[str, Row]]:
    """The rows of a file, each with its place, such as "line 3"; options as of `iter_rows`."""
    errors.place = ""
    for number, row in enumerate(iter_rows(file, errors, **options), 1):
        yield errors.place or f"row {number:,}", row


def _documents(file: Path, text: io.TextIOWrapper, errors: RowErrors) -> Iterator[str]:
    """A text file as one document, or cut into pieces of 5,000 to 10,000 characters, which joined
    are the file.
    """
    held, chunk = "", " "
    while chunk:
        chunk = text.read(CHUNK_CHARACTERS)
        held, begin = held + chunk, 0
        # before the end of the file half a document more must be held, so that the last piece, too,
        # is one of at least half
        while len(held) - begin > (DOCUMENT_CHARACTERS * 3 // 2 if chunk else DOCUMENT_CHARACTERS):
            end = _cut(held, begin)
            errors.rows += 1
            yield held[begin:end]
            begin = end
        held = held[begin:]
    if held:
        errors.rows += 1
        yield held


def _cut(text: str, begin: int) -> int:
    """Where a document from `begin` on ends: after a paragraph, else a line, else a sentence, else
    a word, else anywhere.
    """
    half = DOCUMENT_CHARACTERS // 2
    least, most = begin + half, min(begin + DOCUMENT_CHARACTERS, len(text) - half)
    for mark in ("\n\n", "\n", "。", ". ", " "):
        at = text.rfind(mark, least - len(mark), most)
        if at >= 0:
            return at + len(mark)
    end = most
    while end > least and (
        unicodedata.combining(text[end]) or text[end] in JOINERS or text[end - 1] == JOINERS[0]
    ):
        end -= 1
    return end


def _parquet_rows(
    file: Path, errors: RowErrors, columns: Sequence[str] | None, tick: Tick
) -> Iterator[Row]:
    size = file.stat().st_size
    with tempfile.TemporaryFile() as plain:
        # parquet is read from its end, so a packed one is unpacked first
        if file.suffix.lower() in PACKED:
            with unpacked(file, lambda done: None) as stream:
                shutil.copyfileobj(stream, plain, CHUNK_CHARACTERS)
        with pq.ParquetFile(plain if plain.tell() else file) as parquet:
            total, told = max(1, parquet.metadata.num_rows), 0
            done = 0
            for batch in parquet.iter_batches(PARQUET_ROWS, columns=columns and list(columns)):
                done += batch.num_rows
                errors.rows += batch.num_rows
                for values in zip(*map(column_values, batch.columns), strict=True):
                    yield {
                        name: v.decode("utf-8", "replace") if isinstance(v, bytes) else v
                        for name, v in zip(batch.schema.names, values, strict=True)
                    }
                tick(size * done // total - told)
                told = size * done // total
