"""Attention kernels against a brute-force double loop in float64."""

import math

import pytest
import torch

from chatling.model import attention
from chatling.model.attention import attend, rotary_tables, rotate


def brute_force(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int) -> torch.Tensor:
    out = torch.zeros_like(q)
    rows, length, heads, width = q.shape
    group = heads // k.shape[2]
    for b in range(rows):
        for h in range(heads):
            for i in range(length):
                keys = [j for j in range(length) if j <= i and (window == 0 or i - j < window)]
                scores = torch.stack([q[b, i, h] @ k[b, j, h // group] for j in keys]) / math.sqrt(
                    width
                )
                out[b, i, h] = scores.softmax(0) @ torch.stack([v[b, j, h // group] for j in keys])
    return out


@pytest.mark.parametrize("kernel", ["sdpa", "plain"])
@pytest.mark.parametrize("window", [0, 1, 3, 50])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_equals_brute_force(kernel: str, window: int, kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 7, 4, 6, dtype=torch.float64, generator=generator)
    k, v = (
        torch.randn(2, 7, kv_heads, 6, dtype=torch.float64, generator=generator) for _ in range(2)
    )
    torch.testing.assert_close(
        attend(q, k, v, window, kernel), brute_force(q, k, v, window), rtol=1e-10, atol=1e-10
    )  # type: ignore[arg-type]


def test_flex_runs_compiled_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uncompiled it would make the scores of all pairs of tokens."""
    monkeypatch.setattr(attention, "_flex", lambda *_: pytest.fail("flex was called uncompiled"))
    q, k, v = torch.randn(3, 1, 9, 2, 4).unbind()
    assert torch.equal(attend(q, k, v, 3, "flex"), attend(q, k, v, 3, "sdpa"))


def test_rotation_depends_on_distance_only() -> None:
    cos, sin = (table.double()[None, :, None] for table in rotary_tables(40, 8, 10_000.0))
    q, k = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    rotated_q, rotated_k = (rotate(x.expand(1, 40, 1, 8), cos, sin)[0, :, 0] for x in (q, k))
    near, far = rotated_q[5] @ rotated_k[2], rotated_q[35] @ rotated_k[32]
    torch.testing.assert_close(near, far, rtol=1e-5, atol=1e-6)
    assert abs(rotated_q[5] @ rotated_k[2] - rotated_q[5] @ rotated_k[3]) > 1e-4
