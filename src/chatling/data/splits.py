"""What is held out for validation: one rule for files, one for conversations, one for texts."""

from collections.abc import Sequence
from typing import TypeVar
from zlib import crc32

Item = TypeVar("Item")
CONVERSATIONS_ONE_IN = 50


def split_files(files: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
    """(train, validation) of the files of a corpus, sorted by name: the last one is held out."""
    return files[:-1], files[-1:]


def held_out_conversations(count: int) -> int:
    """How many of a file's conversations are held out, its first ones: a fiftieth, at least one."""
    return max(1, count // CONVERSATIONS_ONE_IN)


def is_held_out(text: str, one_in: int) -> bool:
    """Whether a text is among the held-out ones, by its hash: the same text always is."""
    return crc32(text.encode()) % one_in == 0
