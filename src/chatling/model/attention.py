"""Causal attention with optional sliding windows, and the rotary embedding of its queries and
keys.
"""

import math
from typing import Any, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import (
    activate_flash_attention_impl,
    current_flash_attention_impl,
    restore_flash_attention_impl,
)
from torch.nn.attention.varlen import varlen_attn

from chatling.errors import MachineError

Kernel = Literal["sdpa", "plain", "flex", "flash", "flash3", "flash4"]
# Flash attention with windows, by version of the library (arXiv 2307.08691, 2407.08608): what torch
# calls it, None where it brings it along, and its module
FLASH: dict[Kernel, tuple[str | None, str]] = {
    "flash": (None, "torch"),
    "flash3": ("FA3", "flash_attn_interface"),
    "flash4": ("FA4", "flash_attn.cute.interface"),
}
# Blocks of flex's backward pass for heads wider than 128: the usual ones need 112 KiB of shared
# memory, of which a GB10 has 99.
WIDE_HEADS: Any = {f"bwd_BLOCK_{side}": 32 for side in ("M1", "N1", "M2", "N2")}


class Cache(Protocol):
    """What decoding keeps between calls; the engine's key/value cache implements it."""

    positions: Tensor  # (B, T) int64, absolute positions of the incoming tokens
    # (B, 1) int64, the token before each row's first, -1 where there is none; or (B, T), the one
    # before each
    previous: Tensor

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
        """Store k and v (B, T, K, E), attend with q (B, T, H, E) over everything cached; returns
        (B, T, H, E).
        """
        ...


SLOW, FAST = 1, 32  # turns in the old context; of the paper, for Llama


class Yarn(NamedTuple):
    """YaRN's interpolation by parts (arXiv 2309.00071, section 3.2): wavelengths that turn less
    than SLOW times in the context that a model was trained in are stretched by the factor, those
    that turn more than FAST times stay, and between the two a share of both is taken.
    """

    factor: float
    context: int  # that the model was trained in

    def frequencies(self, given: Tensor, head_width: int, theta: float) -> Tensor:
        """What becomes of a head's frequencies (E/2,)."""

        def place(turns: int) -> float:
            """Of the frequency that turns so often, as an index."""
            return (
                head_width * math.log(self.context / (turns * 2 * math.pi)) / (2 * math.log(theta))
            )

        low = max(math.floor(place(FAST)), 0)
        high = min(math.ceil(place(SLOW)), head_width - 1)
        index = torch.arange(len(given), dtype=torch.float32, device=given.device)
        stretched = ((index - low) / max(high - low, 0.001)).clamp(0, 1)
        return given / self.factor * stretched + given * (1 - stretched)


def rotary_tables(
    length: int,
    head_width: int,
    theta: float,
    device: torch.device | None = None,
    yarn: Yarn | None = None,
) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (length, E/2) in fp32 (RoFormer, arXiv 2104.09864)."""
    frequencies = theta ** (
        -torch.arange(0, head_width, 2, dtype=torch.float32, device=device) / head_width
    )
    if yarn is not None:
        frequencies = yarn.frequencies(frequencies, head_width, theta)
    angles = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequencies)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the two halves of each head by minus the angle. x (B, T, H, E); cos, sin broadcast to
    (B, T, 1, E/2).
    """
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos + right * sin, right * cos - left * sin), dim=-1)


def visible(queries: int, window: int, device: torch.device) -> Tensor:
    """(T, T) bool: key j is visible to query i iff j <= i and, with a window, i - j < window."""
    i = torch.arange(queries, device=device)
    distance = i[:, None] - i[None, :]
    return (distance >= 0) & (distance < window) if window else distance >= 0


def attend(q: Tensor, k: Tensor, v: Tensor, window: int, kernel: Kernel) -> Tensor:
    """Causal attention of q (B, T, H, E) over k, v (B, T, K, E); returns (B, T, H, E)."""
    length = q.shape[1]
    if window >= length:
        window = 0
    if kernel in FLASH:
        return _flash(q, k, v, window)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    if kernel == "plain":
        out = _plain(q, k, v, window)
    elif not window:
        grouped = q.shape[1] != k.shape[1]
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    elif kernel == "flex" and torch.compiler.is_compiling():  # uncompiled it makes all scores
        out = _flex(q, k, v, window)
    else:
        out = masked_attention(q, k, v, visible(length, window, q.device))
    return out.transpose(1, 2)


def select_flash(kernel: Kernel) -> None:
    """Let torch compute flash attention in this process by the library that a kernel names, or by
    its own. Raises MachineError where it is not installed.
    """
    implementation, module = FLASH.get(kernel, (None, ""))
    if implementation == current_flash_attention_impl():
        return
    if implementation is None:
        restore_flash_attention_impl()
        return
    try:
        activate_flash_attention_impl(implementation)
    except (ImportError, RuntimeError) as error:
        raise MachineError(
            f"The attention kernel {kernel} needs {module}: {error}",
            "Install it, or choose another machine.kernel for another run.",
        ) from error


def _flash(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Attention (B, T, H, E) over rows that lie one behind the other."""
    rows, length = q.shape[:2]
    starts = torch.arange(0, (rows + 1) * length, length, dtype=torch.int32, device=q.device)
    out = varlen_attn(
        q.flatten(0, 1),
        k.flatten(0, 1),
        v.flatten(0, 1),
        starts,
        starts,
        length,
        length,
        window_size=(window - 1 if window else -1, 0),
        enable_gqa=q.shape[2] != k.shape[2],
    )
    assert isinstance(out, Tensor)
    return out.view(q.shape)


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention of q (B, H, T, E) over k, v (B, K, L, E) where a mask says so."""
    if q.is_cuda:  # no fast kernel there takes a mask and shared heads
        k, v = for_each_head(q, k, v)
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped)


def for_each_head(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """k and v (B, K, T, E) as (B, H, T, E)."""
    groups = q.shape[1] // k.shape[1]
    if groups == 1:
        return k, v
    return k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)


def _plain(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Two matrix products and a masked softmax: the fastest there is on a CPU at short contexts."""
    k, v = for_each_head(q, k, v)
    scores = q @ k.transpose(-2, -1)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~visible(q.shape[2], window, q.device), float("-inf"))
    return scores.softmax(dim=-1).to(v.dtype) @ v


def _flex(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Windowed attention that skips the blocks outside the window; meant to be called inside a
    compiled block.
    """
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def mask(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (j <= i) & (i - j < window)

    block_mask = create_block_mask(mask, None, None, q.shape[2], q.shape[2], device=q.device)
    grouped, options = q.shape[1] != k.shape[1], WIDE_HEADS if q.shape[3] > 128 else None
    out = flex_attention(q, k, v, block_mask=block_mask, enable_gqa=grouped, kernel_options=options)
    assert isinstance(out, Tensor)
    return out
