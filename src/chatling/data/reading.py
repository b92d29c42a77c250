"""Files of a user's own as rows: text, markdown, jsonl, json, csv and parquet, plain or packed, streamed so that size does not matter."""

from __future__ import annotations

import codecs
import csv
import io
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from chatling.data.json_rows import CHUNK_CHARACTERS, LINE_CHARACTERS, json_lines, json_values
from chatling.errors import DataError

Row = str | dict[str, Any]  # a document, or named values
FORMATS = {".txt": "text", ".text": "text", ".md": "text", ".markdown": "text", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
           ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
PACKED = {".gz": "gzip", ".zst": "zstd"}
DOCUMENT_CHARACTERS = 10_000  # longer text files are cut at the end of a paragraph; the tokenizer's training reads no more of a document
CSV_BLOCK_BYTES = 1 << 24  # no row of a csv file may be longer
PARQUET_ROWS = 256  # held at a time
UNREADABLE_SHARE = 0.01  # of a file's characters; above, its encoding is another
BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
NOT_DATA = re.compile(r"(readme|licen[cs]e|contributing|changelog|dataset_infos?)\b", re.IGNORECASE)
Tick = Callable[[int], None]


@dataclass
class Ledger:
    """What reading met: rows, and those that could not be used, which are shown, skipped and, above a share, refused."""

    allow_bad: float = 0.01
    rows: int = 0
    bad: int = 0
    examples: list[str] = field(default_factory=list)
    place: str = ""  # of the row that was read last, such as "line 3"; "" where the reader cannot tell

    def refuse(self, where: str, why: str) -> None:
        """Note a row that cannot be used. Raises DataError when it makes more than 10 and more than the share allowed."""
        self.bad += 1
        if len(self.examples) < 5:
            self.examples.append(f"{where}: {why}")
        if self.bad > 10 + self.allow_bad * self.rows:
            raise DataError(f"{self.bad:,} of the first {self.rows:,} rows cannot be used; the first is {self.examples[0].rstrip('.')}.",
                            f"Mend the file, or skip such rows with a higher --allow-bad, now {self.allow_bad:g}.")


@dataclass(frozen=True)
class Found:
    """The data files below a path, in order, and what was passed over, by name or ending."""

    files: tuple[Path, ...]
    passed: Counter[str]


def file_format(path: Path) -> str | None:
    """"text", "jsonl", "json", "csv" or "parquet" by the ending, before `.gz` or `.zst`; None for any other."""
    plain = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return FORMATS.get(plain.suffix.lower())


def find_files(path: Path) -> Found:
    """The file, or all data files below the folder sorted by path; hidden ones, readmes and licences are passed over.

    Raises DataError when there is no such path or nothing in it that can be read.
    """
    if not path.exists():
        raise DataError(f"There is no file or folder {path}.", "Name a path, or a data set of the Hub as OWNER/NAME.")
    known = "Files end in .txt, .md, .jsonl, .json, .csv, .tsv or .parquet, also with .gz or .zst."
    if path.is_file():
        if file_format(path) is None:
            raise DataError(f"{path} is of a kind that is not known.", known)
        return Found((path,), Counter())
    files, passed = [], Counter[str]()
    for file in sorted(path.rglob("*")):
        if any(part.startswith(".") for part in file.relative_to(path).parts) or not file.is_file():
            continue
        if NOT_DATA.match(file.name) or file.name in ("manifest.json", "import.json"):
            passed[file.name] += 1
        elif file_format(file) is None:
            passed[file.suffix or file.name] += 1
        else:
            files.append(file)
    if not files:
        raise DataError(f"{path} holds no text or data files.", known)
    return Found(tuple(files), passed)


def iter_rows(file: Path, ledger: Ledger, *, columns: Sequence[str] | None = None, encoding: str | None = None,
              tick: Tick | None = None) -> Iterator[Row]:
    """The rows of a file: documents (str) of text files, dicts of the others. `columns` are those read of csv and parquet.

    Invalid bytes become U+FFFD. `encoding` is UTF-8, or what a byte order mark says, unless named. `tick(n)` is told of every n bytes
    of the file that are done. Raises DataError naming the file when it is damaged, or so full of U+FFFD that its encoding must be
    another; rows that cannot be used go to the ledger.
    """
    kind = file_format(file)
    tick = tick or (lambda done: None)
    if encoding and not _known_encoding(encoding):
        raise DataError(f"There is no encoding {encoding!r}.", "For example utf-8, gb18030, big5, shift_jis, cp1252.")
    try:
        if kind == "parquet":
            yield from _parquet_rows(file, ledger, columns, tick)
            return
        with _unpacked(file, tick) as stream:
            encoding = encoding or _marked_encoding(stream) or "utf-8"
            if kind == "csv":
                yield from _readable(file, _csv_rows(file, stream, encoding, ledger, columns))
                return
            # as bytes say, but a text file's lines may end as on any system; in jsonl only \n ends one
            text = io.TextIOWrapper(stream, encoding, errors="replace", newline=None if kind == "text" else "\n")
            rows = {"text": _documents, "jsonl": json_lines, "json": json_values}[kind or "text"]
            yield from _readable(file, rows(file, text, ledger))
    except FileNotFoundError:
        raise DataError(f"{file} does not exist.") from None
    except (pa.ArrowException, OSError, UnicodeError, csv.Error) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's own, not pyarrow's
            raise DataError(f"{file} cannot be read: {error.strerror or error}.") from error
        raise DataError(f"{file} is not a readable {kind} file ({str(error).splitlines()[0]}).", "Fetch or write it again.") from error


def _known_encoding(name: str) -> bool:
    try:
        codecs.lookup(name)
    except LookupError:
        return False
    return True


class _Counted(io.RawIOBase):
    """A file that tells how much of it was read."""

    def __init__(self, file: IO[bytes], tick: Tick):
        self._file, self._tick = file, tick

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[:len(data)] = data
        self._tick(len(data))
        return len(data)


@contextmanager
def _unpacked(file: Path, tick: Tick) -> Iterator[io.BufferedReader]:
    """The file's bytes, decompressed; a packed file that ends too early raises OSError."""
    with open(file, "rb") as raw:
        counted: Any = io.BufferedReader(_Counted(raw, tick), CHUNK_CHARACTERS)
        packed = PACKED.get(file.suffix.lower())
        stream = pa.CompressedInputStream(pa.PythonFile(counted, "r"), packed) if packed else counted
        yield io.BufferedReader(stream, CHUNK_CHARACTERS)


def _marked_encoding(stream: io.BufferedReader) -> str | None:
    head = stream.peek(4)
    return next((name for mark, name in BOMS if head.startswith(mark)), None)


def _readable(file: Path, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows, unless more than a hundredth of a file's characters are U+FFFD: then it was read in the wrong encoding."""
    characters = unreadable = 0
    for row in rows:
        for text in (row,) if isinstance(row, str) else row.values():
            if isinstance(text, str):
                characters += len(text)
                unreadable += text.count("\ufffd")
        if unreadable > 100 and unreadable > UNREADABLE_SHARE * characters and characters > CHUNK_CHARACTERS:
            break
        yield row
    if unreadable > UNREADABLE_SHARE * characters:
        raise DataError(f"{file} is not in the encoding it was read in: {unreadable:,} of {characters:,} characters are unreadable.",
                        "Name its encoding, for example --encoding gb18030; if it is not text, take it away.")


def _documents(file: Path, text: io.TextIOWrapper, ledger: Ledger) -> Iterator[str]:
    """A text file as one document, or cut at the end of a paragraph, else of a line, else anywhere, into pieces of 10,000 characters."""
    held = ""
    while chunk := text.read(CHUNK_CHARACTERS):
        held, begin = held + chunk, 0
        while len(held) - begin > DOCUMENT_CHARACTERS:
            end = begin + DOCUMENT_CHARACTERS
            cuts = (held.rfind(mark, begin + DOCUMENT_CHARACTERS // 2, end) + len(mark) for mark in ("\n\n", "\n", "。", ". ", " "))
            cut = next((cut for cut in cuts if cut > begin), end)
            ledger.rows += 1
            yield held[begin:cut].strip("\n")
            begin = cut
        held = held[begin:]
    if held:
        ledger.rows += 1
        yield held.strip("\n")


def _csv_rows(file: Path, stream: io.BufferedReader, encoding: str, ledger: Ledger, columns: Sequence[str] | None) -> Iterator[Row]:
    names, delimiter = _csv_header(file, encoding)
    if len(set(names)) < len(names):
        raise DataError(f"The header of {file} names a column twice: {', '.join(names)}.", "Rename one of them.")
    broken: list[Any] = []

    def skip(row: Any) -> str:
        broken.append(row)
        return "skip"

    utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
    reading = pacsv.ReadOptions(block_size=CSV_BLOCK_BYTES, encoding="utf8" if utf8 else encoding)
    parsing = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip)
    # as bytes: every value stays what it is, and invalid ones can be replaced
    converting = pacsv.ConvertOptions(column_types={name: pa.binary() for name in names}, include_columns=list(columns or names))
    with pacsv.open_csv(pa.PythonFile(stream, "r"), reading, parsing, converting) as batches:
        for batch in batches:
            ledger.rows += batch.num_rows + len(broken)
            for row in broken:
                ledger.refuse(str(file), f"a row of {row.actual_columns} values under a header of {row.expected_columns}")
            broken.clear()
            for values in batch.to_pylist():
                yield {name: (value or b"").decode("utf-8", "replace") for name, value in values.items()}


def _csv_header(file: Path, encoding: str) -> tuple[list[str], str]:
    """Names of the columns and the delimiter: comma, tab, semicolon or bar, whichever the first line has most of."""
    with _unpacked(file, lambda done: None) as stream:
        line = io.TextIOWrapper(stream, encoding, errors="replace").readline(LINE_CHARACTERS).rstrip("\r\n").removeprefix("\ufeff")
    if not line:
        raise DataError(f"{file} begins with an empty line; a csv file begins with the names of its columns.")
    delimiter = max(",\t;|", key=line.count)
    return next(csv.reader([line], delimiter=delimiter)), delimiter


def _parquet_rows(file: Path, ledger: Ledger, columns: Sequence[str] | None, tick: Tick) -> Iterator[Row]:
    size = file.stat().st_size
    with tempfile.TemporaryFile() as plain:
        if file.suffix.lower() in PACKED:  # parquet is read from its end, so a packed one is unpacked first
            with _unpacked(file, lambda done: None) as stream:
                while chunk := stream.read(CHUNK_CHARACTERS):
                    plain.write(chunk)
        with pq.ParquetFile(plain if plain.tell() else file) as parquet:
            total, told = max(1, parquet.metadata.num_rows), 0
            done = 0
            for batch in parquet.iter_batches(batch_size=PARQUET_ROWS, columns=None if columns is None else list(columns)):
                done += batch.num_rows
                ledger.rows += batch.num_rows
                yield from _decoded_rows(file, batch)
                tick(size * done // total - told)
                told = size * done // total


def _decoded_rows(file: Path, batch: pa.RecordBatch) -> list[dict[str, Any]]:
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:
        texts = (pa.string(), pa.large_string())
        fields = [pa.field(f.name, pa.large_binary()) if f.type in texts else f for f in batch.schema]
        rows = batch.cast(pa.schema(fields)).to_pylist()
    return [{name: v.decode("utf-8", "replace") if isinstance(v, bytes) else v for name, v in row.items()} for row in rows]
