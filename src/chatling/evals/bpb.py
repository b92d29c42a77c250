"""Loss, accuracy and bits per byte of a model on held-out tokens, each counted exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from chatling.data import IGNORE
from chatling.hardware.distributed import World, widest_float
from chatling.model.gpt import GPT
from chatling.model.losses import token_losses


@dataclass(frozen=True)
class TokenScores:
    """Means over the learnt tokens. `bpb` counts only tokens that stand for bytes; NaN where there are none."""

    loss: float
    accuracy: float
    bpb: float


@torch.no_grad()
def score_tokens(model: GPT, batches: Iterable[tuple[Tensor, Tensor]], token_bytes: Tensor, world: World) -> TokenScores:
    """Score (inputs, targets) pairs of (B, T) tensors; `token_bytes` (V,) holds each token's length in bytes, specials 0.

    bpb = nats of the tokens that stand for bytes / (ln 2 x their bytes).
    """
    wide = widest_float(token_bytes.device)
    sums = torch.zeros(5, dtype=wide, device=token_bytes.device)  # nats, hits, tokens, nats of byte tokens, bytes
    for inputs, targets in batches:
        losses, hits = token_losses(model(inputs), model.lm_head.weight, targets, model.config.softcap)
        lengths = torch.where(targets != IGNORE, token_bytes[targets.clamp_min(0)], 0)
        learnt, byte_losses = (targets != IGNORE).sum(), (losses * (lengths > 0)).sum(dtype=wide)
        sums += torch.stack([losses.sum(dtype=wide), hits.sum(dtype=wide), learnt.to(wide), byte_losses, lengths.sum(dtype=wide)])
    nats, hits_total, tokens, byte_nats, bytes_total = world.sum(sums).tolist()
    return TokenScores(
        loss=nats / tokens if tokens else math.nan,
        accuracy=hits_total / tokens if tokens else math.nan,
        bpb=byte_nats / (math.log(2) * bytes_total) if bytes_total else math.nan,
    )
