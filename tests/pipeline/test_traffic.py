"""The bytes that a step's collectives carry, as the plan reckons them, against those that an
optimizer of many ranks hands to a group that sends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from chatling.config.recipe import load_recipe
from chatling.hardware.distributed import DistContext
from chatling.model.config import ModelRecipe
from chatling.model.gpt import GPT
from chatling.optim.param_groups import OptimConfig, Optimizer, resolve_optim
from chatling.pipeline.timetable import carried_elements, step_bytes

CARRIED: list[int] = []


class Counting(DistContext):
    def reduce_scatter(self, tensor: Tensor) -> Tensor:
        CARRIED.append(tensor.nbytes)
        return super().reduce_scatter(tensor)

    def reduce(self, tensor: Tensor, owner: int) -> Tensor:
        CARRIED.append(tensor.nbytes)
        return super().reduce(tensor, owner)

    def all_gather(self, chunk: Tensor) -> Tensor:
        full = super().all_gather(chunk)
        CARRIED.append(full.nbytes)
        return full

    def all_reduce(self, tensor: Tensor) -> Tensor:
        CARRIED.append(2 * tensor.nbytes)  # a ring carries it twice
        return super().all_reduce(tensor)


@contextmanager
def fake_group(size: int) -> Iterator[None]:
    dist.init_process_group("fake", rank=0, world_size=size, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("preset", ["classic", "modern"])
@pytest.mark.parametrize(("ranks", "nodes"), [(2, 1), (2, 2), (8, 1), (64, 8), (512, 64)])
def test_a_step_carries_the_bytes_of_the_plan(preset: str, ranks: int, nodes: int) -> None:
    inside = ranks // nodes if nodes < ranks else ranks
    shape = ModelRecipe(preset, 5, width=64, head_width=16, context=64).resolve(256)
    model = GPT(shape)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    settings = resolve_optim(OptimConfig(), preset, 64, 512)
    CARRIED.clear()
    with fake_group(inside):
        optimizer = Optimizer(model, settings, Counting(0, inside), torch.float32)
        optimizer.step(optimizer.reduce_gradients(), 1.0, 0.9, 1.0)
    assert sum(CARRIED) == pytest.approx(step_bytes(shape, ranks, nodes), rel=0.05)


@pytest.mark.parametrize("recipe", ["spark", "speedrun", "d32"])
def test_512_gpus_in_nodes_of_eight_carry_little_padding(recipe: str) -> None:
    loaded = load_recipe(recipe)
    with torch.device("meta"):
        model = GPT(loaded.model.resolve(loaded.tokenizer.vocab_size))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert carried_elements(model, 8) / (2 * count) < 1.25
    assert carried_elements(model, 512) / (2 * count) > 2  # without nodes
