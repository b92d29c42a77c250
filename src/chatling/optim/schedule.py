"""The trapezoidal learning-rate schedule, and what else moves with the step."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Multipliers at each of `steps` steps: linear warmup, constant, linear warmdown over the last
    part to `final`.
    """

    steps: int
    warmup: int = 0  # steps
    warmdown: float = 0.2  # fraction of all steps
    final: float = 0.0
    peak: float = 1.0
    momentum_warmup: int = 300  # steps over which Muon's momentum rises from 0.85 to 0.95
    decay_weight_decay: bool = False

    def rate(self, step: int) -> float:
        """Multiplier of every learning rate at a 0-based step."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        down = round(self.warmdown * self.steps)
        left = self.steps - step
        if left >= down or down == 0:
            return self.peak
        return self.peak * (self.final + (1 - self.final) * left / down)

    def momentum(self, step: int) -> float:
        part = min(step / self.momentum_warmup, 1.0) if self.momentum_warmup else 1.0
        return 0.85 + 0.10 * part

    def weight_decay(self, step: int) -> float:
        """Multiplier of the weight decay: falls linearly to zero where the recipe asks for it."""
        return 1 - step / self.steps if self.decay_weight_decay else 1.0
