"""The chunked loss against float64 and against autograd over the whole logits."""

import math

import pytest
import torch
import torch.nn.functional as F

from chatling.data import IGNORE
from chatling.model import losses
from chatling.model.losses import (
    POLICY_VARIANTS,
    capped_logits,
    next_token_loss,
    policy_gradient_loss,
    preference_loss,
    token_logprobs,
    token_losses,
)


def draw(
    rows: int, length: int, width: int, vocab_size: int, dtype: torch.dtype
) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(rows, length, width, generator=generator, dtype=dtype).requires_grad_()
    weight = (torch.randn(vocab_size, width, generator=generator, dtype=dtype) * 2).requires_grad_()
    targets = torch.randint(-1, vocab_size, (rows, length), generator=generator)
    return hidden, weight, targets


@pytest.mark.parametrize("ignored", [0, 0.6])
@pytest.mark.parametrize("chunk", [1, 700, 1 << 25])
def test_equals_autograd_in_float64(
    chunk: int, ignored: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where most targets do not count and logits are made of the others alone."""
    monkeypatch.setattr(losses, "CPU_CHUNK", chunk)
    monkeypatch.setattr(losses, "SPARSE_ROWS", 8)
    hidden, weight, targets = draw(3, 17, 8, 50, torch.float64)
    chance = torch.rand(targets.shape, generator=torch.Generator().manual_seed(2))
    targets[chance < ignored] = IGNORE
    loss, count = next_token_loss(hidden, weight, targets, 15.0)
    (loss * 3.5).backward()
    ours = (loss.detach(), hidden.grad.clone(), weight.grad.clone())
    hidden.grad = weight.grad = None
    logits = 15.0 * torch.tanh((hidden @ weight.T) / 15.0)
    reference = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum"
    )
    (reference * 3.5).backward()
    assert int(count) == int((targets != IGNORE).sum())
    for mine, theirs in zip(ours, (reference.detach(), hidden.grad, weight.grad), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_bfloat16_stays_near_float64() -> None:
    hidden, weight, targets = draw(2, 64, 32, 300, torch.float64)
    exact, _ = next_token_loss(hidden, weight, targets, 15.0)
    near, _ = next_token_loss(hidden.detach().bfloat16(), weight.detach().float(), targets, 15.0)
    assert abs(near.item() - exact.item()) / exact.item() < 5e-3


def test_nothing_to_learn_is_zero_with_zero_gradient() -> None:
    hidden, weight, targets = draw(1, 5, 4, 9, torch.float32)
    loss, count = next_token_loss(hidden, weight, torch.full_like(targets, IGNORE), 15.0)
    loss.backward()
    assert (loss.item(), int(count)) == (0.0, 0)
    assert hidden.grad.abs().max() == weight.grad.abs().max() == 0


def test_token_losses_sum_to_the_loss() -> None:
    hidden, weight, targets = draw(2, 9, 8, 40, torch.float64)
    each, hits = token_losses(hidden, weight, targets, 15.0)
    total, _ = next_token_loss(hidden, weight, targets, 15.0)
    torch.testing.assert_close(each.sum(), total.detach(), rtol=1e-12, atol=1e-12)
    assert each[targets == IGNORE].abs().sum() == 0
    expected = (capped_logits(hidden, weight, 15.0).argmax(-1) == targets) & (targets != IGNORE)
    assert torch.equal(hits, expected)


@pytest.mark.parametrize("chunk", [1, 700, 1 << 25])
def test_token_logprobs_equal_autograd_in_float64(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CPU_CHUNK", chunk)
    hidden, weight, targets = draw(3, 17, 8, 50, torch.float64)
    upstream = torch.randn(
        targets.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    found = token_logprobs(hidden, weight, targets, 15.0)
    (found * upstream).sum().backward()
    ours = (found.detach(), hidden.grad.clone(), weight.grad.clone())
    hidden.grad = weight.grad = None
    logprobs = (15.0 * torch.tanh((hidden @ weight.T) / 15.0)).log_softmax(-1)
    reference = logprobs.gather(-1, targets.clamp_min(0)[..., None])[..., 0] * (targets != IGNORE)
    (reference * upstream).sum().backward()
    for mine, theirs in zip(ours, (reference.detach(), hidden.grad, weight.grad), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


def test_policy_gradient_clips_and_leashes_as_written_out() -> None:
    generator = torch.Generator().manual_seed(3)
    logprobs, old, reference = (
        -3 * torch.rand(4, 6, dtype=torch.float64, generator=generator) for _ in range(3)
    )
    targets = torch.randint(-1, 2, (4, 6), generator=generator)
    advantages = torch.tensor([0.5, -0.5, 0.25, -2.0], dtype=torch.float64)
    total = 0.0
    for b in range(4):
        for t in range(6):
            if targets[b, t] == IGNORE:
                continue
            p, q, a = logprobs[b, t].exp().item(), old[b, t].exp().item(), advantages[b].item()
            surrogate = min(p / q * a, max(0.8, min(1.2, p / q)) * a)
            d = (reference[b, t] - logprobs[b, t]).item()
            total += -surrogate + 0.1 * (2.718281828459045**d - d - 1)
    value, count = policy_gradient_loss(
        logprobs, targets, advantages, old, reference, clip=0.2, kl=0.1
    )
    assert value.item() == pytest.approx(total, rel=1e-12)
    assert int(count) == int((targets != IGNORE).sum())


@pytest.mark.parametrize("variant", POLICY_VARIANTS)
@pytest.mark.parametrize("clip_high", [None, 0.5])
def test_each_variant_has_the_gradient_of_its_paper(variant: str, clip_high: float | None) -> None:
    """Token by token, of what the paper lets a gradient flow through."""
    method = POLICY_VARIANTS[variant]
    low, high = method.clip, clip_high or method.clip_high or method.clip
    generator = torch.Generator().manual_seed(7)
    logprobs, old = (
        -2 * torch.rand(4, 9, dtype=torch.float64, generator=generator) for _ in range(2)
    )
    targets = torch.randint(-1, 3, (4, 9), generator=generator)
    advantages = torch.tensor([1.0, -1.0, 0.5, -2.0], dtype=torch.float64)
    wanted = torch.zeros_like(logprobs)
    for b, t in (targets != IGNORE).nonzero().tolist():
        a, ratio = advantages[b].item(), (logprobs[b, t] - old[b, t]).exp().item()
        if variant == "reinforce":
            wanted[b, t] = -a
        elif variant == "cispo":
            wanted[b, t] = -a * min(ratio, 1 + high)
        elif (a > 0 and ratio <= 1 + high) or (a < 0 and ratio >= 1 - low):
            wanted[b, t] = -a * ratio
    learnt = logprobs.clone().requires_grad_()
    value, _ = policy_gradient_loss(
        learnt, targets, advantages, old, clip=low, clip_high=high, weighted=method.weighted
    )
    (found,) = torch.autograd.grad(value, learnt)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_a_ratio_of_one_has_the_plain_gradient() -> None:
    generator = torch.Generator().manual_seed(4)
    logprobs = (-3 * torch.rand(2, 5, dtype=torch.float64, generator=generator)).requires_grad_()
    targets, advantages = (
        torch.randint(-1, 2, (2, 5), generator=generator),
        torch.tensor([0.5, -0.5], dtype=torch.float64),
    )
    (plain,) = torch.autograd.grad(policy_gradient_loss(logprobs, targets, advantages)[0], logprobs)
    clipped, _ = policy_gradient_loss(
        logprobs, targets, advantages, logprobs.detach(), logprobs.detach(), clip=0.2, kl=0.1
    )
    (leashed,) = torch.autograd.grad(clipped, logprobs)
    torch.testing.assert_close(plain, leashed)
    assert plain.abs().sum() > 0


@pytest.mark.parametrize(
    ("smoothing", "length_normalize", "sft_loss_weight"),
    [(0.0, False, 0.0), (0.1, False, 0.0), (0.0, True, 0.0), (0.2, True, 0.5)],
)
def test_the_preference_loss_is_the_closed_form(
    smoothing: float, length_normalize: bool, sft_loss_weight: float
) -> None:
    generator = torch.Generator().manual_seed(6)
    targets = torch.randint(-1, 3, (8, 7), generator=generator)
    targets[[3, 7]] = IGNORE  # a pair that only fills the batch up
    logprobs = -4 * torch.rand(8, 7, dtype=torch.float64, generator=generator) * (targets != IGNORE)
    reference = -20 * torch.rand(8, dtype=torch.float64, generator=generator)
    total = 0.0
    for pair in range(3):
        gains, means = [], []
        for row in (pair, pair + 4):
            said = [logprobs[row, t].item() for t in range(7) if targets[row, t] != IGNORE]
            gain = sum(said) - reference[row].item()
            gains.append(gain / len(said) if length_normalize else gain)
            means.append(sum(said) / len(said))
        sigma = 1 / (1 + math.exp(-0.3 * (gains[0] - gains[1])))
        total += (
            -(1 - smoothing) * math.log(sigma)
            - smoothing * math.log(1 - sigma)
            - sft_loss_weight * means[0]
        )
    value, count = preference_loss(
        logprobs,
        targets,
        reference,
        beta=0.3,
        label_smoothing=smoothing,
        length_normalize=length_normalize,
        sft_loss_weight=sft_loss_weight,
    )
    assert value.item() == pytest.approx(total, rel=1e-12)
    assert int(count) == 3


def test_a_pair_that_only_fills_up_has_no_gradient() -> None:
    targets = torch.full((2, 4), IGNORE)
    logprobs = torch.zeros(2, 4, requires_grad=True)
    value, count = preference_loss(
        logprobs * (targets != IGNORE), targets, torch.zeros(2), beta=0.1, sft_loss_weight=1.0
    )
    value.backward()
    assert (value.item(), int(count)) == (0.0, 0)
    assert logprobs.grad is not None
    assert not logprobs.grad.any()
