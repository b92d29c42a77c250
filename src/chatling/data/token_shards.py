"""A corpus tokenised once, read: memory-mapped shards of token ids with document offsets.

    corpus.json     written last: fingerprint, vocab_size, tokens, documents, what was replaced and
                    dropped, the shards in order
    shard_00000/    tokens.bin (uint16, or uint32 above 65,536 tokens), offsets.bin (int64,
                    documents + 1), meta.json, manifest.json;
                    shards of conversations also hold mask.bin (uint8, 1 where the token is
                    trained on)

Documents are stored without `<|bos|>`; packing and batching put it in front.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from chatling.data.shard_files import (
    CORPUS,
    LARGE,
    WRITTEN_AGAIN,
    ShardChecks,
    ShardList,
    damaged,
    map_shard,
    read_index,
)
from chatling.errors import DataError

Item = TypeVar("Item", covariant=True)


class Indexed(Protocol[Item]):
    """Anything with a length and items by index: a list, a task, a mixture."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Item: ...


class TokenShards:
    """Documents as token ids, in memory or memory-mapped. Positions count the tokens of the whole
    corpus in order.
    """

    def __init__(
        self,
        parts: Sequence[np.ndarray],
        offsets: np.ndarray,
        vocab_size: int,
        masks: Sequence[np.ndarray] | None = None,
        fingerprint: str = "",
        checks: ShardChecks | None = None,
    ):
        """`parts` are each shard's ids; document i is at positions `offsets[i]` to `offsets[i + 1]`
        and never crosses a shard. With `checks`, no shard is read before it has passed them.
        """
        self._checks, self._parts, self._masks = checks, list(parts), masks
        # shard -> its first position
        self._begins = [0, *np.cumsum([len(part) for part in parts]).tolist()]
        self.offsets, self.vocab_size, self.fingerprint = offsets, vocab_size, fingerprint
        self.lengths: np.ndarray = np.diff(offsets)

    @property
    def tokens(self) -> int:
        return int(self.offsets[-1])

    @property
    def documents(self) -> int:
        return len(self.lengths)

    @property
    def has_mask(self) -> bool:
        return self._masks is not None

    def _shard_at(self, position: int) -> int:
        return bisect.bisect_right(self._begins, position) - 1

    def _slice(self, parts: Sequence[np.ndarray], position: int, count: int) -> np.ndarray:
        """A view of what a shard holds from a position on, once the shard has passed its checks."""
        shard = self._shard_at(position)
        if self._checks is not None:
            self._checks.need(shard)
        begin = position - self._begins[shard]
        return parts[shard][begin : begin + count]

    def read(self, position: int, count: int) -> np.ndarray:
        """`count` token ids from a position on, within one document; a view. Raises DataError when
        the shard is damaged.
        """
        return self._slice(self._parts, position, count)

    def document(self, i: int) -> np.ndarray:
        """The token ids of document i, without bos; a view."""
        return self.read(int(self.offsets[i]), int(self.lengths[i]))

    def mask(self, i: int) -> np.ndarray | None:
        """uint8 of document i's length, 1 where the token is trained on; None for plain text."""
        if self._masks is None:
            return None
        return self.read_mask(int(self.offsets[i]), int(self.lengths[i]))

    def read_mask(self, position: int, count: int) -> np.ndarray:
        """The mask of the tokens that `read` gives; plain text is trained on whole."""
        if self._masks is None:
            return np.ones(count, np.uint8)
        return self._slice(self._masks, position, count)

    def available(self, documents: int) -> int:
        """How many of the first `documents` documents there are. Of a corpus that is still being
        written, waits until that is known.
        """
        return min(documents, self.documents)

    def require(self, positions: Iterable[int]) -> None:
        """Wait until the shards of these positions have passed their checks, so that others may
        read them, too. Raises DataError.
        """
        if self._checks is not None:
            self._require_shards(sorted(set(map(self._shard_at, positions))))

    def _require_shards(self, shards: Iterable[int]) -> None:
        if self._checks is not None:
            for shard in shards:
                self._checks.need(shard)
            if self._checks.passed:
                self._checks = None

    @staticmethod
    def open(folder: Path, checksums: bool = True) -> TokenShards:
        """Map a finished folder. DataError names what is missing or damaged.

        Sizes and structure are always checked. Checksums are compared here, except those of large
        corpora's tokens: they are compared in the background, and no shard is read before it has
        passed. Without `checksums`, another process of this machine does it.
        """
        if not (folder / CORPUS).exists():
            raise DataError(
                f"There are no finished token shards at {folder}.", WRITTEN_AGAIN.format(folder)
            )
        index = read_index(folder)
        corpus = ShardList(folder, index["vocab_size"], index["masked"], index["fingerprints"])
        parts, masks, offsets, total = [], [], [np.zeros(1, np.int64)], 0
        for i, shard in enumerate(corpus.shards):
            if fault := corpus.fault(i, checksums, LARGE):
                raise damaged(shard, fault)
            part, ends, mask = map_shard(shard, corpus.vocab_size, corpus.masked)
            parts.append(part)
            masks += [] if mask is None else [mask]
            offsets.append(ends[1:] + total)
            total += len(part)
        if index != corpus.index():
            raise DataError(
                f"{folder / CORPUS} does not agree with the shards beside it.",
                WRITTEN_AGAIN.format(folder / CORPUS),
            )
        checks = ShardChecks(corpus.shards, corpus.vocab_size) if checksums else None
        shards = TokenShards(
            parts,
            np.concatenate(offsets),
            corpus.vocab_size,
            masks if corpus.masked else None,
            index["fingerprint"],
            checks,
        )
        if checks is not None and corpus.checked_later:
            checks.start()
        else:
            shards._require_shards(range(len(parts)))
        return shards
