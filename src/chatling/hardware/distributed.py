"""The processes of a run: who this one is, and the few collective operations that training
needs.
"""

from __future__ import annotations

import contextlib
import datetime
import faulthandler
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from chatling.errors import Interrupted, MachineError, RunError

LOST = 76  # exit code of who lost a peer or its device: with new processes the run may go on
# what a launcher of ours sets: that it is there, and a step's longest wait, in seconds
LAUNCHED, STEP_TIMEOUT = "CHATLING_LAUNCHED", "CHATLING_STEP_TIMEOUT"
STEP_SECONDS = 600.0
# waiting for the first process, which may tokenize, measure or evaluate
PATIENCE = datetime.timedelta(hours=12)
FLIGHT = "flight"  # the run's folder of what each process did last, if one did not answer
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

    exit_code = LOST


class DeviceFailed(MachineError):
    """The GPU gave up, so that this process cannot continue."""

    exit_code = LOST


@contextmanager
def peer_errors() -> Iterator[None]:
    """Turn what gloo and NCCL say when a process at the other end is gone into one clear
    sentence.
    """
    try:
        yield
    except torch.AcceleratorError as error:
        raise DeviceFailed(
            f"The GPU failed ({str(error).splitlines()[0]}).",
            "Start the run again with the same command; it resumes. If it fails again, `chatling"
            " doctor` looks at the GPU.",
        ) from error
    except RuntimeError as error:
        text = str(error).lower()
        if "timed out" in text or "timeout" in text:
            record_flight()
            raise PeerDied(
                "Another process of this run did not answer in time; it hangs, or its machine does"
                " not answer.",
                "Start the run again with the same command; it resumes.",
            ) from error
        if not isinstance(error, dist.DistError) and not any(sign in text for sign in CLOSED):
            raise
        what = (
            "Another process of this run died, or its machine cannot be reached; what it said"
            " itself stands above."
        )
        raise PeerDied(what, "Start the run again with the same command; it resumes.") from error


def record_flight() -> None:
    """Write where this process stands, and its last collectives, into the folder that the launcher
    named. NCCL writes its own.
    """
    path = os.environ.get("TORCH_FR_DUMP_TEMP_FILE")
    if path is None:
        return
    own = Path(f"{path}{launched_rank()}")
    with contextlib.suppress(OSError):
        own.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{own}.txt", "w") as file:
            faulthandler.dump_traceback(file)
        recorder: Any = torch._C._distributed_c10d  # whose types do not tell of it
        Path(f"{own}.json").write_bytes(recorder._dump_fr_trace_json())


@dataclass(frozen=True)
class DistContext:
    """This process among its peers. A world of one needs no process group, and every operation is
    the identity.

    Tensors go through `steps`, a group that does not wait long; plain data through the group of
    all, which waits for what the first process does alone.
    """

    rank: int = 0
    size: int = 1
    steps: dist.ProcessGroup | None = None
    # which rank looks after the files that this one sees; where there are several disks, all who do
    leader: int = 0
    leaders: dist.ProcessGroup | None = None
    # the ranks of its node, which share the optimizer's state, where there are several nodes of
    # several ranks
    node: DistContext | None = None
    # of such ranks: those of the other nodes that hold the same share
    across: dist.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def leads(self) -> bool:
        """Whether this process looks after the files on its disk."""
        return self.rank == self.leader

    @property
    def checks_files(self) -> bool:
        """Whether this process looks after its machine's files for the others there, so that
        nothing is hashed eight times.
        """
        return self.size == 1 or local_rank() == 0 or self.leads

    def first_fault(self, find: Callable[[], str | None]) -> str | None:
        """What `find` finds wrong, asked once on each machine; every rank calls it and gets the
        same.
        """
        faults = self.gather(find() if self.checks_files else None)
        return next((fault for fault in faults if fault is not None), None)

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """All-reduce in place."""
        self.sum_shares(tensor)
        return self._sum_across(tensor)

    def sum_shares(self, tensor: Tensor) -> Tensor:
        """All-reduce in place what each of those who share a state has a part of."""
        if self.size > 1:
            with peer_errors():
                dist.all_reduce(tensor, group=self.steps)
        return tensor

    def _sum_across(self, tensor: Tensor) -> Tensor:
        if self.across is not None:
            with peer_errors():
                dist.all_reduce(tensor, group=self.across)
        return tensor

    def all_reduce_scalars(self, values: list[float], device: torch.device) -> list[float]:
        """Each value summed over the ranks; without others, no device is asked."""
        if self.size == 1:
            return values
        summed: list[float] = self.all_reduce(
            torch.tensor(values, dtype=widest_float(device), device=device)
        ).tolist()
        return summed

    def reduce(self, tensor: Tensor, owner: int) -> Tensor:
        """Sum in place over the ranks, for one of them; what the others have then is undefined."""
        if self.size == 1:
            return tensor
        with peer_errors():
            dist.reduce(tensor, group=self.steps, group_dst=owner)
        return self._sum_across(tensor) if self.rank == owner else tensor

    def reduce_scatter(self, tensor: Tensor) -> Tensor:
        """Sum (N, …) over the ranks, N divisible by their number; returns this rank's N / size
        rows.
        """
        if self.size == 1:
            return tensor
        chunk = tensor.new_empty(tensor.shape[0] // self.size, *tensor.shape[1:])
        with peer_errors():
            dist.reduce_scatter_tensor(chunk, tensor.contiguous(), group=self.steps)
        return self._sum_across(chunk)

    def all_gather(self, chunk: Tensor) -> Tensor:
        """Concatenate each rank's (N, …) along the first dimension."""
        if self.size == 1:
            return chunk
        full = chunk.new_empty(chunk.shape[0] * self.size, *chunk.shape[1:])
        with peer_errors():
            dist.all_gather_into_tensor(full, chunk.contiguous(), group=self.steps)
        return full

    def all_to_all(self, tensor: Tensor) -> Tensor:
        """(N, …) in as many parts as there are ranks: part r goes to rank r; returns what came."""
        received = torch.empty_like(tensor)
        with peer_errors():
            dist.all_to_all_single(received, tensor.contiguous(), group=self.steps)
        return received

    def rows_of_all(self, chunk: Tensor) -> Tensor:
        """This rank's rows as a part of those of all ranks, a DTensor."""
        if self.size == 1:
            return chunk
        from torch.distributed.tensor import DeviceMesh, DTensor, Shard

        assert self.steps is not None
        mesh = DeviceMesh.from_group(self.steps, chunk.device.type)
        return DTensor.from_local(chunk, mesh, (Shard(0),), run_check=False)

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


# that it was interrupted, and what it says
Told = tuple[bool, str] | None


@contextmanager
def together(tell: Callable[[Told], Told]) -> Iterator[None]:
    """What fails on one process fails on all, instead of leaving the others to wait. `tell` is a
    collective that makes one of what each tells.
    """
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:
        failure = error
    try:
        told = tell((isinstance(failure, Interrupted), str(failure)) if failure else None)
    except PeerDied:
        # which may be why the others are gone, or not: ours is the one that we can tell of
        if failure is not None:
            raise failure from None
        raise
    if failure is not None:
        raise failure
    if told is not None:
        interrupted, why = told
        raise (Interrupted if interrupted else RunError)(why)


@contextmanager
def main_process_first(world: DistContext) -> Iterator[None]:
    """What fails on the first process fails on all. The body works on the first one only."""
    with together(world.broadcast_object):
        yield


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


def local_size() -> int:
    """How many processes share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", launched_size()))


def _node(backend: str, wait: datetime.timedelta) -> DistContext | None:
    """The ranks of this process's node, where that is some but not all of them."""
    size, per = launched_size(), local_size()
    if per == 1 or per == size or size % per:
        return None
    nodes = [list(range(first, first + per)) for first in range(0, size, per)]
    alike = [list(ranks) for ranks in zip(*nodes, strict=True)]
    inside, across = (
        dist.new_subgroups_by_enumeration(ranks, timeout=wait, backend=backend)[0]
        for ranks in (nodes, alike)
    )
    return DistContext(launched_rank() % per, per, inside, across=across)


@contextmanager
def process_group(device: torch.device) -> Iterator[DistContext]:
    """Join the launcher's process group (for tensors NCCL on CUDA, else gloo) and leave it in the
    end.
    """
    if launched_size() == 1:
        yield DistContext()
        return
    # NCCL wants to know which one
    own = torch.device("cuda", local_rank()) if device.type == "cuda" else None
    wait = datetime.timedelta(seconds=float(os.environ.get(STEP_TIMEOUT, STEP_SECONDS)))
    with peer_errors():
        dist.init_process_group("gloo", timeout=PATIENCE)
        backend = "nccl" if device.type == "cuda" else "gloo"
        steps = dist.new_group(backend=backend, timeout=wait, device_id=own)
    try:
        # a GPU's collectives tell of a peer's death later, wherever their results are waited for
        with peer_errors():
            node = _node(backend, wait)
            yield DistContext(launched_rank(), launched_size(), steps, node=node)
    finally:
        with contextlib.suppress(RuntimeError):  # there may be nobody left to part from
            dist.destroy_process_group()


@contextmanager
def marked_stop(marker: Path) -> Iterator[None]:
    """Tell the launcher of a stop before the others notice that this process is gone."""
    try:
        yield
    except Interrupted:
        if os.environ.get(LAUNCHED):
            with contextlib.suppress(OSError):
                marker.touch()
        raise
