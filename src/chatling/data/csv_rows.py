"""Rows of csv files as RFC 4180 writes them, and of tsv files, which have no quotes. A damaged row
costs itself, not those after it.
"""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chatling.data.decoding import PACKED
from chatling.errors import DataError

if TYPE_CHECKING:
    from chatling.data.readers import RowErrors

DELIMITERS = ",\t;|"
SPREADSHEET = re.compile(
    r"sep=.\r?\n?"
)  # a line that some put above the header, which tells the delimiter as well
NO_DELIMITER = "\udfff"  # of a file of one column: a lone surrogate, which no decoded text holds
RECORD_CHARACTERS = 1 << 24  # a longer row is broken: bounds the memory
LINE_ENDS = ("", "\n", "\r\n", "\r")


class Damaged(Exception):
    """Why a row cannot be used."""


class _Lines:
    """A file's lines with their numbers; lines of a row that turned out to be damaged can be given
    back and read again.
    """

    def __init__(self, text: io.TextIOWrapper):
        self._text, self._again, self.number = text, deque[str](), 0
        self.ends: tuple[str, ...] = (
            "\n",
            "\r",
        )  # of a line; where the header has a line feed, a carriage return alone is text

    def take(self) -> str:
        """The next line with its end, "" after the last; of one that is too long the beginning,
        RECORD_CHARACTERS of it.
        """
        line = self._part()
        if line and not line.endswith(self.ends):
            line = self._whole(line)
        if len(line) >= RECORD_CHARACTERS:
            line = line[: RECORD_CHARACTERS - 1] + "\n"
        self.number += line != ""
        return line

    def _whole(self, part: str) -> str:
        """A line of which only a part is there: the beginning of one that is too long, or what
        stands before a carriage return.
        """
        parts, size = [part], len(part)
        while (part := self._part()) != "":
            if size < RECORD_CHARACTERS:
                parts.append(part)
                size += len(part)
            if part.endswith(self.ends):
                break
        return "".join(parts)

    def _part(self) -> str:
        return self._again.popleft() if self._again else self._text.readline(RECORD_CHARACTERS)

    def give_back(self, lines: Sequence[str]) -> None:
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)


class _Records:
    """The rows of a file as lists of values."""

    def __init__(self, lines: _Lines, delimiter: str, quotes: bool):
        self._lines, self._delimiter, self._quotes = lines, delimiter, quotes
        # a row of several lines has come: then quotes in bare values are the marks of damage
        self._spanned = False
        self.begin = 0  # the line at which the last row begins
        self.more: list[str] = []  # its other lines

    def take(self) -> list[str] | None:
        """The next row that is no blank line, or None after the last. Raises Damaged; the row after
        is that of the next line.
        """
        while (line := self._lines.take()) in LINE_ENDS:
            if not line:
                return None
        self._spanned = self._spanned or bool(self.more)
        self.begin, self.more = self._lines.number, []
        if len(line) >= RECORD_CHARACTERS:
            raise Damaged(f"longer than {RECORD_CHARACTERS:,} characters")
        if not self._quotes or '"' not in line:
            return line.rstrip("\r\n").split(self._delimiter)
        try:
            values, bare_quote = self._split(line)
            if bare_quote and (self.more or self._spanned):
                raise Damaged("a quote in a value that does not begin with one")
        except Damaged:
            self.retreat()
            raise
        return values

    def retreat(self) -> None:
        """Have the lines of the last row but its first one read again."""
        self._lines.give_back(self.more)
        self.more = []

    def _split(self, line: str) -> tuple[list[str], bool]:
        """The values of the row that begins with the line, and whether there are quotes in bare
        ones.
        """
        values: list[str] = []
        at, bare_quote = 0, False
        while True:
            if line.startswith('"', at):
                value, line, at = self._quoted(line, at + 1)
            else:
                end = line.find(self._delimiter, at)
                value = line[at:end] if end >= 0 else line[at:].rstrip("\r\n")
                bare_quote, at = bare_quote or '"' in value, at + len(value)
            values.append(value)
            if not line.startswith(self._delimiter, at):
                break
            at += 1
        if line[at:] not in LINE_ENDS:
            raise Damaged(f"text after a closing quote ({line[at : at + 20].rstrip()!r})")
        return values, bare_quote

    def _quoted(self, line: str, at: int) -> tuple[str, str, int]:
        """The value whose opening quote stands before `at`, the line it ends in, and where. Quotes
        in it are doubled.
        """
        parts, size = [], len(line)
        while True:
            end = line.find('"', at)
            if end >= 0:
                parts.append(line[at:end])
                if not line.startswith('"', end + 1):
                    return "".join(parts), line, end + 1
                parts.append('"')
                at = end + 2
                continue
            parts.append(line[at:])
            line, at = self._lines.take(), 0
            size += len(line)
            if not line:
                raise Damaged("a quote that is never closed")
            self.more.append(line)
            if size > RECORD_CHARACTERS:
                raise Damaged(f"a quote that is not closed within {RECORD_CHARACTERS:,} characters")


def csv_rows(
    file: Path, text: io.TextIOWrapper, errors: RowErrors, columns: Sequence[str] | None
) -> Iterator[dict[str, str]]:
    """The rows below the header as {column: value}; `text` must keep its line ends. What is damaged
    goes to the errors by its line.

    Raises DataError for a header that cannot be used, or that lacks one of `columns`.
    """
    lines = _Lines(text)
    header = _header(file, lines)
    if header is None:
        return
    names, records = header
    places = {name: place for place, name in enumerate(names)}
    if missing := [name for name in columns or () if name not in places]:
        raise DataError(f"{file} has no column {missing[0]!r}; it has {', '.join(names)}.")
    wanted = [(name, places[name]) for name in columns or names]
    while True:
        try:
            values = records.take()
            if values is None:
                return
            if len(names) > 1 and len(values) == 1 and values[0].isspace() and not records.more:
                continue  # a blank line
            if len(values) != len(names):
                records.retreat()
                raise Damaged(f"a row of {len(values)} values under a header of {len(names)}")
        except Damaged as damage:
            errors.rows += 1
            errors.add(f"{file} line {records.begin}", str(damage))
        else:
            errors.rows += 1
            errors.place = f"line {records.begin}"
            yield {name: values[i] for name, i in wanted}


def _header(file: Path, lines: _Lines) -> tuple[list[str], _Records] | None:
    """The names of the columns, and the records that follow; None for a file without lines.

    Of comma, tab, semicolon and bar the delimiter is the one that gives most names; quoted names
    may hold any of them.
    """
    while (line := lines.take()) in LINE_ENDS or SPREADSHEET.fullmatch(line):
        if not line:
            return None
    lines.give_back([line])
    plain = file.with_suffix("") if file.suffix.lower() in PACKED else file
    if plain.suffix.lower() == ".tsv" and (
        "\t" in line or not any(sign in line for sign in DELIMITERS)
    ):
        records = _Records(lines, "\t", quotes=False)
    else:
        records = _Records(lines, _delimiter(file, lines, line), quotes=True)
    try:
        found = records.take() or []
    except Damaged as damage:
        raise DataError(
            f"The header of {file}, line {records.begin}, cannot be read: {damage}.", "Mend it."
        ) from None
    if [line, *records.more][-1].endswith("\n"):
        lines.ends = ("\n",)
    names = [name or f"column {number}" for number, name in enumerate(found, 1)]
    if len(set(names)) < len(names):
        raise DataError(
            f"The header of {file} names a column twice: {', '.join(names)}.", "Rename one of them."
        )
    return names, records


def _delimiter(file: Path, lines: _Lines, first: str) -> str:
    """The sign that splits the header into most names, at least two, of those that leave no quote
    inside a bare one if there are any.
    """
    best, chosen = (False, 1), NO_DELIMITER
    for sign in DELIMITERS:
        records = _Records(lines, sign, quotes=True)
        try:
            found = records.take() or []
        except Damaged:
            lines.give_back([first])
            continue
        records.retreat()
        lines.give_back([first])
        fits = (not any('"' in name for name in found), len(found))
        if len(found) > 1 and fits > best:
            best, chosen = fits, sign
    return chosen
