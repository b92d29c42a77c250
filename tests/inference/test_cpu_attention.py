"""Attention in blocks: right, and the same bits however far it reads, on any kind of processor."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from chatling.inference.cpu_attention import BLOCK, attend_in_blocks, attend_one_query
from chatling.model.attention import masked_attention

LENGTH = 1152


def qkv(tokens: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    shapes = (4, tokens), (2, LENGTH), (2, LENGTH)
    q, k, v = (
        torch.randn(2, heads, length, 16, generator=generator).to(dtype) for heads, length in shapes
    )
    return q, k, v


def attended(seen: int, extent: int, tokens: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Queries that see `seen` keys, the second row half of these, where `extent` are read."""
    q, k, v = qkv(tokens, dtype)
    mask = torch.full((2, 1, tokens, extent), float("-inf"), dtype=dtype)
    mask[0, :, :, :seen], mask[1, :, :, seen // 2 : seen] = 0, 0
    attend = attend_one_query if tokens == 1 else attend_in_blocks
    return attend(q, k[:, :, :extent], v[:, :, :extent], mask)


@pytest.mark.parametrize("tokens", [1, 2, 33])
@pytest.mark.parametrize("seen", [100, BLOCK, 2 * BLOCK + 10, 1000])
def test_equals_float64(tokens: int, seen: int) -> None:
    q, k, v = (tensor.double() for tensor in qkv(tokens))
    mask = torch.full((2, 1, tokens, LENGTH), float("-inf"), dtype=torch.float64)
    mask[0, :, :, :seen], mask[1, :, :, seen // 2 : seen] = 0, 0
    expected = masked_attention(q, k, v, mask)
    assert (attended(seen, LENGTH, tokens) - expected).abs().max() < 1e-6


def differing() -> list[tuple[int, int, int]]:
    """Where reading further changes a bit."""
    return [
        (seen, extent, tokens)
        for tokens in (1, 2, 33)
        for seen in (130, 200, 260, 321, 400, 700, 1000)
        for extent in range(-(-seen // 64) * 64, LENGTH + 1, 64)
        if not torch.equal(
            attended(seen, extent, tokens), attended(seen, -(-seen // 64) * 64, tokens)
        )
    ]


@pytest.mark.parametrize("kind", ["", "AVX2", "AVX512", "COMPATIBLE"])
def test_reading_further_changes_no_bit(kind: str) -> None:
    """Also with the kernels that MKL, where it is the library, has for other processors."""
    if not kind:
        assert not differing()
        return
    subprocess.run(
        [sys.executable, __file__],
        check=True,
        env=os.environ | {"MKL_CBWR": kind, "OMP_NUM_THREADS": "1"},
    )


if __name__ == "__main__":
    sys.exit(str(differing()) if differing() else 0)
