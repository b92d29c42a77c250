"""Causal attention with optional sliding windows, and the rotary embedding of its queries and
keys.
"""

from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Kernel = Literal["sdpa", "plain", "flex"]
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


def rotary_tables(
    length: int, head_width: int, theta: float, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (length, E/2) in fp32 (RoFormer, arXiv 2104.09864)."""
    frequencies = theta ** (
        -torch.arange(0, head_width, 2, dtype=torch.float32, device=device) / head_width
    )
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


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention of q (B, H, T, E) over k, v (B, K, L, E) where a mask says so."""
    if q.is_cuda:  # no fast kernel there takes a mask and shared heads
        k, v = _for_each_head(q, k, v)
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped)


def _for_each_head(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """k and v (B, K, T, E) as (B, H, T, E)."""
    groups = q.shape[1] // k.shape[1]
    if groups == 1:
        return k, v
    return k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)


def _plain(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Two matrix products and a masked softmax: the fastest there is on a CPU at short contexts."""
    k, v = _for_each_head(q, k, v)
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
