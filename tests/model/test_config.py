"""Shapes that follow from depth, and the counts that follow from shapes."""

import pytest
import torch

from chatling.errors import DataError, RecipeError
from chatling.model.config import (
    ModelConfig,
    ModelRecipe,
    adapter_parameters,
    flops_per_token,
    parameter_counts,
)
from chatling.model.gpt import GPT


def test_reference_d20() -> None:
    config = ModelRecipe(depth=20).resolve(65_536)
    assert (config.width, config.heads, config.head_width, config.context) == (1280, 10, 128, 2048)
    assert parameter_counts(config)["total"] == 560_988_160


def test_d32_costs_11_6_times_d20() -> None:
    def cost(depth: int) -> float:
        config = ModelRecipe(depth=depth).resolve(65_536)
        return flops_per_token(config) * parameter_counts(config)["total"]

    assert cost(32) / cost(20) == pytest.approx(11.6, abs=0.05)


def test_frozen_weights_cost_a_third_less() -> None:
    """They get no gradient of their own; attention costs what it did."""
    config = ModelRecipe(depth=20).resolve(65_536)
    counts = parameter_counts(config)
    saved = flops_per_token(config) - flops_per_token(config, rank=8)
    adapters = 6 * adapter_parameters(config, 8)
    assert saved == 2 * (counts["matrices"] + counts["head"]) - adapters


@pytest.mark.parametrize("preset", ["classic", "modern"])
@pytest.mark.parametrize("depth", [1, 4, 5])
def test_counts_equal_the_modules(preset: str, depth: int) -> None:
    config = ModelRecipe(
        preset=preset, depth=depth, width=48, head_width=12, kv_heads=2, context=32
    ).resolve(300)  # type: ignore[arg-type]
    assert parameter_counts(config)["total"] == sum(p.numel() for p in GPT(config).parameters())


def test_modern_windows_end_full() -> None:
    config = ModelRecipe(preset="modern", depth=8, context=2048).resolve(100)
    assert config.windows == (768, 768, 768, 0, 768, 768, 768, 0)
    assert ModelRecipe(preset="modern", depth=2, context=64).resolve(100).windows[-1] == 0
    assert [config.has_value_embedding(i) for i in range(8)] == [False, True] * 4


def test_flops_count_every_matrix_product() -> None:
    """Against a count of the operations that torch dispatches, attention included (it counts the
    full square, as we do).
    """
    from torch.utils.flop_counter import FlopCounterMode

    config = ModelRecipe(depth=3, width=64, head_width=16, context=32).resolve(128)
    model = GPT(config, kernel="plain")
    model.initialize(torch.Generator().manual_seed(0))
    ids = torch.randint(0, 128, (2, 32))
    with FlopCounterMode(display=False) as counter:
        loss, count = model.loss(ids, ids)
        (loss / count).backward()
    assert counter.get_total_flops() == pytest.approx(flops_per_token(config) * 64, rel=1e-6)


def test_round_trip_and_bad_shapes() -> None:
    config = ModelRecipe(preset="modern", depth=4, width=64, head_width=16, context=64).resolve(100)
    assert ModelConfig.from_dict(config.to_dict()) == config
    with pytest.raises(DataError, match="wings"):
        ModelConfig.from_dict(config.to_dict() | {"wings": 2})
    with pytest.raises(RecipeError, match="divide"):
        ModelRecipe(depth=2, width=100, head_width=12).resolve(100)
    with pytest.raises(RecipeError, match="letters"):
        ModelRecipe(depth=2, window_pattern="SX").resolve(100)
