"""Rows for pretraining: whole documents by best fit, one split where a gap is left, no padding,
nothing thrown away.

Fewer truncations improve language modeling: Ding et al. 2024, https://arxiv.org/abs/2404.10830;
here the gap is filled as well.
"""

from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from chatling.data import IGNORE
from chatling.data.shuffle import random_words, seeded_order
from chatling.data.token_shards import TokenShards
from chatling.errors import DataError

BLOCK_DOCUMENTS = 65_536


@dataclass(frozen=True)
class Plan:
    """Which pieces of text make which rows. A piece is a corpus position and a length, and costs
    one token more for its bos.
    """

    starts: np.ndarray  # (pieces,) int64 corpus positions, row after row
    lengths: np.ndarray  # (pieces,) int64
    bounds: np.ndarray  # (rows + 1,) row r holds the pieces bounds[r] to bounds[r + 1]

    @property
    def rows(self) -> int:
        return len(self.bounds) - 1


@dataclass(frozen=True)
class RowRef:
    """A row of an epoch that has not been read from disk yet."""

    epoch: int
    row: int
    pieces: tuple[tuple[int, int], ...]  # (corpus position, length)
    targets: int  # how many of its T targets are trained on: all but the padding


def best_fit(
    starts: np.ndarray,
    lengths: np.ndarray,
    row_tokens: int,
    whole: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[Plan, np.ndarray, np.ndarray]:
    """Pack pieces (none longer than `row_tokens`) into rows of `row_tokens + 1`, each piece with a
    bos in front.

    The longest piece that fits goes next; when none fits, the longest is cut to fill the row and
    its rest goes back into the pool. Pieces that are to stay `whole` (starts and lengths) go first
    wherever they fit; when nothing else is left to fill a row, it ends early. A single free place
    takes a lone bos. Returns the plan of the full rows, and starts and lengths of the pieces of the
    row left open.
    """
    free, stacks = _stacked(starts, lengths)
    kept, kept_stacks = _stacked(*whole) if whole else ([], {})
    out_starts: list[int] = []
    out_lengths: list[int] = []
    bounds, room = [0], row_tokens
    # room is what the next piece may be long: the free places less one for its bos
    while free or kept:
        sizes, pool, at = kept, kept_stacks, bisect_right(kept, room) - 1
        if at < 0 and not free:
            bounds.append(len(out_starts))
            room = row_tokens
            continue
        if at < 0:
            sizes, pool, at = free, stacks, bisect_right(free, room) - 1
        size = sizes[at]  # at -1 nothing fits, and this is the longest
        stack = pool[size]
        start = stack.pop()
        if not stack:
            del sizes[at], pool[size]
        if at < 0:
            rest = size - room
            if rest in stacks:
                stacks[rest].append(start + room)
            else:
                stacks[rest] = [start + room]
                insort(free, rest)
            size = room
        out_starts.append(start)
        out_lengths.append(size)
        room -= size + 1
        if room <= 0:
            bounds.append(len(out_starts))
            room = row_tokens
    used_starts, used_lengths, end = (
        np.array(out_starts, np.int64),
        np.array(out_lengths, np.int64),
        bounds[-1],
    )
    return (
        Plan(used_starts[:end], used_lengths[:end], np.array(bounds)),
        used_starts[end:],
        used_lengths[end:],
    )


def _stacked(starts: np.ndarray, lengths: np.ndarray) -> tuple[list[int], dict[int, list[int]]]:
    """The distinct lengths, ascending, and the pieces of each by their starts."""
    if not len(lengths):
        return [], {}
    by_length = np.argsort(lengths, kind="stable")
    sizes, firsts = np.unique(lengths[by_length], return_index=True)
    free: list[int] = sizes.tolist()
    stacks = np.split(starts[by_length], firsts[1:])
    return free, {size: stack.tolist() for size, stack in zip(free, stacks, strict=True)}


class PackedRows:
    """The rows of a corpus, a pure function of (shards, seed, epoch, row): exactly T+1 tokens, `bos
    piece bos piece …`.

    Documents are packed in blocks of neighbours; which of equally long documents goes where, the
    order of pieces in a row and of rows in a block depend on the seed and the epoch, the number of
    rows does not. A block's open row is packed again with the next block.
    """

    def __init__(
        self,
        shards: TokenShards,
        row_tokens: int,
        bos: int,
        seed: int,
        block_documents: int = BLOCK_DOCUMENTS,
    ):
        """`row_tokens` is T, the length of inputs and of targets. Raises DataError for an empty
        corpus.
        """
        if not shards.available(1):
            raise DataError(
                "The corpus is empty: there are no tokens to pack.",
                "Check the files and the text column of [data].",
            )
        self.shards, self.row_tokens, self.bos, self.seed, self.block_documents = (
            shards,
            row_tokens,
            bos,
            seed,
            block_documents,
        )

    @cached_property
    def row_count(self) -> int:
        """Rows an epoch; plans the whole corpus the first time (about a second for each 100 M
        tokens).
        """
        return sum(plan.rows for _, plan in self._plans(0))

    def rows(self, epoch: int, start: int = 0) -> Iterator[np.ndarray]:
        """Rows from `start` to the epoch's end, int32 (T+1,). In the very last one, the places left
        over hold IGNORE.
        """
        return map(self.read, self.refs(epoch, start))

    def refs(self, epoch: int, start: int = 0) -> Iterator[RowRef]:
        """What `rows` would read, so that a rank reads only its share."""
        first = 0
        for block, plan in self._plans(epoch):
            if start < first + plan.rows:
                # a seeded order inside the row, or the short documents would always stand last
                owner = np.repeat(np.arange(plan.rows), np.diff(plan.bounds))
                shuffled = np.lexsort((random_words(len(owner), self.seed, epoch, block, 1), owner))
                starts, lengths = plan.starts[shuffled].tolist(), plan.lengths[shuffled].tolist()
                # and of the rows, since best fit puts the longest documents into the first ones;
                # the short last row stays last
                order = seeded_order(plan.rows, self.seed, epoch, block, 2)
                for row in range(max(start, first), first + plan.rows):
                    begin, end = (
                        plan.bounds[order[row - first]],
                        plan.bounds[order[row - first] + 1],
                    )
                    used = sum(lengths[begin:end]) + int(end - begin)
                    # one free place takes a lone bos, more are the padding of the epoch's last row
                    targets = self.row_tokens if used >= self.row_tokens else used - 1
                    yield RowRef(
                        epoch,
                        row,
                        tuple(zip(starts[begin:end], lengths[begin:end], strict=True)),
                        targets,
                    )
            first += plan.rows

    def read(self, ref: RowRef) -> np.ndarray:
        """A row as int32 (T+1,)."""
        row = np.full(self.row_tokens + 1, self.bos, np.int32)
        at = 0
        for start, length in ref.pieces:
            row[at + 1 : at + 1 + length] = self.shards.read(start, length)
            at += length + 1
        row[ref.targets + 1 :] = IGNORE
        return row

    def mask(self, ref: RowRef) -> np.ndarray:
        """uint8 (T+1,) of a row of conversations, 1 where the token is an answer's."""
        row = np.zeros(self.row_tokens + 1, np.uint8)
        at = 0
        for start, length in ref.pieces:
            row[at + 1 : at + 1 + length] = self.shards.read_mask(start, length)
            at += length + 1
        return row

    def _blocks(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Starts and lengths of the documents of each block, none longer than a row, in a seeded
        order.
        """
        block = first = 0
        while (end := self.shards.available(first + self.block_documents)) > first:
            lengths = self.shards.lengths[first:end]
            order = seeded_order(len(lengths), self.seed, epoch, block, 0)
            yield _cut(
                self.shards.offsets[first : first + len(lengths)][order],
                lengths[order],
                self.row_tokens,
            )
            block, first = block + 1, end

    def _plans(self, epoch: int) -> Iterator[tuple[int, Plan]]:
        open_starts = open_lengths = np.empty(0, np.int64)
        block = 0
        for starts, lengths in self._blocks(epoch):
            pool = np.concatenate((open_starts, starts)), np.concatenate((open_lengths, lengths))
            plan, open_starts, open_lengths = best_fit(*pool, self.row_tokens)
            yield block, plan
            block += 1
        if len(open_starts):
            yield block, Plan(open_starts, open_lengths, np.array([0, len(open_starts)]))


class LongRows(PackedRows):
    """Rows of which a share of the tokens is long documents, each whole (of those that are longer
    than a row, the pieces). Where there are too few, only as many others are read as make the share
    right; where there are too many, the rest of them are cut where a row ends, as others are. The
    last row of each block is padded.
    """

    def __init__(
        self,
        shards: TokenShards,
        row_tokens: int,
        bos: int,
        seed: int,
        block_documents: int = BLOCK_DOCUMENTS,
        *,
        long_from: int,
        share: float,
    ):
        """Long are documents of `long_from` tokens on; `share` is above 0 and below 1."""
        super().__init__(shards, row_tokens, bos, seed, block_documents)
        self.long_from, self.share = long_from, share

    def _plans(self, epoch: int) -> Iterator[tuple[int, Plan]]:
        for block, (starts, lengths) in enumerate(self._blocks(epoch)):
            whole, others = self._chosen(lengths)
            pool, kept = ((starts[part], lengths[part]) for part in (others, whole))
            plan, open_starts, open_lengths = best_fit(*pool, self.row_tokens, kept)
            bounds = [
                *plan.bounds,
                *([plan.bounds[-1] + len(open_starts)] if len(open_starts) else []),
            ]
            yield (
                block,
                Plan(
                    np.concatenate((plan.starts, open_starts)),
                    np.concatenate((plan.lengths, open_lengths)),
                    np.array(bounds),
                ),
            )

    def _chosen(self, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which pieces of a block stay whole, and which others are read."""
        long = lengths >= self.long_from
        there, total = int(lengths[long].sum()), int(lengths.sum())
        if there > self.share * total:
            whole = long & (np.cumsum(np.where(long, lengths, 0)) <= self.share * total)
            return whole, ~whole
        rest = there * (1 - self.share) / self.share if there else total
        return long, ~long & (np.cumsum(np.where(long, 0, lengths)) <= rest)


def _cut(starts: np.ndarray, lengths: np.ndarray, row_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut documents longer than a row into pieces of a row each and a rest."""
    pieces = -(-lengths // row_tokens)
    # piece's number within its document
    nth = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    return np.repeat(starts, pieces) + nth * row_tokens, np.minimum(
        np.repeat(lengths, pieces) - nth * row_tokens, row_tokens
    )
