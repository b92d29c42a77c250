"""The model as a whole: causality, presets, initial state, compute dtype."""

import pytest
import torch

from chatling.model.config import ModelRecipe
from chatling.model.gpt import GPT

from .reference_modern import Shape, modern_logits


def small(preset: str, **overrides: int) -> GPT:
    recipe = ModelRecipe(preset=preset, depth=4, width=64, head_width=16, context=32, **overrides)  # type: ignore[arg-type]
    model = GPT(recipe.resolve(97))
    model.initialize(torch.Generator().manual_seed(0))
    return model


def stir(model: GPT) -> None:
    """Give every parameter a value at which a fresh model's zeros hide nothing."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


@pytest.mark.parametrize("preset", ["classic", "modern"])
def test_no_token_sees_its_future(preset: str) -> None:
    model = small(preset)
    stir(model)
    ids = torch.randint(0, 97, (1, 32), generator=torch.Generator().manual_seed(2))
    changed = ids.clone()
    changed[0, 20] = (changed[0, 20] + 1) % 97
    before, after = model(ids), model(changed)
    torch.testing.assert_close(before[:, :20], after[:, :20], rtol=0, atol=1e-6)
    assert (before[:, 20:] - after[:, 20:]).abs().max() > 1e-3


def test_windows_limit_what_is_seen() -> None:
    model = small("classic", window_pattern="S")  # type: ignore[arg-type]
    stir(model)
    assert model.config.windows == (12, 12, 12, 0)
    everything = small("classic")
    everything.load_state_dict(model.state_dict())
    ids = torch.randint(0, 97, (1, 32))
    torch.testing.assert_close(model(ids)[:, :12], everything(ids)[:, :12], rtol=0, atol=1e-5)
    assert (model(ids)[:, 20:] - everything(ids)[:, 20:]).abs().max() > 1e-3


def test_a_fresh_classic_model_predicts_evenly() -> None:
    logits = small("classic").logits(small("classic")(torch.randint(0, 97, (2, 8))))
    assert torch.equal(logits, torch.zeros_like(logits))


@pytest.mark.parametrize("preset", ["classic", "modern"])
def test_every_parameter_gets_a_gradient(preset: str) -> None:
    model = small(preset, kv_heads=2)
    stir(model)
    ids = torch.randint(0, 97, (2, 32))
    loss, _ = model.loss(ids, ids.roll(-1, 1))
    loss.backward()
    assert [
        name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0
    ] == []


def test_same_seed_same_weights() -> None:
    first, second = small("modern").state_dict(), small("modern").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_softcap_bounds_the_logits() -> None:
    model = small("classic")
    stir(model)
    with torch.no_grad():
        model.lm_head.weight.mul_(1000)
    assert model.logits(model(torch.randint(0, 97, (1, 8)))).abs().max() <= 15


def test_bfloat16_compute_keeps_fp32_weights() -> None:
    model = small("classic")
    stir(model)
    exact = model.logits(model(torch.arange(16)[None])).detach()
    model.compute_dtype = torch.bfloat16
    loss, _ = model.loss(torch.arange(16)[None], torch.arange(16)[None])
    loss.backward()
    assert (
        {p.dtype for p in model.parameters()}
        == {p.grad.dtype for p in model.parameters()}
        == {torch.float32}
    )
    assert (model.logits(model(torch.arange(16)[None])) - exact).abs().max() < 0.2


def test_layers_alike_share_a_compiled_graph() -> None:
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    model = GPT(
        ModelRecipe(preset="modern", depth=12, width=32, head_width=16, context=16).resolve(32),
        kernel="plain",
    )
    model.initialize(torch.Generator().manual_seed(0))
    counter = CompileCounter()
    for block in model.layers:
        block.compile(dynamic=False, backend=counter)
    model.loss(torch.zeros(2, 16, dtype=torch.int32), torch.zeros(2, 16, dtype=torch.int64))
    # short and full windows, with and without value embeddings: three of the four occur
    assert counter.frame_count == 3
    torch._dynamo.reset()


@pytest.mark.parametrize(("depth", "kv_heads"), [(4, 2), (5, 4)])
def test_modern_is_the_reference_written_out(depth: int, kv_heads: int) -> None:
    recipe = ModelRecipe(
        preset="modern", depth=depth, width=64, head_width=16, kv_heads=kv_heads, context=32
    )
    config = recipe.resolve(97)
    model = GPT(config, compute_dtype=torch.float64).double()
    model.initialize(torch.Generator().manual_seed(0))
    stir(model)
    # the model's tables are rounded to fp32, which the tests of rotation and parity hold
    distance = torch.arange(32, dtype=torch.float64)[:, None]
    angles = distance * 100_000.0 ** -(torch.arange(8, dtype=torch.float64) / 8)
    model.cos, model.sin = angles.cos(), angles.sin()
    ids = torch.randint(0, 97, (2, 20), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        logits = model.logits(model(ids)).numpy()
    weights = {name: p.detach().numpy() for name, p in model.named_parameters()}
    shape = Shape(depth, config.heads, kv_heads, config.windows)
    assert config.windows[:3] == (12, 12, 12)  # 20 tokens reach beyond them
    for row, tokens in enumerate(ids.tolist()):
        assert abs(logits[row] - modern_logits(weights, tokens, shape)).max() < 1e-9
    assert abs(logits).max() > 1
