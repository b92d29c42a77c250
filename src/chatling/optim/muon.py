"""Muon: momentum whose update is orthogonalized, for the matrices (Keller Jordan, 2024), stacked by
shape and sharded over ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from chatling.hardware.distributed import DistContext

Coefficients = tuple[tuple[float, float, float], ...]

NEWTON_SCHULZ: Coefficients = ((3.4445, -4.7750, 2.0315),) * 5
# arXiv 2505.16932: the best five odd quintics in turn, made for a safety factor of 1.02
POLAR_EXPRESS: Coefficients = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


@dataclass(frozen=True)
class MuonSettings:
    """`beta2` 0 leaves out the variance reduction (NorMuon, arXiv 2510.05491); decay then acts on
    all weights alike. `equilibrate_rows` and `renormalize` are the steps of MuonEq and Muon+;
    with `decay_by_aspect` the decay, too, is scaled by the shape.
    """

    learning_rate: float = 0.02
    weight_decay: float = 0.0
    beta2: float = 0.0
    polar_express: bool = False
    polar_safety: float = 1.02
    equilibrate_rows: bool = False
    renormalize: bool = False
    decay_by_aspect: bool = False


def orthogonalize(
    matrices: Tensor, polar_express: bool, dtype: torch.dtype, safety: float = 1.02
) -> Tensor:
    """The nearest orthogonal matrices, about: (N, rows, cols) to the same shape in `dtype`,
    singular values near 1. Polar Express starts from a Frobenius norm of 1 / `safety`.
    """
    x = matrices.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    size = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
    x = x / (size * safety + 1e-6 if polar_express else size.clamp_min(1e-7))
    for a, b, c in POLAR_EXPRESS if polar_express else NEWTON_SCHULZ:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class MuonGroup:
    """Matrices of one shape. Each rank holds the momentum of its share of them, and updates that
    share.
    """

    def __init__(
        self,
        names: Sequence[str],
        parameters: Sequence[Tensor],
        settings: MuonSettings,
        world: DistContext,
        dtype: torch.dtype,
    ):
        self.names, self.parameters, self.settings, self.world, self.dtype = (
            list(names),
            list(parameters),
            settings,
            world,
            dtype,
        )
        rows, cols = self.parameters[0].shape
        self.share = -(-len(self.parameters) // world.size)
        self.first = world.rank * self.share
        self.scale = max(1.0, rows / cols) ** 0.5
        self.reduced_dim = -1 if rows >= cols else -2
        like: dict[str, Any] = {"dtype": parameters[0].dtype, "device": parameters[0].device}
        self.momentum = torch.zeros(self.share, rows, cols, **like)
        variance_shape = (self.share, rows, 1) if rows >= cols else (self.share, 1, cols)
        self.variance = torch.zeros(variance_shape, **like) if settings.beta2 else None
        self.gradient: Tensor | None = None

    def reduce(self, index: int) -> None:
        """Sum the gradient of one matrix over the ranks, for its owner."""
        gradient = self.parameters[index].grad
        assert gradient is not None
        self.world.reduce(gradient, index // self.share)

    def squared_norm(self) -> Tensor:
        """Of this rank's share of the gradients, once they are reduced."""
        self.gradient = self._owned([p.grad for p in self.parameters])
        return self.gradient.square().sum()

    def _owned(self, tensors: Sequence[Any]) -> Tensor:
        """Of one for each matrix those of this rank's share, (share, rows, cols)."""
        owned = tensors[self.first : self.first + self.share]
        padding = [torch.zeros_like(self.momentum[0])] * (self.share - len(owned))
        return torch.stack([*owned, *padding])

    def _give_back(self, matrices: Tensor) -> None:
        """From each rank's share to every rank's parameters."""
        found = self.world.all_gather(matrices)
        torch._foreach_copy_(self.parameters, list(found[: len(self.parameters)].unbind()))

    @torch.no_grad()
    def step(
        self, factor: float, momentum: float, decay_factor: float, gradient_scale: Tensor
    ) -> None:
        """One update at `factor` x the learning rate. Nesterov momentum, orthogonalize, decay,
        apply, share.
        """
        assert self.gradient is not None
        settings, gradient = self.settings, self.gradient.mul_(gradient_scale)
        self.momentum.lerp_(gradient, 1 - momentum)
        update = self._orthogonal(gradient.lerp_(self.momentum, momentum))
        if self.variance is not None:
            update = self._even_out(update)
        rate = settings.learning_rate * factor
        weights = self._owned(self.parameters)
        if settings.weight_decay:
            decay = rate * settings.weight_decay * decay_factor
            decay *= self.scale if settings.decay_by_aspect else 1.0
            # arXiv 2411.16085: never decay against the update
            cautious = (update * weights >= 0) if settings.beta2 else 1.0
            weights = weights - decay * weights * cautious
        self._give_back(weights.sub_(update, alpha=rate * self.scale))
        self.gradient = None

    def _orthogonal(self, update: Tensor) -> Tensor:
        """Orthogonalized; before it all rows may get one norm (MuonEq), and after it the whole
        that of an orthogonal matrix (Muon+).
        """
        settings = self.settings
        if settings.equilibrate_rows:
            norms = torch.linalg.vector_norm(update, dim=-1, keepdim=True)
            update = update * (norms.mean(dim=-2, keepdim=True) / norms.clamp_min(1e-10))
        found = orthogonalize(update, settings.polar_express, self.dtype, settings.polar_safety).to(
            update.dtype
        )
        if settings.renormalize:
            size = torch.linalg.vector_norm(found, dim=(-2, -1), keepdim=True)
            found = found * (min(found.shape[-2:]) ** 0.5 / size.clamp_min(1e-10))
        return found

    def _even_out(self, update: Tensor) -> Tensor:
        """Divide each row (or column) by its running root mean square, then restore the norm of the
        whole.
        """
        assert self.variance is not None
        mean_square = update.square().mean(dim=self.reduced_dim, keepdim=True)
        self.variance.lerp_(mean_square, 1 - self.settings.beta2)
        scaled = update * self.variance.clamp_min(1e-10).rsqrt()
        before, after = (
            torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) for x in (update, scaled)
        )
        return scaled * (before / after.clamp_min(1e-10))

    def parts(self) -> dict[str, Tensor]:
        """This rank's share of the state, in place."""
        kinds = {"momentum": self.momentum} | (
            {"variance": self.variance} if self.variance is not None else {}
        )
        owned = self.names[self.first : self.first + self.share]
        return {
            f"{name}/{kind}": tensor[i]
            for kind, tensor in kinds.items()
            for i, name in enumerate(owned)
        }

    def loaded(self, parts: dict[str, Tensor]) -> None:
        """Called when `parts` were filled."""

    def state(self) -> dict[str, Tensor]:
        """Every matrix's state under its name, gathered from all ranks: independent of their
        number.
        """
        state = {}
        for key, tensor in (("momentum", self.momentum), ("variance", self.variance)):
            if tensor is not None:
                state.update(
                    {
                        f"{name}/{key}": value
                        for name, value in zip(
                            self.names, self.world.all_gather(tensor), strict=False
                        )
                    }
                )
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        for i, name in enumerate(self.names[self.first : self.first + self.share]):
            self.momentum[i].copy_(state[f"{name}/momentum"])
            if self.variance is not None:
                self.variance[i].copy_(state[f"{name}/variance"])
