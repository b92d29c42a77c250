"""The trapezoidal learning-rate schedule, and what else moves with the step."""

import math
from dataclasses import dataclass
from typing import Literal

DecaySchedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True)
class Momentum:
    """Muon's: rises from `start` to `peak` over `warmup` steps, and falls to `final`, if given,
    during the learning rate's warmdown.
    """

    start: float = 0.85
    peak: float = 0.95
    warmup: int = 300
    final: float | None = None


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
    muon: Momentum = Momentum()
    decay: DecaySchedule = "constant"

    def rate(self, step: int) -> float:
        """Multiplier of every learning rate at a 0-based step."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        return self.peak * self._fall(step, 1.0, self.final)

    def momentum(self, step: int) -> float:
        muon = self.muon
        if step < muon.warmup:
            # rounded, since 0.95 - 0.85 is not 0.1
            return muon.start + round(muon.peak - muon.start, 12) * (step / muon.warmup)
        return muon.peak if muon.final is None else self._fall(step, muon.peak, muon.final)

    def weight_decay(self, step: int) -> float:
        """Multiplier of the weight decay: falls to zero where the recipe asks for it."""
        part = step / self.steps
        return {
            "constant": 1.0,
            "linear": 1 - part,
            "cosine": (1 + math.cos(math.pi * part)) / 2,
        }[self.decay]

    def _fall(self, step: int, top: float, bottom: float) -> float:
        """`top` until the warmdown, then linearly toward `bottom`."""
        down = round(self.warmdown * self.steps)
        left = self.steps - step
        return top if left >= down or down == 0 else bottom + (top - bottom) * left / down
