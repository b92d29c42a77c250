"""The static key/value cache: slots of equal length, filled at different places, and what one
forward pass sees of them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from chatling.inference import cpu_kernels
from chatling.inference.cpu_attention import attend_in_blocks, attend_one_query
from chatling.model.attention import masked_attention
from chatling.model.config import ModelConfig

# Attention reads a multiple of this many positions, enough for the longest row; the rest is masked.
# A masked position adds an exact zero, and in whole multiples of 64, taken in blocks, the sums
# group the same way, so a row's bits do not depend on its neighbors' lengths (tested).
EXTENT = 64


class KVCache:
    """Keys and values of `slots` sequences of at most `length` tokens. `Pass` reads and writes
    them.

    A slot starts over by beginning at 0: what it held before is masked until it is overwritten.
    """

    def __init__(
        self,
        config: ModelConfig,
        slots: int,
        length: int,
        dtype: torch.dtype,
        device: torch.device,
        *,
        compiled: bool = False,
    ):
        self.slots, self.length, self.kv_heads = slots, length, config.kv_heads
        self.windows = {config.window(layer) for layer in range(config.depth)}
        self.reach = reach = _reach(length)
        shape = (
            slots + 1,
            config.kv_heads,
            reach,
            config.head_width,
        )  # the last slot takes what padding writes
        # a tensor a layer: compiled code that writes into a part of one tensor copies the whole
        self.keys, self.values = (
            [
                torch.zeros(shape, dtype=storage_dtype(dtype, device, compiled), device=device)
                for _ in range(config.depth)
            ]
            for _ in range(2)
        )
        self.wide = storage_dtype(dtype, device, False)  # what attention computes in
        self.columns = torch.arange(reach, device=device)
        self.on_cpu = device.type == "cpu"
        self.native = (
            self.on_cpu
            and compiled
            and self.keys[0].dtype in (torch.float32, torch.bfloat16)
            and cpu_kernels.available()
        )

    def seen_by(self, longest: int) -> Tensor:
        """The cached positions (extent,) that a pass has to read so that a row of `longest` tokens
        fits.

        Raises IndexError when a slot is not that long.
        """
        if longest > self.length:
            raise IndexError(f"{longest} tokens do not fit a cache of {self.length}.")
        return self.columns[: -(-longest // EXTENT) * EXTENT]

    def copy(self, sources: Sequence[int], targets: Sequence[int], length: int) -> None:
        """The first `length` tokens of each source slot become those of its target."""
        for storage in (*self.keys, *self.values):
            storage[targets, :, :length] = storage[sources, :, :length]


def storage_dtype(dtype: torch.dtype, device: torch.device, compiled: bool) -> torch.dtype:
    """A CPU's attention kernel is faster in fp32 than in bf16 at one query a row. Compiled code
    widens what it reads on the way.
    """
    return (
        torch.float32
        if device.type == "cpu" and dtype == torch.bfloat16 and not compiled
        else dtype
    )


def bytes_per_slot(
    config: ModelConfig,
    length: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    compiled: bool = False,
) -> int:
    """What one slot of `length` tokens takes."""
    numbers = 2 * config.depth * config.kv_heads * config.head_width * _reach(length)
    return numbers * storage_dtype(dtype, device, compiled).itemsize


def _reach(length: int) -> int:
    """Positions in a slot: one more than is ever read, for a compiler that sees the whole taken
    would make code for that case only.
    """
    return -(-length // EXTENT) * EXTENT + 1


class Pass:
    """The cache as one forward pass sees it: implements `model.attention.Cache`. Made of tensors
    only, so that it compiles.
    """

    def __init__(
        self,
        cache: KVCache,
        starts: Tensor,
        lengths: Tensor,
        previous: Tensor,
        columns: Tensor,
        tokens: int = 1,
        slots: Tensor | None = None,
    ):
        """Row b brings `tokens` tokens to slot `slots[b]` (default: b), the first at position
        `starts[b]`, after the token `previous[b]`.

        Of them only the first `lengths[b]` are kept. `columns` is `cache.seen_by` of the furthest
        row. All int64, (B,) but `columns`.
        """
        steps = torch.arange(tokens, device=starts.device)
        rows = torch.arange(len(starts), device=starts.device) if slots is None else slots
        self.cache, self.previous, self.columns, self.slots = (
            cache,
            previous[:, None],
            columns,
            slots,
        )
        self.positions = (starts[:, None] + steps).clamp_max(cache.length - 1)  # (B, T)
        owner = torch.where(
            steps < lengths[:, None], rows[:, None], cache.slots
        )  # (B, T): padding goes to the spare slot
        heads = torch.arange(cache.kv_heads, device=starts.device)[:, None]
        self.place = (
            (owner[:, None] * cache.kv_heads + heads) * cache.reach + self.positions[:, None]
        ).flatten()  # (B * K * T,)
        self.masks = {window: self._mask(window) for window in cache.windows}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
        """Store k and v (B, T, K, E) and attend with q (B, T, H, E) over everything cached; returns
        (B, T, H, E).
        """
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        self._store(keys, k)
        self._store(values, v)
        if self.cache.native and q.shape[1] == 1 and self.slots is None:
            out = cpu_kernels.attend_one(
                q[:, 0].float().contiguous(),
                keys,
                values,
                self.positions[:, 0].contiguous(),
                window,
            )
            return out[:, None].to(q.dtype)
        keys, values = self._held(keys), self._held(values)
        queries, mask = q.transpose(1, 2).to(self.cache.wide), self.masks[window]
        if not self.cache.on_cpu:
            attend = masked_attention
        else:
            attend = attend_one_query if q.shape[1] == 1 else attend_in_blocks
        out = attend(queries, keys, values, mask)
        return out.transpose(1, 2).to(q.dtype)

    def _store(self, storage: Tensor, fresh: Tensor) -> None:
        """Write fresh (B, T, K, E) into one layer's storage (R + 1, K, L, E)."""
        width = fresh.shape[-1]
        storage.view(-1, width).index_copy_(
            0, self.place, fresh.transpose(1, 2).reshape(-1, width).to(storage.dtype)
        )

    def _held(self, storage: Tensor) -> Tensor:
        """What the rows' slots hold, (B, K, extent, E), in the dtype that attention computes in."""
        near = storage.narrow(2, 0, len(self.columns))
        return (near[: len(self.positions)] if self.slots is None else near[self.slots]).to(
            self.cache.wide
        )

    def _mask(self, window: int) -> Tensor:
        """(B, 1, T, extent): 0 where key j is visible to query i (j <= i; with a window, i - j <
        window), else -inf.
        """
        distance = self.positions[:, None, :, None] - self.columns
        hidden = distance < 0
        if window and window < self.cache.length:
            hidden = hidden | (distance >= window)
        return torch.zeros(hidden.shape, dtype=self.cache.wide, device=hidden.device).masked_fill(
            hidden, float("-inf")
        )
