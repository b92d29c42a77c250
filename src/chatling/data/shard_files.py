"""The files of a token shard as they are read: each held to its manifest, large ones in the
background, ahead of their use.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from chatling.data.parquet import CorpusCounts
from chatling.errors import DataError
from chatling.run_dir import manifest_fault, read_json, read_manifest

TOKENS, OFFSETS, MASK, META = "tokens.bin", "offsets.bin", "mask.bin", "meta.json"
LARGE = (TOKENS, MASK)  # of a shard's files
AT_ONCE = (
    256 << 20
)  # bytes of a corpus whose checksums are compared before anything else: a fraction of a second
WRITTEN_AGAIN = "Delete {} and run again: `chatling run` writes it anew."


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
    except (KeyError, TypeError):
        raise DataError(
            f"{path} does not describe a token shard.", WRITTEN_AGAIN.format(shard)
        ) from None
    numbers = (meta.tokens, meta.documents, *asdict(meta.counts).values())
    if not isinstance(meta.fingerprint, str) or any(
        type(number) is not int or number < 0 for number in numbers
    ):
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
        return (
            None
            if read_meta(shard).fingerprint == fingerprint
            else f"{shard} was made from something else"
        )
    except DataError as error:
        return error.what


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
        tokens, offsets = (
            _mapped(shard / TOKENS, id_type(vocab_size)),
            np.fromfile(shard / OFFSETS, np.dtype("<i8")),
        )
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
    fault = manifest_fault(shard)
    if fault:
        return fault
    tokens = _mapped(shard / TOKENS, id_type(vocab_size))
    return (
        f"{shard / TOKENS} holds ids outside the vocabulary"
        if tokens.size and int(tokens.max()) >= vocab_size
        else None
    )


def _mapped(path: Path, dtype: np.dtype) -> np.ndarray:
    # asarray: slices of the memmap subclass cost several times those of a plain array; an empty
    # file cannot be mapped
    return (
        np.asarray(np.memmap(path, dtype, mode="r")) if path.stat().st_size else np.empty(0, dtype)
    )


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


def index_fields(index: Any, folder: Path) -> dict[str, Any]:
    """A corpus's index, of the right shape. Raises DataError."""
    shape = {
        "fingerprint": str,
        "vocab_size": int,
        "masked": bool,
        "documents": int,
        "tokens": int,
        "counts": dict,
        "shards": list,
        "fingerprints": list,
    }
    right = isinstance(index, dict) and all(
        type(index.get(key)) is kind for key, kind in shape.items()
    )
    if not right or not all(
        isinstance(text, str) for text in (*index["shards"], *index["fingerprints"])
    ):
        raise DataError(
            f"The index of the token shards in {folder} is damaged.", WRITTEN_AGAIN.format(folder)
        )
    fields: dict[str, Any] = index
    return fields


class ShardWriter:
    """The open files of the shard being written."""

    def __init__(self, tokens: IO[bytes], mask: IO[bytes] | None, vocab_size: int):
        self.tokens, self.mask, self.vocab_size = tokens, mask, vocab_size
        self.lengths: list[np.ndarray] = [np.zeros(1, np.int64)]

    def add(self, ids: np.ndarray, lengths: np.ndarray, mask: np.ndarray | None = None) -> None:
        if ids.size and int(ids.max()) >= self.vocab_size:
            raise ValueError(
                f"token id {int(ids.max())} is outside the vocabulary of {self.vocab_size}"
            )
        self.tokens.write(ids.astype(id_type(self.vocab_size)).tobytes())
        self.lengths.append(lengths)
        if self.mask is not None and mask is not None:
            self.mask.write(mask.astype(np.uint8).tobytes())
