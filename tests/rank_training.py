"""Training steps as a run's ranks make them, for tests to compare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chatling.evals.bpb import score_tokens
from chatling.hardware.distributed import DistContext
from chatling.inference.model_runner import in_dtype
from chatling.model.config import ModelRecipe
from chatling.model.gpt import GPT
from chatling.model.sharding import gathered_blocks, shard_blocks, whole_weights
from chatling.optim.param_groups import OptimConfig, Optimizer, resolve_optim
from chatling.train.checkpoint import Checkpoints

ROWS, CONTEXT, STEPS, VOCABULARY = 8, 16, 4, 96


def build(
    world: DistContext, preset: Any, dtype: torch.dtype, *, shard: bool = False, seed: int = 1
) -> tuple[GPT, Optimizer]:
    shape = ModelRecipe(preset, 5, width=32, head_width=16, context=CONTEXT).resolve(VOCABULARY)
    model = GPT(shape, compute_dtype=dtype).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    model.initialize(generator)
    for block in model.layers:  # zeros would hide mistakes
        for matrix in (block.self_attn.o_proj, block.mlp.fc2):
            torch.nn.init.normal_(matrix.weight, std=0.02, generator=generator)
    if shard:
        shard_blocks(model, world)
    settings = resolve_optim(OptimConfig(scale_with_batch=False), preset, 32, 512, 2, 1)
    return model, Optimizer(model, settings, world, dtype)


def rows(step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(100 + step)
    return torch.randint(0, VOCABULARY, (ROWS, CONTEXT + 1), generator=generator)


def norms(
    world: DistContext,
    model: GPT,
    optimizer: Optimizer,
    steps: range,
    overlap: bool,
    idle: int | None,
) -> Iterator[tuple[float, int]]:
    """Make steps; yields each gradient's norm, and how many reductions had begun when the backward
    passes ended.
    """
    for step in steps:
        parts = rows(step)[world.rank :: world.size].chunk(2)
        if idle is not None and step % 2 and idle == world.rank:
            parts = ()
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
        for i, ids in enumerate(parts, 1):
            if overlap and i == len(parts):
                optimizer.expect_last()
            loss, _ = model.loss(ids[:, :-1], ids[:, 1:])
            (loss / (ROWS * CONTEXT)).backward()
        begun = len(optimizer._reduction._begun)
        norm = optimizer.reduce_gradients()
        optimizer.step(norm, 1.0, 0.9, 1.0)
        model.zero_grad(set_to_none=True)
        yield norm.item(), begun


def train(
    world: DistContext,
    preset: Any,
    dtype: torch.dtype,
    overlap: bool = True,
    idle: int | None = None,
    shard: bool = False,
) -> dict[str, Any]:
    """Some steps of two micro-batches; rank `idle` has nothing to learn from in some of them."""
    model, optimizer = build(world, preset, dtype, shard=shard)
    made = list(norms(world, model, optimizer, range(STEPS), overlap, idle))
    return found(model, optimizer) | {"norms": [n for n, _ in made], "begun": [b for _, b in made]}


def found(model: GPT, optimizer: Optimizer) -> dict[str, Any]:
    """Weights and the optimizer's state."""
    state = {name: tensor.numpy() for name, tensor in optimizer.state_dict().items()}
    return {"tensors": state | {name: tensor.numpy() for name, tensor in whole_weights(model)}}


def save_halfway(world: DistContext, folder: Path, shard: bool) -> None:
    model, optimizer = build(world, "modern", torch.float64, shard=shard)
    list(norms(world, model, optimizer, range(STEPS // 2), True, None))
    checkpoints = Checkpoints(folder, world)
    checkpoints.save(STEPS // 2, model, optimizer, {"step": STEPS // 2})
    list(
        norms(world, model, optimizer, range(STEPS // 2, STEPS), True, None)
    )  # it is a copy that is saved
    checkpoints.settle()


def resume_halfway(world: DistContext, folder: Path, shard: bool) -> dict[str, Any]:
    """From other weights, so that all must come from the checkpoint."""
    model, optimizer = build(world, "modern", torch.float64, shard=shard, seed=2)
    loop = Checkpoints(folder, world).restore(model, optimizer, print)
    assert loop == {"step": STEPS // 2}
    list(norms(world, model, optimizer, range(STEPS // 2, STEPS), True, None))
    return found(model, optimizer)


def look(world: DistContext, shard: bool) -> tuple[float, np.ndarray]:
    """The loss of some rows, not as many on every rank, and the hidden states of a copy."""
    model, _ = build(world, "modern", torch.float64, shard=shard)
    own = [rows(step) for step in range(4) if world.size == 1 or step % 3 == world.rank]
    lengths = torch.ones(VOCABULARY, dtype=torch.long)
    with gathered_blocks(model):
        pairs = ((ids[:, :-1], ids[:, 1:]) for ids in own)
        loss = score_tokens(model, pairs, lengths, world).loss
    model.loss(rows(0)[:, :-1], rows(0)[:, 1:])[0].backward()  # and training goes on as before
    with torch.no_grad():
        return loss, in_dtype(model, torch.float64)(rows(0)[:, :-1]).numpy()


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    tensors, others = one["tensors"], other["tensors"]
    assert tensors.keys() == others.keys()
    return max(float(np.abs(tensors[name] - others[name]).max()) for name in tensors)
