"""The same bits each time, on a GPU too."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

from chatling.errors import MachineError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # cuBLAS reads it when a process first multiplies
WORKSPACES = (":4096:8", ":16:8")  # with which it says that it always takes the same sums


def prepare_determinism() -> None:
    """Set what cuBLAS reads. Raises MachineError where the environment says otherwise."""
    found = os.environ.setdefault(WORKSPACE, WORKSPACES[0])
    if found not in WORKSPACES:
        raise MachineError(
            f"machine.deterministic needs {WORKSPACE} to be {' or '.join(WORKSPACES)}; it is"
            f" {found!r}.",
            "Unset it.",
        )


@contextlib.contextmanager
def deterministic(on: bool) -> Iterator[None]:
    """Where `on`, torch takes only algorithms that give the same bits each time, and refuses what
    has none.
    """
    if not on:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    fill: Any = torch.utils.deterministic  # a property of the module, which no stub knows
    filled = fill.fill_uninitialized_memory  # for finding mistakes; it costs time
    torch.use_deterministic_algorithms(True)
    fill.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        fill.fill_uninitialized_memory = filled
