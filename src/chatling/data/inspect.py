"""What a corpus or a set of conversations holds, in one pass and bounded memory, and what is likely
to be wrong with it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chatling.data.contamination import Overlap, TestGrams
from chatling.data.decoding import is_unreadable
from chatling.data.prepare import text_hash
from chatling.data.row_errors import RowErrors
from chatling.messages import Conversation
from chatling.tokenizer.bpe import Tokenizer, valid_text
from chatling.tokenizer.chat_template import render

BYTES_PER_TOKEN = 4.0  # assumed where no tokenizer is given
BLOCK_CHARACTERS = 4_000_000  # encoded at a time
SAMPLES = 3
# documents that copies are looked for among; of a larger corpus, those whose hash is low
REMEMBERED = 1_000_000
LOOKED_AT = 20_000  # characters of a document that are searched for garbled text
GARBLED_CHARACTERS = 6  # at least, for a document to count as garbled
# encoding -> the shortest run of characters that tells
OTHER_ENCODINGS = {
    "cp1252": 2,
    "latin-1": 2,
    "cp1251": 2,
    "gb18030": 6,
    "shift_jis": 6,
    "euc_kr": 6,
}
NOT_ASCII = re.compile(r"[^\x00-\x7f]{2,400}")
# an address, a path, a number, an id: no space in it
IDENTIFIER = re.compile(r"\s*[!-~]{1,300}\s*")


@dataclass
class Inspection:
    """Counts over all documents or conversations; `tokens` is exact where `counted`, else an
    estimate.
    """

    conversations: bool = False
    documents: int = 0
    characters: int = 0
    bytes: int = 0
    tokens: int = 0
    counted: bool = False
    turns: int = 0  # of the assistant
    shortest: int = 0
    longest: int = 0
    # k -> documents of 2^k to 2^(k+1) - 1 characters; -1: empty ones
    histogram: Counter[int] = field(default_factory=Counter)
    samples: list[str] = field(default_factory=list)
    bad: int = 0
    examples: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)  # that are used
    unused: list[str] = field(default_factory=list)  # columns that hold prose, too
    overlap: dict[str, Overlap] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def what(self) -> str:
        return "conversations" if self.conversations else "documents"


def inspect_data(
    items: Iterable[str | Conversation],
    errors: RowErrors,
    *,
    tokenizer: Tokenizer | None = None,
    against: TestGrams | None = None,
) -> Inspection:
    """Read all of `items` once; `errors` is theirs, and says what could not be used. Raises what
    reading them raises.
    """
    seen = Inspection(counted=tokenizer is not None)
    copies, suspects, samples = _Copies(), _Suspects(), list[tuple[int, str]]()
    block, held = list[str](), 0

    def count_tokens() -> None:
        if tokenizer and block:
            seen.tokens += len(tokenizer.encode_flat(block)[0])
        block.clear()

    for item in items:
        if isinstance(item, Conversation):
            seen.conversations = True
            seen.turns += sum(message.role == "assistant" for message in item.messages)
            seen.tokens += len(render(tokenizer, item).ids) if tokenizer else 0
            text = valid_text("\n".join(message.text for message in item.messages))
            shown = valid_text(
                "\n".join(f"{message.role}: {message.text}" for message in item.messages)
            )
        else:
            text = shown = valid_text(item)
            block.append(text)
            held += len(text)
            if held >= BLOCK_CHARACTERS:
                count_tokens()
                held = 0
        size = len(text)
        seen.histogram[size.bit_length() - 1] += 1
        seen.shortest = min(seen.shortest, size) if seen.documents else size
        seen.longest = max(seen.longest, size)
        seen.documents += 1
        seen.characters += size
        seen.bytes += len(text.encode())
        copies.add(text)
        suspects.add(text)
        # the documents of lowest hash: as good as chosen at random, and the same on every call
        samples = sorted({*samples, (text_hash(text)[1], shown)})[:SAMPLES]
        if against:
            against.look(text)
    count_tokens()
    if not tokenizer:
        seen.tokens = round(seen.bytes / BYTES_PER_TOKEN)
    seen.samples = [text for _, text in samples]
    seen.bad, seen.examples = errors.bad, errors.examples
    seen.overlap = against.result() if against else {}
    seen.warnings = list(_warnings(seen, errors, copies, suspects))
    return seen


def _warnings(
    seen: Inspection, errors: RowErrors, copies: _Copies, suspects: _Suspects
) -> Iterator[str]:
    of = f"{seen.documents:,} {seen.what}"
    if errors.bad:
        yield (
            f"{errors.bad:,} of {errors.rows:,} rows cannot be used; the first is"
            f" {errors.examples[0]}"
        )
    if found := copies.found():
        yield f"Copies: {found[0]} of {of} repeat another; one comes {found[1]:,} times."
    yield from suspects.warnings(of, seen.documents if not seen.conversations else 0)
    for name, overlap in seen.overlap.items():
        if overlap.items:
            yield (
                f"Test questions: {overlap.items:,} of {overlap.of:,} of {name} share 13 words in a"
                f" row with {overlap.documents:,} {seen.what}, for example: {overlap.example}"
            )


class _Copies:
    """Counts documents that came before, letter case and white space aside. Every copy has the same
    hash, so a sample of the hashes gives the same share as all of them would.
    """

    def __init__(self) -> None:
        self._met: Counter[int] = Counter()
        self._bound = 1 << 64

    def add(self, text: str) -> None:
        key, _ = text_hash(" ".join(text.lower().split()))
        if key < self._bound:
            self._met[key] += 1
            if len(self._met) > REMEMBERED:
                self._bound //= 2
                self._met = Counter(
                    {key: count for key, count in self._met.items() if key < self._bound}
                )

    def found(self) -> tuple[str, int] | None:
        """How many documents are copies, and how often the commonest comes; None where none is."""
        met = sum(self._met.values())
        if met <= len(self._met):
            return None
        # of all documents, from those remembered
        copies = (met - len(self._met)) << (64 - self._bound.bit_length() + 1)
        about = "about " if self._bound < 1 << 64 else ""
        return f"{about}{copies:,}", self._met.most_common(1)[0][1]


class _Suspects:
    """Counts documents that look like something other than text, or like text that was decoded
    wrongly.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._garbled: tuple[str, str] | None = None

    def add(self, text: str) -> None:
        head = text[:LOOKED_AT]
        if not head or head.isspace():
            self._counts["empty"] += 1
            return
        garble = garbled(head)
        self._garbled = self._garbled or garble
        letters = sum(map(str.isalpha, head[:1000]))
        self._counts.update(
            {
                "are single words, addresses or numbers": IDENTIFIER.fullmatch(text) is not None,
                "are shorter than 30 characters": len(text) < 30,
                "are mostly signs and digits": letters < 0.4 * len(head[:1000]),
                "unreadable": is_unreadable(text),
                "garbled": garble is not None,
            }
        )

    def warnings(self, of: str, documents: int) -> Iterator[str]:
        """`documents` is 0 for conversations, which may be short."""
        counts = self._counts
        what = [
            each for each in counts if each.startswith("are ") and counts[each] > documents / 2 > 0
        ]
        if what:
            yield (
                f"Most documents {what[0]}: perhaps the wrong column; name the right one with"
                " --column."
            )
        if counts["empty"]:
            yield f"{counts['empty']:,} of {of} are empty; an import drops them."
        if counts["unreadable"]:
            yield (
                f"Unreadable characters (U+FFFD or NUL) in {counts['unreadable']:,} of {of}; the"
                " encoding may be another (--encoding)."
            )
        if self._garbled:
            wrong, right = self._garbled
            yield (
                f"Garbled text, decoded wrongly before it came here, in {counts['garbled']:,} of"
                f" {of}: {wrong!r} for {right!r}."
            )


def garbled(text: str) -> tuple[str, str] | None:
    """Mojibake: (a part as it is, as it was meant), or None.

    UTF-8 read in another encoding: written back in that encoding, it is UTF-8 again, but for a
    fifth at most that was lost on the way. Text that is as it was meant almost never is, if at
    least six characters outside ASCII take part.
    """
    runs = NOT_ASCII.findall(text)
    for encoding, shortest in OTHER_ENCODINGS.items():
        characters, first = 0, None
        for wrong in runs:
            if len(wrong) < shortest:
                continue
            data = wrong.encode(encoding, "replace")
            right = data.decode("utf-8", "replace")
            lost = data.count(b"?") + right.count("\ufffd")
            if 5 * lost > len(right):
                continue
            characters += len(wrong)
            first = first or (wrong, right)
            if characters >= GARBLED_CHARACTERS:
                return first
    return None
