"""Attention kernels against a brute-force double loop in float64."""

import math

import pytest
import torch
from torch import Tensor

from chatling.model import attention
from chatling.model.attention import attend, rotary_tables, rotate


def brute_force(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
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


@pytest.mark.parametrize(("window", "kv_heads"), [(0, 4), (3, 4), (3, 2), (9, 1)])
def test_flash_is_asked_for_the_same_attention(
    monkeypatch: pytest.MonkeyPatch, window: int, kv_heads: int
) -> None:
    """The kernel itself needs a GPU: here stands what its documentation says that it computes. A
    token sees those from `left` before it to `right` after it, -1 for all, within its own row.
    """

    def documented(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        starts: Tensor,
        key_starts: Tensor,
        longest: int,
        longest_keys: int,
        *,
        window_size: tuple[int, int],
        enable_gqa: bool,
    ) -> Tensor:
        assert starts.dtype == torch.int32
        assert starts.tolist() == key_starts.tolist() == [0, longest, 2 * longest]
        assert longest == longest_keys
        assert enable_gqa == (kv_heads != 4)
        left, right = window_size
        at = torch.arange(len(q))
        distance = at[:, None] - at[None, :]
        seen = (at[:, None] // longest == at[None, :] // longest) & (-distance <= right)
        if left >= 0:
            seen &= distance <= left
        k, v = (t.repeat_interleave(4 // kv_heads, 1) for t in (k, v))
        scores = torch.einsum("ihe,jhe->hij", q, k) / q.shape[-1] ** 0.5
        return torch.einsum("hij,jhe->ihe", scores.masked_fill(~seen, -torch.inf).softmax(-1), v)

    monkeypatch.setattr(attention, "varlen_attn", documented)
    q = torch.randn(2, 7, 4, 6, dtype=torch.float64)
    k, v = torch.randn(2, 2, 7, kv_heads, 6, dtype=torch.float64)
    torch.testing.assert_close(
        attend(q, k, v, window, "flash"), brute_force(q, k, v, window), rtol=1e-10, atol=1e-10
    )


def test_rotation_depends_on_distance_only() -> None:
    cos, sin = (table.double()[None, :, None] for table in rotary_tables(40, 8, 10_000.0))
    q, k = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    rotated_q, rotated_k = (rotate(x.expand(1, 40, 1, 8), cos, sin)[0, :, 0] for x in (q, k))
    near, far = rotated_q[5] @ rotated_k[2], rotated_q[35] @ rotated_k[32]
    torch.testing.assert_close(near, far, rtol=1e-5, atol=1e-6)
    assert abs(rotated_q[5] @ rotated_k[2] - rotated_q[5] @ rotated_k[3]) > 1e-4
