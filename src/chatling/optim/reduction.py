"""Gradients are summed over the ranks while the backward pass computes others."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from chatling.hardware.distributed import DistContext


class OverlappedReduction:
    """Reduces each parameter's gradient, by a thread and in one order on all ranks, once it is
    complete. The order is that in which the first rank's were complete in the first step, which
    reduces after its backward pass.
    """

    def __init__(
        self,
        world: DistContext,
        parameters: Sequence[Tensor],
        reduce: Callable[[int], None],
        *,
        beside: bool = True,
    ):
        """`reduce` is called with the index of a parameter; unless `beside`, after the backward
        pass.
        """
        self._world, self._reduce, self._count = world, reduce, len(parameters)
        self._order: list[int] = []
        self._complete: dict[int, None] = {}  # in the order in which they were
        self._begun: list[Future[None]] = []
        self._last = False
        self._beside = beside and world.size > 1
        if not self._beside:
            return
        self._thread = ThreadPoolExecutor(1, "gradients")
        device = parameters[0].device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        for index, parameter in enumerate(parameters):
            parameter.register_post_accumulate_grad_hook(functools.partial(self._note, index))

    def expect_last(self) -> None:
        """The next backward pass is the step's last one: what it completes can be reduced."""
        self._last = True

    def finish(self) -> None:
        """Reduce what is left, and wait for all of it."""
        if self._order:
            while len(self._begun) < self._count:
                self._begin()
            for begun in self._begun:
                begun.result()
            if self._stream is not None:
                torch.cuda.current_stream().wait_stream(self._stream)
        else:
            for index in range(self._count):
                self._reduce(index)
            if self._beside:
                order = self._complete | dict.fromkeys(range(self._count))
                self._order = self._world.broadcast_object(list(order))
        self._complete, self._begun, self._last = {}, [], False

    def _note(self, index: int, parameter: Tensor) -> None:
        """Called by the backward pass: the gradient of a micro-batch was added."""
        if self._last:
            self._complete[index] = None
            while (
                len(self._begun) < len(self._order)
                and self._order[len(self._begun)] in self._complete
            ):
                self._begin()

    def _begin(self) -> None:
        index = self._order[len(self._begun)]
        computed = torch.cuda.current_stream().record_event() if self._stream else None
        self._begun.append(self._thread.submit(self._run, index, computed))

    def _run(self, index: int, computed: torch.cuda.Event | None) -> None:
        with self._after(computed):
            self._reduce(index)

    @contextlib.contextmanager
    def _after(self, computed: torch.cuda.Event | None) -> Iterator[None]:
        """On a GPU, in a stream of its own that waits for the gradient alone."""
        if self._stream is None or computed is None:
            yield
            return
        with torch.cuda.device(self._stream.device), torch.cuda.stream(self._stream):
            self._stream.wait_event(computed)
            yield
