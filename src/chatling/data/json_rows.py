"""Rows of JSON: a value a line, a list of values, or values one after the other, whichever of them
a file turns out to be.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from chatling.data.chat_formats import are_turns
from chatling.data.decoding import CHUNK_CHARACTERS
from chatling.data.row_errors import Row, RowErrors
from chatling.errors import DataError
from chatling.messages import kind_of, shown

LINE_CHARACTERS = 1 << 26  # a longer line of jsonl, or value of json, is broken: bounds the memory
BETWEEN = re.compile(r"[\s,\ufeff]*")
DECODER = json.JSONDecoder()
EXPECTED = "where an object with named values is expected"


def json_lines(file: Path, text: IO[str], errors: RowErrors) -> Iterator[Row]:
    """The rows of a file with a value a line. One that is a list, or has values over several lines,
    is read as `json_values` reads it.
    """
    head = text.read(CHUNK_CHARACTERS)
    if not is_lines(head):
        yield from json_values(file, text, errors, head)
        return
    for number, line in enumerate(_lines(head, text), 1):
        if not line or line.isspace():
            continue
        errors.rows += 1
        errors.place = f"line {number}"
        try:
            if len(line) >= LINE_CHARACTERS and not line.endswith("\n"):
                raise DataError(f"longer than {LINE_CHARACTERS:,} characters")
            yield from line_rows(line)
        except DataError as error:
            errors.add(f"{file} line {number}", error.what)


def is_lines(head: str) -> bool:
    """Whether a text that begins like this has a value a line; it does unless it shows another
    shape of JSON.
    """
    head = head.lstrip("\ufeff \t\r\n")
    line, _, rest = head.partition("\n")
    try:
        value, end = DECODER.raw_decode(head)
    except (ValueError, RecursionError):
        return not (head.startswith("[") and _decodes(head, BETWEEN.match(head, 1).end()))  # type: ignore[union-attr]
    if end > len(line) or line[end:].strip()[:1] in tuple(",{["):
        return False  # over several lines, or several on one
    if rest.strip():
        return True
    return (
        are_turns(value)
        if isinstance(value, list)
        else not isinstance(value, dict) or _only_list(value) == [value]
    )


def line_rows(line: str) -> Iterator[Row]:
    """The row that a line holds, or those of its list. Raises DataError for what is none."""
    value = value_of(line)
    if (
        isinstance(value, list)
        and value
        and not are_turns(value)
        and all(isinstance(each, Mapping) for each in value)
    ):
        yield from value
    else:
        yield row_of(value)


def value_of(line: str | bytes) -> Any:
    """The value that a line holds. Raises DataError when it is not JSON, or not UTF-8."""
    try:
        text = line.decode("utf-8") if isinstance(line, bytes) else line
        return json.loads(text)
    except UnicodeDecodeError as error:
        reason = f"{error.reason} at byte {error.start + 1}"
        raise DataError(f"not text in utf-8 ({reason})") from None
    except (ValueError, RecursionError) as error:
        reason = (
            f"{error.msg} at character {error.pos + 1}"
            if isinstance(error, json.JSONDecodeError)
            else str(error)
        )
        hint = (
            "; it looks written by Python's print: write it with json.dumps"
            if re.match(r"\s*[\[{]\s*'", text)
            else ""
        )
        raise DataError(f"not JSON ({reason}){hint}") from None


def row_of(value: Any) -> Row:
    """An object, a text, or a list of messages as the row that it is. Raises DataError for any
    other value.
    """
    if isinstance(value, dict | str):
        return value
    if isinstance(value, list) and are_turns(value):
        return {"messages": value}
    raise DataError(f"{kind_of(value)} {EXPECTED}: {shown(value)}")


def _decodes(text: str, at: int) -> bool:
    try:
        DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return False
    return True


def _lines(head: str, text: IO[str]) -> Iterator[str]:
    """The lines of a text of which `head` was read; of one that is too long only its beginning."""
    *whole, begun = head.split("\n")
    yield from whole
    line = begun + text.readline(LINE_CHARACTERS)
    while line:
        yield line
        while len(line) >= LINE_CHARACTERS and not line.endswith("\n"):
            line = text.readline(LINE_CHARACTERS)
        line = text.readline(LINE_CHARACTERS)


class _Buffer:
    """What was read of a text and not yet used, and the number of its first line."""

    def __init__(self, text: IO[str], held: str):
        self._text, self.held, self.at, self.line = text, held, 0, 1

    def more(self) -> bool:
        """Read on, twice as much as is held, so that a long value is not tried too often. False at
        the end.
        """
        chunk = self._text.read(max(CHUNK_CHARACTERS, len(self.held) - self.at))
        self.line += self.held.count("\n", 0, self.at)
        self.held, self.at = self.held[self.at :] + chunk, 0
        return bool(chunk)

    def skip(self) -> str:
        """Pass over blanks and commas; the character that follows, "" at the end."""
        while True:
            between = BETWEEN.match(self.held, self.at)
            assert between  # it matches the empty string too
            self.at = between.end()
            if self.at < len(self.held) or not self.more():
                return self.held[self.at : self.at + 1]


def json_values(file: Path, text: IO[str], errors: RowErrors, head: str = "") -> Iterator[Row]:
    """The rows of a json list, or of values one after the other, as they come; `head` was read of
    the text already. Raises DataError naming the line that is no JSON.
    """
    buffer, inside = _Buffer(text, head), False
    while character := buffer.skip():
        if character == "]" and inside:
            buffer.at, inside = buffer.at + 1, False
            continue
        if character == "[" and not inside and not _begins_conversation(file, buffer):
            buffer.at, inside = buffer.at + 1, True
            continue
        value = _next_value(file, buffer)
        alone = not inside and not errors.rows and isinstance(value, dict) and not buffer.skip()
        for each in _only_list(value) if alone else (value,):
            errors.rows += 1
            errors.place = f"value {errors.rows}"
            try:
                yield row_of(each)
            except DataError as error:
                errors.add(f"{file} value {errors.rows}", error.what)
    if inside:
        raise DataError(
            f"{file} is not a readable json file (it ends before its list does).",
            "Fetch or write it again.",
        )


def _begins_conversation(file: Path, buffer: _Buffer) -> bool:
    """Whether the list that begins here is one conversation, not a list of rows."""
    while True:
        between = BETWEEN.match(buffer.held, buffer.at + 1)
        assert between
        if buffer.held[between.end() : between.end() + 1] == "]":
            return False
        try:
            return are_turns([DECODER.raw_decode(buffer.held, between.end())[0]])
        except (ValueError, RecursionError) as error:
            _read_on(file, buffer, error)


def _next_value(file: Path, buffer: _Buffer) -> Any:
    while True:
        try:
            value, end = DECODER.raw_decode(buffer.held, buffer.at)
        except (ValueError, RecursionError) as error:
            _read_on(file, buffer, error)
            continue
        if end == len(buffer.held) and isinstance(value, int | float) and buffer.more():
            continue  # a number may go on
        buffer.at = end
        return value


def _read_on(file: Path, buffer: _Buffer, error: Exception) -> None:
    """Read more where a value may be cut off. Raises DataError where it is too long, or there is no
    more.
    """
    if len(buffer.held) - buffer.at > LINE_CHARACTERS:
        raise DataError(
            f"{file} holds a value of more than {LINE_CHARACTERS:,} characters.", "Split it."
        ) from error
    if not buffer.more():
        line = buffer.line + (
            buffer.held.count("\n", 0, error.pos) if isinstance(error, json.JSONDecodeError) else 0
        )
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise DataError(
            f"{file} is not a readable json file (line {line}: {reason}).",
            "Mend it; a file of a value a line, named .jsonl, survives a bad one.",
        ) from error


def _only_list(value: dict[str, Any]) -> list[Any]:
    """The rows of a file that is one object around a list of them, such as {"version": …, "data":
    […]}; else the object.
    """
    lists = [
        each
        for each in value.values()
        if isinstance(each, list) and len(each) > 1 and all(isinstance(row, dict) for row in each)
    ]
    return lists[0] if len(lists) == 1 and not are_turns(lists[0]) else [value]
