"""Every loss, as a pure function of tensors. A loss returns (sum, count): the loop divides once, by
the count of the whole step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn.functional import logsigmoid, pad

from chatling.data import IGNORE
from chatling.model.config import LOGITS_CHUNK, loss_rows

# logits held at once: 16 MiB of fp32, so that the passes over them stay in the processor's cache
CPU_CHUNK = 1 << 22
# where fewer of the targets than this count, a processor makes logits of these alone, some at once
SPARSE, SPARSE_ROWS = 0.75, 512

ChunkLoss = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor, Tensor]]


def softcapped_chunk(
    hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of softcap * tanh(z / softcap), z = hidden @ weight.T, summed, with its
    gradients at once.

    hidden (N, D) and weight (V, D) in the compute dtype, targets (N,) with IGNORE. Returns the fp32
    sum, its gradient to hidden (N, D) and to z (N, V) in the compute dtype. The cap bounds the
    logits, so that the exponentials need no running maximum.
    """
    logits = hidden @ weight.T
    squashed = torch.tanh(logits.to(torch.promote_types(logits.dtype, torch.float32)) / softcap)
    loss_mask = targets != IGNORE
    index = targets.clamp_min(0)[:, None]
    exponentials = torch.exp(squashed * softcap)
    totals = exponentials.sum(dim=-1, keepdim=True)
    losses = totals.log() - squashed.gather(1, index) * softcap
    classes = torch.arange(weight.shape[0], device=weight.device)
    gradient = (
        (exponentials / totals - (classes == index).to(totals.dtype))
        * (1 - squashed * squashed)
        * loss_mask[:, None]
    )
    gradient = gradient.to(hidden.dtype)
    return (losses[:, 0] * loss_mask).sum(), gradient @ weight, gradient


class _ChunkedLoss(torch.autograd.Function):
    """A sum over tokens, chunked so that the (N, V) logits never exist at once: `forward` makes the
    gradients of its first two inputs, hidden states and head, while a chunk's logits are there.
    """

    @staticmethod
    def backward(
        ctx: FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor, Tensor, None, None, None, None]:
        d_hidden, d_weight = ctx.saved_tensors  # type: ignore[attr-defined]
        return d_hidden * gradient.to(d_hidden.dtype), d_weight * gradient, None, None, None, None


class _SoftcappedCrossEntropy(_ChunkedLoss):
    """Of each chunk by a function, which may be compiled."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        softcap: float,
        chunk: ChunkLoss,
        rows: int,
    ) -> Tensor:
        compute_weight = weight.to(hidden.dtype)
        total = hidden.new_zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32))
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros_like(weight)
        for start in range(0, hidden.shape[0], rows):
            part = slice(start, start + rows)
            loss, d_part, d_logits = chunk(hidden[part], compute_weight, targets[part], softcap)
            total += loss
            d_hidden[part] = d_part
            _add_product(d_weight, d_logits, hidden[part])
            del d_logits  # before the next chunk's are made
        ctx.save_for_backward(d_hidden, d_weight)
        return total


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a.T @ b: on CUDA in the product itself, which sums in fp32 and reads and writes
    `total` once.
    """
    if total.is_cuda and torch.version.hip is None:
        torch.addmm(total, a.T, b, out_dtype=total.dtype, out=total)
    else:
        total += a.T @ b


def next_token_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    softcap: float,
    chunk: ChunkLoss = softcapped_chunk,
) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy in nats of the next token, and the number of targets it covers.

    hidden (B, T, D) after the last norm, weight (V, D) of the head, targets (B, T) int64 with
    IGNORE.
    """
    rows = loss_rows(targets.numel()) if weight.is_cuda else chunk_rows(weight)
    hidden, goals, count = hidden.flatten(0, 1), targets.flatten(), (targets != IGNORE).sum()
    if weight.device.type == "cpu" and count < SPARSE * goals.numel():
        rows = min(rows, SPARSE_ROWS)
        hidden, goals = _counted(hidden, goals, rows)
    return _SoftcappedCrossEntropy.apply(hidden, weight, goals, softcap, chunk, rows), count


def _counted(hidden: Tensor, targets: Tensor, multiple: int) -> tuple[Tensor, Tensor]:
    """Hidden states (N, D) and targets (N,) of the tokens that count, filled up to a `multiple`, so
    that compiled code sees one shape.
    """
    places = (targets != IGNORE).nonzero()[:, 0]
    missing = -len(places) % multiple
    return (
        pad(hidden.index_select(0, places), (0, 0, 0, missing)),
        pad(targets[places], (0, missing), value=IGNORE),
    )


def chunk_rows(weight: Tensor) -> int:
    """How many tokens' logits are made at once for a head of (V, D)."""
    return max(1, (CPU_CHUNK if weight.device.type == "cpu" else LOGITS_CHUNK) // weight.shape[0])


class _TokenLogprobs(torch.autograd.Function):
    """Chunked like the loss. What comes back for each token is known only in the backward pass,
    which makes the logits again.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float, rows: int
    ) -> Tensor:
        compute_weight = weight.to(hidden.dtype)
        ctx.save_for_backward(hidden, weight, targets)
        ctx.softcap, ctx.rows = softcap, rows
        parts = []
        for part, goal in zip(hidden.split(rows), targets.split(rows), strict=True):
            logits = capped_logits(part, compute_weight, softcap)
            parts.append(logits.gather(1, goal[:, None])[:, 0] - logits.logsumexp(dim=-1))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        hidden, weight, targets = ctx.saved_tensors
        compute_weight = weight.to(hidden.dtype)
        d_hidden, d_weight = (
            torch.empty_like(hidden),
            (torch.zeros_like(weight) if ctx.needs_input_grad[1] else None),
        )
        for start in range(0, hidden.shape[0], ctx.rows):
            part = slice(start, start + ctx.rows)
            logits = capped_logits(hidden[part], compute_weight, ctx.softcap)
            d_logits = -logits.softmax(dim=-1)
            d_logits.scatter_add_(1, targets[part, None], torch.ones_like(d_logits[:, :1]))
            # through the cap: its slope is 1 - tanh²
            d_logits *= (1 - (logits / ctx.softcap).square()) * gradient[part, None]
            d_logits = d_logits.to(hidden.dtype)
            d_hidden[part] = d_logits @ compute_weight
            if d_weight is not None:
                d_weight += d_logits.T @ hidden[part]
        return d_hidden, d_weight, None, None, None


def token_logprobs(
    hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float, places: Tensor | None = None
) -> Tensor:
    """Log-probability of each target (B, T), in at least fp32, 0 where it is IGNORE;
    differentiable.

    hidden (B, T, D) after the last norm, weight (V, D) of the head, targets (B, T) int64. Logits
    are made for the targets alone: `places` (N,) int64 are where they stand in the flattened
    targets. Without it they are looked for, and a GPU is waited for.
    """
    goals = targets.flatten()
    places = (goals != IGNORE).nonzero()[:, 0] if places is None else places
    found = _TokenLogprobs.apply(
        hidden.flatten(0, 1)[places], weight, goals[places], softcap, chunk_rows(weight)
    )
    return found.new_zeros(targets.numel()).index_copy(0, places, found).view_as(targets)


class _ReverseKL(_ChunkedLoss):
    """Of two models' tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        teacher_hidden: Tensor,
        teacher_weight: Tensor,
        softcaps: tuple[float, float],
        rows: int,
    ) -> Tensor:
        compute_weight = weight.to(hidden.dtype)
        total = hidden.new_zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32))
        d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        for start in range(0, hidden.shape[0], rows):
            part = slice(start, start + rows)
            logits = capped_logits(hidden[part], compute_weight, softcaps[0])
            ours = logits.log_softmax(dim=-1)
            theirs = capped_logits(teacher_hidden[part], teacher_weight, softcaps[1])
            gap = ours - theirs.log_softmax(dim=-1)
            probabilities = ours.exp()
            each = (probabilities * gap).sum(dim=-1, keepdim=True)
            total += each.sum()
            # through the cap: its slope is 1 - tanh²
            d_logits = probabilities * (gap - each) * (1 - (logits / softcaps[0]).square())
            d_logits = d_logits.to(hidden.dtype)
            d_hidden[part] = d_logits @ compute_weight
            _add_product(d_weight, d_logits, hidden[part])
        ctx.save_for_backward(d_hidden, d_weight)
        return total


def reverse_kl_loss(
    hidden: Tensor,
    weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    softcaps: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """Summed divergence KL(student || teacher) in nats of the next token's distribution, over the
    whole vocabulary, and the number of places (GKD with reverse KL, arXiv 2306.13649).

    hidden (N, D) and weight (V, D) of the student, teacher_hidden (N, D') and teacher_weight (V,
    D'), which get no gradient; `softcaps` of both.
    """
    rows = max(1, chunk_rows(weight) // 2)  # two models' logits at once
    loss = _ReverseKL.apply(hidden, weight, teacher_hidden, teacher_weight, softcaps, rows)
    return loss, torch.tensor(hidden.shape[0], device=hidden.device)


@dataclass(frozen=True)
class PolicyVariant:
    """What a published method takes for the policy gradient and its advantages."""

    # how far below and above 1 the probability ratios may be; 0 above: as far as below
    clip: float = 0.0
    clip_high: float = 0.0
    # the ratio is a weight of log p that has no gradient, bounded above alone
    weighted: bool = False
    # advantages are divided by their group's standard deviation
    normalize: bool = False
    # the sum is divided by answers x most tokens, not by sampled tokens
    constant_length: bool = False
    # groups of equal rewards do not count, either
    skip_equal: bool = False


POLICY_VARIANTS = {
    "reinforce": PolicyVariant(),
    # arXiv 2503.14476
    "dapo": PolicyVariant(0.2, 0.28, normalize=True, skip_equal=True),
    # arXiv 2503.20783
    "dr_grpo": PolicyVariant(0.2, constant_length=True),
    # arXiv 2506.13585
    "cispo": PolicyVariant(clip_high=0.28, weighted=True, normalize=True, skip_equal=True),
}


def policy_gradient_loss(
    logprobs: Tensor,
    targets: Tensor,
    advantages: Tensor,
    old: Tensor | None = None,
    reference: Tensor | None = None,
    *,
    clip: float = 0.0,
    clip_high: float = 0.0,
    weighted: bool = False,
    kl: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Summed policy-gradient loss of sampled tokens, and their number.

    logprobs (B, T) of the targets (B, T), IGNORE where nothing was sampled; advantages (B,). Each
    token's loss is -A log p, whose gradient is REINFORCE's (Williams 1992). With `clip` it is the
    smaller of r A and r A with r = p / p_old kept in 1 ± clip, negated (PPO, arXiv 1707.06347),
    which needs `old` (B, T); with `clip_high`, in 1 - clip to 1 + clip_high (DAPO). `weighted`, it
    is -A log p times r, which is at most 1 + clip_high and has no gradient (CISPO). With `kl` comes
    that many times e^d - d - 1, d = log p_reference - log p: an estimate of the divergence from
    `reference` (B, T) that is never negative (as in GRPO, arXiv 2402.03300).
    """
    sampled = targets != IGNORE
    each = -logprobs * advantages[:, None]
    if weighted:
        assert old is not None
        each = each * (logprobs.detach() - old).exp().clamp(max=1 + clip_high)
    elif clip:
        assert old is not None
        ratio, most = (logprobs - old).exp(), 1 + (clip_high or clip)
        each = -torch.minimum(
            ratio * advantages[:, None], ratio.clamp(1 - clip, most) * advantages[:, None]
        )
    if kl:
        assert reference is not None
        distance = reference - logprobs
        each = each + kl * (distance.exp() - distance - 1)
    return (each * sampled).sum(), sampled.sum()


def implicit_rewards(
    logprobs: Tensor, targets: Tensor, reference: Tensor, length_normalize: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """How much likelier each answer became than it was under the reference model: chosen (P,),
    rejected (P,), and which pairs are real.

    logprobs (2 P, T) of targets (2 P, T), IGNORE outside the answer: the chosen answers, then the
    rejected ones; reference (2 P,). With `length_normalize`, the mean over an answer's tokens
    instead of the sum.
    """
    loss_mask = targets != IGNORE
    rewards = logprobs.sum(dim=1) - reference
    if length_normalize:
        rewards = rewards / loss_mask.sum(dim=1).clamp_min(1)
    chosen, rejected = rewards.chunk(2)
    return chosen, rejected, loss_mask.any(dim=1).chunk(2)[0]


def preference_loss(
    logprobs: Tensor,
    targets: Tensor,
    reference: Tensor,
    *,
    beta: float,
    label_smoothing: float = 0.0,
    length_normalize: bool = False,
    sft_loss_weight: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Summed DPO loss -log sigmoid(beta (gain of the chosen - gain of the rejected)) and the number
    of pairs (arXiv 2305.18290).

    With `label_smoothing` e, that share of the labels is taken to be wrong (cDPO). With
    `sft_loss_weight` comes that many times the mean next-token loss of the chosen answer (arXiv
    2404.19733), for answers that the model would never give by itself. Other arguments as of
    `implicit_rewards`.
    """
    chosen, rejected, real = implicit_rewards(logprobs, targets, reference, length_normalize)
    margin = beta * (chosen - rejected)
    each = -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
    if sft_loss_weight:
        lengths = (targets != IGNORE).sum(dim=1).clamp_min(1)
        each = each - sft_loss_weight * (logprobs.sum(dim=1) / lengths).chunk(2)[0]
    return (each * real).sum(), real.sum()


@torch.no_grad()
def token_losses(
    hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float
) -> tuple[Tensor, Tensor]:
    """For evaluation, each token alone: its loss in nats (B, T), 0 where ignored, and whether it is
    the most likely one (B, T) bool.
    """
    flat, goals = hidden.flatten(0, 1), targets.flatten()
    weight = weight.to(hidden.dtype)
    losses, hits = [], []
    rows = chunk_rows(weight)
    for part, goal in zip(flat.split(rows), goals.split(rows), strict=True):
        logits = capped_logits(part, weight, softcap)
        chosen = logits.gather(1, goal.clamp_min(0)[:, None])[:, 0]
        loss_mask = goal != IGNORE
        losses.append((logits.logsumexp(dim=-1) - chosen) * loss_mask)
        hits.append((logits.argmax(dim=-1) == goal) & loss_mask)
    return torch.cat(losses).view_as(targets), torch.cat(hits).view_as(targets)


def capped_logits(hidden: Tensor, weight: Tensor, softcap: float) -> Tensor:
    """softcap * tanh(z / softcap) in at least fp32, z = hidden @ weight.T."""
    logits = hidden @ weight.to(hidden.dtype).T
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return softcap * torch.tanh(logits / softcap)
