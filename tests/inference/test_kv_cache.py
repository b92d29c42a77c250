"""The cache: the same numbers as without it, rows at different places, extents that leave no
trace.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from chatling.hardware.detect import has_compiler
from chatling.inference.kv_cache import EXTENT, KVCache, Pass, bytes_per_slot
from chatling.model.gpt import GPT

Make = Callable[..., GPT]
CPU = torch.device("cpu")


def go_on(
    cache: KVCache,
    starts: Sequence[int],
    lengths: Sequence[int],
    previous: Sequence[int],
    tokens: int = 1,
    slots: Sequence[int] | None = None,
) -> Pass:
    columns = cache.seen_by(
        max(start + length for start, length in zip(starts, lengths, strict=True))
    )
    numbers = (torch.tensor(list(values)) for values in (starts, lengths, previous))
    return Pass(cache, *numbers, columns, tokens, None if slots is None else torch.tensor(slots))


@pytest.mark.parametrize("preset", ["classic", "modern", "yarn"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize(
    "cpp",
    [
        False,
        pytest.param(True, marks=pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")),
    ],
)
@torch.no_grad()
def test_cached_equals_uncached(
    make_model: Make, preset: str, kv_heads: int, slots: int, cpp: bool
) -> None:
    """A row read in parts of 1, 30 (two in one pass) and 5, padding beside it; then decoded while
    the other slots rest.
    """
    model = make_model(preset, kv_heads=kv_heads)
    cache = KVCache(model.config, slots, 100, torch.float32, CPU, compiled=cpp)
    assert cache.native == cpp
    ids = torch.randint(model.config.vocab_size, (90,), generator=torch.Generator().manual_seed(1))
    expected = model.logits(model(ids[None]))[0]
    got = torch.full_like(expected, float("nan"))
    last, spare = slots - 1, slots

    def read(parts: list[tuple[int, int]], tokens: int) -> None:
        rows = torch.zeros(len(parts) + 1, tokens, dtype=torch.int64)
        for row, (start, stop) in zip(rows, parts, strict=False):
            row[: stop - start] = ids[start:stop]
        before = [int(ids[start - 1]) if start else -1 for start, _ in parts]
        view = go_on(
            cache,
            [*[start for start, _ in parts], 0],
            [*[stop - start for start, stop in parts], 0],
            [*before, -1],
            tokens,
            [*[last] * len(parts), spare],
        )
        for states, (start, stop) in zip(model(rows, view), parts, strict=False):
            got[start:stop] = model.logits(states[: stop - start])

    read([(0, 1)], 1)
    read([(1, 16), (16, 31)], 15)
    read([(31, 36)], 7)
    for at in range(36, 90):
        view = go_on(cache, [*[0] * last, at], [*[0] * last, 1], [*[-1] * last, int(ids[at - 1])])
        got[at] = model.logits(
            model(torch.cat((ids.new_zeros(last), ids[at : at + 1]))[:, None], view)
        )[last, 0]
    # sharper attention, larger rounding errors
    atol = 2e-5 if preset == "yarn" else 1e-5
    torch.testing.assert_close(got, expected, atol=atol, rtol=0)
    assert not any(
        storage[:last].any() for storage in (*cache.keys, *cache.values)
    )  # who rests is left alone


@torch.no_grad()
def test_a_slot_starts_over_clean_and_a_copy_goes_on_alike(make_model: Make) -> None:
    model = make_model("modern")
    ids = torch.arange(60)[None]

    def read(cache: KVCache, slot: int) -> torch.Tensor:
        model(ids[:, :20], go_on(cache, [0], [20], [-1], 20, [slot]))
        return model(ids[:, 20:21], go_on(cache, [20], [1], [19], 1, [slot]))

    used, fresh = (KVCache(model.config, 2, 64, torch.float32, CPU) for _ in range(2))
    model(ids.flip(1), go_on(used, [0], [60], [-1], 60, [0]))
    expected = read(fresh, 0)
    assert torch.equal(read(used, 0), expected)
    used.copy([0], [1], 20)
    assert torch.equal(model(ids[:, 20:21], go_on(used, [20], [1], [19], 1, [1])), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [0, 24])
@pytest.mark.parametrize("tokens", [1, 32])
def test_a_longer_neighbour_changes_no_bit(
    make_model: Make, dtype: torch.dtype, window: int, tokens: int
) -> None:
    """What lets the engine read only as far as the longest row: extents that are multiples of
    EXTENT agree bit for bit.
    """
    config = make_model(kv_heads=2, context=1400).config
    config = replace(config, windows=(window,) * config.depth)
    generator = torch.Generator().manual_seed(0)

    def attend(position: int, longest: int) -> torch.Tensor:
        cache = KVCache(config, 2, 1400, dtype, CPU)
        cache.keys[1].normal_(generator=generator.manual_seed(0))
        cache.values[1].normal_(generator=generator)
        q, k, v = (
            torch.randn(2, tokens, heads, config.head_width, generator=generator).to(dtype)
            for heads in (4, 2, 2)
        )
        view = go_on(cache, [position, longest], [tokens] * 2, [0, 0], tokens)
        assert len(view.columns) == ((longest + tokens - 1) // EXTENT + 1) * EXTENT
        return view.attend(1, q, k, v, window)[0]

    for position in (0, 32, 64, 320, 512):
        alone = attend(position, position)
        for longest in (position + 1, 128, 200, 450, 513, 699, 1300):
            if longest >= position:
                assert torch.equal(alone, attend(position, longest)), (position, longest)


def test_overflow_is_refused(make_model: Make) -> None:
    cache = KVCache(make_model().config, 1, 64, torch.float32, CPU)
    with pytest.raises(IndexError, match="65 tokens"):
        cache.seen_by(65)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_per_slot(make_model: Make, dtype: torch.dtype) -> None:
    config = make_model(kv_heads=2).config
    cache = KVCache(config, 2, 100, dtype, CPU)
    assert sum(storage.nbytes for storage in (*cache.keys, *cache.values)) == 3 * bytes_per_slot(
        config, 100, dtype, CPU
    )
