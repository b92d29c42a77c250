"""Training steps as a run's ranks make them, for tests to compare."""

from __future__ import annotations

from typing import Any

import torch

from chatling.hardware.distributed import DistContext
from chatling.model.config import ModelRecipe
from chatling.model.gpt import GPT
from chatling.optim.param_groups import OptimConfig, Optimizer, resolve_optim

ROWS, CONTEXT, STEPS = 8, 16, 4


def train(
    world: DistContext, preset: Any, dtype: torch.dtype, overlap: bool, idle: int | None = None
) -> dict[str, Any]:
    """Some steps of two micro-batches; rank `idle` has nothing to learn from in some of them."""
    shape = ModelRecipe(preset, 5, width=32, head_width=16, context=CONTEXT).resolve(96)
    model = GPT(shape, compute_dtype=dtype).to(dtype)
    generator = torch.Generator().manual_seed(1)
    model.initialize(generator)
    for block in model.layers:  # zeros would hide mistakes
        for matrix in (block.self_attn.o_proj, block.mlp.fc2):
            torch.nn.init.normal_(matrix.weight, std=0.02, generator=generator)
    settings = resolve_optim(OptimConfig(scale_with_batch=False), preset, 32, 512, 2, 1)
    optimizer = Optimizer(model, settings, world, dtype)
    norms, begun = [], []
    for step in range(STEPS):
        ids = torch.randint(0, 96, (ROWS, CONTEXT + 1), generator=generator)
        parts = ids[world.rank :: world.size].chunk(2)
        if idle is not None and step % 2 and idle == world.rank:
            parts = ()
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
        for i, rows in enumerate(parts, 1):
            if overlap and i == len(parts):
                optimizer.expect_last()
            loss, _ = model.loss(rows[:, :-1], rows[:, 1:])
            (loss / (ROWS * CONTEXT)).backward()
        begun.append(len(optimizer._reduction._begun))
        norm = optimizer.reduce_gradients()
        optimizer.step(norm, 1.0, 0.9, 1.0)
        model.zero_grad(set_to_none=True)
        norms.append(norm.item())
    state = {name: tensor.numpy() for name, tensor in optimizer.state_dict().items()}
    weights = {name: p.detach().numpy() for name, p in model.named_parameters()}
    return {"norms": norms, "tensors": state | weights, "begun": begun}
