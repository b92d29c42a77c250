"""A user's own text as parquet shards that `[data] source` reads, a user's own conversations as the
jsonl that a mixture reads.
"""

import hashlib
import json
import math
import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chatling.data.columns import (
    Kind,
    iter_planned,
    left_behind,
    plan_files,
    unused_prose,
    used_columns,
)
from chatling.data.decoding import PACKED, is_unreadable
from chatling.data.readers import Found, RowErrors, file_format
from chatling.data.splits import held_out_conversations
from chatling.errors import DataError, MachineError
from chatling.files import sweep_beside
from chatling.messages import Conversation
from chatling.run_dir import building_folder, disk_errors, free_bytes, read_json, write_atomic
from chatling.tokenizer.bpe import valid_text

TEXT, CONVERSATIONS, RECORD = "text", "conversations.jsonl", "import.json"
LONGEST = 1_000_000  # characters of a document; above it is a dump, no text
BLOB = re.compile(r"(?<![!-~])[!-~]{2000}")  # ASCII without a space: base64, packed code, sequences
SHARD_BYTES = 100_000_000  # of text in a shard
MOST_SHARDS = 128  # written at once, so it bounds open files and memory
BUFFERED_CHARACTERS = 500_000  # of a shard, before they are written as a row group
VALIDATION_SHARE, VALIDATION_BYTES = 0.02, 50_000_000  # the smaller of the two
# seen before the share is settled, so that a small corpus gets its share exactly
SURE_DOCUMENTS = 1000
NOWHERE = "Choose a folder that can be written to, with CHATLING_HOME or --to."

Progress = Callable[[int, int], None]


@dataclass
class Imported:
    """What an import wrote, dropped and noted."""

    folder: str
    kind: Kind
    files: int
    columns: dict[str, int] = field(default_factory=dict)  # text column -> files that have it
    used: list[str] = field(default_factory=list)  # columns of conversations
    unused: list[str] = field(default_factory=list)  # columns that hold prose, too
    replaced: bool = False  # an earlier import of the same source
    documents: int = 0  # or conversations; validation included
    validation: int = 0
    characters: int = 0
    empty: int = 0  # dropped
    long: int = 0  # dropped: above LONGEST
    blobs: int = 0  # dropped: 2,000 characters without a space
    unreadable: int = 0  # kept, with U+FFFD for what could not be decoded, or NUL
    bad: int = 0  # rows that were no JSON, lacked the text, or were no proper conversation
    examples: list[str] = field(default_factory=list)  # of bad rows

    @property
    def what(self) -> str:
        return "conversations" if self.kind == "conversations" else "documents"


def import_data(
    found: Found,
    target: Path,
    *,
    source: str,
    column: str | None = None,
    question: Sequence[str] = (),
    answer: str | None = None,
    encoding: str | None = None,
    allow_bad: float = 0.01,
    progress: Progress | None = None,
) -> Imported:
    """Read the files into the folder `target`, which appears whole or not at all, and say what was
    written and dropped.

    Text becomes `shard_00000.parquet`, …, column `text`; a document's hash decides its shard and
    whether it is in the last one, the validation shard: copies stay together, and a corpus in order
    is mixed. Conversations become `conversations.jsonl`, those for validation, the fiftieth of
    lowest hash, first, as mixtures expect. `progress(done, total)` counts bytes of the files.
    Raises DataError for files that cannot be used or would be used by half, MachineError for a lack
    of space, RunError where nothing can be written; `target` may only be an earlier import of the
    same source.
    """
    with disk_errors(target, NOWHERE):
        origin = _origin(source)
        replaced = _replaces(target, source, origin)
        plans = plan_files(found.files, column, encoding, question, answer)
        if fault := left_behind(plans):
            raise fault
        expected = sum(_expected_bytes(plan.file) for plan in plans)
        target.parent.mkdir(parents=True, exist_ok=True)
        if free_bytes(target) < expected / 2:
            raise MachineError(
                f"{target} needs about {expected / 2e9:,.1f} GB, and"
                f" {free_bytes(target) / 1e9:,.1f} GB are free.",
                "Free some space, or choose another folder with --to.",
            )
        errors = RowErrors(allow_bad)
        counts = Imported(
            str(target),
            plans[0].kind,
            len(plans),
            dict(Counter(plan.column for plan in plans if plan.column)),
            used_columns(plans),
            unused_prose(plans),
            replaced,
        )
        sweep_beside(target)
        with building_folder(target, NOWHERE) as building:
            items = iter_planned(plans, errors, encoding, progress)
            if counts.kind == "text":
                _write_texts(_kept(items, counts), building, expected, counts)
            else:
                _write_conversations(items, building, counts)
            counts.bad, counts.examples = errors.bad, errors.examples
            if counts.documents - counts.validation < 1:
                raise DataError(
                    f"{source} holds {counts.documents} different {counts.what} that can be used;"
                    f" at least two are needed, one of them for validation{_dropped(counts)}.",
                    "Bring more." if not counts.bad else "Mend those rows.",
                )
            record = json.dumps({"source": origin, **asdict(counts)}, indent=1, ensure_ascii=False)
            # a file's name may be no Unicode
            write_atomic(building / RECORD, valid_text(record) + "\n")
    return counts


def _origin(source: str) -> str:
    """A source as a record keeps it: the whole path of a file or folder, so that it means the same
    from elsewhere; a name of the Hub.
    """
    path = Path(source).expanduser()
    return valid_text(str(path.resolve()) if path.exists() else source)


def _replaces(target: Path, source: str, origin: str) -> bool:
    """Whether there is an import of the same source already. Raises DataError for any other folder
    that is there.
    """
    if not os.path.lexists(target):
        return False
    if not (target / RECORD).exists():
        raise DataError(
            f"{target} is there already and was not written by an import.",
            "Choose another folder with --to.",
        )
    record = read_json(target / RECORD)
    earlier = record.get("source") if isinstance(record, dict) else None
    if not isinstance(earlier, str) or _origin(earlier) != origin:
        raise DataError(
            f"{target} holds the import of {earlier}, which {source} would replace.",
            "Choose another folder with --to, or delete that one first.",
        )
    return True


def _dropped(counts: Imported) -> str:
    first = f"; the first bad one is {counts.examples[0]}" if counts.bad else ""
    return (
        f" (dropped: {counts.empty} empty, {counts.long} too long, {counts.blobs} without spaces,"
        f" {counts.bad} bad{first})"
    )


def _expected_bytes(file: Path) -> int:
    """About what the file holds as plain text."""
    return file.stat().st_size * (
        4 if file.suffix.lower() in PACKED else 3 if file_format(file) == "parquet" else 1
    )


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
    """Two independent 64-bit words that depend on the text alone. The text must be valid
    Unicode.
    """
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
        bound = (
            max(bound, hashes[0] + 1)
            if len(first) == SURE_DOCUMENTS
            else hashes[math.ceil(share * len(hashes)) - 1] + 1
        )
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


def _write_conversations(
    items: Iterator[str | Conversation], folder: Path, counts: Imported
) -> None:
    unsorted, hashes = folder / "unsorted", array("Q")
    with open(unsorted, "w", encoding="utf-8") as out:
        for conversation in items:
            assert isinstance(conversation, Conversation)
            line = valid_text(json.dumps(conversation.to_dict(), ensure_ascii=False))
            hashes.append(text_hash(line)[0])
            counts.documents += 1
            counts.characters += sum(len(message.text) for message in conversation.messages)
            counts.unreadable += is_unreadable(line)
            out.write(line + "\n")
    counts.validation = held_out_conversations(counts.documents)
    held_out = np.zeros(counts.documents, bool)
    held_out[np.argsort(hashes, kind="stable")[: counts.validation]] = True
    with open(folder / CONVERSATIONS, "wb") as out_bytes:
        for wanted in (True, False):
            with open(unsorted, "rb") as lines:
                out_bytes.writelines(
                    line for line, held in zip(lines, held_out, strict=True) if held == wanted
                )
    unsorted.unlink()
