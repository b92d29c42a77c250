"""Conversations to learn from, without right answers:
a jsonl file of your own, or any rows with messages.
"""

from __future__ import annotations

import codecs
import mmap
from array import array
from pathlib import Path
from typing import Any

from chatling.data.chat_formats import parse_conversation
from chatling.data.columns import plan_files, unused_prose
from chatling.data.decoding import CHUNK_CHARACTERS, PACKED
from chatling.data.json_rows import is_lines, value_of
from chatling.data.readers import file_format, placed_rows
from chatling.data.row_errors import RowErrors
from chatling.data.splits import held_out_conversations
from chatling.data.token_shards import Indexed
from chatling.errors import DataError
from chatling.messages import Conversation, Part
from chatling.tasks.task import IndexedTask

# share of bad lines that are left out with a note; above it something is wrong with the file as a
# whole
TOLERATED = 0.01
SHOWN = 3  # bad lines that a note quotes


class ConversationTask(IndexedTask):
    """Conversations to learn from; nothing to judge an answer by."""

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        """Raises DataError: talk has no one right answer."""
        raise DataError(
            f"{self.name!r} holds conversations to learn from, not questions that can be judged.",
            "Choose another task.",
        )


class Conversations(ConversationTask):
    """The rows that hold a conversation, in any of the shapes that `parse_conversation` knows."""

    items: array[int]  # their numbers

    def __init__(self, name: str, rows: Indexed[Any], where: str, unit: str = "line"):
        """Reads every row once. `where` names the rows in notes and errors.

        Bad rows (not JSON, wrong roles, an empty turn, no answer) are left out and noted. Raises
        DataError when more than TOLERATED of all are bad, or none is good.
        """
        good, bad = array("q"), 0
        super().__init__(name, good)
        self._rows = rows
        shown: list[str] = []
        for i in range(len(rows)):
            try:
                parse_conversation(rows[i])
                good.append(i)
            except DataError as error:
                bad += 1
                if bad <= SHOWN:
                    own = rows if isinstance(rows, JsonLines | HeldRows) else None
                    place = own.place(i) if own else f"{unit} {i + 1}"
                    why = error.what.partition("\n")[0].rstrip(".")
                    shown.append(f"{place} is not a conversation: {why}")
                if bad > TOLERATED * len(rows):
                    share = f"more than {TOLERATED:.0%} of {len(rows):,} {unit}s are bad: "
                    said = f"{share if bad > 1 else ''}{'; '.join(shown)}"
                    raise DataError(f"{where}: {said}.", "Mend or delete them.") from None
        if not good:
            raise DataError(
                f"{where} holds no conversations.",
                "Write one JSON object a line, or take it out of the mixture.",
            )
        if bad:
            more = "; …" if bad > len(shown) else ""
            self.notes = (
                f"{where}: left out {bad:,} of {len(rows):,} {unit}s; {'; '.join(shown)}{more}.",
            )

    def example(self, index: int) -> Conversation:
        return parse_conversation(self._rows[self.items[index]])


class JsonLines:
    """The JSON values of a file's lines that are not blank, by index, parsed when asked for; the
    file is mapped, not read into memory.
    """

    def __init__(self, path: Path):
        """Raises DataError when there is no such file, or when it cannot be mapped."""
        try:
            with open(path, "rb") as file:
                # an empty file cannot be mapped
                self._data: mmap.mmap | bytes = (
                    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                    if path.stat().st_size
                    else b""
                )
        except OSError as error:
            raise DataError(f"Cannot read {path}: {error.strerror}.") from None
        self._begins = array("q")
        self.numbers = array("q")  # index -> line number as an editor shows it
        at = 3 if self._data[:3] == b"\xef\xbb\xbf" else 0  # what some editors put at the beginning
        number, size = 1, len(self._data)
        while at < size:
            end = self._data.find(b"\n", at)
            end = size if end < 0 else end
            if self._data[at:end].strip():
                self._begins.append(at)
                self.numbers.append(number)
            at, number = end + 1, number + 1

    def __len__(self) -> int:
        return len(self._begins)

    def place(self, index: int) -> str:
        return f"line {self.numbers[index]}"

    def __getitem__(self, index: int) -> Any:
        """Raises DataError when the line is not JSON in UTF-8."""
        at = self._begins[index]
        end = self._data.find(b"\n", at)
        return value_of(self._data[at : None if end < 0 else end])


class HeldRows:
    """The rows of a file of any other kind that an import reads, too: lists, csv, parquet, packed
    ones. They are held in memory.
    """

    def __init__(self, path: Path):
        """Raises DataError as `iter_rows` does, and when there is no such file."""
        errors = RowErrors(TOLERATED)
        self._placed = list(placed_rows(path, errors))
        self.notes = tuple(f"left out {example}" for example in errors.examples)

    def __len__(self) -> int:
        return len(self._placed)

    def place(self, index: int) -> str:
        return self._placed[index][0]

    def __getitem__(self, index: int) -> Any:
        return self._placed[index][1]


def own_rows(path: Path) -> JsonLines | HeldRows:
    """The rows of a file of conversations. Raises DataError when it cannot be read."""
    kind = file_format(path)
    if kind in ("csv", "parquet") or path.suffix.lower() in PACKED:
        return HeldRows(path)
    try:
        with open(path, "rb") as file:
            head = file.read(CHUNK_CHARACTERS)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None
    # UTF-32's little-endian mark begins as UTF-16's does
    marked = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE))
    other = kind in ("jsonl", "json") and (marked or not is_lines(head.decode("utf-8", "replace")))
    return HeldRows(path) if other else JsonLines(path)


def _not_used(path: Path) -> list[str]:
    """A note on columns with prose that the conversations of a file leave behind."""
    try:
        plans = plan_files([path]) if file_format(path) not in (None, "text") else []
    except DataError:  # what is wrong with its rows was said of each
        return []
    names = ", ".join(map(repr, unused_prose(plans)))
    return (
        [f"{path}: not used is what stands in {names}; `chatling data import` takes other columns."]
        if names
        else []
    )


class JsonlConversations(Conversations):
    """A file of conversations, jsonl or of another kind; its first fiftieth (at least one) is for
    validation and tests, the rest for training.
    """

    def __init__(self, path: Path, split: str):
        rows = own_rows(path)
        super().__init__(
            str(path), rows, str(path), "line" if isinstance(rows, JsonLines) else "row"
        )
        self.notes = (
            *self.notes,
            *(rows.notes if isinstance(rows, HeldRows) else ()),
            *_not_used(path),
        )
        held_out = held_out_conversations(len(self))
        self.items = self.items[held_out:] if split == "train" else self.items[:held_out]
