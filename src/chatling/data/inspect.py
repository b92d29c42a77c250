"""What a corpus or a set of conversations holds, in one pass and bounded memory, and what is likely
to be wrong with it.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from chatling.data.contamination import Overlap, TestGrams
from chatling.data.decoding import is_unreadable
from chatling.data.prepare import text_hash
from chatling.data.readers import RowErrors
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
OTHER_ENCODINGS = {
    "cp1252": 2,
    "latin-1": 2,
    "cp1251": 2,
    "gb18030": 6,
    "shift_jis": 6,
    "euc_kr": 6,
}  # shortest run that tells
NOT_ASCII = re.compile(r"[^\x00-\x7f]{2,400}")
IDENTIFIER = re.compile(
    r"\s*[!-~]{1,300}\s*"
)  # an address, a path, a number, an id: no space in it


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
    histogram: dict[int, int] = field(
        default_factory=dict
    )  # k -> documents of 2^k to 2^(k+1) - 1 characters; -1: empty ones
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
    copies, samples, suspects = _Copies(), _Samples(), _Suspects()
    block: list[str] = []
    held = 0

    def count_tokens() -> None:
        nonlocal held
        if tokenizer and block:
            seen.tokens += len(tokenizer.encode_flat(block)[0])
        block.clear()
        held = 0

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
        size = len(text)
        pad_to_multiple_of = size.bit_length() - 1
        seen.histogram[pad_to_multiple_of] = seen.histogram.get(pad_to_multiple_of, 0) + 1
        seen.shortest = min(seen.shortest, size) if seen.documents else size
        seen.longest = max(seen.longest, size)
        seen.documents += 1
        seen.characters += size
        seen.bytes += len(text.encode())
        copies.add(text)
        samples.add(text_hash(text)[1], shown)
        suspects.add(text)
        if against:
            against.look(text)
        held += size
        if held >= BLOCK_CHARACTERS:
            count_tokens()
    count_tokens()
    if not tokenizer:
        seen.tokens = round(seen.bytes / BYTES_PER_TOKEN)
    seen.samples, seen.bad, seen.examples = samples.texts(), errors.bad, errors.examples
    seen.overlap = against.result() if against else {}
    seen.warnings = [
        *_bad_rows(seen, errors),
        *copies.warnings(seen),
        *suspects.warnings(seen),
        *_overlap_warnings(seen),
    ]
    return seen


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

    def warnings(self, seen: Inspection) -> list[str]:
        met = sum(self._met.values())
        if met <= len(self._met):
            return []
        most = self._met.most_common(1)[0][1]
        copies = (met - len(self._met)) << (
            64 - self._bound.bit_length() + 1
        )  # of all documents, from those remembered
        about = "about " if self._bound < 1 << 64 else ""
        return [
            f"Copies: {about}{copies:,} of {seen.documents:,} {seen.what} repeat another; one comes"
            f" {most:,} times."
        ]


class _Samples:
    """The documents of lowest hash: as good as chosen at random, and the same on every call."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []

    def add(self, key: int, text: str) -> None:
        entry = -key, text
        if any(text == other for _, other in self._heap):
            return
        if len(self._heap) < SAMPLES:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def texts(self) -> list[str]:
        return [text for _, text in sorted(self._heap, reverse=True)]


class _Suspects:
    """Counts documents that look like something other than text, or like text that was decoded
    wrongly.
    """

    def __init__(self) -> None:
        self.identifiers = self.few_letters = self.empty = self.unreadable = self.garbled = (
            self.short
        ) = 0
        self._garble = ("", "")

    def add(self, text: str) -> None:
        head = text[:LOOKED_AT]
        if not head or head.isspace():
            self.empty += 1
            return
        self.short += len(text) < 30
        self.identifiers += IDENTIFIER.fullmatch(text) is not None
        self.few_letters += sum(map(str.isalpha, head[:1000])) < 0.4 * len(head[:1000])
        self.unreadable += is_unreadable(text)
        if garble := garbled(head):
            self.garbled += 1
            self._garble = self._garble if self._garble[0] else garble

    def warnings(self, seen: Inspection) -> list[str]:
        found, of = [], f"{seen.documents:,} {seen.what}"
        if seen.documents and not seen.conversations:
            what = next(
                (
                    what
                    for what, count in (
                        ("are single words, addresses or numbers", self.identifiers),
                        ("are shorter than 30 characters", self.short),
                        ("are mostly signs and digits", self.few_letters),
                    )
                    if count > seen.documents / 2
                ),
                None,
            )
            if what:
                found.append(
                    f"Most documents {what}: perhaps the wrong column; name the right one with"
                    " --column."
                )
        if self.empty:
            found.append(f"{self.empty:,} of {of} are empty; an import drops them.")
        if self.unreadable:
            found.append(
                f"Unreadable characters (U+FFFD or NUL) in {self.unreadable:,} of {of}; the"
                " encoding may be another (--encoding)."
            )
        if self.garbled:
            wrong, right = self._garble
            found.append(
                f"Garbled text, decoded wrongly before it came here, in {self.garbled:,} of {of}:"
                f" {wrong!r} for {right!r}."
            )
        return found


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


def _bad_rows(seen: Inspection, errors: RowErrors) -> list[str]:
    if not errors.bad:
        return []
    return [
        f"{errors.bad:,} of {errors.rows:,} rows cannot be used; the first is {errors.examples[0]}"
    ]


def _overlap_warnings(seen: Inspection) -> list[str]:
    return [
        f"Test questions: {found.items:,} of {found.of:,} of {name} share 13 words in a row with"
        f" {found.documents:,} {seen.what}, for example: {found.example}"
        for name, found in seen.overlap.items()
        if found.items
    ]
