"""A pass over the cache as CUDA graphs: hundreds of kernels, launched as one."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

log = logging.getLogger(__name__)
Step = Callable[..., Any]


def captured_step(step: Step, device: torch.device, pool: Any) -> Step:
    """`step(*inputs, columns)` with a graph for each number of `columns`, the cached positions that
    attention sees; captured when it is first needed.

    Inputs are of one shape, and on the host: one copy takes each to the device. What is returned
    lives in memory of the step's own, and is good until the next call. What lies between comes from
    `pool`, which all steps may share that run one after the other. Where the driver refuses to
    capture, that is said once and kernels are launched one by one.
    """
    graphs: dict[int, torch.cuda.CUDAGraph] = {}
    held: list[Tensor] = []  # the inputs
    out: list[Any] = []  # what `step` returned last, of all graphs alike
    plain = False

    def capture(columns: Tensor) -> None:
        """Run the step once, so that libraries are loaded and kernels chosen, then record it."""
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            fresh = step(*held, columns)
        torch.cuda.current_stream(device).wait_stream(stream)
        if not out:
            out.append(tree_map(torch.empty_like, fresh))
        graph = torch.cuda.CUDAGraph()
        # other threads may use other GPUs meanwhile
        with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
            fresh = step(*held, columns)
            for mine, theirs in zip(tree_leaves(out[0]), tree_leaves(fresh), strict=True):
                mine.copy_(theirs)
        graphs[len(columns)] = graph

    def call(*tensors: Tensor) -> Any:
        nonlocal plain
        *inputs, columns = tensors
        with torch.cuda.device(device):
            if not held:
                held.extend(torch.empty_like(each, device=device) for each in inputs)
            for mine, theirs in zip(held, inputs, strict=True):
                mine.copy_(theirs, non_blocking=True)
            if not plain and len(columns) not in graphs:
                try:
                    capture(columns)
                except torch.OutOfMemoryError:
                    raise
                except RuntimeError as error:
                    log.warning(
                        "CUDA graphs cannot be used here, answers come slower: %s",
                        str(error).splitlines()[0],
                    )
                    plain = True
            if plain:
                return step(*held, columns)
            graphs[len(columns)].replay()
        return out[0]

    return call
