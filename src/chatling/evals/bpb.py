"""Loss, accuracy and bits per byte of a model on held-out tokens, and its loss by position."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from chatling.data import IGNORE
from chatling.data.loaders import PretrainBatches
from chatling.data.packing import PackedRows
from chatling.data.token_shards import TokenShards
from chatling.evals.config import write_results
from chatling.hardware.distributed import DistContext, widest_float
from chatling.model.gpt import GPT
from chatling.model.losses import token_losses
from chatling.run_dir import RunFolder
from chatling.tokenizer.bpe import Tokenizer

CPU_BATCH, GPU_BATCH = 8192, 65_536  # tokens


@dataclass(frozen=True)
class TokenScores:
    """Means over the tokens that count, `bpb` over those that stand for bytes; NaN without any."""

    loss: float
    accuracy: float
    bpb: float
    tokens: int = 0
    bytes: int = 0
    # mean loss in nats at each place of a row; NaN where no token counts
    positions: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@torch.no_grad()
def score_tokens(
    model: GPT,
    batches: Iterable[tuple[Tensor, Tensor]],
    token_bytes: Tensor,
    world: DistContext,
    *,
    positions: int = 0,
) -> TokenScores:
    """Score (inputs, targets) pairs of (B, T) tensors; `token_bytes` (V,) holds each token's length
    in bytes, specials 0.

    bpb = nats of the tokens that stand for bytes / (ln 2 x their bytes). `positions` is T, where
    the loss by place is wanted; then every pair must have it.
    """
    wide = widest_float(token_bytes.device)
    # nats, hits, tokens, nats of byte tokens, bytes
    sums = torch.zeros(5, dtype=wide, device=token_bytes.device)
    places = torch.zeros(2, positions, dtype=wide, device=token_bytes.device)  # nats and tokens
    for inputs, targets in batches:
        losses, hits = token_losses(
            model(inputs), model.lm_head.weight, targets, model.config.softcap
        )
        loss_mask = targets != IGNORE
        lengths = torch.where(loss_mask, token_bytes[targets.clamp_min(0)], 0)
        byte_losses = (losses * (lengths > 0)).sum(dtype=wide)
        sums += torch.stack(
            [
                losses.sum(dtype=wide),
                hits.sum(dtype=wide),
                loss_mask.sum().to(wide),
                byte_losses,
                lengths.sum(dtype=wide),
            ]
        )
        if positions:
            places += torch.stack([losses.sum(dim=0, dtype=wide), loss_mask.sum(dim=0).to(wide)])
    nats, hits_total, tokens, byte_nats, bytes_total = world.all_reduce(sums).tolist()
    by_place = zip(*world.all_reduce(places).tolist(), strict=True) if positions else ()
    return TokenScores(
        loss=nats / tokens if tokens else math.nan,
        accuracy=hits_total / tokens if tokens else math.nan,
        bpb=byte_nats / (math.log(2) * bytes_total) if bytes_total else math.nan,
        tokens=int(tokens),
        bytes=int(bytes_total),
        positions=tuple(total / count if count else math.nan for total, count in by_place),
    )


def score_shards(
    model: GPT,
    tokenizer: Tokenizer,
    shards: TokenShards,
    *,
    context: int | None = None,
    tokens: int | None = None,
    seed: int = 0,
    world: DistContext | None = None,
) -> TokenScores:
    """Score a corpus in rows of `context` tokens (default: the model's), each document token once;
    or the first `tokens` of them.

    The context may be longer than in training. Every rank calls it, and has the result.
    """
    world = world or DistContext()
    length = context or model.config.context
    device = model.embed_tokens.weight.device
    model = model if length <= model.config.context else stretched(model, length)
    rows = max(1, (CPU_BATCH if device.type == "cpu" else GPU_BATCH) // length)
    packed = PretrainBatches(
        PackedRows(shards, length, tokenizer.bos, seed),
        rows * world.size,
        rows,
        world.rank,
        world.size,
    )

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for micro in packed.once(tokens):
            yield (
                torch.from_numpy(micro.inputs).to(device),
                torch.from_numpy(micro.targets).to(device),
            )

    token_bytes = torch.from_numpy(tokenizer.token_bytes).to(device)
    return score_tokens(model, pairs(), token_bytes, world, positions=length)


def stretched(model: GPT, context: int) -> GPT:
    """The same weights, with rotary tables for a longer context."""
    config = replace(model.config, context=context)
    with torch.device("meta"):
        twin = GPT(config, compute_dtype=model.compute_dtype)
    twin.load_state_dict(model.state_dict(), assign=True)
    twin.make_rotary_tables(model.embed_tokens.weight.device)
    return twin.eval()


def write_bpb(folder: RunFolder, stage: str, scores: dict[str, TokenScores], context: int) -> None:
    """Write `evals/<stage>-bpb.json` of scores by split; the curve by place is the validation
    text's, where there is one.
    """
    curve = scores.get("validation", next(iter(scores.values()))).positions
    places = [None if math.isnan(loss) else loss for loss in curve]
    splits = {split: score.to_dict() | {"positions": None} for split, score in scores.items()}
    results = {split: score.bpb for split, score in scores.items()} | {
        "positions": places,
        "context": context,
        "splits": splits,
    }
    write_results(folder, stage, "bpb", results)
