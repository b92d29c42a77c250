"""Training steps from token shards: packed rows for pretraining and mid-training, whole
conversations for SFT.

A step is a number of consecutive rows of the epoch's order, whatever the number of processes; rank
r of W takes every W-th of them from r on. So the whole state is {"epoch", "row"}, and means the
same on another number of processes. A step may run over into the next epoch.
"""

import itertools
import math
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from chatling.data import IGNORE
from chatling.data.packing import PackedRows, RowRef
from chatling.data.shuffle import seeded_order
from chatling.data.token_shards import TokenShards
from chatling.errors import DataError, RecipeError

FEW_LENGTHS = 8  # for a compiler, which makes up to seven graphs of a layer for each
Item = TypeVar("Item")
Row = TypeVar("Row")


@dataclass(frozen=True)
class MicroBatch:
    """What one forward and backward pass takes. `targets[b, t]` is the token after `inputs[b,
    t]`.
    """

    inputs: np.ndarray  # (B, T) int32
    targets: np.ndarray  # (B, T) int64, IGNORE where not trained on


@dataclass(frozen=True)
class Step:
    """One optimizer step's share of a rank."""

    # dataclasses of numpy arrays, whose fields the loss takes by name; a MicroBatch for next-token
    # stages
    micro_batches: tuple[Any, ...]
    count: int  # targets that are trained on, on this rank
    # JSON to resume after this step: {"epoch", "row"}, and what else the source needs
    state: dict[str, Any]
    position: str  # "epoch:row" of the step's first row
    tokens: int  # inputs of the whole step on all ranks, padding left out
    # join the step's line in metrics.jsonl; the same on every rank
    metrics: Mapping[str, float] = field(default_factory=dict)


class StepSource(Protocol):
    """Steps without end, from the beginning or from the state after a step."""

    def steps(self, state: dict[str, Any] | None = None) -> Iterator[Step]: ...


class RowBatches(ABC, Generic[Row]):
    """Steps of rows in the order of their epochs; a subclass says what a row is."""

    rows_per_step: int  # of all ranks
    rank: int
    world: int

    @abstractmethod
    def _epoch(self, epoch: int, start: int) -> Iterable[Row]:
        """The rows of an epoch in order, from one on."""

    @abstractmethod
    def _tokens(self, row: Row) -> int:
        """Inputs of a row, padding left out."""

    @abstractmethod
    def _micro_batches(self, share: Sequence[Row]) -> Iterable[Any]:
        """A rank's rows as what its forward and backward passes take."""

    def _count(self, share: Sequence[Row], micro_batches: Sequence[Any]) -> int:
        """What is trained on of a rank's share: targets, unless a subclass counts otherwise."""
        return sum(int((batch.targets != IGNORE).sum()) for batch in micro_batches)

    def _require(self, rows: Sequence[Row]) -> None:
        """Wait until the rows of all ranks can be read."""

    def _share(self, rows: Sequence[Row]) -> Sequence[Row]:
        return rows[self.rank :: self.world]

    def steps(self, state: dict[str, Any] | None = None) -> Iterator[Step]:
        """Steps without end, from the beginning or from the state after a step."""
        places = self._places(*((state["epoch"], state["row"]) if state else (0, 0)))
        while True:
            step = list(itertools.islice(places, self.rows_per_step))
            rows = [row for _, _, row in step]
            self._require(rows)
            share = self._share(rows)
            micro = tuple(self._micro_batches(share))
            (first_epoch, first, _), (epoch, last, _) = step[0], step[-1]
            yield Step(
                micro,
                self._count(share, micro),
                {"epoch": epoch, "row": last + 1},
                f"{first_epoch}:{first}",
                sum(map(self._tokens, rows)),
            )

    def _places(self, epoch: int, start: int) -> Iterator[tuple[int, int, Row]]:
        """(epoch, number in it, row) from a place on, without end."""
        while True:
            for place, row in enumerate(self._epoch(epoch, start), start):
                yield epoch, place, row
            epoch, start = epoch + 1, 0


class MicroBatches(RowBatches[Row]):
    """Steps of micro-batches of at most `micro_rows` rows, for next-token training."""

    def __init__(
        self, rows_per_step: int, micro_rows: int, rank: int, world: int, bos: int, unit: str
    ):
        """`rows_per_step` counts all ranks. Raises RecipeError when it is not a multiple of
        micro_rows times world.
        """
        if min(rows_per_step, micro_rows, world) < 1 or rows_per_step % (micro_rows * world):
            raise RecipeError(
                f"A step of {rows_per_step} {unit} does not divide into micro batches of"
                f" {micro_rows} on {world} process(es).",
                f"Make {unit} per step a multiple of {micro_rows * world}, or choose another micro"
                " batch.",
            )
        self.rows_per_step, self.micro_rows, self.bos = rows_per_step, micro_rows, bos
        self.rank, self.world = rank, world

    @property
    @abstractmethod
    def rows_per_epoch(self) -> int: ...

    @abstractmethod
    def _micro(self, chunk: Sequence[Row]) -> MicroBatch:
        """Some rows as a micro-batch."""

    def _micro_batches(self, share: Sequence[Row]) -> Iterable[MicroBatch]:
        """Runs of `micro_rows`; the last may be shorter."""
        size = self.micro_rows
        return (self._micro(share[at : at + size]) for at in range(0, len(share), size))

    def once(self, tokens: int | None = None) -> Iterator[MicroBatch]:
        """This rank's share of the first epoch's rows, each row once: all of them, or the first
        that hold `tokens` tokens.
        """
        rows = list(self._first(tokens))
        self._require(rows)
        return map(self._filled, self._micro_batches(self._share(rows)))

    def _first(self, tokens: int | None) -> Iterator[Row]:
        held = 0
        for row in self._epoch(0, 0):
            yield row
            held += self._tokens(row)
            if tokens is not None and held >= tokens:
                return

    def _filled(self, micro: MicroBatch) -> MicroBatch:
        """With rows of nothing to learn added up to `micro_rows`: one shape, compiled once."""
        missing = ((0, self.micro_rows - len(micro.inputs)), (0, 0))
        return MicroBatch(
            np.pad(micro.inputs, missing, constant_values=self.bos),
            np.pad(micro.targets, missing, constant_values=IGNORE),
        )


class PretrainBatches(MicroBatches[RowRef]):
    """Packed rows, trained on whole, or of conversations on the answers only. All micro batches
    are (micro_rows, T).
    """

    def __init__(
        self,
        rows: PackedRows,
        rows_per_step: int,
        micro_rows: int,
        rank: int = 0,
        world: int = 1,
        *,
        answers_only: bool = False,
    ):
        super().__init__(rows_per_step, micro_rows, rank, world, rows.bos, "rows")
        self.rows, self.answers_only = rows, answers_only

    @property
    def rows_per_epoch(self) -> int:
        return self.rows.row_count

    def _epoch(self, epoch: int, start: int) -> Iterable[RowRef]:
        return self.rows.refs(epoch, start)

    def _tokens(self, row: RowRef) -> int:
        return min(row.targets + 1, self.rows.row_tokens)

    def _require(self, rows: Sequence[RowRef]) -> None:
        """The rows of all ranks: the one that checks the files does so for the others, too, and
        they meet before any learns from them.
        """
        self.rows.shards.require(start for ref in rows for start, _ in ref.pieces)

    def _micro(self, chunk: Sequence[RowRef]) -> MicroBatch:
        rows = np.stack([self.rows.read(ref) for ref in chunk])
        inputs, targets = rows[:, :-1].copy(), rows[:, 1:].astype(np.int64)
        inputs[inputs == IGNORE] = self.bos  # padding, only in an epoch's last row
        if self.answers_only:
            asked = np.stack([self.rows.mask(ref) for ref in chunk])[:, 1:] == 0
            targets[asked] = IGNORE
        return MicroBatch(inputs, targets)


class ConversationBatches(MicroBatches[int]):
    """Whole conversations in a seeded order of each epoch, trained on where their mask says so.

    A rank's share of a step is sorted by length and cut into micro batches, each padded to its
    longest conversation, rounded up to a multiple of `pad_to_multiple_of` (at most `max_tokens`):
    `pad_to_multiple_of = max_tokens` gives every micro batch the same shape, `few_lengths` one of
    a few lengths.
    """

    def __init__(
        self,
        shards: TokenShards,
        conversations_per_step: int,
        micro_rows: int,
        rank: int = 0,
        world: int = 1,
        *,
        bos: int,
        seed: int,
        max_tokens: int,
        pad_to_multiple_of: int = 64,
        few_lengths: bool = False,
    ):
        """`conversations_per_step` counts all ranks. Raises RecipeError when it is not a multiple
        of micro_rows times world, and DataError when the shards hold no conversations with masks.
        """
        super().__init__(conversations_per_step, micro_rows, rank, world, bos, "conversations")
        if not shards.has_mask or shards.documents == 0:
            raise DataError(
                "SFT needs token shards of conversations with masks; these hold none.",
                "`chatling run` writes them.",
            )
        if pad_to_multiple_of < 1 or max_tokens < 1:
            raise RecipeError(
                f"Conversations of {max_tokens} tokens cannot be padded to multiples of"
                f" {pad_to_multiple_of}.",
                "Make both at least 1.",
            )
        self.shards, self.seed = shards, seed
        self.max_tokens, self.pad_to_multiple_of = max_tokens, pad_to_multiple_of
        self.few_lengths = few_lengths
        self.lengths = np.minimum(shards.lengths, max_tokens)
        # conversations whose end is cut off, per epoch
        self.cropped = int((shards.lengths > max_tokens).sum())

    @property
    def rows_per_epoch(self) -> int:
        return self.shards.documents

    def _epoch(self, epoch: int, start: int) -> Iterable[int]:
        return map(int, seeded_order(self.shards.documents, self.seed, epoch)[start:])

    def _tokens(self, row: int) -> int:
        return int(self.lengths[row])

    def _micro_batches(self, share: Sequence[int]) -> Iterable[MicroBatch]:
        by_length = sorted(share, key=lambda document: (self.lengths[document], document))
        return super()._micro_batches(by_length)

    def _micro(self, chunk: Sequence[int]) -> MicroBatch:
        round_up = few_padded if self.few_lengths else padded
        width = round_up(self._tokens(chunk[-1]), self.pad_to_multiple_of, self.max_tokens)
        rows = [masked_row(self.shards, document, width, self.bos) for document in chunk]
        inputs, targets = map(np.stack, zip(*rows, strict=True))
        return MicroBatch(inputs, targets)


def padded(length: int, multiple: int, most: int) -> int:
    """A length rounded up to a multiple, at most `most`."""
    return min(-(-length // multiple) * multiple, most)


def few_padded(length: int, multiple: int, most: int) -> int:
    """Like `padded`, but to one of FEW_LENGTHS: where there are more multiples, to those that grow
    by the same factor.
    """
    steps, all_steps = -(-length // multiple), -(-most // multiple)
    if all_steps > FEW_LENGTHS:
        factor = all_steps ** (1 / (FEW_LENGTHS - 1))
        power = math.ceil(round(math.log(steps, factor), 9))
        steps = math.ceil(round(factor**power, 9))
    return min(steps * multiple, most)


def masked_row(
    shards: TokenShards, document: int, width: int, bos: int
) -> tuple[np.ndarray, np.ndarray]:
    """A document's inputs (width,) int32, bos in front, and its targets (width,) int64, IGNORE
    where its mask says so; cut to the width, or filled up with bos.
    """
    ids, mask = shards.document(document)[:width], shards.mask(document)
    assert mask is not None
    inputs, targets = np.full(width, bos, np.int32), np.full(width, IGNORE, np.int64)
    inputs[1 : len(ids)] = ids[:-1]
    targets[: len(ids)] = np.where(mask[:width], ids.astype(np.int64), IGNORE)
    return inputs, targets


def prefetch(iterator: Iterator[Item], depth: int = 4) -> Generator[Item, None, None]:
    """The same items, made by a background thread that stays up to `depth` items ahead of the
    consumer.

    The iterator's exceptions are raised in the consumer. The thread starts with the first item
    asked for, and ends with the last one, when the generator is closed, or when it is dropped.
    """
    end, consumer = object(), threading.current_thread()
    pool = ThreadPoolExecutor(1, "chatling-prefetch")

    def ahead() -> Future[Any]:
        return pool.submit(next, iterator, end)

    try:
        # one more is in the thread's hands
        ready = deque(ahead() for _ in range(depth + 1))
        while (item := ready.popleft().result()) is not end:
            ready.append(ahead())
            yield item
    finally:
        # the garbage collector may run this in the thread itself, which cannot wait for its own end
        pool.shutdown(wait=threading.current_thread() is consumer, cancel_futures=True)
