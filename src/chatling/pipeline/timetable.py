"""How long the stages of a plan take on a machine, and what they spend the time on."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn

from chatling.hardware.detect import Machine
from chatling.hardware.machines import (
    ETHERNET,
    LINK_SHARE,
    NETWORK_SHARE,
    NamedMachine,
    share,
    uncertainty,
)
from chatling.model.config import ModelConfig, parameter_counts
from chatling.model.gpt import GPT
from chatling.optim.param_groups import parameter_roles
from chatling.pipeline.plan import Plan
from chatling.train.stage_base import StagePlan

TOKENIZER_RATE = 32e6  # characters/s of training it, on two cores (docs/LOG.md)
DISK_RATE = 1e9  # bytes/s of writing a checkpoint, assumed: an ordinary SSD's
DECODE_SHARE = 0.5  # of the bandwidth that decoding reaches, as vLLM's at 1 B parameters
DECODE_CONTEXT = 230  # tokens that an answer's next one looks back at, on average
COLLECTIVES, LATENCY = 40, 20e-6  # a step's, and seconds of each


@dataclass(frozen=True)
class Throughput:
    """What a machine does in a second: FLOPs and bytes of memory of each rank, bytes between the
    ranks of a node and between nodes. `error` is the ± of the FLOPs.
    """

    flops: float
    bandwidth: float | None = None
    ranks: int = 1
    nodes: int = 1
    link: float | None = None
    network: float = ETHERNET * NETWORK_SHARE * 1e9
    error: float | None = None

    @staticmethod
    def measured(machine: Machine) -> Throughput:
        return Throughput(machine.training_tflops * 1e12)

    @staticmethod
    def published(named: NamedMachine, model: ModelConfig) -> Throughput:
        """By the vendor's figures, and the share of them that published runs reached."""
        chip = named.chip
        reached = share(named.key, windows=bool(model.windows), fp8=False)
        return Throughput(
            chip.peak * 1e12 * reached,
            chip.bandwidth * 1e9,
            named.ranks,
            named.nodes,
            None if chip.link is None else chip.link * LINK_SHARE * 1e9,
            (chip.network or ETHERNET) * NETWORK_SHARE * 1e9,
            uncertainty(named.key),
        )


@dataclass(frozen=True)
class StageTime:
    """Seconds of a stage."""

    name: str
    computing: float
    decoding: float = 0.0
    validation: float = 0.0
    communication: float = 0.0
    saving: float = 0.0

    @property
    def beside(self) -> dict[str, float]:
        """What it does besides computing its steps."""
        names = ("decoding", "validation", "communication", "saving")
        return {name: getattr(self, name) for name in names}

    @property
    def total(self) -> float:
        return self.computing + sum(self.beside.values())


def timetable(plan: Plan, rates: Throughput) -> list[StageTime]:
    """All stages that take time, in their order."""
    times = [StageTime("tokenizer", plan.tokenizer / TOKENIZER_RATE)]
    checkpoint = plan.disk["a checkpoint being written"]
    for stage in plan.stages:
        computing, decoding = _work(stage, plan.model, rates)
        times.append(
            StageTime(
                stage.name,
                computing,
                decoding,
                plan.validation.get(stage.name, 0.0) / (rates.flops * rates.ranks),
                stage.steps * _communication(plan.model, rates),
                plan.saves.get(stage.name, 0) * checkpoint / DISK_RATE,
            )
        )
    if plan.evaluation is not None:
        times.append(StageTime("eval", *_work(plan.evaluation, plan.model, rates)))
    return times


def seconds(plan: Plan, rates: Throughput) -> float:
    return sum(stage.total for stage in timetable(plan, rates))


def _work(stage: StagePlan, model: ModelConfig, rates: Throughput) -> tuple[float, float]:
    """Seconds of computing, and of decoding: bound by reading weights and cache, where the
    bandwidth is known.
    """
    flops = rates.flops * rates.ranks
    if not rates.bandwidth:
        return (stage.flops - stage.decode_flops) / flops, stage.decode_flops / flops
    counts, rows = parameter_counts(model), max(1, stage.decode_rows // rates.ranks)
    weights = 2 * (counts["matrices"] + counts["head"])
    cache = rows * DECODE_CONTEXT * 4 * model.kv_heads * model.head_width * model.depth
    each = (weights + cache) / (DECODE_SHARE * rates.bandwidth)
    return (stage.flops - stage.decode_flops) / flops, stage.decoded / rates.ranks / rows * each


def efficiency(plan: Plan, rates: Throughput) -> float:
    """The share of their time that the GPUs compute in base training's steps."""
    stage = plan.stages[0]
    computing = stage.flops / (rates.flops * rates.ranks)
    return computing / (computing + stage.steps * _communication(plan.model, rates))


def step_bytes(model: ModelConfig, ranks: int, nodes: int) -> int:
    """Bytes that the collectives of a step sum and gather, in fp32. The ranks of a node share the
    optimizer's state, and all ranks do where each is a node.
    """
    inside = ranks // nodes
    return 4 * _elements(model, inside if inside > 1 else ranks)


@functools.cache
def _elements(model: ModelConfig, shares: int) -> int:
    with torch.device("meta"):
        return carried_elements(GPT(model), shares)


def _communication(model: ModelConfig, rates: Throughput) -> float:
    """Seconds of a step: gradients are summed and weights gathered by rings inside of a node and
    between nodes, beside no computation.
    """
    if rates.ranks == 1:
        return 0.0
    size, inside = step_bytes(model, rates.ranks, rates.nodes), rates.ranks // rates.nodes
    spent = COLLECTIVES * LATENCY * (1 + rates.nodes**0.5)
    if inside > 1:
        spent += size * (inside - 1) / inside / (rates.link or rates.network)
    return spent + size * (rates.nodes - 1) / rates.nodes / rates.network


def carried_elements(model: nn.Module, shares: int) -> int:
    """How many numbers a step sums over the ranks, and gathers again, when the optimizer's state
    has so many shares: the parameters twice, and what Muon's stacks are padded with.
    """
    roles, count = parameter_roles(model), 0
    stacks: Counter[torch.Size] = Counter()
    for name, parameter in model.named_parameters():
        count += 2 * parameter.numel()
        if roles[name] == "matrix":
            stacks[parameter.shape] += 1
    return count + sum((-n % shares) * shape.numel() for shape, n in stacks.items())
