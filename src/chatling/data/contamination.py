"""Test questions in training text: 13 words in a row that both have (Brown et al. 2020,
arXiv:2005.14165, appendix C).
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chatling.data.names import CONTEXT, QUESTION, TEXT, plain
from chatling.data.readers import file_format, iter_rows
from chatling.data.row_errors import RowErrors
from chatling.errors import DataError

GRAM = 13
# A word, or one character of a script that is written without spaces.
WORDS = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
)
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: odd, so that its powers mix all bits
# columns of a test item's text, as `plain` writes them
FIELDS = frozenset([*QUESTION, *CONTEXT, *TEXT, "ctx", "sentence"])
TEST_NAME = re.compile(r"(^|[-_.])test([-_.]|$)", re.IGNORECASE)
FILTER_BITS = 24


@dataclass(frozen=True)
class Overlap:
    """How many items of a test set share 13 words with the training text, in how many of its
    documents; `example` is such a run.
    """

    items: int
    of: int
    documents: int
    example: str


def find_test_sets(root: Path) -> dict[str, list[Path]]:
    """Files of test questions below a folder, or one file, by name of the set.

    Taken are a CORE bundle's `eval_data/**/*.jsonl` and every data file with the word "test" in its
    name, as the Hub's data sets have it; the set is then named after the folder, skipping folders
    that say nothing, such as `data`.
    """
    if root.is_file():
        return {root.name.partition(".")[0]: [root]}
    sets: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(root.rglob("*")):
        if file_format(file) is None or not file.is_file():
            continue
        parts = file.relative_to(root).parts
        if "eval_data" in (*root.parts, *parts) and file.suffix == ".jsonl":
            sets[f"CORE {file.stem}"].append(file)
        elif TEST_NAME.search(file.name):
            folders = [root.name, *parts[:-1]]
            named = [
                name
                for name in folders
                if name not in ("data", "main", "all") and not name.startswith(".")
            ]
            sets[named[-1] if named else file.stem].append(file)
    return dict(sets)


class TestGrams:
    """Every 13-gram of some test sets, to look for in text."""

    __test__ = False  # no class of tests, whatever its name makes pytest think

    def __init__(self, sets: Mapping[str, Sequence[Path]]):
        """Reads the files. Raises DataError when no item of theirs has 13 words."""
        self.names = list(sets)
        self.sizes: list[int] = []
        grams: list[np.ndarray] = []
        owners: list[np.ndarray] = []  # (item, set) of each gram, as one number
        for number, files in enumerate(sets.values()):
            size = rows = 0
            for file in files:
                for row in iter_rows(file, RowErrors(allow_bad=math.inf)):
                    texts = [row] if isinstance(row, str) else _item_texts(row)
                    found = np.concatenate([_grams(_words(text)) for text in texts] or [_grams([])])
                    grams.append(found)
                    owners.append(np.full(len(found), size * len(sets) + number, np.int64))
                    size += len(found) > 0
                    rows += 1
                    if rows == 100 and not size:  # conversations, say, and no questions
                        break
            self.sizes.append(size)
        every, first = np.unique(np.concatenate(grams or [_grams([])]), return_index=True)
        if not len(every):
            raise DataError(
                "None of the test questions has 13 words.",
                "Name a folder of test sets with --against.",
            )
        self._grams, self._owners = every, np.concatenate(owners)[first]
        self._filter = np.zeros(1 << FILTER_BITS, bool)
        self._filter[every >> np.uint64(64 - FILTER_BITS)] = True
        self._items: list[set[int]] = [set() for _ in sets]
        self._documents = [0] * len(sets)
        self._examples = [""] * len(sets)

    def look(self, text: str) -> bool:
        """Look for the test sets in a document, and note what is there."""
        words = _words(text)
        grams = _grams(words)
        maybe = np.flatnonzero(self._filter[grams >> np.uint64(64 - FILTER_BITS)])
        if not len(maybe):
            return False
        at = np.minimum(np.searchsorted(self._grams, grams[maybe]), len(self._grams) - 1)
        hits = self._grams[at] == grams[maybe]
        owners = self._owners[at[hits]]
        for number in set((owners % len(self.names)).tolist()):
            mine = owners % len(self.names) == number
            self._items[number].update((owners[mine] // len(self.names)).tolist())
            self._documents[number] += 1
            begin = int(maybe[hits][np.argmax(mine)])
            self._examples[number] = self._examples[number] or " ".join(words[begin : begin + GRAM])
        return bool(hits.any())

    def result(self) -> dict[str, Overlap]:
        """What was found until now, by test set; sets without items of 13 words are left out."""
        rows = zip(
            self.names, self._items, self.sizes, self._documents, self._examples, strict=True
        )
        return {
            name: Overlap(len(items), size, documents, example)
            for name, items, size, documents, example in rows
            if size
        }


def _item_texts(row: Mapping[str, Any]) -> list[str]:
    return [
        value for name, value in row.items() if isinstance(value, str) and plain(name) in FIELDS
    ]


def _words(text: str) -> list[str]:
    return WORDS.findall(text.lower())


def _grams(words: Iterable[str]) -> np.ndarray:
    """uint64 hashes of each run of 13 words, (max(0, words - 12),)."""
    hashes = np.fromiter(map(hash, words), np.int64).view(np.uint64)
    count = max(0, len(hashes) - GRAM + 1)
    total = np.zeros(count, np.uint64)
    for k in range(GRAM if count else 0):  # modulo 2^64, as unsigned arrays compute
        total = total * FACTOR + hashes[k : k + count]
    return (total ^ (total >> np.uint64(31))) * FACTOR
