"""Muon and AdamW against torch's own; schedules; rates; saved state."""

import itertools
import math

import pytest
import torch

from chatling.config.recipe import fingerprint
from chatling.config.stages import LaterStageConfig
from chatling.errors import ChatlingError, DataError, RecipeError
from chatling.hardware.distributed import DistContext
from chatling.model.config import ModelRecipe
from chatling.model.gpt import GPT
from chatling.optim.adamw import AdamWGroup, AdamWSettings
from chatling.optim.muon import MuonGroup, MuonSettings, orthogonalize
from chatling.optim.param_groups import (
    OptimConfig,
    Optimizer,
    parameter_roles,
    resolve_optim,
)
from chatling.optim.schedule import Schedule
from chatling.train.stage_base import fractional_schedule

ONE = torch.ones(())


def reduce(group: MuonGroup | AdamWGroup) -> None:
    for index in range(len(group.parameters)):
        group.reduce(index)
    group.squared_norm()


@pytest.mark.parametrize("shape", [(16, 16), (48, 16), (16, 40)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_muon_equals_torch(shape: tuple[int, int], decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    mine = [torch.randn(shape, generator=generator) for _ in range(3)]
    theirs = [torch.nn.Parameter(weight.clone()) for weight in mine]
    group = MuonGroup(
        ["a", "b", "c"], mine, MuonSettings(0.03, decay), DistContext(), torch.bfloat16
    )
    reference = torch.optim.Muon(
        theirs, lr=0.03, weight_decay=decay, momentum=0.9, nesterov=True, adjust_lr_fn="original"
    )
    for _ in range(5):
        for weight, parameter in zip(mine, theirs, strict=True):
            weight.grad = torch.randn(shape, generator=generator)
            parameter.grad = weight.grad.clone()
        reduce(group)
        group.step(1.0, 0.9, 1.0, ONE)
        reference.step()
    for weight, parameter in zip(mine, theirs, strict=True):
        # stacked and single bf16 products may round differently: within 1 % of the five updates'
        # size
        assert (weight - parameter).norm() / (5 * 0.03 * math.sqrt(min(shape))) < 0.01


def test_orthogonalisation_brings_singular_values_near_one() -> None:
    matrices = torch.randn(
        2, 32, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    for polar, low, high in ((False, 0.6, 1.25), (True, 0.85, 1.15)):
        values = torch.linalg.svdvals(orthogonalize(matrices, polar, torch.float64))
        assert values.min() > low
        assert values.max() < high
    # the same singular vectors: the product with the input's own polar factor is near the identity
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    near = orthogonalize(matrices, True, torch.float64)
    assert ((u @ vh) - near).norm() / (u @ vh).norm() < 0.1


def test_variance_reduction_evens_rows_and_keeps_the_norm() -> None:
    weights = [torch.zeros(8, 4)]
    group = MuonGroup(["a"], weights, MuonSettings(1.0, beta2=0.5), DistContext(), torch.float32)
    update = (
        torch.randn(1, 8, 4, generator=torch.Generator().manual_seed(0))
        * torch.arange(1, 9)[None, :, None]
    )
    even = group._even_out(update.clone())
    rows = even.square().mean(-1).sqrt()[0]
    assert rows.max() / rows.min() < 1.001
    torch.testing.assert_close(even.norm(), update.norm())


def test_cautious_decay_never_fights_the_update() -> None:
    weight = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    group = MuonGroup(
        ["a"], [weight], MuonSettings(0.1, 1.0, beta2=0.9), DistContext(), torch.float32
    )
    start = weight.clone()
    weight.grad = torch.eye(2)
    reduce(group)
    group.step(1.0, 0.0, 1.0, ONE)
    decayed_only = start - 0.1 * start
    # a zero update agrees with any sign: decay applies
    assert torch.allclose(weight[0, 1], decayed_only[0, 1])
    assert weight[0, 0] < decayed_only[0, 0]  # update and weight agree: both apply
    update = (decayed_only - weight)[0, 0]
    # they disagree: no decay
    torch.testing.assert_close(weight[1, 1], start[1, 1] - update, rtol=0, atol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_adamw_equals_torch(decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    mine = torch.randn(10, 6, generator=generator, dtype=torch.float64)
    theirs = torch.nn.Parameter(mine.clone())
    group = AdamWGroup("w", mine, AdamWSettings(0.01, 0.8, 0.95, decay), DistContext())
    reference = torch.optim.AdamW(
        [theirs], lr=0.01, betas=(0.8, 0.95), eps=1e-10, weight_decay=decay
    )
    for _ in range(10):
        mine.grad = torch.randn(10, 6, generator=generator, dtype=torch.float64)
        theirs.grad = mine.grad.clone()
        reduce(group)
        group.step(1.0, 0.95, 1.0, ONE.double())
        reference.step()
    torch.testing.assert_close(mine, theirs.detach(), rtol=1e-12, atol=1e-12)


def test_schedule_is_a_trapezoid() -> None:
    schedule = Schedule(100, warmup=10, warmdown=0.2, final=0.1)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[50] == rates[79] == 1.0
    assert rates[90] == pytest.approx(0.1 + 0.9 * 10 / 20)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert Schedule(10, peak=0.02, warmdown=1.0).rate(5) == pytest.approx(0.01)
    assert (schedule.momentum(0), schedule.momentum(300), schedule.momentum(9000)) == pytest.approx(
        (0.85, 0.95, 0.95)
    )


def test_rates_follow_width_and_batch() -> None:
    classic = resolve_optim(OptimConfig(), "classic", 768 * 4, 524_288, 1, 0)
    assert (classic.embedding.learning_rate, classic.head.learning_rate) == pytest.approx(
        (0.1, 0.002)
    )
    assert (classic.matrix.learning_rate, classic.clip) == (0.02, 1.0)
    modern = resolve_optim(OptimConfig(), "modern", 768, 524_288 // 4, 1000, 500)
    assert modern.matrix.learning_rate == pytest.approx(0.01)
    assert modern.matrix.weight_decay == pytest.approx(0.28 * 0.5 * 0.5)
    assert modern.clip == 0.0
    assert (
        resolve_optim(OptimConfig(matrix_lr=0.5), "classic", 768, 1, 1, 0).matrix.learning_rate
        == 0.5
    )


def test_what_the_reference_adds_is_off_unless_asked_for() -> None:
    for preset, matrix in (
        ("classic", MuonSettings(0.02)),
        ("modern", MuonSettings(0.02, beta2=0.9, polar_express=True)),
    ):
        assert resolve_optim(OptimConfig(), preset, 768, 524_288).matrix == matrix
    one = resolve_optim(OptimConfig(renormalize=True), "modern", 768, 524_288).matrix
    assert one == MuonSettings(0.02, 0.0, 0.9, True, renormalize=True)
    assert fingerprint(OptimConfig()) != fingerprint(OptimConfig(momentum_peak=0.97))


def test_a_later_stage_may_hold_its_momentum() -> None:
    rising, held = LaterStageConfig(), LaterStageConfig(momentum=0.9)
    found = [fractional_schedule(config, 500) for config in (rising, held)]
    assert [[s.momentum(at) for at in (0, 300, 499)] for s in found] == [
        [0.85, 0.95, 0.95],
        [0.9, 0.9, 0.9],
    ]


def _optimizer(preset: str) -> tuple[GPT, Optimizer]:
    model = GPT(
        ModelRecipe(preset=preset, depth=2, width=32, head_width=16, context=16).resolve(50)
    )  # type: ignore[arg-type]
    model.initialize(torch.Generator().manual_seed(0))
    return model, Optimizer(
        model,
        resolve_optim(OptimConfig(), preset, 32, 1024, 1, 0),
        DistContext(),
        torch.float32,
    )


def _step(model: GPT, optimizer: Optimizer, seed: int) -> float:
    ids = torch.randint(0, 50, (2, 16), generator=torch.Generator().manual_seed(seed))
    loss, count = model.loss(ids, ids.roll(-1, 1))
    (loss / count).backward()
    norm = optimizer.reduce_gradients()
    optimizer.step(norm, 1.0, 0.9, 1.0)
    model.zero_grad(set_to_none=True)
    return norm.item()


@pytest.mark.parametrize("preset", ["classic", "modern"])
def test_saved_state_goes_on_to_the_same_bits(preset: str) -> None:
    model, optimizer = _optimizer(preset)
    for seed in range(3):
        _step(model, optimizer, seed)
    copy, other = _optimizer(preset)
    copy.load_state_dict(model.state_dict())
    other.load_state_dict({name: tensor.clone() for name, tensor in optimizer.state_dict().items()})
    for seed in range(3, 6):
        _step(model, optimizer, seed)
        _step(copy, other, seed)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), copy.parameters(), strict=True)
    )


def test_the_norm_is_that_of_the_whole_gradient() -> None:
    model, optimizer = _optimizer("classic")
    ids = torch.randint(0, 50, (2, 16))
    with torch.no_grad():
        model.lm_head.weight.normal_()
    loss, _ = model.loss(ids, ids)
    loss.backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    torch.testing.assert_close(optimizer.reduce_gradients(), expected)


def test_state_of_another_model_is_refused() -> None:
    _, optimizer = _optimizer("classic")
    state = optimizer.state_dict()
    state.pop("lm_head.weight/mean")
    with pytest.raises(DataError, match="does not fit"):
        optimizer.load_state_dict(state)


class _Adapted(torch.nn.Module):
    """A model with what nobody foresaw: a gain, and a pair of low-rank matrices."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model
        width = model.config.width
        self.gain = torch.nn.Parameter(torch.ones(width))
        self.down = torch.nn.Parameter(torch.randn(4, width) / width**0.5)
        self.up = torch.nn.Parameter(torch.zeros(width, 4))

    def loss(self, ids: torch.Tensor) -> torch.Tensor:
        hidden = self.model(ids) * self.gain
        logits = self.model.logits(hidden + hidden @ self.down.T @ self.up.T)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.roll(-1, 1).flatten())


@pytest.mark.parametrize("preset", ["classic", "modern"])
def test_added_gains_and_matrices_learn(preset: str) -> None:
    torch.manual_seed(0)
    adapted = _Adapted(_optimizer(preset)[0])
    settings = resolve_optim(OptimConfig(), preset, 32, 524_288, 1, 0)
    optimizer = Optimizer(adapted, settings, DistContext(), torch.float32)
    roles = parameter_roles(adapted)
    assert (roles["gain"], roles["down"], roles["up"]) == ("scalar", "matrix", "matrix")
    assert roles["model.embed_tokens.weight"] == "embedding"
    ids = torch.randint(0, 50, (2, 16), generator=torch.Generator().manual_seed(0))
    before = {name: p.detach().clone() for name, p in adapted.named_parameters()}
    for _ in range(3):  # the head starts at zero, and so does the way up
        adapted.loss(ids).backward()
        optimizer.step(optimizer.reduce_gradients(), 0.1, 0.9, 1.0)
        adapted.zero_grad(set_to_none=True)
    for name in ("gain", "down", "up"):
        assert not torch.equal(before[name], adapted.get_parameter(name)), name


def test_the_roles_of_the_presets_are_those_on_record() -> None:
    def of_role(preset: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name, role in parameter_roles(_optimizer(preset)[0]).items():
            part = name.removesuffix(".weight").split(".")
            found.setdefault(role, set()).add(part[0] if part[0] != "layers" else part[-1])
        return found

    blocks = {"q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"}
    plain = {"embedding": {"embed_tokens"}, "head": {"lm_head"}}
    assert of_role("classic") == plain | {"matrix": blocks}
    assert of_role("modern") == plain | {
        "matrix": blocks | {"value_gate"},
        "value_embedding": {"value_embeds"},
        "residual_scales": {"residual_scales"},
        "input_scales": {"input_scales"},
        "scalar": {"smear_gate", "smear_scale", "backout_scale"},
    }


def test_a_parameter_without_a_role_is_named() -> None:
    model, _ = _optimizer("classic")
    model.layers[1].mlp.experts = torch.nn.Parameter(torch.zeros(2, 3, 4))  # type: ignore[union-attr]
    with pytest.raises(ChatlingError, match=r"layers\.1\.mlp\.experts.*\(2, 3, 4\)"):
        parameter_roles(model)
    model.layers[1].mlp.parameter_roles = {"experts": "tensor"}  # type: ignore[union-attr]
    with pytest.raises(ChatlingError, match="the role tensor"):
        parameter_roles(model)
    model.layers[1].mlp.parameter_roles = {"experts": "scalar"}  # type: ignore[union-attr]
    assert parameter_roles(model)["layers.1.mlp.experts"] == "scalar"


@pytest.mark.parametrize("name", ["SGD", "AdamW", "NAdam", "Adafactor", "Rprop", "Muon"])
def test_any_optimizer_of_torch_learns_and_resumes_to_the_same_bits(name: str) -> None:
    config = OptimConfig(matrix=f"torch.optim.{name}", weight_decay=0.1)
    settings = resolve_optim(config, "classic", 32, 1024, 1, 0)
    model, plain = _optimizer("classic")
    optimizer = Optimizer(model, settings, DistContext(), torch.float32)
    before = [p.detach().clone() for p in model.layers.parameters()]
    for seed in range(3):
        _step(model, optimizer, seed)
    assert any(
        not torch.equal(a, b) for a, b in zip(before, model.layers.parameters(), strict=True)
    )
    copy, _ = _optimizer("classic")
    copy.load_state_dict(model.state_dict())
    other = Optimizer(copy, settings, DistContext(), torch.float32)
    other.load_state_dict({key: value.clone() for key, value in optimizer.state_dict().items()})
    for seed in range(3, 5):
        _step(model, optimizer, seed)
        _step(copy, other, seed)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), copy.parameters(), strict=True)
    )
    with pytest.raises(DataError, match="does not fit"):
        other.load_state_dict(plain.state_dict())


def test_one_step_of_torch_adamw_is_ours() -> None:
    steps = []
    for name in ("adamw", "torch.optim.AdamW"):
        model, _ = _optimizer("classic")
        settings = resolve_optim(OptimConfig(head=name), "classic", 32, 1024, 1, 0)
        _step(model, Optimizer(model, settings, DistContext(), torch.float32), 0)
        steps.append(model.lm_head.weight.detach())
    torch.testing.assert_close(*steps, rtol=0, atol=1e-4)  # of 0.02; the epsilons differ


@pytest.mark.parametrize("name", ["sgd", "torch.optim.Sgd", "torch.optim.LBFGS", "torch.nn.Linear"])
@pytest.mark.parametrize("role", ["matrix", "scalar"])
def test_what_is_no_optimizer_is_refused_before_the_run(role: str, name: str) -> None:
    with pytest.raises(RecipeError, match=rf"optim\.{role} is .*torch\.optim"):
        OptimConfig(**{role: name})


@pytest.mark.parametrize("name", ["muon", "torch.optim.Muon"])
def test_muon_updates_no_scalars(name: str) -> None:
    with pytest.raises(RecipeError, match=r"optim\.scalar"):
        OptimConfig(scalar=name)


def test_choosing_the_optimizer_changes_a_fingerprint_only_when_it_is_another() -> None:
    assert fingerprint(OptimConfig()) == fingerprint(OptimConfig(matrix="muon"))
    old = dict.fromkeys(("preset", "matrix_lr", "embedding_lr", "head_lr", "weight_decay"))
    assert fingerprint(OptimConfig()) == fingerprint(old | {"scale_with_batch": None, "clip": None})
    assert fingerprint(OptimConfig()) != fingerprint(OptimConfig(matrix="adamw"))
