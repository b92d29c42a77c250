"""The static key/value cache: one slot a row, rows at different positions, filled and emptied one by one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from chatling.model.config import ModelConfig

# Attention reads a multiple of this many positions, enough for the longest row; the rest is masked. A masked position adds an exact
# zero, and at whole multiples of 64 the sums group the same way, so a row's bits do not depend on its neighbours' lengths (tested).
EXTENT = 64


class KVCache:
    """Implements `model.attention.Cache` for R rows of at most `length` tokens.

    Call `begin` before every forward pass: it says which rows the batch holds and where each of them goes on. A row starts over by
    beginning at 0; what it held before is masked until it is overwritten.
    """

    def __init__(
        self, config: ModelConfig, rows: int, length: int, dtype: torch.dtype, device: torch.device, *, full_extent: bool = False
    ):
        """`full_extent` makes every decoding step read the whole length, masked: one shape, as compiled code wants it."""
        self.rows, self.length, self.full_extent = rows, length, full_extent
        self.windows = {config.window(layer) for layer in range(config.depth)}
        # On a CPU the skinny products of decoding are faster in fp32 than in bf16, and more exact.
        storage = torch.float32 if device.type == "cpu" and dtype == torch.bfloat16 else dtype
        reach = -(-length // EXTENT) * EXTENT
        shape = (rows + 1, config.kv_heads, reach, config.head_width)  # the last row takes what padding writes
        # a tensor a layer: compiled code that writes into a part of one tensor copies the whole
        self.keys = [torch.zeros(shape, dtype=storage, device=device) for _ in range(config.depth)]
        self.values = [torch.zeros(shape, dtype=storage, device=device) for _ in range(config.depth)]
        self.last = torch.zeros(rows + 1, 1, config.width, dtype=dtype, device=device) if config.smear else None
        self.grouped = config.heads != config.kv_heads
        self.columns = torch.arange(reach, device=device)
        self.origins = torch.arange((rows + 1) * config.kv_heads, device=device).view(rows + 1, -1) * reach  # (R + 1, K)
        self.begin([0] * rows)

    def begin(
        self, starts: Sequence[int], tokens: int = 1, *, rows: Sequence[int] | None = None, lengths: Sequence[int] | None = None
    ) -> None:
        """The next forward pass brings `tokens` tokens for each of `rows` (default: all), the first at position `starts[i]`.

        Of them only the first `lengths[i]` count (default: all); the padding behind stays out of the cache. A row number of -1 is
        padding as a whole. Raises IndexError when a row would grow beyond the cache's length.
        """
        counts = [tokens] * len(starts) if lengths is None else lengths
        longest = max(start + count for start, count in zip(starts, counts, strict=True))
        if longest > self.length:
            raise IndexError(f"{longest} tokens do not fit a cache of {self.length}.")
        device = self.columns.device
        self.extent = len(self.columns) if self.full_extent else -(-longest // EXTENT) * EXTENT
        self.batch = None if rows is None else torch.tensor([row % (self.rows + 1) for row in rows], device=device)
        origins = self.origins[: self.rows] if self.batch is None else self.origins[self.batch]
        self.positions = torch.tensor(starts, device=device)[:, None]
        self.place = origins[:, :, None] + self.positions[:, None]  # (B, K, T): where in a layer's storage each key goes
        self.ends = None
        self.started = torch.tensor([start > 0 for start in starts], device=device)[:, None, None]
        if tokens > 1:
            steps = torch.arange(tokens, device=device)
            length = torch.tensor(counts, device=device)[:, None]
            self.place = torch.where((steps < length)[:, None], self.place + steps, self.origins[-1, -1])
            self.positions = (self.positions + steps).clamp_max(self.length - 1)
            self.ends = (length - 1).clamp_min(0)[:, :, None]
        self.place = self.place.flatten()
        self.masks = {window: self._mask(window) for window in self.windows}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
        """Store k and v (B, T, K, E) and attend with q (B, T, H, E) over everything cached; returns (B, T, H, E)."""
        keys, values = self._store(self.keys[layer], k), self._store(self.values[layer], v)
        out = F.scaled_dot_product_attention(
            q.transpose(1, 2).to(keys.dtype), keys, values, attn_mask=self.masks[window], enable_gqa=self.grouped
        )
        return out.transpose(1, 2).to(q.dtype)

    def previous(self, x: Tensor) -> Tensor:
        """(B, T, D) of each token's predecessor, zeros before the first; remembers the last one."""
        assert self.last is not None
        rows = slice(self.rows) if self.batch is None else self.batch
        before = torch.cat((self.last[rows] * self.started, x[:, :-1]), dim=1)
        self.last[rows] = x if self.ends is None else x.gather(1, self.ends.expand(-1, 1, x.shape[-1]))
        return before

    def _store(self, storage: Tensor, fresh: Tensor) -> Tensor:
        """Write fresh (B, T, K, E) into one layer's storage (R + 1, K, L, E); returns what the batch's rows hold (B, K, extent, E)."""
        width = fresh.shape[-1]
        storage.view(-1, width).index_copy_(0, self.place, fresh.transpose(1, 2).reshape(-1, width).to(storage.dtype))
        held = storage[: self.rows] if self.batch is None else storage[self.batch]
        return held[:, :, : self.extent]

    def _mask(self, window: int) -> Tensor:
        """(B, 1, T, extent): 0 where key j is visible to query i (j <= i; with a window, i - j < window), else -inf."""
        distance = self.positions[:, None, :, None] - self.columns[: self.extent]
        hidden = distance < 0
        if window and window < self.extent:
            hidden = hidden | (distance >= window)
        return torch.zeros(hidden.shape, dtype=self.keys[0].dtype, device=hidden.device).masked_fill_(hidden, float("-inf"))
