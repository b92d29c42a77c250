"""Training steps from token shards: packed rows for pretraining and mid-training, whole
conversations for SFT.

A step is a number of consecutive rows of the epoch's order, whatever the number of processes; rank
r of W takes every W-th of them from r on. So the whole state is {"epoch", "row"}, and means the
same on another number of processes. A step may run over into the next epoch.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from chatling.data import IGNORE
from chatling.data.packing import PackedRows, RowRef
from chatling.data.shuffle import seeded_order
from chatling.data.token_shards import TokenShards
from chatling.errors import DataError, RecipeError

Item = TypeVar("Item")


@dataclass(frozen=True)
class MicroBatch:
    """What one forward and backward pass takes. `targets[b, t]` is the token after `inputs[b,
    t]`.
    """

    inputs: np.ndarray  # (B, T) int32
    targets: np.ndarray  # (B, T) int64, IGNORE where not learnt


@dataclass(frozen=True)
class Step:
    """One optimizer step's share of a rank."""

    # dataclasses of numpy arrays, whose fields the loss takes by name; a MicroBatch for next-token
    # stages
    micro_batches: tuple[Any, ...]
    count: int  # targets that are trained on, on this rank
    state: dict[
        str, Any
    ]  # JSON to go on after this step: {"epoch", "row"}, and what else the source needs
    position: str  # "epoch:row" of the step's first row
    tokens: int  # inputs of the whole step on all ranks, padding left out
    metrics: Mapping[str, float] = field(
        default_factory=dict
    )  # join the step's line in metrics.jsonl; the same on every rank


class StepSource(Protocol):
    """Steps without end, from the beginning or from the state after a step."""

    def steps(self, state: dict[str, Any] | None = None) -> Iterator[Step]: ...


class BatchSource(StepSource, Protocol):
    """Steps of rows that are counted, and can be read once, for validation."""

    @property
    def rows_per_epoch(self) -> int: ...
    def once(self, tokens: int | None = None) -> Iterator[MicroBatch]: ...


class PretrainBatches:
    """Packed rows, learnt whole. All micro batches are (micro_rows, T)."""

    def __init__(
        self, rows: PackedRows, rows_per_step: int, micro_rows: int, rank: int = 0, world: int = 1
    ):
        """`rows_per_step` counts all ranks. Raises RecipeError when it is not a multiple of
        micro_rows times world.
        """
        _check_division(rows_per_step, micro_rows, world, "rows")
        self.rows, self.rows_per_step, self.micro_rows, self.rank, self.world = (
            rows,
            rows_per_step,
            micro_rows,
            rank,
            world,
        )

    @property
    def rows_per_epoch(self) -> int:
        return self.rows.row_count

    def steps(self, state: dict[str, Any] | None = None) -> Iterator[Step]:
        epoch, row = _position(state)
        refs = self._refs(epoch, row)
        while True:
            step = [next(refs) for _ in range(self.rows_per_step)]
            self._require(step)
            share = step[self.rank :: self.world]
            micro = tuple(map(self._micro, _chunks(share, self.micro_rows)))
            count, tokens = (
                sum(ref.targets for ref in share),
                sum(min(ref.targets + 1, self.rows.row_tokens) for ref in step),
            )
            yield _step(
                micro,
                count,
                (step[0].epoch, step[0].row),
                (step[-1].epoch, step[-1].row + 1),
                tokens,
            )

    def once(self, tokens: int | None = None) -> Iterator[MicroBatch]:
        """This rank's share of the first epoch's rows, each row once: all of them, or the first
        that hold `tokens` tokens.
        """
        last = None if tokens is None else max(1, -(-tokens // self.rows.row_tokens))
        read = list(itertools.islice(self.rows.refs(0), last))
        self._require(read)
        share = read[self.rank :: self.world]
        return (
            _filled(self._micro(chunk), self.micro_rows, self.rows.bos)
            for chunk in _chunks(share, self.micro_rows)
        )

    def _require(self, refs: Sequence[RowRef]) -> None:
        """The rows of all ranks: the one that checks the files does so for the others, too, and
        they meet before any learns from them.
        """
        self.rows.shards.require(start for ref in refs for start, _ in ref.pieces)

    def _refs(self, epoch: int, row: int) -> Iterator[RowRef]:
        while True:
            yield from self.rows.refs(epoch, row)
            epoch, row = epoch + 1, 0

    def _micro(self, share: Sequence[RowRef]) -> MicroBatch:
        inputs = np.empty((len(share), self.rows.row_tokens), np.int32)
        targets = np.empty((len(share), self.rows.row_tokens), np.int64)
        for b, ref in enumerate(share):
            row = self.rows.read(ref)
            inputs[b], targets[b] = row[:-1], row[1:]
            inputs[b, ref.targets + 1 :] = self.rows.bos  # padding, only in an epoch's last row
        return MicroBatch(inputs, targets)


class ConversationBatches:
    """Whole conversations in a seeded order of each epoch, learnt where their mask says so.

    A rank's share of a step is sorted by length and cut into micro batches, each padded to its
    longest conversation, rounded up to a multiple of `pad_to_multiple_of` (at most `max_tokens`):
    `pad_to_multiple_of = max_tokens` gives every micro batch the same shape.
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
    ):
        """`conversations_per_step` counts all ranks. Raises RecipeError when it is not a multiple
        of micro_rows times world, and DataError when the shards hold no conversations with masks.
        """
        _check_division(conversations_per_step, micro_rows, world, "conversations")
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
        self.shards, self.rows_per_step, self.micro_rows, self.rank, self.world = (
            shards,
            conversations_per_step,
            micro_rows,
            rank,
            world,
        )
        self.bos, self.seed, self.max_tokens, self.pad_to_multiple_of = (
            bos,
            seed,
            max_tokens,
            pad_to_multiple_of,
        )
        self.cropped = int(
            (shards.lengths > max_tokens).sum()
        )  # conversations whose end is cut off, per epoch

    @property
    def rows_per_epoch(self) -> int:
        return self.shards.documents

    def steps(self, state: dict[str, Any] | None = None) -> Iterator[Step]:
        epoch, row = _position(state)
        rows = self._conversations(epoch, row)
        lengths = np.minimum(self.shards.lengths, self.max_tokens)
        while True:
            step = [next(rows) for _ in range(self.rows_per_step)]
            share = sorted(
                (int(lengths[document]), document)
                for _, _, document in step[self.rank :: self.world]
            )
            micro = tuple(map(self._micro, _chunks(share, self.micro_rows)))
            tokens = int(sum(lengths[document] for _, _, document in step))
            count = sum(int((batch.targets != IGNORE).sum()) for batch in micro)
            yield _step(micro, count, step[0][:2], (step[-1][0], step[-1][1] + 1), tokens)

    def once(self, tokens: int | None = None) -> Iterator[MicroBatch]:
        """This rank's share of the conversations, each once: all of them, or the first that hold
        `tokens` tokens.
        """
        order = seeded_order(self.shards.documents, self.seed, 0)
        lengths = np.minimum(self.shards.lengths, self.max_tokens)[order]
        last = (
            len(order) if tokens is None else int(np.searchsorted(np.cumsum(lengths), tokens)) + 1
        )
        share = sorted(
            zip(
                lengths[self.rank : last : self.world].tolist(),
                order[self.rank : last : self.world].tolist(),
                strict=True,
            )
        )
        return (
            _filled(self._micro(chunk), self.micro_rows, self.bos)
            for chunk in _chunks(share, self.micro_rows)
        )

    def _conversations(self, epoch: int, row: int) -> Iterator[tuple[int, int, int]]:
        """(epoch, row, document) from a place on, without end."""
        while True:
            order = seeded_order(self.shards.documents, self.seed, epoch)
            for place in range(row, len(order)):
                yield epoch, place, int(order[place])
            epoch, row = epoch + 1, 0

    def _micro(self, share: Sequence[tuple[int, int]]) -> MicroBatch:
        width = min(
            -(-share[-1][0] // self.pad_to_multiple_of) * self.pad_to_multiple_of, self.max_tokens
        )
        inputs = np.full((len(share), width), self.bos, np.int32)
        targets = np.full((len(share), width), IGNORE, np.int64)
        for b, (length, document) in enumerate(share):
            ids, mask = self.shards.document(document)[:length], self.shards.mask(document)
            assert mask is not None
            inputs[b, 1:length] = ids[:-1]  # bos stands in front
            targets[b, :length] = np.where(mask[:length], ids.astype(np.int64), IGNORE)
        return MicroBatch(inputs, targets)


def _chunks(share: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Runs of `size`; the last may be shorter."""
    return (share[at : at + size] for at in range(0, len(share), size))


def _filled(micro: MicroBatch, rows: int, bos: int) -> MicroBatch:
    """A micro-batch with rows of nothing to learn added up to `rows`: one shape, compiled once."""
    missing = ((0, rows - len(micro.inputs)), (0, 0))
    return MicroBatch(
        np.pad(micro.inputs, missing, constant_values=bos),
        np.pad(micro.targets, missing, constant_values=IGNORE),
    )


def _step(
    micro_batches: tuple[MicroBatch, ...],
    count: int,
    first: tuple[int, int],
    after: tuple[int, int],
    tokens: int,
) -> Step:
    return Step(
        micro_batches, count, {"epoch": after[0], "row": after[1]}, f"{first[0]}:{first[1]}", tokens
    )


def _position(state: dict[str, Any] | None) -> tuple[int, int]:
    return (state["epoch"], state["row"]) if state else (0, 0)


def _check_division(per_step: int, micro_rows: int, world: int, unit: str) -> None:
    if min(per_step, micro_rows, world) < 1 or per_step % (micro_rows * world):
        raise RecipeError(
            f"A step of {per_step} {unit} does not divide into micro batches of {micro_rows} on"
            f" {world} process(es).",
            f"Make {unit} per step a multiple of {micro_rows * world}, or choose another micro"
            " batch.",
        )


@dataclass(frozen=True)
class _Failure:
    error: BaseException


def prefetch(iterator: Iterator[Item], depth: int = 4) -> Generator[Item, None, None]:
    """The same items, made by a background thread that stays up to `depth` items ahead of the
    consumer.

    The iterator's exceptions are raised in the consumer. The thread starts with the first item
    asked for, and ends when the iterator does, when the generator is closed, or when it is dropped.
    """
    ready: queue.Queue[Any] = queue.Queue(depth)
    stop, end = threading.Event(), object()

    def fill() -> None:
        try:
            for item in iterator:
                ready.put(item)
                if stop.is_set():
                    return
            ready.put(end)
        except BaseException as error:  # whatever it was, the consumer must hear of it
            ready.put(_Failure(error))

    thread = threading.Thread(target=fill, name="chatling-prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not end:
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        stop.set()
        while True:
            with contextlib.suppress(
                queue.Empty
            ):  # make room, so that a waiting thread sees `stop`
                while True:
                    ready.get_nowait()
            # the garbage collector may run this in the thread itself, which cannot wait for its own
            # end
            if thread is threading.current_thread() or not thread.is_alive():
                break
            thread.join(0.01)
