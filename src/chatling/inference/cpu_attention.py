"""Attention over cached keys and values on a processor whose bits do not depend on how far it
reads.

A matrix library splits a long sum by its length: on AVX-512 at 384 terms, on others at 256. So keys
are taken in blocks that none of them splits, and blocks are joined in order by their log-sum-exps,
as in FlashAttention (Dao et al. 2022). A block of which a query sees nothing adds an exact zero.
"""

import torch
from torch import Tensor

from chatling.model.attention import for_each_head, masked_attention

BLOCK = 256  # keys


def attend_one_query(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention of one query q (B, H, 1, E) over k, v (B, K, L, E), step by step; `mask` (B, 1, 1,
    L) is 0 or -inf. Returns (B, H, 1, E).

    At one query the processor's attention kernel gives each thread a buffer that lies differently
    in memory, so that in fp32 a row's last bits depend on which thread takes it.
    """
    groups = q.view(q.shape[0], k.shape[1], -1, q.shape[-1]) * q.shape[-1] ** -0.5  # (B, K, H/K, E)
    shares = ((groups @ k.transpose(-2, -1)) + mask).softmax(-1)
    out = shares[..., :BLOCK] @ v[..., :BLOCK, :]
    for start in range(BLOCK, k.shape[2], BLOCK):
        end = start + BLOCK
        out = out + shares[..., start:end] @ v[..., start:end, :]
    return out.view_as(q)


def attend_in_blocks(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention of q (B, H, T, E) over k, v (B, K, L, E); `mask` (B, 1, T, L) is 0 or -inf, and
    every query sees a key. Returns (B, H, T, E).
    """
    if k.shape[2] <= BLOCK:
        return masked_attention(q, k, v, mask)
    k, v = for_each_head(q, k, v)
    seen, sums = [], []
    for block in (slice(start, start + BLOCK) for start in range(0, k.shape[2], BLOCK)):
        part = mask[..., block]
        out, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k[:, :, block], v[:, :, block], attn_mask=part
        )
        blind = (part == float("-inf")).all(-1)  # (B, 1, T)
        seen.append(out.masked_fill(blind[..., None], 0.0))
        sums.append(log_sum.masked_fill(blind, float("-inf")))  # (B, H, T)
    most = torch.stack(sums).amax(0)
    weights = [(log_sum - most).exp()[..., None] for log_sum in sums]
    whole, total = seen[0] * weights[0], weights[0]
    for out, weight in zip(seen[1:], weights[1:], strict=True):
        whole, total = whole + out * weight, total + weight
    return (whole / total).to(q.dtype)
