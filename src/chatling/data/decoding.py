"""The bytes of a file, unpacked, and its text: any encoding, byte order marks taken off, unreadable
files refused.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from chatling.errors import DataError

PACKED = {".gz": "gzip", ".zst": "zstd"}
CHUNK_CHARACTERS = 1 << 20
UNREADABLE_SHARE = 0.01  # of a file's characters; above, its encoding is another
UNREADABLE = "\ufffd\0"  # what bytes of another encoding become; no text holds NUL
BYTE_ORDER_MARKS = {  # UTF-32 before UTF-16, whose mark its own begins with
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    "\ufeff".encode("gb18030"): "gb18030",
}
Tick = Callable[[int], None]


def check_encoding(name: str) -> None:
    """Raises DataError when no text is written in an encoding of this name."""
    try:
        b"a".decode(name, "replace")  # also refuses codecs between bytes and bytes
        codecs.getincrementaldecoder(name)
    except (LookupError, ValueError):
        raise DataError(
            f"There is no encoding {name!r}.",
            "For example utf-8, gb18030, big5, shift_jis, cp1252.",
        ) from None


class _Counted(io.RawIOBase):
    """A file that tells how much of it was read."""

    def __init__(self, file: IO[bytes], tick: Tick):
        self._file, self._tick = file, tick

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._tick(len(data))
        return len(data)


@contextmanager
def unpacked(file: Path, tick: Tick) -> Iterator[io.BufferedReader]:
    """The file's bytes, decompressed; a packed file that ends too early raises OSError."""
    if (
        file.exists() and not file.is_file() and not file.is_dir()
    ):  # opening a pipe would wait for its writer
        raise DataError(
            f"{file} is a pipe, socket or device, not a file.", "Write what it gives to a file."
        )
    with open(file, "rb") as raw:
        counted: Any = io.BufferedReader(_Counted(raw, tick), CHUNK_CHARACTERS)
        packed = PACKED.get(file.suffix.lower())
        stream = (
            pa.CompressedInputStream(pa.PythonFile(counted, "r"), packed) if packed else counted
        )
        yield io.BufferedReader(stream, CHUNK_CHARACTERS)


@contextmanager
def open_text(
    file: Path, tick: Tick, encoding: str | None = None, newline: str | None = None
) -> Iterator[io.TextIOWrapper]:
    """The file's text, in the encoding that its byte order mark tells, else the one that is named,
    else UTF-8.

    Invalid bytes become U+FFFD. Reading raises DataError when more than a hundredth of the
    characters are that or NUL.
    """
    with unpacked(file, tick) as stream:
        utf8 = io.BufferedReader(_Utf8(file, stream, encoding or "utf-8"), CHUNK_CHARACTERS)
        yield io.TextIOWrapper(utf8, "utf-8", errors="replace", newline=newline)


class _Utf8(io.RawIOBase):
    """The text of a stream in any encoding as UTF-8, without its byte order mark, as long as it can
    be read.
    """

    def __init__(self, file: Path, stream: io.BufferedReader, encoding: str):
        self._file, self._stream = file, stream
        self._head = stream.read(CHUNK_CHARACTERS)
        mark = next((mark for mark in BYTE_ORDER_MARKS if self._head.startswith(mark)), b"")
        self._unread: bytes | None = self._head[len(mark) :]
        self._head = self._head[: 1 << 16]
        self._encoding = BYTE_ORDER_MARKS.get(mark, encoding)
        self._decoder = codecs.getincrementaldecoder(self._encoding)("replace")
        self._utf8, self._characters, self._unreadable, self._ended = memoryview(b""), 0, 0, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._utf8 and not self._ended:
            data = self._stream.read(CHUNK_CHARACTERS) if self._unread is None else self._unread
            self._ended = not data and self._unread is None
            self._unread = None
            text = self._decoder.decode(data, final=self._ended)
            self._count(text)
            self._utf8 = memoryview(text.encode("utf-8", "surrogatepass"))
        size = min(len(buffer), len(self._utf8))
        buffer[:size] = self._utf8[:size]
        self._utf8 = self._utf8[size:]
        return size

    def _count(self, text: str) -> None:
        self._characters += len(text)
        self._unreadable += sum(map(text.count, UNREADABLE))
        tolerated = UNREADABLE_SHARE * self._characters
        if self._unreadable > (tolerated if self._ended else max(100, tolerated)):
            likely = likely_encoding(self._head)
            count = f"{self._unreadable:,} of {self._characters:,} characters are unreadable"
            raise DataError(
                f"{self._file} is not in the encoding it was read in: {count}.",
                (
                    f"Its bytes are like those of {likely}: --encoding {likely}."
                    if likely not in (None, self._encoding)
                    else (
                        "Name its encoding, for example --encoding gb18030; if it is not text, take"
                        " it away."
                    )
                ),
            )


def is_unreadable(text: str) -> bool:
    """Whether some of it was not read as it was written."""
    return any(sign in text for sign in UNREADABLE)


def likely_encoding(data: bytes) -> str | None:
    """UTF-16 or UTF-32, told by which bytes are zero, or by ideographs, which have none; None where
    nothing tells.
    """
    zeros, words = [data[i::4].count(0) for i in range(4)], max(1, len(data) // 4)
    if min(zeros[2:]) > 0.9 * words > 2 * zeros[0]:
        return "utf-32-le"
    if min(zeros[:2]) > 0.9 * words > 2 * zeros[3]:
        return "utf-32-be"
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    if max(even, odd) > 4 * min(even, odd):
        return "utf-16-le" if odd > even else "utf-16-be"
    for name in ("utf-16-le", "utf-16-be"):
        text = data.decode(name, "replace")
        # the gap is where kana of shift_jis would lie
        if sum(
            "\u3000" <= sign < "\u8100" or "\u8500" <= sign < "\ua000" for sign in text
        ) > 0.7 * len(text):
            return name
    return None
