"""Attention in C++: the same numbers as in float64, each row by itself, and a machine that cannot
build it does without.
"""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.hardware.detect import has_compiler
from chatling.inference import cpu_kernels

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler")


def inputs(
    rows: int, kv_heads: int, group: int, reach: int, width: int, dtype: torch.dtype, seed: int
) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(rows, kv_heads * group, width, generator=generator)
    keys, values = (
        torch.randn(rows + 1, kv_heads, reach, width, generator=generator).to(dtype)
        for _ in range(2)
    )
    return q, keys, values, torch.randint(reach, (rows,), generator=generator)


@needs_compiler
@given(
    rows=st.integers(1, 5),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    reach=st.integers(1, 200),
    width=st.sampled_from([2, 16, 20, 128]),
    window=st.sampled_from([0, 1, 24, 1000]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    scale=st.sampled_from([0.0, 1.0, 30.0]),
    seed=st.integers(0, 1 << 30),
)
@settings(deadline=None, max_examples=150)
def test_equals_float64_and_reads_only_its_own(
    rows: int,
    kv_heads: int,
    group: int,
    reach: int,
    width: int,
    window: int,
    dtype: torch.dtype,
    scale: float,
    seed: int,
) -> None:
    assert cpu_kernels.available()
    q, keys, values, positions = inputs(rows, kv_heads, group, reach, width, dtype, seed)
    q *= scale
    expected = torch.empty_like(q)
    for row, last in enumerate(positions.tolist()):
        seen = slice(max(0, last + 1 - window) if window else 0, last + 1)
        k, v = (
            storage[row, :, seen].double().repeat_interleave(group, dim=0)
            for storage in (keys, values)
        )  # (H, n, E)
        expected[row] = (
            ((k @ q[row].double()[..., None])[..., 0] / width**0.5)
            .softmax(-1)[:, None]
            .matmul(v)[:, 0]
            .float()
        )
        for storage in (keys, values):  # whatever lies before and after must not matter
            storage[row, :, : seen.start] = storage[row, :, seen.stop :] = float("nan")
    torch.testing.assert_close(
        cpu_kernels.attend_one(q, keys, values, positions, window), expected, atol=2e-5, rtol=2e-5
    )


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_has_the_same_bits_in_any_company_and_on_any_threads(dtype: torch.dtype) -> None:
    assert cpu_kernels.available()
    q, keys, values, positions = inputs(32, 2, 2, 130, 32, dtype, 0)
    threads, outs = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            outs.append(cpu_kernels.attend_one(q, keys, values, positions, 0))
            outs.append(
                torch.cat(
                    [
                        cpu_kernels.attend_one(
                            q[i : i + 1],
                            keys[i : i + 1],
                            values[i : i + 1],
                            positions[i : i + 1],
                            0,
                        )
                        for i in range(32)
                    ]
                )
            )
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(outs[0], out) for out in outs)


@pytest.mark.parametrize("compiler", ["none", "one that fails"])
def test_without_a_fit_compiler_it_is_not_there(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "new"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    if compiler != "none":
        (tmp_path / "g++").write_text("#!/bin/sh\necho too old >&2\nexit 1\n")
        (tmp_path / "g++").chmod(0o755)
    assert not cpu_kernels.available.__wrapped__()
    assert not list((tmp_path / "new").glob("*"))  # nothing half-built stays
    assert ("too old" in caplog.text) == (compiler != "none")
