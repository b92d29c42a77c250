"""A user's own text as parquet shards that `[data] source` reads, a user's own conversations as the jsonl that a mixture reads."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chatling.conversation import Conversation
from chatling.data.decoding import PACKED, is_unreadable
from chatling.data.reading import Found, Ledger, Row, file_format, iter_rows
from chatling.data.shapes import parse_conversation, shape_of
from chatling.errors import ChatlingError, DataError, MachineError
from chatling.tokenizer.bpe import valid_text
from chatling.workspace import building_folder, free_bytes, write_json

TEXT, CONVERSATIONS, RECORD = "text", "conversations.jsonl", "import.json"
PEEKED_ROWS = 200  # of a file, to tell what it holds
TEXT_NAMES = ("text", "content", "document", "article", "body", "passage", "paragraph", "正文", "内容", "文本")
LONGEST = 1_000_000  # characters of a document; above it is a dump, no text
BLOB = re.compile(r"(?<![!-~])[!-~]{2000}")  # ASCII without a space: base64, packed code, sequences
SHARD_BYTES = 100_000_000  # of text in a shard
MOST_SHARDS = 128  # written at once, so it bounds open files and memory
BUFFERED_CHARACTERS = 500_000  # of a shard, before they are written as a row group
VALIDATION_SHARE, VALIDATION_BYTES = 0.02, 50_000_000  # the smaller of the two
SURE_DOCUMENTS = 1000  # seen before the share is settled, so that a small corpus gets its share exactly

Kind = Literal["text", "conversations"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
    """How a file is read: as text, from `column` unless it is a text file, or as conversations."""

    file: Path
    kind: Kind
    column: str | None = None


@dataclass
class Imported:
    """What an import wrote, dropped and noted."""

    folder: str
    kind: Kind
    files: int
    columns: dict[str, int] = field(default_factory=dict)  # text column -> files that have it
    documents: int = 0  # or conversations; validation included
    validation: int = 0
    characters: int = 0
    empty: int = 0  # dropped
    long: int = 0  # dropped: above LONGEST
    blobs: int = 0  # dropped: 2,000 characters without a space
    unreadable: int = 0  # kept, with U+FFFD for what could not be decoded, or NUL
    bad: int = 0  # rows that were no JSON, lacked the text, or were no proper conversation
    examples: list[str] = field(default_factory=list)  # of bad rows


def plan_file(file: Path, column: str | None = None, encoding: str | None = None) -> Plan | None:
    """Tell by its first rows what a file holds; None when it has no rows.

    A `column` named decides; else conversations are told by their keys, and text is the column of a usual name, or that of the longest
    texts. Raises DataError when there is no such column, or none of text.
    """
    rows = list(islice(iter_rows(file, Ledger(allow_bad=math.inf), encoding=encoding), PEEKED_ROWS))
    if not rows:
        return None
    named = [row for row in rows if not isinstance(row, str)]
    if not named:
        return Plan(file, "text")
    names = list(dict.fromkeys(name for row in named for name in row))
    if column is not None:
        values = [row[column] for row in named if row.get(column) is not None]
        if column not in names:
            raise DataError(f"{file} has no column {column!r}; it has {', '.join(names)}.", "Name one of them with --column.")
        if values and not isinstance(values[0], str | list):
            raise DataError(f"Column {column!r} of {file} holds {type(values[0]).__name__}, not text.", "Name another with --column.")
        return Plan(file, "conversations" if values and isinstance(values[0], list) else "text", column)
    if sum(shape_of(row) is not None for row in named) > len(named) / 2:
        return Plan(file, "conversations")
    lengths = {name: [len(row[name]) for row in named if isinstance(row.get(name), str)] for name in names}
    texts = {name: sum(found) / len(named) for name, found in lengths.items() if len(found) > len(named) / 2}
    if not texts:
        raise DataError(f"{file} has no column of text; it has {', '.join(names)}.", "Name one with --column, or bring another file.")
    usual = next((name for name in TEXT_NAMES if texts.get(name)), None)
    return Plan(file, "text", usual or max(texts, key=lambda name: texts[name]))


def plan_files(files: Sequence[Path], column: str | None = None, encoding: str | None = None) -> list[Plan]:
    """Plans of the files that hold anything. Raises DataError when they are of both kinds, or all empty."""
    plans = [plan for file in files if (plan := plan_file(file, column, encoding))]
    kinds = {plan.kind: plan.file for plan in plans}
    if not plans:
        raise DataError(f"{files[0]}{' and the others hold' if len(files) > 1 else ' holds'} nothing.", "Bring a file with text in it.")
    if len(kinds) > 1:
        raise DataError(f"{kinds['text']} holds text and {kinds['conversations']} conversations.",
                        "Take them one by one, or name the --column of the text.")
    return plans


def iter_planned(plans: Sequence[Plan], ledger: Ledger, encoding: str | None = None, tick: Callable[[int], None] | None = None
                 ) -> Iterator[str | Conversation]:
    """The texts or conversations of planned files; rows without one go to the ledger."""
    for plan in plans:
        only, begin = [plan.column] if plan.column else None, ledger.rows
        in_batches = file_format(plan.file) in ("csv", "parquet")
        for number, row in enumerate(iter_rows(plan.file, ledger, columns=only, encoding=encoding, tick=tick), 1):
            try:
                yield _item(row, plan)
            except (ChatlingError, TypeError) as error:
                ledger.refuse(f"{plan.file} row {number if in_batches else ledger.rows - begin:,}", str(error))


def _item(row: Row, plan: Plan) -> str | Conversation:
    if isinstance(row, str):
        return row
    if plan.kind == "conversations":
        return parse_conversation(row if plan.column is None else {"messages": row.get(plan.column)})
    text = row.get(plan.column or TEXT, "")
    if text is None:
        return ""
    if not isinstance(text, str):
        raise DataError(f"{plan.column!r} holds {type(text).__name__}, not text")
    return text


def import_data(found: Found, target: Path, *, source: str, column: str | None = None, encoding: str | None = None,
                allow_bad: float = 0.01, progress: Progress | None = None) -> Imported:
    """Read the files into the folder `target`, which appears whole or not at all, and say what was written and dropped.

    Text becomes `shard_00000.parquet`, …, column `text`; a document's hash decides its shard and whether it is in the last one, the
    validation shard: copies stay together, and a corpus in order is mixed. Conversations become `conversations.jsonl`, those for
    validation, the fiftieth of lowest hash, first, as mixtures expect. `progress(done, total)` counts bytes of the files. Raises
    DataError for files that cannot be used, MachineError for a lack of space; `target` may only be an earlier import.
    """
    if target.exists() and not (target / RECORD).exists():
        raise DataError(f"{target} is there already and was not written by an import.", "Choose another folder with --to.")
    plans = plan_files(found.files, column, encoding)
    expected = sum(_expected_bytes(plan.file) for plan in plans)
    target.parent.mkdir(parents=True, exist_ok=True)
    if free_bytes(target) < expected / 2:
        raise MachineError(f"{target} needs about {expected / 2e9:,.1f} GB, and {free_bytes(target) / 1e9:,.1f} GB are free.",
                           "Free some space, or choose another folder with --to.")
    ledger, done, total = Ledger(allow_bad), 0, sum(plan.file.stat().st_size for plan in plans)

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    kind = plans[0].kind
    counts = Imported(str(target), kind, len(plans), dict(Counter(plan.column for plan in plans if plan.column and kind == "text")))
    _sweep(target)
    with building_folder(target) as building:
        items = iter_planned(plans, ledger, encoding, tick)
        if kind == "text":
            _write_texts(_kept(items, counts), building, expected, counts)
        else:
            _write_conversations(items, building, counts)
        counts.bad, counts.examples = ledger.bad, ledger.examples
        if counts.documents - counts.validation < 1:
            raise DataError(f"{source} holds {counts.documents} different documents that can be used; at least two are needed, "
                            f"one of them for validation{_dropped(counts)}.", "Bring more text.")
        write_json(building / RECORD, {"source": source, **asdict(counts)})
    return counts


def _dropped(counts: Imported) -> str:
    return f" (dropped: {counts.empty} empty, {counts.long} too long, {counts.blobs} without spaces, {counts.bad} bad)"


def _expected_bytes(file: Path) -> int:
    """About what the file holds as plain text."""
    return file.stat().st_size * (4 if file.suffix.lower() in PACKED else 3 if file_format(file) == "parquet" else 1)


def _sweep(target: Path) -> None:
    """Delete what imports into `target` that were killed left beside it."""
    for left in target.parent.glob(f".{target.name}.*.tmp"):
        try:
            os.kill(int(left.name.split(".")[-2]), 0)
        except ProcessLookupError:
            shutil.rmtree(left, ignore_errors=True)
        except (ValueError, PermissionError):
            continue


def _kept(items: Iterator[str | Conversation], counts: Imported) -> Iterator[str]:
    """The documents that are neither empty nor junk."""
    for text in items:
        assert isinstance(text, str)
        if not text or text.isspace():
            counts.empty += 1
        elif len(text) > LONGEST:
            counts.long += 1
        elif len(text) > 2000 and BLOB.search(text):
            counts.blobs += 1
        else:
            yield text


def text_hash(text: str) -> tuple[int, int]:
    """Two independent 64-bit words that depend on the text alone. The text must be valid Unicode."""
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def _write_texts(texts: Iterator[str], folder: Path, expected: int, counts: Imported) -> None:
    shards = max(1, min(MOST_SHARDS, round(expected / SHARD_BYTES)))
    writers = [_Shard(folder / f"shard_{i:05}.parquet") for i in range(shards + 1)]
    first = list(islice(texts, SURE_DOCUMENTS))
    share = min(VALIDATION_SHARE, VALIDATION_BYTES / max(1, expected))
    bound = int(share * 2**64)
    if hashes := sorted({text_hash(valid_text(text))[0] for text in first}):
        # of a small corpus exactly the share; of any at least one
        bound = max(bound, hashes[0] + 1) if len(first) == SURE_DOCUMENTS else hashes[math.ceil(share * len(hashes)) - 1] + 1
    for text in chain(first, texts):
        text = valid_text(text)
        chosen, spread = text_hash(text)
        held_out = chosen < bound
        counts.documents += 1
        counts.validation += held_out
        counts.characters += len(text)
        counts.unreadable += is_unreadable(text)
        writers[-1 if held_out else spread % shards].add(text)
    for writer in writers:
        writer.close()


class _Shard:
    """A parquet file of texts, written in row groups; it appears with its first text."""

    def __init__(self, path: Path):
        self._path = path
        self._writer: pq.ParquetWriter | None = None
        self._texts: list[str] = []
        self._characters = 0

    def add(self, text: str) -> None:
        self._texts.append(text)
        self._characters += len(text)
        if self._characters >= BUFFERED_CHARACTERS or len(self._texts) >= 1024:
            self._flush()

    def _flush(self) -> None:
        table = pa.table({TEXT: pa.array(self._texts, pa.string())})
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._writer.write_table(table)
        self._texts, self._characters = [], 0

    def close(self) -> None:
        if self._texts:
            self._flush()
        if self._writer is not None:
            self._writer.close()


def _write_conversations(items: Iterator[str | Conversation], folder: Path, counts: Imported) -> None:
    unsorted, hashes = folder / "unsorted", np.empty(1024, np.uint64)
    with open(unsorted, "w", encoding="utf-8") as out:
        for conversation in items:
            assert isinstance(conversation, Conversation)
            line = valid_text(json.dumps(conversation.to_dict(), ensure_ascii=False))
            if counts.documents == len(hashes):
                hashes = np.concatenate([hashes, np.empty_like(hashes)])
            hashes[counts.documents], _ = text_hash(line)
            counts.documents += 1
            counts.characters += sum(len(message.text) for message in conversation.messages)
            counts.unreadable += is_unreadable(line)
            out.write(line + "\n")
    hashes = hashes[:counts.documents]
    counts.validation = max(1, counts.documents // 50)
    held_out = np.zeros(counts.documents, bool)
    held_out[np.argsort(hashes, kind="stable")[:counts.validation]] = True
    with open(folder / CONVERSATIONS, "wb") as out_bytes:
        for wanted in (True, False):
            with open(unsorted, "rb") as lines:
                out_bytes.writelines(line for line, held in zip(lines, held_out, strict=True) if held == wanted)
    unsorted.unlink()
