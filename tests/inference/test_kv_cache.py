"""The cache: the same numbers as without it, rows at different places, extents that leave no trace."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from chatling.inference.kv_cache import EXTENT, KVCache
from chatling.model.gpt import GPT

Make = Callable[..., GPT]


@pytest.mark.parametrize("preset", ["classic", "modern"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@torch.no_grad()
def test_cached_equals_uncached(make_model: Make, preset: str, kv_heads: int) -> None:
    """Two rows: one read in chunks of 1, 30, 5, the other whole with padding; then both decode; a third row rests."""
    model = make_model(preset, kv_heads=kv_heads)
    cache = KVCache(model.config, 3, 100, torch.float32, torch.device("cpu"))
    ids = torch.randint(model.config.vocabulary, (2, 90), generator=torch.Generator().manual_seed(1))
    expected = model.logits(model(ids))
    got = torch.full_like(expected, float("nan"))
    for start, stop in ((0, 1), (1, 31), (31, 36)):
        cache.begin([start, 0], stop - start, rows=[2, -1], lengths=[stop - start, 0])
        got[0, start:stop] = model.logits(model(torch.stack((ids[0, start:stop], ids[1, start:stop])), cache))[0]
    cache.begin([0], 64, rows=[0], lengths=[50])
    got[1, :50] = model.logits(model(torch.cat((ids[1:, :50], torch.zeros(1, 14, dtype=torch.int64)), 1), cache))[0, :50]
    for step in range(40):
        first, second = 36 + step, 50 + step
        cache.begin([second, 0, first])
        logits = model.logits(model(torch.stack((ids[1, second], ids[0, 0], ids[0, first]))[:, None], cache))
        got[1, second], got[0, first] = logits[0, 0], logits[2, 0]
    torch.testing.assert_close(got[0, :76], expected[0, :76], atol=1e-5, rtol=0)
    torch.testing.assert_close(got[1], expected[1], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_slot_starts_over_clean(make_model: Make) -> None:
    model = make_model("modern")
    ids = torch.arange(60)[None]

    def read(cache: KVCache) -> torch.Tensor:
        cache.begin([0], 20, rows=[0])
        model(ids[:, :20], cache)
        cache.begin([20])
        return model(ids[:, 20:21], cache)

    used, fresh = (KVCache(model.config, 1, 64, torch.float32, torch.device("cpu")) for _ in range(2))
    used.begin([0], 60, rows=[0])
    model(ids.flip(1), used)
    assert torch.equal(read(used), read(fresh))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [0, 24])
def test_a_longer_neighbour_changes_no_bit(make_model: Make, dtype: torch.dtype, window: int) -> None:
    """What lets the engine read only as far as the longest row: extents that are multiples of EXTENT agree bit for bit."""
    config = make_model(kv_heads=2, context=700).config
    config = replace(config, windows=(window,) * config.depth)
    generator = torch.Generator().manual_seed(0)

    def attend(position: int, longest: int) -> torch.Tensor:
        cache = KVCache(config, 2, 700, dtype, torch.device("cpu"))
        cache.keys[1].normal_(generator=generator.manual_seed(0))
        cache.values[1].normal_(generator=generator)
        q, k, v = (torch.randn(2, 1, heads, config.head_width, generator=generator).to(dtype) for heads in (4, 2, 2))
        cache.begin([position, longest])
        assert cache.extent == (longest // EXTENT + 1) * EXTENT
        return cache.attend(1, q, k, v, window)[0]

    for position in (0, 5, 63, 64, 300):
        alone = attend(position, position)
        for longest in (position + 1, 128, 200, 450, 513, 699):
            if longest >= position:
                assert torch.equal(alone, attend(position, longest))


def test_overflow_is_refused(make_model: Make) -> None:
    cache = KVCache(make_model().config, 1, 64, torch.float32, torch.device("cpu"))
    with pytest.raises(IndexError, match="65 tokens"):
        cache.begin([64])
