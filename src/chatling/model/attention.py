"""Causal attention with optional sliding windows, and the rotary embedding of its queries and
keys.
"""

from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Kernel = Literal["sdpa", "plain", "flex"]


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
    length, grouped = q.shape[1], q.shape[2] != k.shape[2]
    if window >= length:
        window = 0
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    if kernel == "plain":
        out = _plain(q, k, v, window)
    elif kernel == "flex" and window:
        out = _flex(q, k, v, window)
    elif window:
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=visible(length, window, q.device), enable_gqa=grouped
        )
    else:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    return out.transpose(1, 2)


def _plain(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Two matrix products and a masked softmax: the fastest there is on a CPU at short contexts."""
    if q.shape[1] != k.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
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
    out = flex_attention(q, k, v, block_mask=block_mask, enable_gqa=q.shape[1] != k.shape[1])
    assert isinstance(out, Tensor)
    return out
