"""Low-rank adapters: what they compute, what learns, what is saved of them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.errors import RecipeError
from chatling.model.adapter import AdaptedGPT, AdapterConfig, merged
from chatling.model.config import ModelRecipe, adapter_parameters, model_memory
from chatling.model.gpt import GPT


def adapted(preset: str = "classic", seed: int = 0, **table: float) -> AdaptedGPT:
    """A model with adapters that have learned something, over drawn weights."""
    window = "SL" if preset == "modern" else None
    shape = ModelRecipe(
        preset=preset,
        depth=2,
        width=32,
        head_width=8,
        kv_heads=2,
        context=48,
        window_pattern=window,
    ).resolve(90)
    model = AdaptedGPT(shape, AdapterConfig(**table), "0" * 64, "there")
    draw = torch.Generator().manual_seed(seed)
    model.initialize(draw)
    for name, parameter in model.named_parameters():
        parameter.data.normal_(0, 0.05 if "lora_" in name else 0.2, generator=draw)
    return model


@settings(max_examples=8, deadline=None)
@given(
    preset=st.sampled_from(["classic", "modern"]),
    rank=st.integers(1, 40),
    alpha=st.floats(0.5, 64),
    seed=st.integers(0, 9),
)
def test_merged_weights_compute_what_the_adapters_do(preset, rank, alpha, seed) -> None:
    model = adapted(preset, seed, rank=rank, alpha=alpha)
    ids = torch.randint(0, 90, (2, 40), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        plain = merged(model)
        assert type(plain) is GPT
        apart = model.logits(model(ids)) - plain.logits(plain(ids))
    assert apart.abs().max() <= 1e-5
    # by the definition, in float64
    name = "layers.1.mlp.fc1"
    parts = dict(model.named_parameters())
    low, high = (parts[f"{name}.lora_{half}.weight"].double() for half in "AB")
    wanted = parts[f"{name}.weight"].double() + alpha / rank * (high @ low)
    found = plain.state_dict()[f"{name}.weight"].double()
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("preset", ["classic", "modern"])
def test_a_fresh_adapter_leaves_every_bit_of_the_function(preset) -> None:
    model = adapted(preset)
    whole = merged(model)
    fresh = AdaptedGPT(model.config, AdapterConfig(), "0" * 64, "there")
    fresh.initialize(torch.Generator().manual_seed(1))
    fresh.load_state_dict(whole.state_dict())
    ids = torch.randint(0, 90, (2, 40), generator=torch.Generator().manual_seed(0))
    assert torch.equal(fresh(ids), whole(ids))
    assert all(each.lora_A.weight.any() for each in fresh.adapted().values())


@pytest.mark.parametrize("preset", ["classic", "modern"])
def test_only_the_adapters_learn_and_are_saved(preset) -> None:
    model = adapted(preset, rank=3)
    ids = torch.randint(0, 90, (2, 40), generator=torch.Generator().manual_seed(0))
    total, _ = model.loss(ids[:, :-1], ids[:, 1:])
    total.backward()
    learned = {name: p for name, p in model.named_parameters() if p.grad is not None}
    assert learned.keys() == model.state_dict().keys()
    assert all(parameter.grad.any() for parameter in learned.values())
    count = sum(parameter.numel() for parameter in learned.values())
    assert count == adapter_parameters(model.config, 3)
    frozen = sum(p.numel() for p in model.parameters()) - count
    assert model_memory(model.config, training=True, rank=3) == 4 * (frozen + 3 * count)


def test_weights_of_neither_half_are_refused() -> None:
    model = adapted()
    half = dict(list(model.state_dict().items())[1:])
    for wrong in (half, {}, merged(model).state_dict() | model.state_dict()):
        with pytest.raises(RuntimeError):
            model.load_state_dict(wrong)
    large = {name: tensor.repeat(2, 1) for name, tensor in model.state_dict().items()}
    with pytest.raises(RuntimeError):
        model.load_state_dict(large)


def test_weakened_adapters_lie_on_the_line_to_the_base() -> None:
    model = adapted()
    base = {name: p.clone() for name, p in model.named_parameters()}
    before = merged(model).state_dict()
    model.weaken(0.25)
    for name, tensor in merged(model).state_dict().items():
        torch.testing.assert_close(tensor, torch.lerp(base[name], before[name], 0.25))


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"rank": 1.5}, {"alpha": 0.0}, {"rank": 9999}])
def test_senseless_numbers_are_refused(wrong) -> None:
    with pytest.raises(RecipeError):
        dataclasses.replace(AdapterConfig(), **wrong)
