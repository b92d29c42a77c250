"""Whether one of two recipes is better: Student's paired test."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

import numpy as np

FEWEST = 2  # pairs


def paired_p(differences: Sequence[float]) -> float:
    """How likely a mean at least as far from 0 is, on either side, if only chance tells the two
    apart: Student's t with a degree of freedom fewer than there are differences. Raises ValueError
    for fewer than two.
    """
    count = len(differences)
    if count < FEWEST:
        raise ValueError("one difference says nothing about chance")
    mean, spread = fmean(differences), stdev(differences)
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    t, freedom = abs(mean) * math.sqrt(count) / spread, count - 1
    # t = sqrt(freedom) tan(angle), whose density goes with cos(angle)^(freedom - 1)
    angle = math.atan(t / math.sqrt(freedom))

    def area(beginning: float) -> float:
        angles = np.linspace(beginning, math.pi / 2, 20_001)
        return float(np.trapezoid(np.cos(angles).clip(0) ** (freedom - 1), angles))

    return area(angle) / area(0.0)
