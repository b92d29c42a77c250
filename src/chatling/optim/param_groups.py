"""Which parameter learns how: the groups of a model, their rates as functions of width and batch,
and the optimizer over them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from chatling.errors import DataError
from chatling.fields import Flag, Rate, bounded, config
from chatling.hardware.distributed import DistContext
from chatling.model.config import REFERENCE_WIDTH
from chatling.optim.adamw import AdamWGroup, AdamWSettings
from chatling.optim.muon import MuonGroup, MuonSettings

REFERENCE_BATCH = 524_288  # tokens; the batch that the modern rates were tuned at


@config
class OptimConfig:
    """The `[optim]` table. What is None follows from the preset."""

    preset: Literal["classic", "modern"] | None = None
    """The optimizer's settings of one or the other preset; empty: the model's own."""
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
    clip: Annotated[float, bounded(ge=0, le=10**6)] | None = None
    """Largest gradient norm, 0 is off; empty: classic 1, modern 0."""


@dataclass(frozen=True)
class OptimSettings:
    """An OptimConfig with every choice made, for one width, batch and number of tokens."""

    modern: bool
    matrix: MuonSettings
    embedding: AdamWSettings
    head: AdamWSettings
    value_embedding: AdamWSettings
    residual_scales: AdamWSettings
    input_scales: AdamWSettings
    extras: AdamWSettings
    clip: float


def resolve_optim(
    config: OptimConfig,
    preset: str,
    width: int,
    batch_tokens: int,
    tokens: float,
    tokens_d12: float,
) -> OptimSettings:
    """OptimSettings as functions of width (embeddings and head by (width / 768)^-0.5), batch
    (square root) and tokens (weight decay).

    `tokens` and `tokens_d12` are what this model and one of depth 12, where modern's weight decay
    is tuned, train on at one ratio of tokens to parameters. Only their quotient counts, so they may
    as well be the parameters.
    """
    modern = (config.preset or preset) == "modern"
    by_batch = config.scale_with_batch if config.scale_with_batch is not None else modern
    batch_factor = math.sqrt(batch_tokens / REFERENCE_BATCH) if by_batch else 1.0
    table_factor = batch_factor * (width / REFERENCE_WIDTH) ** -0.5

    def pick(value: float | None, classic: float, modern_value: float) -> float:
        return value if value is not None else modern_value if modern else classic

    embedding_lr = pick(config.embedding_lr, 0.2, 0.3) * table_factor
    head_lr = pick(config.head_lr, 0.004, 0.008) * table_factor
    decay = pick(
        config.weight_decay,
        0.0,
        0.28 * math.sqrt(batch_tokens / REFERENCE_BATCH) * tokens_d12 / tokens,
    )
    matrix_lr = pick(config.matrix_lr, 0.02, 0.02) * batch_factor
    if not modern:
        table, head = AdamWSettings(embedding_lr), AdamWSettings(head_lr)
        return OptimSettings(
            False,
            MuonSettings(matrix_lr, decay),
            table,
            head,
            table,
            table,
            table,
            table,
            pick(config.clip, 1.0, 0.0),
        )
    return OptimSettings(
        modern=True,
        matrix=MuonSettings(matrix_lr, decay, beta2=0.9, polar_express=True),
        embedding=AdamWSettings(embedding_lr, 0.8, 0.995, 0.001),
        head=AdamWSettings(head_lr, 0.8, 0.96, 0.01),
        value_embedding=AdamWSettings(embedding_lr / 2, 0.8, 0.995, 0.01),
        residual_scales=AdamWSettings(0.005 * batch_factor),
        input_scales=AdamWSettings(0.5 * batch_factor, beta1=0.96),
        extras=AdamWSettings(0.2 * batch_factor),
        clip=pick(config.clip, 1.0, 0.0),
    )


class Optimizer:
    """Muon and AdamW groups behind one step. State is saved under parameter names and fits any
    number of ranks.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]],
        rates: OptimSettings,
        world: DistContext,
        dtype: torch.dtype,
    ):
        """`dtype` is that of the orthogonalisation; float64 parameters are orthogonalised in
        float64.
        """
        self.world, self.clip = world, rates.clip
        by_shape: dict[tuple[int, ...], list[tuple[str, Tensor]]] = defaultdict(list)
        self.groups: list[MuonGroup | AdamWGroup] = []
        for name, parameter in named_parameters:
            settings = _settings(name, rates)
            if isinstance(settings, AdamWSettings):
                self.groups.append(AdamWGroup(name, parameter, settings, world))
            else:
                by_shape[tuple(parameter.shape)].append((name, parameter))
        for members in by_shape.values():
            names, parameters = zip(*members, strict=True)
            wide = torch.float64 if parameters[0].dtype == torch.float64 else dtype
            self.groups.append(MuonGroup(names, parameters, rates.matrix, world, wide))

    def reduce_gradients(self) -> Tensor:
        """Sum the gradients over the ranks; returns the norm of the whole gradient (a scalar
        tensor, the same on each).
        """
        squares = torch.stack([group.reduce_gradients() for group in self.groups]).sum()
        return self.world.all_reduce(squares).sqrt()

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

    def state_dict(self) -> dict[str, Tensor]:
        """The whole state by parameter name. A collective: every rank must call it."""
        return {key: value for group in self.groups for key, value in group.state().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Raises DataError when the state is that of another model."""
        try:
            for group in self.groups:
                group.load_state(state)
        except (KeyError, RuntimeError) as error:
            raise DataError(
                f"The saved optimizer state does not fit this model ({error})."
            ) from error


def is_matrix(name: str, rates: OptimSettings) -> bool:
    """Whether Muon updates a parameter: the matrices of the blocks, as against embeddings, head and
    scales.
    """
    return isinstance(_settings(name, rates), MuonSettings)


def _settings(name: str, rates: OptimSettings) -> MuonSettings | AdamWSettings:
    if name.startswith("embed_tokens"):
        return rates.embedding
    if name.startswith("lm_head"):
        return rates.head
    if name.startswith("value_embeds"):
        return rates.value_embedding
    if name == "residual_scales":
        return rates.residual_scales
    if name == "input_scales":
        return rates.input_scales
    if name.startswith("smear") or name.startswith("backout"):
        return rates.extras
    return rates.matrix
