"""The format of token shards, and the verification of what is on disk: each file held to its
manifest, large ones in the background, ahead of their use.
"""

import hashlib
import json
import threading
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from chatling.data.parquet import CorpusCounts
from chatling.errors import DataError
from chatling.run_dir import manifest_fault, read_json, read_manifest

CORPUS = "corpus.json"
TOKENS, OFFSETS, MASK, META = "tokens.bin", "offsets.bin", "mask.bin", "meta.json"
LARGE = (TOKENS, MASK)  # of a shard's files
FORMAT = 1  # part of every fingerprint: a change of layout writes shards again
# bytes of a corpus whose checksums are compared before anything else: a fraction of a second
AT_ONCE = 256 << 20
WRITTEN_AGAIN = "Delete {} and run again: `chatling run` writes it again."
INDEX_TYPES = {
    "fingerprint": str,
    "vocab_size": int,
    "masked": bool,
    "documents": int,
    "tokens": int,
    "counts": dict,
    "shards": list,
    "fingerprints": list,
}


def digest(*parts: Any) -> str:
    """A fingerprint of some plain values and of the format."""
    return hashlib.sha256(json.dumps([FORMAT, *parts]).encode()).hexdigest()


def file_fingerprint(path: Path) -> str:
    """Name, size, and a hash of the first and last 64 KB (where a parquet file keeps its index):
    quick, and copies stay equal.
    """
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            head = file.read(65_536)
            file.seek(max(0, size - 65_536))
            return digest(path.name, size, hashlib.sha256(head + file.read()).hexdigest())
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None


@dataclass(frozen=True)
class ShardMeta:
    """A shard's meta.json."""

    fingerprint: str
    tokens: int
    documents: int
    counts: CorpusCounts


def read_meta(shard: Path) -> ShardMeta:
    """Raises DataError when meta.json is damaged."""
    path = shard / META
    found = read_json(path)
    try:
        meta = ShardMeta(
            found["fingerprint"],
            found["tokens"],
            found["documents"],
            CorpusCounts(**found["counts"]),
        )
        numbers = (meta.tokens, meta.documents, *asdict(meta.counts).values())
        right = isinstance(meta.fingerprint, str) and all(
            type(number) is int and number >= 0 for number in numbers
        )
    except (KeyError, TypeError):
        right = False
    if not right:
        raise DataError(f"{path} does not describe a token shard.", WRITTEN_AGAIN.format(shard))
    return meta


def shard_fault(
    shard: Path,
    fingerprint: str,
    checksums: bool,
    *,
    masked: bool = False,
    later: Sequence[str] = (),
) -> str | None:
    """What is wrong with a shard, or None. `later` are files whose checksums are compared by
    somebody else.
    """
    required = (TOKENS, OFFSETS, META, MASK) if masked else (TOKENS, OFFSETS, META)
    fault = manifest_fault(shard, required=required, checksums=checksums, later=later)
    if fault:
        return f"{shard.name}: {fault}"
    try:
        same = read_meta(shard).fingerprint == fingerprint
    except DataError as error:
        return error.what
    return None if same else f"{shard} was made from something else"


def shard_bytes(shard: Path) -> int:
    """Size of the files that the manifest lists; 0 where there is none."""
    try:
        return sum(listed.bytes for listed in read_manifest(shard).values())
    except DataError:
        return 0


def map_shard(
    shard: Path, vocab_size: int, masked: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """A shard's ids and mask, memory-mapped, and the offsets of its documents. Raises DataError
    when they do not fit together.
    """
    try:
        tokens = _mapped(shard / TOKENS, id_type(vocab_size))
        offsets = np.fromfile(shard / OFFSETS, np.dtype("<i8"))
        mask = _mapped(shard / MASK, np.dtype(np.uint8)) if masked else None
    except (OSError, ValueError) as error:  # ValueError: half a number at the end
        raise DataError(
            f"A token shard cannot be read: {shard} ({error}).", WRITTEN_AGAIN.format(shard)
        ) from error
    rising = (
        len(offsets) > 0
        and offsets[0] == 0
        and offsets[-1] == len(tokens)
        and bool((np.diff(offsets) > 0).all())
    )
    if not rising or (mask is not None and len(mask) != len(tokens)):
        raise DataError(
            f"A token shard is damaged: the files of {shard} do not agree in length.",
            WRITTEN_AGAIN.format(shard),
        )
    return tokens, offsets, mask


def content_fault(shard: Path, vocab_size: int) -> str | None:
    """What is wrong with all of a shard's files and ids, or None; reads every byte."""
    if fault := manifest_fault(shard):
        return fault
    tokens = _mapped(shard / TOKENS, id_type(vocab_size))
    if tokens.size and int(tokens.max()) >= vocab_size:
        return f"{shard / TOKENS} holds ids outside the vocabulary"
    return None


def _mapped(path: Path, dtype: np.dtype) -> np.ndarray:
    if not path.stat().st_size:  # an empty file cannot be mapped
        return np.empty(0, dtype)
    # asarray: slices of the memmap subclass cost several times those of a plain array
    return np.asarray(np.memmap(path, dtype, mode="r"))


def id_type(vocab_size: int) -> np.dtype:
    return np.dtype("<u2" if vocab_size <= 65_536 else "<u4")


class ShardChecks:
    """Every shard's content is checked once: in order by a thread of its own, or at once when it is
    wanted before its turn.
    """

    def __init__(self, shards: Sequence[Path], vocab_size: int):
        self._shards, self._vocab_size = list(shards), vocab_size
        self._locks = [threading.Lock() for _ in shards]
        self._faults: dict[int, str | None] = {}

    def start(self) -> None:
        threading.Thread(
            target=_check_all,
            args=(weakref.ref(self), len(self._shards)),
            name="chatling-checks",
            daemon=True,
        ).start()

    @property
    def passed(self) -> bool:
        return len(self._faults) == len(self._shards) and not any(self._faults.values())

    def fault(self, shard: int) -> str | None:
        """Waits until it is known."""
        with self._locks[shard]:
            if shard not in self._faults:
                self._faults[shard] = content_fault(self._shards[shard], self._vocab_size)
            return self._faults[shard]

    def need(self, shard: int) -> None:
        """Raises DataError naming the damaged file."""
        if fault := self.fault(shard):
            raise damaged(self._shards[shard], fault)


def _check_all(checks: weakref.ref[ShardChecks], count: int) -> None:
    """As long as somebody holds the shards."""
    for shard in range(count):
        held = checks()
        if held is None:
            return
        held.fault(shard)


def damaged(shard: Path, fault: str) -> DataError:
    return DataError(f"A token shard is damaged: {fault}.", WRITTEN_AGAIN.format(shard))


@dataclass(frozen=True)
class ShardList:
    """The shards that make up a corpus, in order, and what each is made from."""

    folder: Path
    vocab_size: int
    masked: bool
    fingerprints: Sequence[str]

    @cached_property
    def shards(self) -> list[Path]:
        return [self.folder / f"shard_{i:05d}" for i in range(len(self.fingerprints))]

    @property
    def checked_later(self) -> tuple[str, ...]:
        """The files whose checksums are compared in the background: none of a small corpus."""
        return LARGE if sum(map(shard_bytes, self.shards)) > AT_ONCE else ()

    @property
    def is_finished(self) -> bool:
        """Whether the folder has the index of just these shards, and they are there."""
        try:
            return read_index(self.folder) == self.index()
        except DataError:
            return False

    def fault(self, i: int, checksums: bool, later: Sequence[str] = ()) -> str | None:
        """What is wrong with a shard, or None; as `shard_fault`."""
        return shard_fault(
            self.shards[i], self.fingerprints[i], checksums, masked=self.masked, later=later
        )

    def index(self) -> dict[str, Any]:
        """The content of corpus.json, which follows from the shards. Raises DataError."""
        metas = [read_meta(shard) for shard in self.shards]
        documents = sum(meta.documents for meta in metas)
        if documents == 0:
            raise DataError(
                f"The corpus of {self.folder.name} is empty: no document with text.",
                "Check the files and the text column of [data].",
            )
        counts = [asdict(meta.counts) for meta in metas]
        return {
            "fingerprint": digest(self.vocab_size, self.masked, *self.fingerprints),
            "vocab_size": self.vocab_size,
            "masked": self.masked,
            "documents": documents,
            "tokens": sum(meta.tokens for meta in metas),
            "counts": {key: sum(each[key] for each in counts) for key in counts[0]},
            "shards": [shard.name for shard in self.shards],
            "fingerprints": list(self.fingerprints),
        }


def read_index(folder: Path) -> dict[str, Any]:
    """A corpus's index, of the right shape. Raises DataError."""
    index = read_json(folder / CORPUS)
    right = (
        isinstance(index, dict)
        and all(type(index.get(key)) is kind for key, kind in INDEX_TYPES.items())
        and all(isinstance(text, str) for text in (*index["shards"], *index["fingerprints"]))
    )
    if not right:
        raise DataError(
            f"The index of the token shards in {folder} is damaged.", WRITTEN_AGAIN.format(folder)
        )
    fields: dict[str, Any] = index
    return fields
