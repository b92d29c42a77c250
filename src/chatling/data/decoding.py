"""The bytes of a file, unpacked, and its text: any encoding, byte order marks taken off, unreadable
files refused.
"""

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
PRINTABLE = b"\t\n\r" + bytes(range(32, 127))  # of ASCII
LATIN = 0.75  # share of them above which text is in Latin letters
# UTF-32 before UTF-16, whose mark its own begins with
BYTE_ORDER_MARKS = {
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


class _Stream(io.RawIOBase):
    """Blocks of bytes as a file."""

    def __init__(self, blocks: Iterator[bytes]):
        self._blocks, self._rest = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # a block may be empty
        while not self._rest and (block := next(self._blocks, None)) is not None:
            self._rest = memoryview(block)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _buffered(blocks: Iterator[bytes]) -> io.BufferedReader:
    return io.BufferedReader(_Stream(blocks), CHUNK_CHARACTERS)


def _counted(file: IO[bytes], tick: Tick) -> Iterator[bytes]:
    """The blocks of a file, of which `tick` is told."""
    while block := file.read(CHUNK_CHARACTERS):
        tick(len(block))
        yield block


@contextmanager
def unpacked(file: Path, tick: Tick) -> Iterator[io.BufferedReader]:
    """The file's bytes, decompressed; a packed file that ends too early raises OSError."""
    # opening a pipe would wait for its writer
    if file.exists() and not file.is_file() and not file.is_dir():
        raise DataError(
            f"{file} is a pipe, socket or device, not a file.", "Write what it gives to a file."
        )
    with open(file, "rb") as raw:
        counted: Any = _buffered(_counted(raw, tick))
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
        utf8 = _buffered(_as_utf8(file, stream, encoding or "utf-8"))
        yield io.TextIOWrapper(utf8, "utf-8", errors="replace", newline=newline)


def _as_utf8(file: Path, stream: io.BufferedReader, encoding: str) -> Iterator[bytes]:
    """The text of a stream in any encoding as UTF-8, without its byte order mark, as long as it can
    be read.
    """
    head = stream.read(CHUNK_CHARACTERS)
    mark = next((mark for mark in BYTE_ORDER_MARKS if head.startswith(mark)), b"")
    encoding = BYTE_ORDER_MARKS.get(mark, encoding)
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    data, head = head[len(mark) :], head[: 1 << 16]
    characters, unreadable, ended = 0, 0, False
    while not ended:
        data = data or stream.read(CHUNK_CHARACTERS)
        ended = not data
        text = decoder.decode(data, final=ended)
        data = b""
        characters += len(text)
        unreadable += sum(map(text.count, UNREADABLE))
        tolerated = UNREADABLE_SHARE * characters
        if unreadable > (tolerated if ended else max(100, tolerated)):
            likely = likely_encoding(head)
            usual = "cp1252" if ascii_share(head) > LATIN else "gb18030"
            hint = (
                f"Name its encoding, for example --encoding {usual}; if it is not text, take it"
                " away."
            )
            if likely not in (None, encoding):
                hint = f"Its bytes are like those of {likely}: --encoding {likely}."
            raise DataError(
                f"{file} is not in the encoding it was read in: {unreadable:,} of {characters:,}"
                " characters are unreadable.",
                hint,
            )
        yield text.encode("utf-8", "surrogatepass")


def is_unreadable(text: str) -> bool:
    """Whether some of it was not read as it was written."""
    return any(sign in text for sign in UNREADABLE)


def ascii_share(data: bytes) -> float:
    """Of some bytes, how many are letters, digits, signs or blanks of ASCII."""
    return sum(map(data.count, PRINTABLE)) / max(1, len(data))


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
    if ascii_share(data) > LATIN:  # two of its letters would be an ideograph
        return None
    for name in ("utf-16-le", "utf-16-be"):
        text = data.decode(name, "replace")
        # the gap is where kana of shift_jis would lie
        if sum(
            "\u3000" <= sign < "\u8100" or "\u8500" <= sign < "\ua000" for sign in text
        ) > 0.7 * len(text):
            return name
    return None
