"""How fast documents become training steps: planning alone, rows, and whole micro batches."""

import functools
import itertools
from collections import deque

import numpy as np

from chatling.bench.measure import Rows, figure, race
from chatling.data.loaders import PretrainBatches
from chatling.data.packing import PackedRows
from chatling.data.token_shards import TokenShards

VOCAB_SIZE = 65_536


def measure_packing(
    lengths: np.ndarray | None = None, row_tokens: int = 2048, repeats: int = 3
) -> Rows:
    """Rows {"measure", "value", "unit"} for documents of the given lengths, best of `repeats`.

    By default 40,000 documents of about 1,000 tokens, spread as web text is (log-normal). Ids are
    random and in memory.
    """
    random = np.random.default_rng(0)
    lengths = (
        np.maximum(1, random.lognormal(np.log(1000) - 0.5, 1.0, 40_000).astype(np.int64))
        if lengths is None
        else lengths
    )
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    shards = TokenShards(
        [random.integers(0, VOCAB_SIZE - 1, offsets[-1]).astype(np.uint16)], offsets, VOCAB_SIZE
    )
    packed = PackedRows(shards, row_tokens, bos=VOCAB_SIZE - 1, seed=0)
    pieces = [ref.pieces for ref in packed.refs(0)]
    split = sum(map(len, pieces)) - int((-(-lengths // row_tokens)).sum())
    batches = PretrainBatches(packed, rows_per_step=16, micro_rows=16)
    work = {
        "packing, plan": lambda: packed.refs(0),
        "packing, rows": lambda: packed.rows(0),
        "packing, steps": lambda: itertools.islice(batches.steps(), len(pieces) // 16),
    }

    def consume(name: str, turn: int) -> None:
        deque(work[name](), maxlen=0)

    times = race({name: functools.partial(consume, name) for name in work}, repeats)
    return [
        *(figure(name, shards.tokens / time / 1e6, "M tokens/s") for name, time in times.items()),
        figure("packing, documents split", 100 * split / len(lengths), "%"),
    ]
