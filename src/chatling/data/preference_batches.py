"""Preference pairs as token shards, and as batches for DPO."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chatling.data import IGNORE
from chatling.data.loaders import RowBatches, masked_row, padded
from chatling.data.mixtures import Mapped
from chatling.data.preferences import Preference
from chatling.data.shuffle import seeded_order
from chatling.data.token_shards import TokenShards
from chatling.errors import DataError, RecipeError
from chatling.messages import Conversation
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import Rendered, render


def rendered_pairs(tokenizer: Tokenizer, pairs: Sequence[Preference]) -> Mapped[int, Rendered]:
    """Pairs as documents to be written as shards: 2 i is the chosen answer of pair i, 2 i + 1 the
    rejected one, each after its prompt.

    Only the answer is trained on: an earlier turn of the assistant is part of the prompt.
    """

    def rendered(index: int) -> Rendered:
        pair = pairs[index // 2]
        answer = pair.rejected if index % 2 else pair.chosen
        whole = render(tokenizer, Conversation((*pair.prompt.messages, answer)))
        # and the assistant's opening token
        given = len(render(tokenizer, pair.prompt).ids) + 1
        return Rendered(whole.ids, [False] * given + whole.mask[given:])

    return Mapped(range(2 * len(pairs)), rendered)


@dataclass(frozen=True)
class PairBatch:
    """What one forward and backward pass takes: P chosen answers, then their P rejected ones. Rows
    without targets fill it up.
    """

    inputs: np.ndarray  # (2 P, T) int32
    targets: np.ndarray  # (2 P, T) int64, IGNORE where not the answer
    # (2 P,) float32, log-probability of each answer under the model that training began with
    reference: np.ndarray
    places: np.ndarray  # (N,) int64, where targets count in the flattened rows


class PreferenceBatches(RowBatches[int]):
    """Steps of pairs, both answers of a pair in one micro-batch. The state is {"epoch", "row"}, as
    for other batches.
    """

    def __init__(
        self,
        shards: TokenShards,
        pairs_per_step: int,
        micro_tokens: int,
        rank: int = 0,
        world: int = 1,
        *,
        bos: int,
        seed: int,
        max_tokens: int,
        pad_to_multiple_of: int,
        one_shape: bool = False,
    ):
        """Pairs with an answer beyond `max_tokens` are left out: cut short, it would not be the
        answer that was judged.

        `micro_tokens` bounds a micro-batch; `one_shape` pads all of them alike, for compiled
        models. Raises RecipeError when the pairs of a step do not divide over the ranks, DataError
        when no pair fits.
        """
        if pairs_per_step % world:
            raise RecipeError(
                f"{pairs_per_step} pairs a step do not divide over {world} processes.",
                "Change dpo.batch_pairs.",
            )
        self.rows_per_step, self.rank, self.world = pairs_per_step, rank, world
        self.shards, self.micro_tokens, self.bos, self.seed = shards, micro_tokens, bos, seed
        self.max_tokens, self.one_shape = max_tokens, one_shape
        self.pad_to_multiple_of = max_tokens if one_shape else pad_to_multiple_of
        self.lengths = np.asarray(shards.lengths).reshape(-1, 2).max(axis=1)
        self.usable = np.flatnonzero(self.lengths <= max_tokens)
        self.reference = np.zeros(shards.documents, np.float32)
        if not len(self.usable):
            raise DataError(
                f"None of {len(self.lengths)} preference pairs fits the model's context of"
                f" {max_tokens} tokens."
            )

    @property
    def left_out(self) -> int:
        return len(self.lengths) - len(self.usable)

    def _epoch(self, epoch: int, start: int) -> Sequence[int]:
        order = seeded_order(len(self.usable), self.seed, epoch)[start:]
        pairs: list[int] = self.usable[order].tolist()
        return pairs

    def _tokens(self, row: int) -> int:
        return int(self.shards.lengths[2 * row] + self.shards.lengths[2 * row + 1])

    def _count(self, share: Sequence[int], micro_batches: Sequence[Any]) -> int:
        return len(share)

    def _micro_batches(self, share: Sequence[int]) -> Iterable[PairBatch]:
        return (batch for _, batch in self.batches(share))

    def once(self, most: int | None = None) -> Iterator[tuple[np.ndarray, PairBatch]]:
        """This rank's share of the pairs, each once, with their numbers: all of them, or `most` in
        the first epoch's order.
        """
        return self.batches(self._share(self._epoch(0, 0)[:most]))

    def batches(self, pairs: Sequence[int]) -> Iterator[tuple[np.ndarray, PairBatch]]:
        """Micro-batches of pairs alike in length, the longest first, so that memory runs out at
        once or not at all.
        """
        left = sorted(pairs, key=lambda pair: (-self.lengths[pair], pair))
        while left:
            longest = int(self.lengths[left[0]])
            width = padded(longest, self.pad_to_multiple_of, self.max_tokens)
            count = max(1, self.micro_tokens // (2 * width))
            taken, left = left[:count], left[count:]
            yield (
                np.array(taken),
                self._micro(taken, width, count if self.one_shape else len(taken)),
            )

    def _micro(self, pairs: Sequence[int], width: int, rows: int) -> PairBatch:
        inputs = np.full((2 * rows, width), self.bos, np.int32)
        targets = np.full((2 * rows, width), IGNORE, np.int64)
        reference = np.zeros(2 * rows, np.float32)
        for side in (0, 1):
            for row, pair in enumerate(pairs, side * rows):
                document = 2 * pair + side
                inputs[row], targets[row] = masked_row(self.shards, document, width, self.bos)
                reference[row] = self.reference[document]
        return PairBatch(inputs, targets, reference, np.flatnonzero(targets != IGNORE))
