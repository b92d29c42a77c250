"""Any optimizer of `torch.optim` for a group of parameters, chosen by name in the recipe."""

from dataclasses import dataclass

import torch
from torch import Tensor

from chatling.hardware.distributed import DistContext

PREFIX = "torch.optim."


@dataclass(frozen=True)
class TorchSettings:
    """`optimizer` is the name of a class, such as "torch.optim.SGD"."""

    optimizer: str
    learning_rate: float
    weight_decay: float = 0.0


class TorchGroup:
    """One parameter. Every rank holds all of its state and makes the same step."""

    def __init__(self, name: str, parameter: Tensor, settings: TorchSettings, world: DistContext):
        self.name, self.parameter, self.settings, self.world = name, parameter, settings, world
        self.parameters = [parameter]
        self.optimizer = _class(settings.optimizer)([parameter], lr=settings.learning_rate)  # type: ignore[call-arg]

    def reduce(self, index: int) -> None:
        """Sum the gradient over the ranks."""
        assert self.parameter.grad is not None
        self.world.all_reduce(self.parameter.grad)

    def squared_norm(self) -> Tensor:
        """Of this rank's share of the gradient, once it is reduced; every rank holds all of it."""
        assert self.parameter.grad is not None
        return self.parameter.grad.square().sum() / self.world.size

    def step(
        self, factor: float, momentum: float, decay_factor: float, gradient_scale: Tensor
    ) -> None:
        """One update at `factor` x the learning rate and `decay_factor` x the weight decay."""
        assert self.parameter.grad is not None
        self.parameter.grad.mul_(gradient_scale)
        (group,) = self.optimizer.param_groups
        group["lr"] = self.settings.learning_rate * factor
        if "weight_decay" in group:
            group["weight_decay"] = self.settings.weight_decay * decay_factor
        self.optimizer.step()

    def parts(self) -> dict[str, Tensor]:
        """As every rank has it; empty before the first step, so a resumed one goes another way."""
        return self.state()

    def loaded(self, parts: dict[str, Tensor]) -> None:
        """Called when `parts` were filled."""
        self.load_state(parts)

    def state(self) -> dict[str, Tensor]:
        """The optimizer's state under the parameter's name; empty before the first step."""
        entries = self.optimizer.state[self.parameter].items()
        return {
            f"{self.name}/{key}": torch.as_tensor(value)
            for key, value in entries
            if value is not None
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Raises KeyError when the state is that of another optimizer."""
        start = f"{self.name}/"
        found = {key.removeprefix(start): state[key] for key in state if key.startswith(start)}
        if found and found.keys() != first_state(self.settings.optimizer, self.parameter.shape):
            raise KeyError(f"{start}{next(iter(found))}")
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": {0: found}, "param_groups": groups})


def first_state(name: str, shape: tuple[int, ...]) -> set[str]:
    """Names of what an optimizer keeps after a step. Raises ValueError when it cannot make one: the
    class does not exist, needs a closure or sparse gradients, or another shape.
    """
    try:
        parameter = torch.nn.Parameter(torch.zeros(shape))
        parameter.grad = torch.ones_like(parameter)
        optimizer = _class(name)([parameter], lr=0.1)  # type: ignore[call-arg]
        optimizer.step()
    except (TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{name} cannot update a parameter of shape {shape}") from error
    return {key for key, value in optimizer.state[parameter].items() if value is not None}


def _class(name: str) -> type[torch.optim.Optimizer]:
    """The class of `torch.optim` with that name. Raises ValueError when there is none."""
    found = (
        getattr(torch.optim, name.removeprefix(PREFIX), None) if name.startswith(PREFIX) else None
    )
    if not isinstance(found, type) or not issubclass(found, torch.optim.Optimizer):
        raise ValueError(f"{name} is no class of torch.optim")
    return found
