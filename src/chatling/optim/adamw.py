"""AdamW (arXiv 1711.05101) for embeddings, head and scalars; large tables are sharded over the
ranks by rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from chatling.hardware.distributed import DistContext


@dataclass(frozen=True)
class AdamWSettings:
    learning_rate: float
    beta1: float = 0.8
    beta2: float = 0.95
    weight_decay: float = 0.0
    epsilon: float = 1e-10


class AdamWGroup:
    """One parameter. Each rank holds the moments of its rows; what does not divide is kept whole on
    all.
    """

    def __init__(self, name: str, parameter: Tensor, settings: AdamWSettings, world: DistContext):
        self.name, self.parameter, self.settings = name, parameter, settings
        self.parameters = [parameter]
        self.sharded = parameter.ndim > 1 and parameter.shape[0] % world.size == 0
        self.world = world
        rows = parameter.shape[0] // world.size if self.sharded else parameter.shape[0]
        self.part = (
            slice(world.rank * rows, (world.rank + 1) * rows) if self.sharded else slice(None)
        )
        self.mean = torch.zeros_like(parameter[self.part])
        self.variance = torch.zeros_like(parameter[self.part])
        self.steps = 0
        self.gradient: Tensor | None = None

    def reduce(self, index: int) -> None:
        """Sum the gradient over the ranks."""
        assert self.parameter.grad is not None
        reduce = self.world.reduce_scatter if self.sharded else self.world.all_reduce
        self.gradient = reduce(self.parameter.grad)

    def squared_norm(self) -> Tensor:
        """Of this rank's share of the gradient, once it is reduced."""
        assert self.gradient is not None
        # where it is not sharded, every rank holds all of it
        return self.gradient.square().sum() / (1 if self.sharded else self.world.size)

    @torch.no_grad()
    def step(
        self, factor: float, momentum: float, decay_factor: float, gradient_scale: Tensor
    ) -> None:
        """One update at `factor` x the learning rate; Muon's momentum and decay factor do not
        concern it.
        """
        assert self.gradient is not None
        s, gradient = self.settings, self.gradient.mul_(gradient_scale)
        self.steps += 1
        self.mean.lerp_(gradient, 1 - s.beta1)
        self.variance.lerp_(gradient.square_(), 1 - s.beta2)
        root = (self.variance / (1 - s.beta2**self.steps)).sqrt_().add_(s.epsilon)
        rate = s.learning_rate * factor
        weights = self.parameter[self.part]
        weights.mul_(1 - rate * s.weight_decay).addcdiv_(
            self.mean, root, value=-rate / (1 - s.beta1**self.steps)
        )
        if self.sharded and self.world.size > 1:
            self.parameter.copy_(self.world.all_gather(weights))
        self.gradient = None

    def parts(self) -> dict[str, Tensor]:
        """This rank's rows of the moments, in place."""
        moments = {"mean": self.mean, "variance": self.variance}
        if self.sharded:
            moments = {key: self.world.rows_of_all(tensor) for key, tensor in moments.items()}
        moments["steps"] = torch.tensor([self.steps])
        return {f"{self.name}/{key}": tensor for key, tensor in moments.items()}

    def loaded(self, parts: dict[str, Tensor]) -> None:
        """Called when `parts` were filled."""
        self.steps = int(parts[f"{self.name}/steps"].item())

    def state(self) -> dict[str, Tensor]:
        """The moments under the parameter's name, gathered from all ranks: independent of their
        number.
        """
        gather = self.world.all_gather if self.sharded else lambda tensor: tensor
        steps = torch.tensor([self.steps])
        return {
            f"{self.name}/mean": gather(self.mean),
            f"{self.name}/variance": gather(self.variance),
            f"{self.name}/steps": steps,
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.mean.copy_(state[f"{self.name}/mean"][self.part])
        self.variance.copy_(state[f"{self.name}/variance"][self.part])
        self.steps = int(state[f"{self.name}/steps"].item())
