"""The processes of a run: who this one is, and the few collective operations that training
needs.
"""

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from chatling.errors import RunError

CLOSED = (
    "connection closed",
    "connection reset",
    "connection refused",
    "broken pipe",
    "pair closure",
    "socket",
    "gloo",
    "nccl",
)


class PeerDied(RunError):
    """Another process of the run is gone, so that this one cannot continue."""


@contextmanager
def peer_errors() -> Iterator[None]:
    """Turn what gloo and NCCL say when a process at the other end is gone into one clear
    sentence.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error).lower()
        if not isinstance(error, dist.DistError) and not any(sign in text for sign in CLOSED):
            raise
        what = (
            "Another process of this run died, or its machine cannot be reached; what it said"
            " itself stands above."
        )
        raise PeerDied(what, "Start the run again with the same command; it resumes.") from error


@dataclass(frozen=True)
class DistContext:
    """This process among its peers. A world of one needs no process group, and every operation is
    the identity.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def checks_files(self) -> bool:
        """Whether this process looks after its machine's files for the others there, so that
        nothing is hashed eight times.
        """
        return self.size == 1 or local_rank() == 0

    def first_fault(self, find: Callable[[], str | None]) -> str | None:
        """What `find` finds wrong, asked once on each machine; every rank calls it and gets the
        same.
        """
        faults = self.gather(find() if self.checks_files else None)
        return next((fault for fault in faults if fault is not None), None)

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """All-reduce in place."""
        if self.size > 1:
            with peer_errors():
                dist.all_reduce(tensor)
        return tensor

    def all_reduce_scalars(self, values: list[float], device: torch.device) -> list[float]:
        """Each value summed over the ranks; without others, no device is asked."""
        if self.size == 1:
            return values
        summed: list[float] = self.all_reduce(
            torch.tensor(values, dtype=widest_float(device), device=device)
        ).tolist()
        return summed

    def reduce_scatter(self, tensor: Tensor) -> Tensor:
        """Sum (N, …) over the ranks, N divisible by their number; returns this rank's N / size
        rows.
        """
        if self.size == 1:
            return tensor
        chunk = tensor.new_empty(tensor.shape[0] // self.size, *tensor.shape[1:])
        with peer_errors():
            dist.reduce_scatter_tensor(chunk, tensor.contiguous())
        return chunk

    def all_gather(self, chunk: Tensor) -> Tensor:
        """Concatenate each rank's (N, …) along the first dimension."""
        if self.size == 1:
            return chunk
        full = chunk.new_empty(chunk.shape[0] * self.size, *chunk.shape[1:])
        with peer_errors():
            dist.all_gather_into_tensor(full, chunk.contiguous())
        return full

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in the order of the ranks, on each of them. Plain data only."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with peer_errors():
            dist.all_gather_object(values, value)
        return values

    def broadcast_object(self, value: Any) -> Any:
        """Rank 0's value, on every rank. Plain data only."""
        if self.size == 1:
            return value
        box = [value]
        with peer_errors():
            dist.broadcast_object_list(box, src=0)
        return box[0]


@contextmanager
def main_process_first(world: DistContext) -> Iterator[None]:
    """What fails on the first process fails on all, instead of leaving the others to wait. The body
    works on the first one only.
    """
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:
        failure = error
    try:
        told = world.broadcast_object(str(failure) if failure else None)
    except PeerDied:
        # which may be why the others are gone, or not: ours is the one that we can tell of
        if failure is not None:
            raise failure from None
        raise
    if failure is not None:
        raise failure
    if told is not None:
        raise RunError(told)


def widest_float(device: torch.device) -> torch.dtype:
    """What sums are kept in: float64, which Apple's GPUs lack."""
    return torch.float32 if device.type == "mps" else torch.float64


def launched_rank() -> int:
    """This process's rank as the launcher set it; 0 without one."""
    return int(os.environ.get("RANK", "0"))


def launched_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def process_group(device: torch.device) -> Iterator[DistContext]:
    """Join the launcher's process group (NCCL on CUDA, else gloo) and leave it in the end."""
    if launched_size() == 1:
        yield DistContext()
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    # NCCL wants to know which one
    own = torch.device("cuda", local_rank()) if device.type == "cuda" else None
    with peer_errors():
        dist.init_process_group(backend, timeout=datetime.timedelta(hours=2), device_id=own)
    try:
        # a GPU's collectives tell of a peer's death later, wherever their results are waited for
        with peer_errors():
            yield DistContext(launched_rank(), launched_size())
    finally:
        with contextlib.suppress(RuntimeError):  # there may be nobody left to part from
            dist.destroy_process_group()
