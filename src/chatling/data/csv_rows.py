"""Rows of csv files as RFC 4180 writes them, and of tsv files, which have no quotes. A damaged row
costs itself, not those after it.
"""

import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from chatling.data.decoding import PACKED
from chatling.data.row_errors import RowErrors
from chatling.errors import DataError

DELIMITERS = ",\t;|"
# a line that some put above the header, which tells the delimiter as well
SPREADSHEET = re.compile(r"sep=.\r?\n?")
INSIDE_QUOTES = re.compile(r'(?:[^"]+|"")*')
NO_DELIMITER = "\udfff"  # of a file of one column: a lone surrogate, which no decoded text holds
RECORD_CHARACTERS = 1 << 24  # a longer row is broken: bounds the memory
LINE_ENDS = ("", "\n", "\r\n", "\r")


class Damaged(Exception):
    """Why a row cannot be used."""


class _Records:
    """The rows of a file as lists of values. The lines of a row that turned out to be damaged can
    be given back and read again.
    """

    def __init__(self, text: io.TextIOWrapper):
        self._text, self._again, self._number = text, deque[str](), 0
        self.delimiter, self.quotes = NO_DELIMITER, True
        # of a line; where the header has a line feed, a carriage return alone is text
        self.ends: tuple[str, ...] = ("\n", "\r")
        # a row of several lines has come: then quotes in bare values are the marks of damage
        self._spanned = False
        self.begin = 0  # the line at which the last row begins
        self.more: list[str] = []  # its other lines

    def line(self) -> str:
        """The next line with its end, "" after the last; of one that is too long the beginning,
        RECORD_CHARACTERS of it.
        """
        parts, size = list[str](), 0
        while part := (
            self._again.popleft() if self._again else self._text.readline(RECORD_CHARACTERS)
        ):
            if size < RECORD_CHARACTERS:
                parts.append(part)
                size += len(part)
            if part.endswith(self.ends):
                break
        self._number += size > 0
        line = "".join(parts)
        return line if size < RECORD_CHARACTERS else line[: RECORD_CHARACTERS - 1] + "\n"

    def retreat(self, *first: str) -> None:
        """Have the lines of the last row but its first one read again, or the `first`, too."""
        lines = [*first, *self.more]
        self._again.extendleft(reversed(lines))
        self._number -= len(lines)
        self.more = []

    def take(self) -> list[str] | None:
        """The next row that is no blank line, or None after the last. Raises Damaged; the row after
        is that of the next line.
        """
        while (line := self.line()) in LINE_ENDS:
            if not line:
                return None
        self._spanned = self._spanned or bool(self.more)
        self.begin, self.more = self._number, []
        if len(line) >= RECORD_CHARACTERS:
            raise Damaged(f"longer than {RECORD_CHARACTERS:,} characters")
        if not self.quotes or '"' not in line:
            return line.rstrip("\r\n").split(self.delimiter)
        try:
            return self._split(line)
        except Damaged:
            self.retreat()
            raise

    def _split(self, line: str) -> list[str]:
        """The values of the row that begins with the line."""
        values: list[str] = []
        at, bare_quote = 0, False
        while True:
            if line.startswith('"', at):
                value, line, at = self._quoted(line, at + 1)
            else:
                end = line.find(self.delimiter, at)
                value = line[at:end] if end >= 0 else line[at:].rstrip("\r\n")
                bare_quote, at = bare_quote or '"' in value, at + len(value)
            values.append(value)
            if not line.startswith(self.delimiter, at):
                break
            at += 1
        if line[at:] not in LINE_ENDS:
            raise Damaged(f"text after a closing quote ({line[at : at + 20].rstrip()!r})")
        if bare_quote and (self.more or self._spanned):
            raise Damaged("a quote in a value that does not begin with one")
        return values

    def _quoted(self, line: str, at: int) -> tuple[str, str, int]:
        """The value whose opening quote stands before `at`, the line it ends in, and where. Quotes
        in it are doubled.
        """
        parts, size = list[str](), len(line)
        while True:
            inside = INSIDE_QUOTES.match(line, at)
            assert inside  # it matches the empty string too
            parts.append(inside[0])
            if inside.end() < len(line):
                return "".join(parts).replace('""', '"'), line, inside.end() + 1
            line, at = self.line(), 0
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
    records = _Records(text)
    names = _header(file, records)
    if not names:
        return
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


def _header(file: Path, records: _Records) -> list[str]:
    """The names of the columns, none for a file without lines; the records that follow are split as
    they are.
    """
    while (line := records.line()) in LINE_ENDS or SPREADSHEET.fullmatch(line):
        if not line:
            return []
    records.retreat(line)
    plain = file.with_suffix("") if file.suffix.lower() in PACKED else file
    if plain.suffix.lower() == ".tsv" and (
        "\t" in line or not any(sign in line for sign in DELIMITERS)
    ):
        records.delimiter, records.quotes = "\t", False
    else:
        records.delimiter = _delimiter(records, line)
    try:
        found = records.take() or []
    except Damaged as damage:
        raise DataError(
            f"The header of {file}, line {records.begin}, cannot be read: {damage}.", "Mend it."
        ) from None
    if [line, *records.more][-1].endswith("\n"):
        records.ends = ("\n",)
    names = [name or f"column {number}" for number, name in enumerate(found, 1)]
    if len(set(names)) < len(names):
        raise DataError(
            f"The header of {file} names a column twice: {', '.join(names)}.", "Rename one of them."
        )
    return names


def _delimiter(records: _Records, first: str) -> str:
    """Of comma, tab, semicolon and bar the sign that splits the header into most names, at least
    two; quoted names may hold any of them. Signs that leave no quote inside a bare name go first.
    """
    best, chosen = (False, 1), NO_DELIMITER
    for sign in DELIMITERS:
        records.delimiter = sign
        try:
            found = records.take() or []
        except Damaged:
            found = []
        records.retreat(first)
        fits = (not any('"' in name for name in found), len(found))
        if len(found) > 1 and fits > best:
            best, chosen = fits, sign
    return chosen
