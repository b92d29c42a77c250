"""Ten updates of the whole optimizer end where the reference's do, for equal gradients."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch

from chatling.config.stages import BaseConfig
from chatling.hardware.distributed import DistContext
from chatling.optim.param_groups import OptimConfig, Optimizer, resolve_optim
from chatling.train.pretrain import base_schedule

from .reference import expected, filled, gradient, model_like, tensors, weight

Weights = dict[str, torch.Tensor]
AFTER = (1, 10)  # updates
REFERENCE = {"modern": OptimConfig(preset="reference")}


@functools.cache
def trained(name: str, dtype: torch.dtype, own_schedule: bool) -> dict[int, Weights]:
    """Weights by the number of updates, at the steps of the schedule that the reference took."""
    facts = expected(f"optimizer/{name}.json")
    preset = facts["preset"]
    config = model_like(facts["model"] | {"preset": preset})
    model = filled(config, facts, seed=facts["weights_seed"])
    batch = facts.get("batch_tokens", 524_288)
    optim = REFERENCE.get(preset, OptimConfig())
    settings = resolve_optim(
        optim, preset, config.width, batch, 1, facts.get("tokens_d12_over_tokens", 0)
    )
    optimizer = Optimizer(model, settings, DistContext(), dtype)
    schedule = base_schedule(BaseConfig(), optim, facts["schedule_steps"], preset)
    found = {}
    for number, step in enumerate(facts["steps"]):
        for key, parameter in model.named_parameters():
            array = gradient(key, tuple(parameter.shape), number, step["gradient_scale"])
            parameter.grad = torch.from_numpy(array)
        norm = optimizer.reduce_gradients()
        assert norm.item() == pytest.approx(step["gradient_norm"], rel=1e-5)
        at = step["step_of_schedule"]
        if own_schedule:
            factors = schedule.rate(at), schedule.momentum(at), schedule.weight_decay(at)
        else:
            start = facts.get("matrix_weight_decay_at_start") or 1.0
            decay = step["weight_decay_of_matrices"] / start
            factors = step["rate"], step["momentum"], decay
        optimizer.step(norm, *factors)
        if number + 1 in AFTER:
            found[number + 1] = {key: p.detach().clone() for key, p in model.named_parameters()}
    return found


def difference(name: str, dtype: torch.dtype, wanted: str, own_schedule: bool = False) -> float:
    """The largest one over parameters whose names contain `wanted`, after the tenth update."""
    weights = trained(name, dtype, own_schedule)
    reference = tensors(f"optimizer/{name}.safetensors")
    parts = [key for key in weights[10] if wanted in key]
    assert parts
    return max((weights[10][key] - reference[f"after10/{key}"]).abs().max().item() for key in parts)


@pytest.mark.parametrize("own_schedule", [False, True])
def test_classic_updates_are_the_reference_s(own_schedule: bool) -> None:
    weights = trained("classic", torch.float32, own_schedule)
    reference = tensors("optimizer/classic.safetensors")
    for count, key in itertools.product(AFTER, weights[10]):
        found = weights[count][key]
        assert (found - reference[f"after{count}/{key}"]).abs().max() < 5e-6, (count, key)


def test_classic_updates_in_bfloat16_are_the_reference_s() -> None:
    """It runs Newton-Schulz in bf16, whose rounding depends on the order of sums."""
    weights = trained("classic_bf16", torch.bfloat16, False)[10]
    reference = tensors("optimizer/classic_bf16.safetensors")
    facts = expected("optimizer/classic_bf16.json")
    for key, found in weights.items():
        start = torch.from_numpy(weight(key, tuple(found.shape), facts["weights_seed"]))
        wanted = reference[f"after10/{key}"]
        assert (found - wanted).abs().max() < 6e-3, key
        assert (found - wanted).norm() < 0.05 * (wanted - start).norm(), key


PARTS = "embed_tokens lm_head value_embeds scales smear backout_scale q_proj fc1 fc2 value_gate"


@pytest.mark.parametrize("own_schedule", [False, True])
@pytest.mark.parametrize("part", PARTS.split())
def test_modern_updates_are_the_reference_s(part: str, own_schedule: bool) -> None:
    assert difference("modern", torch.float32, part, own_schedule) < 5e-6


PIECES = {
    "equilibrate_rows": False,
    "renormalize": False,
    "polar_safety": 1.02,
    "decay_by_aspect": False,
    "residual_decay": 0.0,
    "scale_smear_with_batch": True,
}


@pytest.mark.parametrize("piece", PIECES)
def test_each_piece_of_the_reference_has_a_field_of_its_own(
    piece: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left out alone, each moves a weight further than the comparison allows."""
    optim = OptimConfig(preset="reference", **{piece: PIECES[piece]})
    monkeypatch.setitem(REFERENCE, "modern", optim)
    weights = trained.__wrapped__("modern", torch.float32, False)[10]
    reference = tensors("optimizer/modern.safetensors")
    assert max((weights[k] - reference[f"after10/{k}"]).abs().max() for k in weights) > 1e-4
