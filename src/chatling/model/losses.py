"""Every loss, as a pure function of tensors. A loss returns (sum, count): the loop divides once, by the count of the whole step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from chatling.data import IGNORE
from chatling.model.config import LOGITS_CHUNK

CPU_CHUNK = 1 << 22  # logits held at once: 16 MiB of fp32, so that the passes over them stay in the processor's cache

ChunkLoss = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor, Tensor]]


def softcapped_chunk(hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of softcap * tanh(z / softcap), z = hidden @ weight.T, summed, with both gradients at once.

    hidden (N, D) and weight (V, D) in the compute dtype, targets (N,) with IGNORE. Returns the fp32 sum, its gradient to hidden (N, D)
    and to weight (V, D) in the compute dtype. The cap bounds the logits, so that the exponentials need no running maximum.
    """
    logits = hidden @ weight.T
    squashed = torch.tanh(logits.to(torch.promote_types(logits.dtype, torch.float32)) / softcap)
    learnt = targets != IGNORE
    index = targets.clamp_min(0)[:, None]
    exponentials = torch.exp(squashed * softcap)
    totals = exponentials.sum(dim=-1, keepdim=True)
    losses = totals.log() - squashed.gather(1, index) * softcap
    classes = torch.arange(weight.shape[0], device=weight.device)
    gradient = (exponentials / totals - (classes == index).to(totals.dtype)) * (1 - squashed * squashed) * learnt[:, None]
    gradient = gradient.to(hidden.dtype)
    return (losses[:, 0] * learnt).sum(), gradient @ weight, gradient.T @ hidden


class _SoftcappedCrossEntropy(torch.autograd.Function):
    """Chunked so that the (N, V) logits never exist at once; the gradients are made on the way, where the logits still are."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float, chunk: ChunkLoss, rows: int
    ) -> Tensor:
        compute_weight = weight.to(hidden.dtype)
        total = hidden.new_zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32))
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros_like(weight)
        for start in range(0, hidden.shape[0], rows):
            part = slice(start, start + rows)
            loss, d_part, d_weight_part = chunk(hidden[part], compute_weight, targets[part], softcap)
            total += loss
            d_hidden[part] = d_part
            d_weight += d_weight_part
        ctx.save_for_backward(d_hidden, d_weight)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        d_hidden, d_weight = ctx.saved_tensors  # type: ignore[attr-defined]
        return d_hidden * gradient.to(d_hidden.dtype), d_weight * gradient, None, None, None, None


def next_token_loss(
    hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float, chunk: ChunkLoss = softcapped_chunk
) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy in nats of the next token, and the number of targets it covers.

    hidden (B, T, D) after the last norm, weight (V, D) of the head, targets (B, T) int64 with IGNORE.
    """
    loss = _SoftcappedCrossEntropy.apply(hidden.flatten(0, 1), weight, targets.flatten(), softcap, chunk, chunk_rows(weight))
    return loss, (targets != IGNORE).sum()


def chunk_rows(weight: Tensor) -> int:
    """How many tokens' logits are made at once for a head of (V, D)."""
    return max(1, (CPU_CHUNK if weight.device.type == "cpu" else LOGITS_CHUNK) // weight.shape[0])


@torch.no_grad()
def token_losses(hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float) -> tuple[Tensor, Tensor]:
    """For evaluation, each token alone: its loss in nats (B, T), 0 where ignored, and whether it is the most likely one (B, T) bool."""
    flat, goals = hidden.flatten(0, 1), targets.flatten()
    weight = weight.to(hidden.dtype)
    losses, hits = [], []
    rows = chunk_rows(weight)
    for part, goal in zip(flat.split(rows), goals.split(rows), strict=True):
        logits = capped_logits(part, weight, softcap)
        chosen = logits.gather(1, goal.clamp_min(0)[:, None])[:, 0]
        learnt = goal != IGNORE
        losses.append((logits.logsumexp(dim=-1) - chosen) * learnt)
        hits.append((logits.argmax(dim=-1) == goal) & learnt)
    return torch.cat(losses).view_as(targets), torch.cat(hits).view_as(targets)


def capped_logits(hidden: Tensor, weight: Tensor, softcap: float) -> Tensor:
    """softcap * tanh(z / softcap) in at least fp32, z = hidden @ weight.T."""
    logits = hidden @ weight.to(hidden.dtype).T
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return softcap * torch.tanh(logits / softcap)
