"""Machines by name, and the share of their peak that training reaches, from runs that others
published.
"""

import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from chatling.errors import MachineError, nearest
from chatling.hardware.detect import UNIFIED_SHARE, Device, Machine

# what collectives reach of a nominal rate: 350 of 450 GB/s of NVLink, 22 of 25 of a ConnectX port
LINK_SHARE, NETWORK_SHARE = 0.78, 0.88
ETHERNET = 1.25  # GB/s of 10 Gb/s, where a node's network is not known
RIDGE = 0.05  # keeps a chip with one run from taking that one at its word


@dataclass(frozen=True)
class Chip:
    """A GPU as its vendor describes it: dense bf16 TFLOP/s, GB, GB/s, watts; None: not said."""

    name: str
    peak: float
    memory: float
    bandwidth: float
    source: str
    unified: bool = False
    device: Device = "cuda"
    link: float | None = None
    network: float | None = None
    watts: float | None = None
    like: str | None = None  # a chip with the same processor, whose runs count


@dataclass(frozen=True)
class PublishedRun:
    """Tokens a second that a published run reached on `gpus` of a chip."""

    model: str
    chip: str
    tokens_per_second: float
    flops_per_token: float
    source: str
    gpus: int = 1
    windows: bool = False
    fp8: bool = False

    @property
    def share(self) -> float:
        """Of the peak of all its GPUs."""
        peak = self.gpus * chips()[self.chip].peak * 1e12
        return self.tokens_per_second * self.flops_per_token / peak


@dataclass(frozen=True)
class NamedMachine:
    """So many GPUs of a chip in a node, and so many nodes."""

    key: str
    gpus: int = 1
    nodes: int = 1

    @property
    def chip(self) -> Chip:
        return chips()[self.key]

    @property
    def ranks(self) -> int:
        return self.gpus * self.nodes

    @property
    def title(self) -> str:
        count = f"{self.gpus} x " if self.gpus > 1 else ""
        return f"{self.nodes} nodes of " * (self.nodes > 1) + count + self.chip.name

    def machine(self) -> Machine:
        """One rank's, as `detect` would describe it."""
        memory = self.chip.memory * 1e9 * (UNIFIED_SHARE if self.chip.unified else 1)
        peak = self.chip.peak
        # fp32 does not matter, as long as bf16 counts as fast
        return Machine(
            self.chip.device, self.title, 1, int(memory), self.chip.unified, True, peak / 8, peak
        )


@cache
def _table() -> dict[str, Any]:
    text = (files("chatling.hardware") / "machines.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def chips() -> dict[str, Chip]:
    return {key: Chip(**facts) for key, facts in _table()["chip"].items()}


@cache
def published_runs() -> tuple[PublishedRun, ...]:
    return tuple(PublishedRun(**facts) for facts in _table()["run"])


def named_machine(name: str, nodes: int | None = None) -> NamedMachine:
    """`spark`, `8xh100`, `spark-pair`. Raises MachineError for a name that is none."""
    found = re.fullmatch(r"(?:(\d{1,3})x)?([a-z0-9]+?)(-pair)?", name.lower())
    known = [*chips(), "spark-pair", "8xh100", "8xa100"]
    if not found or found[2] not in chips() or int(found[1] or 1) < 1:
        hint = nearest(name, known) or f"There are {', '.join(known)}; also 4xa100 and the like."
        raise MachineError(f"No machine {name!r} is known.", hint)
    return NamedMachine(found[2], int(found[1] or 1), nodes or (2 if found[3] else 1))


def share(
    chip: str, *, windows: bool, fp8: bool, runs: Sequence[PublishedRun] | None = None
) -> float:
    """The share of a chip's peak that training is expected to reach: a least-squares fit of the
    logarithms, with an effect of each chip, of windows and of FP8. A chip without a run gets what
    the others have on average.
    """
    runs = published_runs() if runs is None else runs
    chip = chips()[chip].like or chip
    names = sorted({run.chip for run in runs})
    columns = [[run.windows, run.fp8, *(run.chip == name for name in names)] for run in runs]
    table, logs = np.array(columns, float), np.log([run.share for run in runs])
    # each chip counts once in the mean, however many runs it has
    mean = float(np.mean([logs[table[:, 2 + i] > 0].mean() for i in range(len(names))]))
    penalty = RIDGE * np.eye(table.shape[1])
    effects = np.linalg.solve(table.T @ table + penalty, table.T @ (logs - mean))
    own = effects[2 + names.index(chip)] if chip in names else 0.0
    return math.exp(mean + own + windows * effects[0] + fp8 * effects[1])


@cache
def errors_left_out() -> tuple[float, ...]:
    """By how much each published run is missed by what the others say: 0.1 for 10 % too fast."""
    runs = published_runs()
    return tuple(
        share(run.chip, windows=run.windows, fp8=run.fp8, runs=[o for o in runs if o is not run])
        / run.share
        - 1
        for run in runs
    )


def has_runs(chip: str) -> bool:
    return any(run.chip == (chips()[chip].like or chip) for run in published_runs())


def uncertainty(chip: str) -> float:
    """The ± of a plan: the root mean square of those errors over the chip's runs; where it has
    fewer than two, over all runs that are their chip's only one, which the others had to tell.
    """
    runs, chip = published_runs(), chips()[chip].like or chip
    count = {key: sum(run.chip == key for run in runs) for key in chips()}
    alike = [
        error
        for run, error in zip(runs, errors_left_out(), strict=True)
        if (run.chip == chip if count[chip] > 1 else count[run.chip] == 1)
    ]
    return math.sqrt(sum(error * error for error in alike) / len(alike))
