"""A checkpoint of which every rank writes what it has and reads what it needs, whatever their
number then and now: torch.distributed.checkpoint, in safetensors, so that nothing is unpickled.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException

from chatling.errors import DataError
from chatling.files import building_folder, temporary_name
from chatling.hardware.distributed import PATIENCE, DistContext, main_process_first, peer_errors
from chatling.model.gpt import GPT
from chatling.optim.param_groups import Optimizer


class PartsWriter:
    """Copies what this rank has, and writes it in a thread with a group of its own."""

    def __init__(self, world: DistContext):
        self._world, self._group = world, dist.new_group(backend="gloo", timeout=PATIENCE)
        self._writing: Future[Any] | None = None

    def begin(self, path: Path, model: GPT, optimizer: Optimizer) -> AbstractContextManager[Path]:
        """What the first process fills further and completes, after `wait`. A collective."""
        stack = contextlib.ExitStack()
        with main_process_first(self._world):
            if self._world.is_main:
                stack.enter_context(building_folder(path))
        folder = self._world.broadcast_object(os.fspath(temporary_name(path)))
        writer = HuggingFaceStorageWriter(folder, save_distributed=True)
        state = state_parts(model, optimizer)
        with peer_errors():
            begun: Any = dcp.async_save(state, storage_writer=writer, process_group=self._group)
        self._writing = begun
        return _entered(stack, Path(folder))

    def wait(self) -> None:
        """Until all ranks have written. Raises OSError for what a disk refused."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            with peer_errors():
                writing.result()
        except CheckpointException as error:
            raise _cause(error) from error


@contextlib.contextmanager
def _entered(stack: contextlib.ExitStack, folder: Path) -> Iterator[Path]:
    with stack:
        yield folder


def state_parts(model: GPT, optimizer: Optimizer) -> dict[str, Any]:
    """Weights and the optimizer's state as far as this rank has them, in place."""
    return {**model.state_dict(), **optimizer.parts()}


def load_parts(folder: Path, model: GPT, optimizer: Optimizer) -> None:
    """Raises DataError when they are of another model."""
    state, alone = state_parts(model, optimizer), optimizer.world.size == 1
    try:
        with warnings.catch_warnings(action="ignore"), peer_errors():  # that it is alone
            dcp.load(state, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=alone)
    except CheckpointException as error:
        why = str(_cause(error)).partition("\n")[0]
        raise DataError(f"The checkpoint in {folder} does not fit the model ({why}).") from error
    optimizer.loaded(state)


def _cause(error: CheckpointException) -> BaseException:
    """What failed on some rank; what a disk refused comes first."""
    causes = [cause for cause, _ in error.failures.values()]
    return next((each for each in causes if isinstance(each, OSError)), causes[0])
