"""Parameter groups: the role of each parameter, the settings of each role, and the optimizer."""

import functools
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import AfterValidator
from torch import Tensor, nn

from chatling.errors import DataError, RunError
from chatling.fields import CountOrZero, Flag, Fraction, GradientNorm, Rate, bounded, config
from chatling.hardware.distributed import DistContext
from chatling.model.config import REFERENCE_WIDTH
from chatling.model.sharding import is_sharded, is_spread
from chatling.optim.adamw import AdamWGroup, AdamWSettings
from chatling.optim.muon import MuonGroup, MuonSettings
from chatling.optim.reduction import OverlappedReduction
from chatling.optim.schedule import DecaySchedule, Momentum
from chatling.optim.sharded_muon import ShardedMuonGroup
from chatling.optim.torch_optim import TorchGroup, TorchSettings, first_state

REFERENCE_BATCH = 524_288  # tokens; the batch that the modern rates were tuned at

Role = Literal[
    "matrix", "embedding", "head", "value_embedding", "residual_scales", "input_scales", "scalar"
]
ROLE_BY_DIMENSIONS: dict[int, Role] = {0: "scalar", 1: "scalar", 2: "matrix"}
Settings = MuonSettings | AdamWSettings | TorchSettings
OPTIMIZERS: dict[str, type[MuonSettings] | type[AdamWSettings]] = {
    "muon": MuonSettings,
    "adamw": AdamWSettings,
}


def _usable(name: str, *, shape: tuple[int, ...]) -> str:
    """`name`, an optimizer for parameters of such a shape. Raises ValueError when it is none."""
    if name not in OPTIMIZERS:
        first_state(name, shape)
    elif name == "muon" and len(shape) != 2:
        raise ValueError("Muon updates matrices")
    return name


_CLASS = 'a class of torch.optim such as "torch.optim.SGD" that needs gradients alone'
OptimizerName = Annotated[
    str,
    AfterValidator(functools.partial(_usable, shape=(2, 2))),
    bounded(title=f'"muon", "adamw" or {_CLASS}'),
]
ScalarOptimizerName = Annotated[
    str,
    AfterValidator(functools.partial(_usable, shape=(2,))),
    bounded(title=f'"adamw" or {_CLASS}'),
]
# what a preset takes where the recipe says nothing
_CLASSIC: dict[str, Any] = {
    "matrix_lr": 0.02,
    "embedding_lr": 0.2,
    "head_lr": 0.004,
    "scale_with_batch": False,
    "clip": 1.0,
    "scale_smear_with_batch": False,
    "residual_decay": 0.0,
    "equilibrate_rows": False,
    "renormalize": False,
    "polar_safety": 1.02,
    "decay_by_aspect": False,
    "decay_schedule": "constant",
    "momentum_peak": 0.95,
    "momentum_warmup": 300,
}
_MODERN = _CLASSIC | {
    "embedding_lr": 0.3,
    "head_lr": 0.008,
    "scale_with_batch": True,
    "clip": 0.0,
    "scale_smear_with_batch": True,
    "decay_schedule": "linear",
}
_REFERENCE = _MODERN | {
    "scale_smear_with_batch": False,
    "residual_decay": 0.05,
    "equilibrate_rows": True,
    "renormalize": True,
    "polar_safety": 1.01,
    "decay_by_aspect": True,
    "decay_schedule": "cosine",
    "momentum_peak": 0.97,
    "momentum_warmup": 400,
    "momentum_final": 0.90,
}
PRESETS = {"classic": _CLASSIC, "modern": _MODERN, "reference": _REFERENCE}
# fingerprints of runs from before these fields leave them out while they have their defaults
_LATER = {"later": True}


@config
class OptimConfig:
    """The `[optim]` table. What is None follows from the preset."""

    preset: Literal["classic", "modern", "reference"] | None = None
    """Whose settings are taken where a field is empty; empty: the model's own. "reference" is
    modern's optimizer as the reference of July 2026 has it.
    """
    matrix_lr: Rate | None = None
    """Learning rate of Muon, for the matrices; empty: 0.02."""
    embedding_lr: Rate | None = None
    """Learning rate of AdamW, for the embedding; times (width / 768)^-0.5. Empty: classic 0.2,
    modern 0.3.
    """
    head_lr: Rate | None = None
    """Learning rate of AdamW, for the head; times (width / 768)^-0.5. Empty: classic 0.004, modern
    0.008.
    """
    weight_decay: Rate | None = None
    """Of the matrices; a number given here is used as it is. Empty: classic 0, modern 0.28, scaled
    by batch and tokens.
    """
    scale_with_batch: Flag | None = None
    """All rates times √(batch tokens / 524,288); empty: modern yes, classic no."""
    clip: GradientNorm | None = None
    """Largest gradient norm, 0 is off; empty: classic 1, modern 0. Later stages may have their
    own.
    """
    matrix: OptimizerName = field(default="muon", metadata=_LATER)
    """Optimizer of the matrices in the blocks. A class of torch.optim gets the rate and the weight
    decay; the rest are its own defaults.
    """
    embedding: OptimizerName = field(default="adamw", metadata=_LATER)
    """Optimizer of the embedding and of modern's value embeddings."""
    head: OptimizerName = field(default="adamw", metadata=_LATER)
    """Optimizer of the head."""
    scalar: ScalarOptimizerName = field(default="adamw", metadata=_LATER)
    """Optimizer of scales, gates of the input, and other vectors."""
    equilibrate_rows: Flag | None = field(default=None, metadata=_LATER)
    """Muon scales the rows of an update to one norm before it is orthogonalized (MuonEq); empty:
    reference yes, the others no.
    """
    renormalize: Flag | None = field(default=None, metadata=_LATER)
    """Muon gives what was orthogonalized the norm of an orthogonal matrix (Muon+); empty: reference
    yes, the others no.
    """
    polar_safety: Annotated[float, bounded(ge=1, le=2)] | None = field(
        default=None, metadata=_LATER
    )
    """Polar Express begins at a Frobenius norm of 1 / this; empty: reference 1.01, modern 1.02."""
    decay_by_aspect: Flag | None = field(default=None, metadata=_LATER)
    """Tall matrices decay √(rows / columns) times as fast; empty: reference yes, the others no."""
    decay_schedule: DecaySchedule | None = field(default=None, metadata=_LATER)
    """How the matrices' decay falls to zero over the base stage; empty: classic "constant", modern
    "linear", reference "cosine".
    """
    residual_decay: Rate | None = field(default=None, metadata=_LATER)
    """Weight decay of the residual scales; empty: reference 0.05, the others 0."""
    scale_smear_with_batch: Flag | None = field(default=None, metadata=_LATER)
    """Whether `scale_with_batch` holds for the rates of smear and backout, too; empty: modern yes,
    reference no.
    """
    momentum_peak: Fraction | None = field(default=None, metadata=_LATER)
    """Muon's momentum of the base stage rises from 0.85 to this; empty: reference 0.97, the others
    0.95.
    """
    momentum_warmup: CountOrZero | None = field(default=None, metadata=_LATER)
    """Steps of that rise; empty: reference 400, the others 300."""
    momentum_final: Fraction | None = field(default=None, metadata=_LATER)
    """To which it falls during the warmdown; empty: reference 0.9, the others stay at the peak."""

    def filled(self, preset: str) -> "OptimConfig":
        """With the preset's values where it is empty: its own preset's, or else that of the
        model.
        """
        known = PRESETS[self.preset or preset]
        empty = {name: value for name, value in known.items() if getattr(self, name) is None}
        return replace(self, **empty)

    def momentum(self, preset: str) -> Momentum:
        """Muon's momentum in the base stage."""
        found = self.filled(preset)
        assert found.momentum_peak is not None
        assert found.momentum_warmup is not None
        return Momentum(
            peak=found.momentum_peak, warmup=found.momentum_warmup, final=found.momentum_final
        )


@dataclass(frozen=True)
class OptimSettings:
    """The settings of every role and the largest gradient norm, for one width, batch and corpus."""

    matrix: Settings
    embedding: Settings
    head: Settings
    value_embedding: Settings
    residual_scales: Settings
    input_scales: Settings
    scalar: Settings
    clip: float


def resolve_optim(
    config: OptimConfig,
    preset: str,
    width: int,
    batch_tokens: int,
    tokens: float = 1,
    tokens_d12: float = 0,
) -> OptimSettings:
    """OptimSettings as functions of width (embeddings and head by (width / 768)^-0.5), batch
    (square root) and tokens (weight decay).

    `tokens` and `tokens_d12` are what this model and one of depth 12, where modern's weight decay
    is tuned, train on at one ratio of tokens to parameters. Only their quotient counts, so they may
    as well be the parameters. Without them, as after the base stage, modern's own decay is 0.
    """
    found: Any = config.filled(preset)
    modern = (config.preset or preset) != "classic"
    batch = math.sqrt(batch_tokens / REFERENCE_BATCH)
    batch_factor = batch if found.scale_with_batch else 1.0
    table_factor = batch_factor * (width / REFERENCE_WIDTH) ** -0.5
    embedding_lr = found.embedding_lr * table_factor
    head_lr = found.head_lr * table_factor
    matrix_lr = found.matrix_lr * batch_factor
    decay = found.weight_decay
    if decay is None:
        decay = 0.28 * batch * tokens_d12 / tokens if modern else 0.0
    muon = MuonSettings(
        matrix_lr,
        decay,
        polar_safety=found.polar_safety,
        equilibrate_rows=found.equilibrate_rows,
        renormalize=found.renormalize,
        decay_by_aspect=found.decay_by_aspect,
    )
    settings: dict[Role, Settings]
    if modern:
        smear_lr = 0.2 * (batch_factor if found.scale_smear_with_batch else 1.0)
        settings = {
            "matrix": replace(muon, beta2=0.9, polar_express=True),
            "embedding": AdamWSettings(embedding_lr, 0.8, 0.995, 0.001),
            "head": AdamWSettings(head_lr, 0.8, 0.96, 0.01),
            "value_embedding": AdamWSettings(embedding_lr / 2, 0.8, 0.995, 0.01),
            "residual_scales": AdamWSettings(
                0.005 * batch_factor, weight_decay=found.residual_decay
            ),
            "input_scales": AdamWSettings(0.5 * batch_factor, beta1=0.96),
            "scalar": AdamWSettings(smear_lr),
        }
    else:
        settings = dict.fromkeys(get_args(Role), AdamWSettings(embedding_lr))
        settings |= {"matrix": muon, "head": AdamWSettings(head_lr)}
    names = {"matrix": config.matrix, "head": config.head}
    names |= dict.fromkeys(("embedding", "value_embedding"), config.embedding)
    chosen = {
        role: _with_optimizer(default, names.get(role, config.scalar))
        for role, default in settings.items()
    }
    return OptimSettings(**chosen, clip=found.clip)


def _with_optimizer(settings: Settings, name: str) -> Settings:
    """A role's settings for the optimizer that the recipe names."""
    kind = OPTIMIZERS.get(name)
    rate, decay = settings.learning_rate, settings.weight_decay
    if kind is None:
        return TorchSettings(name, rate, decay)
    return settings if isinstance(settings, kind) else kind(rate, weight_decay=decay)


def parameter_roles(model: nn.Module) -> dict[str, Role]:
    """The role of every parameter by its name, which decides how it is updated.

    A module declares them: its attribute `parameter_roles` has the names of its parameters or
    submodules; what is declared further inside counts. What nothing declares goes by its
    dimensions, vectors as scalars and matrices as matrices. Raises RunError naming a parameter that
    has neither.
    """
    roles: dict[str, Any] = {}
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    for path, module in model.named_modules():
        for part, role in getattr(module, "parameter_roles", {}).items():
            inside = f"{path}.{part}." if path else f"{part}."
            roles |= {name: role for name in shapes if f"{name}.".startswith(inside)}
    for name, shape in shapes.items():
        role = roles.setdefault(name, ROLE_BY_DIMENSIONS.get(len(shape)))
        if role not in get_args(Role) or (role == "matrix" and len(shape) != 2):
            raise RunError(
                f"The parameter {name} has the shape {tuple(shape)} and the role {role}: no"
                " optimizer is known for it.",
                "Declare its role in `parameter_roles` of its module: one of"
                f" {', '.join(get_args(Role))}.",
            )
    return roles


class Optimizer:
    """All groups behind one step. State is saved by parameter name and fits any number of ranks."""

    def __init__(
        self, model: nn.Module, settings: OptimSettings, world: DistContext, dtype: torch.dtype
    ):
        """Only what requires a gradient is updated. `dtype` is that of the orthogonalization, which
        float64 parameters keep in float64. Raises RunError as `parameter_roles`.
        """
        sharded = is_sharded(model)
        if not sharded:
            world = world.node or world  # a state is shared inside of a node, gradients go beyond
        self.world, self.clip = world, settings.clip
        roles = parameter_roles(model)
        stacks: dict[tuple[Role, torch.Size], dict[str, Tensor]] = defaultdict(dict)
        self.groups: list[MuonGroup | AdamWGroup | TorchGroup] = []
        for name, parameter in model.named_parameters():
            chosen = getattr(settings, roles[name])
            if not parameter.requires_grad:
                continue
            if isinstance(chosen, AdamWSettings):
                self.groups.append(AdamWGroup(name, parameter, chosen, world))
            elif isinstance(chosen, TorchSettings):
                self.groups.append(TorchGroup(name, parameter, chosen, world))
            else:
                stacks[roles[name], parameter.shape][name] = parameter
        for (role, _), members in stacks.items():
            parameters = list(members.values())
            wide = torch.float64 if parameters[0].dtype == torch.float64 else dtype
            kind = ShardedMuonGroup if is_spread(parameters[0]) else MuonGroup
            muon = getattr(settings, role)
            self.groups.append(kind(list(members), parameters, muon, world, wide))
        each = [(group, i) for group in self.groups for i in range(len(group.parameters))]
        self._reduction = OverlappedReduction(
            world,
            [group.parameters[i] for group, i in each],
            lambda n: each[n][0].reduce(each[n][1]),
            beside=not sharded,  # else the blocks' own sums are under way there
        )

    def expect_last(self) -> None:
        """The next backward pass is the step's last one; gradients that it completes are summed
        over the ranks beside it.
        """
        self._reduction.expect_last()

    def reduce_gradients(self) -> Tensor:
        """Sum the gradients over the ranks; returns the norm of the whole gradient (a scalar
        tensor, the same on each).
        """
        self._reduction.finish()
        squares = torch.stack([group.squared_norm() for group in self.groups]).sum()
        return self.world.sum_shares(squares).sqrt()

    def step(self, norm: Tensor, rate: float, momentum: float, decay: float) -> None:
        """Apply the reduced gradients, clipped to the preset's largest norm. `rate` and `decay`
        multiply, `momentum` is Muon's.
        """
        scale = (
            (self.clip / norm.clamp_min(1e-12)).clamp_max(1.0)
            if self.clip
            else torch.ones_like(norm)
        )
        for group in self.groups:
            group.step(rate, momentum, decay, scale)

    def gathered(self) -> Iterator[tuple[str, Tensor]]:
        """The whole state by parameter name, a group at a time, so that no device holds all of it.
        A collective: every rank must go to the end.
        """
        for group in self.groups:
            yield from group.state().items()

    def state_dict(self) -> dict[str, Tensor]:
        """What `gathered` gives, at once."""
        return dict(self.gathered())

    def parts(self) -> dict[str, Tensor]:
        """What this rank has of the state, in place, the rows of a table as a DTensor."""
        return {name: tensor for group in self.groups for name, tensor in group.parts().items()}

    def loaded(self, parts: dict[str, Tensor]) -> None:
        """Called when `parts` were filled."""
        for group in self.groups:
            group.loaded(parts)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Raises DataError when the state is that of another model."""
        try:
            for group in self.groups:
                group.load_state(state)
        except (KeyError, RuntimeError) as error:
            raise DataError(
                f"The saved optimizer state does not fit this model ({error})."
            ) from error
