"""Rotations for a longer context: YaRN as published, layers with a window as they were."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from chatling.config.extend import ExtendConfig
from chatling.errors import DataError
from chatling.evals.bpb import stretched
from chatling.model.attention import Yarn
from chatling.model.config import ModelConfig, ModelRecipe
from chatling.model.gpt import GPT
from chatling.train.extend import extended


def small(preset: str) -> ModelConfig:
    recipe = ModelRecipe(preset=preset, depth=4, width=64, head_width=16, context=32)  # type: ignore[arg-type]
    return recipe.resolve(97)


@pytest.mark.parametrize(
    ("width", "theta", "context", "factor"),
    [(128, 10_000.0, 2048, 4.0), (128, 100_000.0, 2048, 2.5), (32, 10_000.0, 128, 4.0)],
)
def test_yarns_frequencies_are_those_of_transformers(
    width: int, theta: float, context: int, factor: float
) -> None:
    rope_utils = pytest.importorskip("transformers.modeling_rope_utils")
    parameters = {
        "rope_type": "yarn",
        "rope_theta": theta,
        "factor": factor,
        "original_max_position_embeddings": context,
    }
    asked = SimpleNamespace(
        rope_parameters=parameters,
        head_dim=width,
        hidden_size=width,
        num_attention_heads=1,
        max_position_embeddings=round(context * factor),
        standardize_rope_params=lambda: None,
    )
    expected, temperature = rope_utils.ROPE_INIT_FUNCTIONS["yarn"](asked, torch.device("cpu"))
    given = theta ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    found = Yarn(factor, context).frequencies(given, width, theta)
    torch.testing.assert_close(found, expected)
    config = replace(small("classic"), yarn_factor=factor, yarn_context=context)
    assert config.attention_scale(0) == pytest.approx(temperature)


@pytest.mark.parametrize("scaling", ["theta", "yarn"])
def test_layers_with_a_window_stay_as_they_were(scaling: str) -> None:
    before = small("modern")
    after = extended(before, ExtendConfig(context=128, scaling=scaling))  # type: ignore[arg-type]
    assert after.context == 128
    assert after.windows == before.windows
    old, new = GPT(before), GPT(after)
    assert torch.equal(new.window_cos[:32], old.cos)
    assert torch.equal(new.window_sin[:32], old.sin)
    assert not torch.equal(new.cos[:32], old.cos)
    scales = [after.attention_scale(layer) for layer in range(4)]
    assert scales[:3] == [1.2] * 3
    assert scales[3] == pytest.approx(1.2 * (1.1386 if scaling == "yarn" else 1), abs=1e-4)
    # where only layers with a window turn, the function is the same
    for model in (old, new):
        model.initialize(torch.Generator().manual_seed(0))
        with torch.no_grad():
            model.layers[3].self_attn.v_proj.weight.zero_()
            model.value_embeds["3"].weight.zero_()
            for block in model.layers:
                block.self_attn.o_proj.weight.normal_(generator=torch.Generator().manual_seed(1))
    ids = torch.randint(0, 97, (2, 32), generator=torch.Generator().manual_seed(2))
    assert torch.equal(old(ids), new(ids))


@pytest.mark.parametrize("preset", ["classic", "modern"])
@pytest.mark.parametrize("scaling", ["theta", "yarn"])
def test_an_extended_shape_comes_back_and_stretches(preset: str, scaling: str) -> None:
    config = extended(small(preset), ExtendConfig(context=128, scaling=scaling))  # type: ignore[arg-type]
    assert ModelConfig.from_dict(config.to_dict()) == config
    model = GPT(config)
    longer = stretched(model, 256)
    assert longer.cos.shape[0] == 256
    assert torch.equal(longer.cos[:128], model.cos)


def test_files_of_models_without_it_are_as_they_were() -> None:
    found = small("classic").to_dict()
    assert not {"window_theta", "yarn_factor", "yarn_context", "backout_layer"} & found.keys()
    for odd in (
        {"yarn_factor": 4.0},
        {"yarn_context": 64},
        {"yarn_factor": 0.5, "yarn_context": 8},
    ):
        with pytest.raises(DataError):
            ModelConfig.from_dict(found | odd)
