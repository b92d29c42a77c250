"""Blocks whose weights are spread over the ranks, some rows of every matrix on each (FSDP2, arXiv
2304.11277), for models that no device trains whole.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from chatling.hardware.distributed import DistContext
from chatling.model.gpt import GPT


def shard_blocks(model: GPT, world: DistContext) -> None:
    """Keep of each block's matrices this rank's rows alone; whole ones are there while the block
    computes, in the compute dtype. Gradients are summed over the ranks in the parameters' dtype.
    Embeddings, head and scalars stay whole on every rank.
    """
    # here, since no other command needs what takes a while to import
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    assert world.steps is not None
    kept = next(model.layers.parameters())
    mesh = DeviceMesh.from_group(world.steps, kept.device.type)
    policy = MixedPrecisionPolicy(
        None if model.compute_dtype == kept.dtype else model.compute_dtype,
        kept.dtype,
        cast_forward_inputs=False,
    )
    others = set(model.parameters()) - set(model.layers.parameters())
    for block in model.layers:
        fully_shard(block, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
    # holds nothing itself, and has the next block gathered while one computes
    fully_shard(model, mesh=mesh, mp_policy=policy, ignored_params=others)
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)  # the loss is divided already
            part.set_force_sum_reduction_for_comms(True)


def is_sharded(model: nn.Module) -> bool:
    return hasattr(model, "unshard")


@contextlib.contextmanager
def gathered_blocks(model: GPT) -> Iterator[None]:
    """All blocks whole, so that ranks may compute different amounts, without gradients. A
    collective, at either end.
    """
    if not is_sharded(model):
        yield
        return
    sharded: Any = model  # FSDP gave it and its blocks these methods
    sharded.set_reshard_after_forward(False)
    for block in sharded.layers:
        block.unshard()
    try:
        yield
    finally:
        sharded.set_reshard_after_forward(True)
        for block in sharded.layers:
            block.reshard()


def is_spread(tensor: Tensor) -> bool:
    """Whether it is a DTensor, of which this rank has a part."""
    return hasattr(tensor, "full_tensor")


def local(tensor: Tensor) -> Tensor:
    """This rank's part."""
    part: Any = tensor
    return part.to_local() if is_spread(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All ranks' parts. A collective."""
    part: Any = tensor
    return part.full_tensor() if is_spread(tensor) else tensor


def whole_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All weights by name, one after another, as no device may hold all of them. A collective."""
    for name, tensor in model.state_dict().items():
        yield name, whole(tensor)


def gathered_weights(model: nn.Module, world: DistContext) -> dict[str, Tensor] | None:
    """All weights of a sharded model in the first process's main memory. A collective."""
    if not is_sharded(model):
        return None
    return {name: tensor.cpu() for name, tensor in whole_weights(model) if world.is_main}


def spread(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Whole weights, which every rank has, as the model keeps its own."""
    if not is_sharded(model):
        return weights
    from torch.distributed.tensor import distribute_tensor

    own: dict[str, Any] = model.state_dict()
    return {
        name: distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
        if (like := own.get(name)) is not None and is_spread(like)
        else tensor
        for name, tensor in weights.items()
    }


def whole_model(model: GPT, dtype: torch.dtype) -> GPT:
    """A copy for inference with all weights, in `dtype`. A collective."""
    with torch.device("meta"):
        copy = GPT(model.config, compute_dtype=dtype)
    weights = {
        name: whole(tensor.detach().to(dtype)) for name, tensor in model.state_dict().items()
    }
    copy.load_state_dict(weights, assign=True)
    copy.cos, copy.sin = model.cos, model.sin
    return copy.requires_grad_(False).eval()
