"""The chunked loss against float64 and against autograd over the whole logits."""

import pytest
import torch
import torch.nn.functional as F

from chatling.data import IGNORE
from chatling.model import losses
from chatling.model.losses import capped_logits, next_token_loss, token_losses


def draw(rows: int, length: int, width: int, vocabulary: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(rows, length, width, generator=generator, dtype=dtype).requires_grad_()
    weight = (torch.randn(vocabulary, width, generator=generator, dtype=dtype) * 2).requires_grad_()
    targets = torch.randint(-1, vocabulary, (rows, length), generator=generator)
    return hidden, weight, targets


@pytest.mark.parametrize("chunk", [1, 700, 1 << 25])
def test_equals_autograd_in_float64(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CPU_CHUNK", chunk)
    hidden, weight, targets = draw(3, 17, 8, 50, torch.float64)
    loss, count = next_token_loss(hidden, weight, targets, 15.0)
    (loss * 3.5).backward()
    ours = (loss.detach(), hidden.grad.clone(), weight.grad.clone())
    hidden.grad = weight.grad = None
    logits = 15.0 * torch.tanh((hidden @ weight.T) / 15.0)
    reference = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
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
